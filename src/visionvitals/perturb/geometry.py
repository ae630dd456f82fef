"""Move a picture: shift it, turn it, enlarge it, mirror it.

Conventions: images are float (b, 3, h, w) in [0, 1], before any normalisation. Right, down and against the clock are positive. What has to
be resampled is resampled bilinearly.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as v2

from visionvitals.errors import require

Colour = tuple[float, float, float]


def roll(images: Float[Tensor, "b c h w"], pixels: int) -> Float[Tensor, "b c h w"]:
    """Moved right and down by so many pixels; what leaves on one side comes in on the other."""
    return images.roll((pixels, pixels), dims=(2, 3))


def push(images: Float[Tensor, "b 3 h w"], pixels: int, fill: Colour) -> Float[Tensor, "b 3 h w"]:
    """Moved right and down by so many pixels (left and up where negative), fewer than a side; what is uncovered shows `fill`."""
    h, w = images.shape[-2:]
    require(abs(pixels) < min(h, w), "The shift must be smaller than the image", pixels)
    out = _plain(images, fill)
    to, source = slice(max(pixels, 0), min(pixels, 0) or None), slice(max(-pixels, 0), min(-pixels, 0) or None)
    out[:, :, to, to] = images[:, :, source, source]
    return out


def inscribed(degrees: float, size: tuple[int, int]) -> float:
    """Side of the largest window of the picture's own proportions that lies in the picture after it is turned, relative to the picture's.

    Example:
        >>> [round(inscribed(a, (224, 224)), 3) for a in (0.0, 15.0, 45.0, 90.0)]
        [1.0, 0.816, 0.707, 1.0]
    """
    h, w = size
    across, along = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    return min(w / (w * along + h * across), h / (w * across + h * along))


def window(
    images: Float[Tensor, "b c h w"], share: float, *, degrees: float = 0.0, pixels: float = 0.0
) -> Float[Tensor, "b c h w"]:
    """What a window of so much of both sides shows, enlarged to the size of the image.

    Args:
        images: any channels.
        share: side of the window relative to the image, in (0, 1].
        degrees: the picture is turned by so much about the centre.
        pixels: the picture is moved right and down by so many of the pixels of the result.

    A place beyond the image shows its nearest edge.
    """
    require(0 < share <= 1, "`share` must be in (0, 1]", share)
    h, w = images.shape[-2:]
    c, s = share * math.cos(math.radians(degrees)), share * math.sin(math.radians(degrees))
    # from places in the result to places in the image, both from -1 to 1 (edge to edge), y down
    x, y = 2 * pixels / w, 2 * pixels / h
    rows = [[c, -s * h / w, -share * x], [s * w / h, c, -share * y]]
    matrix = torch.tensor(rows, dtype=images.dtype, device=images.device).expand(len(images), 2, 3)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    found = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.clamp(0, 1)


def turn(images: Float[Tensor, "b c h w"], quarters: int) -> Float[Tensor, "b c h w"]:
    """Quarter turns against the clock, without resampling; odd ones of square images only."""
    h, w = images.shape[-2:]
    require(quarters % 2 == 0 or h == w, "Only a square image can make a quarter turn", (h, w))
    return torch.rot90(images, quarters, dims=(2, 3))


def scale(images: Float[Tensor, "b 3 h w"], factor: float, fill: Colour) -> Float[Tensor, "b 3 h w"]:
    """The picture at `factor` of its size about the centre: cut at the borders where larger, on a ground of `fill` where smaller.

    It is resized (antialiased) to the nearest whole number of pixels, and a pixel that cannot be shared out goes to the right and below.
    """
    require(factor > 0, "`factor` must be positive", factor)
    h, w = images.shape[-2:]
    size = max(1, round(h * factor)), max(1, round(w * factor))
    if size == (h, w):
        return images.clone()
    sized = v2.resize(images, list(size), antialias=True).clamp(0, 1)
    out = _plain(images, fill)
    (to_y, from_y), (to_x, from_x) = (_centred(a, b) for a, b in zip((h, w), size, strict=True))
    out[:, :, to_y, to_x] = sized[:, :, from_y, from_x]
    return out


def _centred(canvas: int, picture: int) -> tuple[slice, slice]:
    """Where a picture lies on a canvas, and which part of it, along one side."""
    n = min(canvas, picture)
    to, source = (canvas - n) // 2, (picture - n) // 2
    return slice(to, to + n), slice(source, source + n)


def _plain(images: Float[Tensor, "b 3 h w"], colour: Colour) -> Float[Tensor, "b 3 h w"]:
    """Images of one colour."""
    values = torch.tensor(colour, dtype=images.dtype, device=images.device)
    return values.view(1, 3, 1, 1).expand(images.shape).clone()
