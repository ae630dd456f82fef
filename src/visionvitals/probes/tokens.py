"""What passes between the blocks of a backbone, seen and changed; see `visionvitals.inside.blocks`."""

from jaxtyping import Float
from torch import Tensor

from visionvitals import core
from visionvitals.errors import VitalsError
from visionvitals.inside.blocks import Block, Layout, Readout, entering, pooled, watch

__all__ = ["Block", "Layout", "Readout", "layout", "record", "watch", "entering", "pooled"]


def layout(backbone: core.Backbone) -> Layout:
    """The blocks of a backbone, as they were found when it was loaded.

    Raises:
        VitalsError: it has neither tokens of its patch grid nor feature maps that we can tell.
    """
    if backbone.inside is None or backbone.inside.layout is None:
        must = "must have blocks of patch tokens or stages of feature maps"
        raise VitalsError(f"`{backbone.card.spec}` {must}. Got neither.")
    return backbone.inside.layout


def record(
    backbone: core.Backbone, images: Float[Tensor, "b 3 h w"], where: Layout
) -> tuple[list[Tensor], Float[Tensor, "b k"]]:
    """What leaves each block, (b, prefix + n, d) or (b, c, h, w), and the logits of the same pass."""
    seen: list[Tensor] = []
    with watch(where, lambda _block, x: seen.append(x)):
        logits = backbone.logits(images)
    return seen, logits
