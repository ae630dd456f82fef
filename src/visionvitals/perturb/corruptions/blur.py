"""Blur: defocus, glass, motion, zoom, gaussian. Formulas and constants: Hendrycks and Dietterich 2019, ImageNet-C.

Signatures and conventions are those of `noise`.
"""

import functools

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from visionvitals.perturb.corruptions import _draw, _filters

GAUSSIAN = (1.0, 2.0, 3.0, 4.0, 6.0)
GLASS = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
DEFOCUS = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
MOTION = ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))
ZOOM = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))  # numpy.arange(1, end, step)


def gaussian_blur(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Gaussian of sigma 1 2 3 4 6 pixels, cut at 4 sigma, edge pixels repeated. The keys are not used.

    Parity with ImageNet-C: identical up to float rounding (within one grey level).
    """
    return _filters.gaussian(images, GAUSSIAN[severity - 1])


def defocus_blur(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Correlation with a disk of radius 3 4 6 8 10 pixels whose rim is softened; mirrored borders. The keys are not used.

    Parity with ImageNet-C: identical up to float rounding (within one grey level).
    """
    return _filters.correlate(images, disk(*DEFOCUS[severity - 1]))


@functools.cache
def disk(radius: int, softness: float) -> Float32[np.ndarray, "k k"]:
    """The kernel: pixels within `radius`, of sum 1, blurred by a Gaussian of sigma `softness` over 3 (radius to 8) or 5 pixels."""
    reach, half = (8, 1) if radius <= 8 else (radius, 2)
    line = np.arange(-reach, reach + 1)
    inside = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float64)
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / softness) ** 2)
    weights /= weights.sum()
    inside /= inside.sum()
    for axis in (0, 1):
        padded = np.pad(inside, [(half, half) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        inside = sum(w * np.take(padded, np.arange(len(line)) + k, axis) for k, w in enumerate(weights))
    return inside.astype(np.float32)


def motion_blur(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """A one-sided Gaussian trail of 2 radius + 1 pixels, (radius, sigma) (10,3) (15,5) (15,8) (15,12) (20,15), angle uniform in +-45 degrees.

    Parity with ImageNet-C: statistically equal (another angle for each image); for a given angle ImageMagick's formula, whose
    16-bit rounding is left out.
    """
    radius, sigma = MOTION[severity - 1]
    angles = _draw.uniform(keys, 1)[:, 0] * 90 - 45
    return _filters.motion(images, angles, _filters.half_gaussian(radius, sigma))


def zoom_blur(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """The mean of the image and of its enlargements by 1, 1 + step, ... up to 1.11 1.15 1.20 1.24 1.30. The keys are not used.

    (1.11, not 1.10: floating point makes `arange(1, 1.11, .01)` one longer than it looks.)

    Parity with ImageNet-C: identical up to float rounding (within one grey level) for squares; other shapes, which that code cannot
    take, are enlarged along each axis.
    """
    factors = np.arange(1, *ZOOM[severity - 1])
    enlarged = _filters.zooms(images, factors[1:].tolist())
    return enlarged.add_(images, alpha=2).mul_(1 / (len(factors) + 1))  # the image itself, and its enlargement by 1


def glass_blur(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Gaussian, 8 bits, pixels replaced by near ones, the same Gaussian; (sigma, reach, rounds) (.7,1,2) (.9,2,1) (1,2,3) (1.1,3,2) (1.5,4,2).

    In each round the pixels are visited from the lower right to the upper left, and each takes the present value of one that is
    -reach..reach-1 rows and columns away. (The published code says "swap", but copies: both names are views of one array.)
    The sequence is resolved without a loop over pixels: what a pixel takes is what that one took, if it was visited before, so the
    chains are followed by pointer doubling.

    Parity with ImageNet-C: statistically equal (other displacements); for given displacements identical.
    """
    sigma, reach, rounds = GLASS[severity - 1]
    b, c, h, w = images.shape
    soft = _filters.gaussian(images, sigma).mul_(255).add_(1e-3).floor_().mul_(1 / 255)
    source: Tensor | None = None
    for key in _draw.fork(keys, rounds):
        step = _draw.integers(key, h * w, 0, (2 * reach) ** 2)
        latest = taken_from(
            _steps(reach, w, images.device).index_select(0, step.view(-1)).view(b, h * w), (h, w), reach
        )
        source = latest if source is None else source.gather(1, latest)
    assert source is not None
    moved = soft.view(b, c, h * w).gather(2, source[:, None].expand(b, c, h * w))
    return _filters.gaussian(moved.view_as(images), sigma)


def taken_from(steps: Int64[Tensor, "b n"], size: tuple[int, int], reach: int) -> Int64[Tensor, "b n"]:
    """Where each pixel's value comes from after one round of `glass_blur`.

    Args:
        steps: the displacement drawn for each pixel, in row-major numbering (w times the rows plus the columns).
        size: (h, w), n = h w.
        reach: pixels less than `reach` + 1 from the upper or left, or less than `reach` from the lower or right border, stay.
    """
    h, w = size
    b, n = len(steps), h * w
    here = torch.arange(b * n, device=steps.device).view(b, n)
    at = steps.mul(_visited(h, w, reach, steps.device)).add_(here)
    later = at > here  # visited before this pixel, so it may show another one's value by now
    at.add_(later.logical_not(), alpha=b * n)  # b n and more: final
    at = at.view(-1)
    unfinished = later.view(-1).nonzero()[:, 0]
    while len(unfinished):
        latest = at.index_select(0, at.index_select(0, unfinished))
        at.index_copy_(0, unfinished, latest)
        unfinished = unfinished[latest < b * n]
    return at.view(b, n).sub_(b * n).remainder_(n) if b > 1 else at.view(b, n).sub_(n)


@functools.lru_cache(maxsize=16)
def _steps(reach: int, w: int, device: torch.device) -> Int64[Tensor, " m"]:
    """Every displacement of -reach..reach-1 rows and columns, in row-major numbering."""
    line = torch.arange(-reach, reach, device=device)
    return (line[:, None] * w + line).view(-1)


@functools.lru_cache(maxsize=16)
def _visited(h: int, w: int, reach: int, device: torch.device) -> Int64[Tensor, " n"]:
    inside = torch.zeros(h, w, dtype=torch.int64)
    inside[reach + 1 : h - reach + 1, reach + 1 : w - reach + 1] = 1
    return inside.view(-1).to(device)
