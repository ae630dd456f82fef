"""The dynamic receptive field: how much is recognised when the object is small and sits in one corner of a black canvas.

The network's input is resized to `inner` and pasted into one corner; the rest is black. Attention can still find it; a network
tuned to large objects in the middle cannot.

Convention: what is shrunk is the network's own input (after its crop), so that every study sees the same content. The published
size is 128 of 224 px, which is aligned to 16-px patches; for other inputs the nearest multiple of 16 px (8 px under 128 px) to 4/7
of the side is taken.

What it means for a product. Says whether far or small objects away from the middle are found. A network that loses much here needs a detector before
it, tiles, or training with small objects.

Pitfalls. Black around the picture is a cue that no network has met, so it measures two things at once: `geometry` (`scale`) shrinks on the mean
colour.

Source: Naseer et al. 2021, appendix F.

Metrics: those of `clean`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from visionvitals.study import BackboneCard, Batch, Chart, ImageSetCard, Preset, Published, Sign, require

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Object in a corner"
CHARTS = (
    Chart(
        x="corner",
        x_title="corner that holds the image",
        facet=("inner",),
        reads="Equal bars: the network finds the object wherever it is. Bars are accuracy, whiskers 95 % intervals.",
    ),
)
SIGNS = (Sign(title="in the bottom-right corner", kind="mean", where={"corner": "bottom-right"}),)

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
_TABLE = {
    ("ResNet50", "resnet50"): (0.0559, 0.0571, 0.0486, 0.0530),
    ("DeiT-Ti", "deit_tiny_patch16_224"): (0.5121, 0.5138, 0.5061, 0.5070),
    ("DeiT-S", "deit_small_patch16_224"): (0.6314, 0.6301, 0.6262, 0.6279),
    ("DeiT-B", "deit_base_patch16_224"): (0.6937, 0.6929, 0.6918, 0.6920),
}
_ORDER: tuple[Corner, ...] = ("top-right", "top-left", "bottom-right", "bottom-left")  # of the published table
PUBLISHED = tuple(
    Published(model=model, architectures=(name,), where={"corner": corner, "inner": (128, 128)}, value=value)
    for (model, name), values in _TABLE.items()
    for corner, value in zip(_ORDER, values, strict=True)
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One corner.

    Attributes:
        corner: where the shrunk image is put.
        inner: its (height, width) in pixels.
    """

    corner: Corner = "top-left"
    inner: tuple[int, int] = (128, 128)

    def __post_init__(self) -> None:
        require(self.corner in get_args(Corner), f"`corner` must be one of {', '.join(get_args(Corner))}", self.corner)
        require(len(self.inner) == 2 and min(self.inner) > 0, "`inner` must be two positive numbers", self.inner)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """The four corners, once: nothing is random. quick: two opposite corners."""
    corners: tuple[Corner, ...] = ("top-left", "bottom-right") if preset == "quick" else get_args(Corner)
    return [Condition(corner=corner, inner=default_inner(size)) for corner in corners]


def default_inner(size: tuple[int, int]) -> tuple[int, int]:
    """4/7 of each side, to the nearest multiple of 16 px (8 px where the shorter side is under 128 px).

    Example:
        >>> default_inner((224, 224)), default_inner((64, 64))
        ((128, 128), (40, 40))
    """
    pixels = 16 if min(size) >= 128 else 8
    height, width = (max(pixels, round(side * 4 / 7 / pixels) * pixels) for side in size)
    return height, width


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The pasted image must fit."""
    h, w = backbone.preprocess.size
    if condition.inner[0] > h or condition.inner[1] > w:
        return f"an inner image of {condition.inner[0]}x{condition.inner[1]} does not fit into the {h}x{w} input"
    return None


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images, made small, in the corner of a black canvas."""
    from visionvitals.perturb import patches

    return patches.paste_in_corner(batch.images, condition.inner, condition.corner)
