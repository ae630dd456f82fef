"""Random numbers of a corruption, cheap enough for one per pixel: 16 bits each, so one 64-bit hash of `randomness` gives four.

Every number is exact or read from a table that is made on the CPU, so all devices draw the same bits.
"""

import functools
import math

import torch
from jaxtyping import Float32, Int32, Int64
from torch import Tensor

from visionvitals import randomness

STEPS = 1 << 16


def fork(keys: Int64[Tensor, " b"], n: int) -> list[Int64[Tensor, " b"]]:
    """n independent streams of each image's stream."""
    return list(randomness.bits(keys, n).unbind(1))


def words(keys: Int64[Tensor, " b"], n: int) -> Int32[Tensor, "b n"]:
    """Integers, uniform in [0, 2**16)."""
    packed = randomness.bits(keys, -(-n // 4))
    return (
        packed.view(torch.int16)[:, :n].to(torch.int32).add_(STEPS // 2)
    )  # little-endian, as every platform of torch is


def uniform(keys: Int64[Tensor, " b"], n: int) -> Float32[Tensor, "b n"]:
    """The middles of 2**16 equal parts of (0, 1)."""
    return words(keys, n).to(torch.float32).add_(0.5).mul_(1 / STEPS)


def integers(keys: Int64[Tensor, " b"], n: int, low: int, high: int) -> Int32[Tensor, "b n"]:
    """Integers in [low, high); with high - low far below 2**16, equally likely to 1 part in 2**16."""
    return words(keys, n).mul_(high - low).bitwise_right_shift_(16).add_(low)


def normal(keys: Int64[Tensor, " b"], n: int) -> Float32[Tensor, "b n"]:
    """Standard normal numbers: the quantiles at the middles of 2**16 equal parts. The largest is 4.33; the variance is 1 - 3e-5."""
    return _quantiles(keys.device).index_select(0, words(keys, n).view(-1)).view(len(keys), n)


@functools.cache
def _quantiles(device: torch.device) -> Float32[Tensor, " n"]:
    middles = (torch.arange(STEPS, dtype=torch.float64) + 0.5) / STEPS
    return (torch.erfinv(2 * middles - 1) * math.sqrt(2)).to(torch.float32).to(device)
