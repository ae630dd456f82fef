"""How a picture becomes the network's input, where the spelling or a checkpoint's metadata says it."""

import math
from collections.abc import Mapping
from typing import Any

from visionvitals.backbones._options import Look, Size
from visionvitals.core import Preprocess
from visionvitals.errors import VitalsError, require

IMAGENET = Preprocess(
    size=(224, 224), resize=256, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What is assumed of a network that says nothing; whoever assumes it adds the note `ASSUMED`."""
ASSUMED = (
    "the network does not say what its images are like: what the spelling leaves open is taken from ImageNet's usual"
)


def override(base: Preprocess, look: Look, *, size: Size | None = None, crop: float | None = None) -> Preprocess:
    """`base` with what the spelling changes.

    Args:
        base: the network's own.
        look: the options; None where the spelling does not say.
        size: (height, width) that the spelling asks for.
        crop: the exact share of the resized side in `base`; by default that of its rounded pixels.

    Raises:
        VitalsError: values that exclude each other.
    """
    require(look.crop is None or look.resize is None, "Give `crop` or `resize`, not both", (look.crop, look.resize))
    size = size or base.size
    resize = base.resize
    if look.resize is not None:
        resize = None if look.resize == "none" else look.resize
    elif look.crop is not None or (size != base.size and resize is not None):
        share = look.crop or crop or max(base.size) / (resize or max(base.size))
        resize = math.floor(max(size) / share)
    return Preprocess(
        size=size,
        resize=resize,
        interpolation=look.interpolation or base.interpolation,
        mean=look.mean or base.mean,
        std=look.std or base.std,
        stretch=base.stretch and look.resize is None,
        crop=base.crop,
    )


def from_json(value: Mapping[str, Any], *, where: str) -> Preprocess:
    """A `Preprocess` from what a checkpoint's metadata says of it: size, resize, interpolation, mean, std, and `stretch` and `crop` where it says them."""
    try:
        size = value["size"]
        return Preprocess(
            size=(int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1])),
            resize=None if value["resize"] is None else int(value["resize"]),
            interpolation=value["interpolation"],
            mean=_triple(value["mean"]),
            std=_triple(value["std"]),
            stretch=bool(value.get("stretch", False)),
            crop=value.get("crop", "round"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VitalsError(f"{where}: cannot read its `preprocess` metadata {dict(value)!r}: {error!r}.") from error


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
