"""From a picture to the input of a network: resize, crop, statistics."""

from dataclasses import dataclass
from typing import Literal

from visionvitals.errors import require

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
_WIDEST = 10.0
"""A `std` that is larger is of pixel values up to 255."""


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How a picture becomes the network's input.

    Attributes:
        size: (height, width) of the network input in pixels.
        resize: the shorter side is resized to this many pixels and the centre of `size` is cropped; None stretches the whole
            picture to `size` without a crop.
        interpolation: of that resize, always antialiased as Pillow does.
        mean, std: per-channel statistics of the normalisation, on the [0, 1] scale; applied inside the backbone.
        stretch: before the crop the picture is not resized but stretched, to `resize` pixels on the longer side of `size` and in its
            proportions on the other.
        crop: where the centre lies if an odd number of pixels is left over: at the even one of both places (`round`, torchvision and
            timm), or at the upper left one (`floor`, transformers).

    Raises:
        VitalsError: a size or a deviation that is not positive, or a `resize` below the crop.

    Example:
        >>> usual = vv.Preprocess(size=(224, 224), resize=256, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
        >>> usual.resized(width=500, height=400), usual.corner(width=320, height=256)
        ((320, 256), (48, 16))
    """

    size: tuple[int, int]
    resize: int | None
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stretch: bool = False
    crop: Literal["round", "floor"] = "round"

    def __post_init__(self) -> None:
        require(min(self.size) > 0, "`size` must be positive", self.size)
        require(
            self.resize is None or self.resize >= max(self.size),
            "`resize` must be None or at least the longer side of the crop",
            (self.resize, self.size),
        )
        require(min(self.std) > 0, "`std` must be positive", self.std)
        do = "Divide what is on the scale of 0 to 255 by 255."
        unit = max(self.mean) <= 1 and max(self.std) <= _WIDEST
        require(unit, "`mean` and `std` must be on the scale of pixel values in [0, 1]", (self.mean, self.std), do)
        require(not self.stretch or self.resize is not None, "`stretch` needs the `resize` that it stretches to", None)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of a picture after the resize: the longer side is truncated to a whole number of pixels, as torchvision does."""
        if self.resize is None:
            return self.size[1], self.size[0]
        if self.stretch:
            return round(self.resize * self.size[1] / max(self.size)), round(
                self.resize * self.size[0] / max(self.size)
            )
        longer = int(self.resize * max(width, height) / min(width, height))
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """(left, top) of the centre crop in a resized picture."""
        left, top = (width - self.size[1]) / 2, (height - self.size[0]) / 2
        return (round(left), round(top)) if self.crop == "round" else (int(left), int(top))
