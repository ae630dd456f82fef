"""Noise on every value: gaussian, shot, impulse, speckle. Formulas and constants: Hendrycks and Dietterich 2019, ImageNet-C.

Each function takes images, float32 (b, 3, h, w) in [0, 1], a severity 1..5 and per-image keys; it returns values that need not lie
in [0, 1]: `corruptions.corrupt` clips and quantises.
"""

import functools
import math

import numpy as np
import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor

from visionvitals.perturb.corruptions import _draw

GAUSSIAN = (0.08, 0.12, 0.18, 0.26, 0.38)
SHOT = (60, 25, 12, 5, 3)
IMPULSE = (0.03, 0.06, 0.09, 0.17, 0.27)
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)


def gaussian_noise(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """x + sigma z, z standard normal per value, sigma .08 .12 .18 .26 .38.

    Parity with ImageNet-C: statistically equal (other random numbers; z has 2**16 levels and ends at 4.33).
    """
    z = _draw.normal(keys, images[0].numel()).view_as(images)
    return torch.add(images, z, alpha=GAUSSIAN[severity - 1])


def speckle_noise(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """x + x sigma z, z standard normal per value, sigma .15 .2 .35 .45 .6.

    Parity with ImageNet-C: statistically equal, as `gaussian_noise`.
    """
    z = _draw.normal(keys, images[0].numel()).view_as(images)
    return torch.addcmul(images, images, z, value=SPECKLE[severity - 1])


def impulse_noise(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """A share .03 .06 .09 .17 .27 of the values becomes 0 or 1, half of it each ("salt and pepper", per channel).

    Parity with ImageNet-C: statistically equal (the share is a multiple of 2**-16).
    """
    u = _draw.words(keys, images[0].numel()).view_as(images)
    hit = round(IMPULSE[severity - 1] * _draw.STEPS)
    return images.masked_fill(u < hit, 1.0).masked_fill_(u < hit // 2, 0.0)


def shot_noise(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Poisson(rate x) / rate per value, rate 60 25 12 5 3.

    Drawn by the alias method (Walker 1977) from one table per rate with a row for each of 256 levels, so x is first rounded to 8 bits.

    Parity with ImageNet-C: statistically equal (x is 8-bit there too; probabilities are multiples of 2**-16).
    """
    rate = SHOT[severity - 1]
    table = _alias_table(rate, images.device)
    columns = table.shape[1]
    u = _draw.words(keys, images[0].numel()).view_as(images)
    column = u & (columns - 1)
    level = torch.mul(images, 255).round_().to(torch.int32)
    entry = table.view(-1).index_select(0, level.mul_(columns).add_(column).view(-1)).view_as(u)
    count = torch.where((u >> int(math.log2(columns))) < (entry & 0xFFFF), column, entry >> 16)
    return count.to(torch.float32).mul_(1 / rate)


@functools.cache
def _alias_table(rate: int, device: torch.device) -> Int32[Tensor, "256 n"]:
    """Per level and column: in the low 16 bits how much of the column is its own count, in the high 16 bits the other count."""
    columns = 1 << math.ceil(math.log2(rate + 6 * math.sqrt(rate) + 8))
    counts = np.arange(columns)
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, columns)))])
    means = rate * np.arange(256)[:, None] / 255
    p = np.exp(counts * np.log(np.maximum(means, 1e-300)) - means - logs)
    p *= columns / p.sum(axis=1, keepdims=True)
    own, other = np.ones_like(p), np.tile(counts, (256, 1))
    for level in range(256):
        mass = p[level]
        small, large = [k for k in counts if mass[k] < 1], [k for k in counts if mass[k] >= 1]
        while small and large:
            s, most = small.pop(), large[-1]
            own[level, s], other[level, s] = mass[s], most
            mass[most] -= 1 - mass[s]
            if mass[most] < 1:
                small.append(large.pop())
    packed = np.rint(own * (_draw.STEPS // columns)).astype(np.int32) | (other.astype(np.int32) << 16)
    return torch.from_numpy(packed).to(device)
