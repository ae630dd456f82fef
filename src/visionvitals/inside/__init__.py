"""What can be seen inside a network, found once when it is loaded and kept as `core.Backbone.inside`.

`blocks`: the layout of its blocks, and how what passes between them is seen and changed. `attention`: its attention maps, caught
while it runs. `heads`: the classifiers of its tokens. `Patches`: the embeddings that it starts from. How they are found is the business of
`backbones`.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from visionvitals.inside.attention import Call
from visionvitals.inside.blocks import Layout


class Inside(NamedTuple):
    """What was found in one forward pass.

    Attributes:
        layout: the blocks of tokens or the stages of maps; None where there are neither.
        attention: the attention calls, in order; empty for a network without.
    """

    layout: Layout | None
    attention: tuple[Call, ...]


class Patches(NamedTuple):
    """How a vision transformer starts from the embeddings of its patches, each of which is made of the pixels of one patch.

    A map (b, d, rows, columns) whose whole patches were filled or moved has the logits of images that were changed so, within 1e-5 of the
    largest, as was tried when the network was loaded.

    Attributes:
        embed: images -> that map, before positions.
        colour: a colour (1, 3, 1, 1) in [0, 1] -> the embedding of a patch of it, (1, d, 1, 1).
        logits: map -> float (b, k).
        free: whether nobody looks into the network or has changed a part of it; else it must be given the images themselves.
    """

    embed: Callable[[Tensor], Tensor]
    colour: Callable[[Tensor], Tensor]
    logits: Callable[[Tensor], Tensor]
    free: Callable[[], bool]
