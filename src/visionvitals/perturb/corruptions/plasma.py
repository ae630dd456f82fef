"""Plasma fractals by the diamond-square algorithm, all images and all points of a level at once."""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from visionvitals.perturb.corruptions import _draw


def plasma(keys: Int64[Tensor, " b"], side: int, decay: float) -> Float32[Tensor, "b n n"]:
    """A cloud-like map for each image, from 0 to 1, that wraps around.

    Every point is the mean of its four neighbours at distance s plus a uniform number whose range shrinks by decay**2 as s is
    halved: first the middles of the squares, then those of the edges.

    Args:
        keys: per image.
        side: at least so many pixels; the map has the next power of two.
        decay: more is smoother.

    Source: Fournier, Fussell, Carpenter 1982; ImageNet-C's constants (there the wobble is applied twice, hence the square).
    """
    n = 1 << max(1, (side - 1).bit_length())
    random = _draw.uniform(keys, n * n).mul_(2).sub_(1)
    heights = torch.zeros(len(keys), 1, 1, device=keys.device)
    wobble = 1.0
    while (m := heights.shape[1]) < n:
        heights = _finer(heights, random[:, m * m : 4 * m * m].view(-1, 3, m, m) * wobble)
        wobble /= decay**2
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return heights.sub_(low).div_(high - low)


def _finer(corners: Float32[Tensor, "b m m"], noise: Float32[Tensor, "b 3 m m"]) -> Float32[Tensor, "b n n"]:
    """Twice as many points along each axis: the middles of the squares, then of their upper and left sides."""
    m = corners.shape[1]
    below, right = corners.roll(-1, 1), corners.roll(-1, 2)
    middles = torch.add(noise[:, 0], (corners + below) + (right + below.roll(-1, 2)), alpha=0.25)
    upper = torch.add(noise[:, 1], (middles + middles.roll(1, 1)) + (corners + right), alpha=0.25)
    left = torch.add(noise[:, 2], (middles + middles.roll(1, 2)) + (corners + below), alpha=0.25)
    out = torch.empty(len(corners), m, 2, m, 2, device=corners.device)
    out[:, :, 0, :, 0], out[:, :, 1, :, 1] = corners, middles
    out[:, :, 0, :, 1], out[:, :, 1, :, 0] = upper, left
    return out.view(-1, 2 * m, 2 * m)
