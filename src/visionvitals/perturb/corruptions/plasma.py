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
    heights = torch.zeros(len(keys), n, n, device=keys.device)
    used, step, wobble = 0, n, 1.0

    def between(total: Tensor) -> Tensor:
        nonlocal used
        count = total[0].numel()
        noise = random[:, used : used + count].view_as(total)
        used += count
        return torch.add(total * 0.25, noise, alpha=wobble)

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        pairs = corners + corners.roll(-1, 1)
        middles = between(pairs + pairs.roll(-1, 2))
        heights[:, half::step, half::step] = middles
        sides = middles + middles.roll(1, 1) + corners + corners.roll(-1, 2)
        heights[:, ::step, half::step] = between(sides)
        sides = middles + middles.roll(1, 2) + corners + corners.roll(-1, 1)
        heights[:, half::step, ::step] = between(sides)
        step, wobble = half, wobble / decay**2
    low, high = heights.amin((1, 2), keepdim=True), heights.amax((1, 2), keepdim=True)
    return heights.sub_(low).div_(high - low)
