"""What can be seen inside a network, found once when it is loaded and kept as `core.Backbone.inside`.

`blocks`: the layout of its blocks, and how what passes between them is seen and changed. `attention`: its attention maps, caught
while it runs. `heads`: the classifiers of its tokens. How a layout is found is the business of `backbones`.
"""

from typing import NamedTuple

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
