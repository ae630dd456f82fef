"""Randomness that belongs to an image: a counter-based integer hash of (seed, image id, purpose).

Never global, never per batch: each image has its own stream, with the same bits on CPU and GPU, for any batch size, order, shard or
worker. The mixing function is the finaliser of splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators", variant 13 of Stafford), applied to key + counter * golden gamma, which is splitmix64 itself started at the key.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer; products wrap modulo 2**64
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def stream(seed: int, ids: Sequence[str], purpose: str, *, device: torch.device | str = "cpu") -> Int64[Tensor, " b"]:
    """One 64-bit key per image, from blake2b of (seed, purpose, id).

    Args:
        seed: root seed, any integer.
        ids: image ids, length b.
        purpose: what the numbers are for, e.g. `occlusion/run=0`; different purposes are independent.
        device: where the keys are put.
    """
    prefix = f"{seed}\0{purpose}\0".encode()
    keys = [
        int.from_bytes(hashlib.blake2b(prefix + i.encode(), digest_size=8).digest(), "little", signed=True) for i in ids
    ]
    return torch.tensor(keys, dtype=torch.int64).to(device, non_blocking=True)


def bits(keys: Int64[Tensor, " b"], n: int) -> Int64[Tensor, "b n"]:
    """The first n outputs of each image's stream, as signed 64-bit integers."""
    counter = torch.arange(1, n + 1, dtype=torch.int64, device=keys.device)
    z = keys[:, None] + counter * _GAMMA
    z = (z ^ _shift_right(z, 30)) * _MIX_1
    z = (z ^ _shift_right(z, 27)) * _MIX_2
    return z ^ _shift_right(z, 31)


def uniform(keys: Int64[Tensor, " b"], n: int) -> Float32[Tensor, "b n"]:
    """Multiples of 2**-24, uniform in [0, 1): exact in float32, so equal on every device."""
    return _shift_right(bits(keys, n), 40).to(torch.float32) * 2.0**-24


def normal(keys: Int64[Tensor, " b"], n: int) -> Float32[Tensor, "b n"]:
    """Standard normal numbers by Box and Muller (1958); devices agree up to float rounding of log and cos."""
    u = uniform(keys, 2 * n)
    radius = torch.sqrt(-2 * torch.log1p(-u[:, :n]))
    return radius * torch.cos(2 * math.pi * u[:, n:])


def ranks(keys: Int64[Tensor, " b"], n: int) -> Int64[Tensor, "b n"]:
    """n distinct sortable numbers per image. The m smallest are a uniform random m-subset, and those subsets are nested in m.

    The low 20 bits carry the position, so that two numbers never tie (n < 2**20).
    """
    position = torch.arange(n, dtype=torch.int64, device=keys.device)
    return (bits(keys, n) & ~0xFFFFF) | position


def permutation(keys: Int64[Tensor, " b"], n: int) -> Int64[Tensor, "b n"]:
    """A uniform random permutation of 0..n-1 per image."""
    return ranks(keys, n).argsort(dim=1)


def _shift_right(z: Int64[Tensor, "*s"], k: int) -> Int64[Tensor, "*s"]:
    """Logical shift: torch's >> on int64 copies the sign bit, which the mask takes away."""
    return (z >> k) & ((1 << (64 - k)) - 1)
