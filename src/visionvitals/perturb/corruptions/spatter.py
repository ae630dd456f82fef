"""Spatter: drops of water or mud. Source: Hendrycks and Dietterich 2019, ImageNet-C; its OpenCV steps as tensor operations."""

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional

from visionvitals.perturb.corruptions import _draw, _filters

SPATTER = (
    (0.65, 0.3, 4.0, 0.69, 0.6),
    (0.65, 0.3, 3.0, 0.68, 0.6),
    (0.65, 0.3, 2.0, 0.68, 0.5),
    (0.65, 0.3, 1.0, 0.65, 1.5),
    (0.67, 0.4, 1.0, 0.65, 1.5),
)
WATER = (175 / 255, 238 / 255, 238 / 255)
MUD = (63 / 255, 42 / 255, 20 / 255)
FAR = 20  # pixels; distances from an edge are cut there
_TAN = 0.41421356237309503  # of 22.5 degrees
_WAYS = (
    (0, 1, 65536),
    (1, 0, 65536),
    (1, 1, 91750),
    (1, -1, 91750),
    *((d, r, 143976) for d, r in ((1, 2), (1, -2), (2, 1), (2, -1))),
)
"""Rows, columns, length in units of 2**-16; each is gone both ways."""


def spatter(images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]) -> Float32[Tensor, "b 3 h w"]:
    """Blurred normal noise above a threshold is liquid: water, lit along its rim (severity 1-3), or mud (4, 5). Constants (mean,
    deviation, sigma, threshold, strength of the water or sigma of the mud) in `SPATTER`.

    Parity with ImageNet-C: statistically equal (other random numbers); for given numbers all but one value in 10,000 are within one
    grey level.
    """
    mean, deviation, sigma, threshold, last = SPATTER[severity - 1]
    b, _, h, w = images.shape
    noise = _draw.normal(keys, h * w).view(b, 1, h, w).mul_(deviation).add_(mean)
    liquid = _filters.gaussian(noise, sigma)
    if severity <= 3:
        liquid = torch.where(liquid < threshold, 0.0, liquid).clamp_(max=1).mul_(255).floor_()
        light = liquid * _relief(edges(liquid))
        light.mul_(last / light.amax((1, 2, 3), keepdim=True).clamp(min=1e-9))
        return images + light * _colour(WATER, images)
    cover = _filters.gaussian((liquid > threshold).to(torch.float32), last)
    cover = torch.where(cover < 0.8, 0.0, cover)
    return torch.lerp(images, _colour(MUD, images), cover)


def edges(levels: Float32[Tensor, "b 1 h w"]) -> Bool[Tensor, "b 1 h w"]:
    """Canny's edges of an 8-bit picture: Sobel 3 x 3, |gx| + |gy|, thinned along the gradient, above 150, or above 50 and connected to such.

    Source: Canny 1986, in the form of OpenCV (borders repeated for the gradient, no edges outside).
    """
    padded = functional.pad(levels, (1, 1, 1, 1), mode="replicate")
    smooth = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    gx = smooth[..., 2:] - smooth[..., :-2]
    smooth = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    gy = smooth[:, :, 2:] - smooth[:, :, :-2]
    strength = gx.abs() + gy.abs()
    around = functional.pad(strength, (1, 1, 1, 1))
    h, w = levels.shape[-2:]

    def beside(down: int, right: int) -> Tensor:
        return around[:, :, 1 + down : 1 + down + h, 1 + right : 1 + right + w]

    flat, steep = gy.abs() <= _TAN * gx.abs(), gx.abs() < _TAN * gy.abs()
    along_x = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    along_y = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    diagonal = torch.where((gx * gy) >= 0, falling, rising)
    thin = torch.where(flat, along_x, torch.where(steep, along_y, diagonal))
    weak, found = thin & (strength > 50), thin & (strength > 150)
    while True:
        grown = _touching(found) & weak
        if torch.equal(grown, found):
            return found
        found = grown


def _touching(marked: Bool[Tensor, "b 1 h w"]) -> Bool[Tensor, "b 1 h w"]:
    """The marked pixels and their eight neighbours."""
    wide = functional.pad(marked, (1, 1, 1, 1))
    rows = wide[:, :, :-2] | wide[:, :, 1:-1] | wide[:, :, 2:]
    return rows[..., :-2] | rows[..., 1:-1] | rows[..., 2:]


def distance(marked: Bool[Tensor, "b 1 h w"], far: int) -> Float32[Tensor, "b 1 h w"]:
    """Length of the shortest way to the nearest marked pixel, at most `far`: steps of 1 along an axis, 1.4 along a diagonal, 2.1969 of a knight.

    Source: Borgefors 1986, with the lengths of OpenCV's 5 x 5 mask, in its units of 2**-16; up to 2 % longer than Euclid's.
    """
    h, w = marked.shape[-2:]
    limit = far << 16
    near = torch.where(marked, 0, limit).to(torch.int32)
    for down, right, length in _WAYS:  # a shortest way has two directions at most, so one after the other finds it
        n = 1
        while n * length < limit and n * down < h and n * abs(right) < w:
            above = near[..., : h - n * down, max(-n * right, 0) : w - max(n * right, 0)]
            below = near[..., n * down :, max(n * right, 0) : w - max(-n * right, 0)]
            coming = above + n * length
            torch.minimum(above, below + n * length, out=above)
            torch.minimum(below, coming, out=below)
            n *= 2
    return near.to(torch.float32).mul_(2**-16)


def _relief(rim: Bool[Tensor, "b 1 h w"]) -> Float32[Tensor, "b 1 h w"]:
    """How strongly water shines: the distance from its rim, equalised, embossed towards the lower right and smoothed."""
    depth = _mean3(distance(rim, FAR)).add_(1e-4).floor_()
    level = _equalised(depth)
    padded = functional.pad(level, (1, 1, 1, 1), mode="reflect")
    h, w = level.shape[-2:]
    emboss = ((-2, -1, 0), (-1, 1, 1), (0, 1, 2))
    total = torch.zeros_like(level)
    for i, row in enumerate(emboss):
        for j, weight in enumerate(row):
            total.add_(padded[:, :, i : i + h, j : j + w], alpha=weight)
    return _mean3(total.clamp_(0, 255)).add_(0.5).floor_()


def _mean3(images: Float32[Tensor, "b 1 h w"]) -> Float32[Tensor, "b 1 h w"]:
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    rows = padded[:, :, :-2] + padded[:, :, 1:-1] + padded[:, :, 2:]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]).mul_(1 / 9)


def _equalised(levels: Float32[Tensor, "b 1 h w"]) -> Float32[Tensor, "b 1 h w"]:
    """OpenCV's histogram equalisation of whole numbers in [0, 255]."""
    b = len(levels)
    index = levels.view(b, -1).to(torch.int64)
    counts = torch.zeros(b, 256, device=levels.device).scatter_add_(
        1, index, torch.ones_like(index, dtype=torch.float32)
    )
    below = counts.cumsum(1)
    first = counts.gather(1, (counts > 0).to(torch.int8).argmax(1, keepdim=True))
    total = below[:, -1:]
    table = ((below - first) * (255 / (total - first).clamp(min=1))).round_().clamp_(0, 255)
    return torch.where(total > first, table.gather(1, index), index.to(torch.float32)).view_as(levels)


def _colour(values: tuple[float, float, float], images: Tensor) -> Float32[Tensor, "1 3 1 1"]:
    return torch.tensor(values, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
