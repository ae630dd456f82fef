"""Linear filters and resampling that several corruptions share. Images are float (b, c, h, w); all follow the image's own size."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Complex64, Float32, Int64
from torch import Tensor
from torch.nn import functional

PAD_REFLECT = "reflect"  # d c b | a b c d | c b a: OpenCV's default border


def gaussian_weights(sigma: float, truncate: float = 4.0) -> list[float]:
    """A normalised Gaussian at the integers -r..r, r = floor(truncate sigma + 1/2), as scipy.ndimage has it."""
    radius = int(truncate * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return [float(w) for w in weights / weights.sum()]


def gaussian(images: Float32[Tensor, "b c h w"], sigma: float) -> Float32[Tensor, "b c h w"]:
    """Gaussian blur, cut at 4 sigma, edge pixels repeated outwards."""
    return separable(images, gaussian_weights(sigma))


def separable(images: Float32[Tensor, "b c h w"], weights: Sequence[float]) -> Float32[Tensor, "b c h w"]:
    """The same odd, symmetric filter along both axes, edge pixels repeated outwards.

    A sum of shifted images: on a CPU several times faster than a convolution with one input channel.
    """
    h, w = images.shape[-2:]
    r = len(weights) // 2
    padded = functional.pad(images, (r, r, r, r), mode="replicate")
    rows = padded[:, :, r : r + h] * weights[r]
    for k in range(r):
        rows.add_(padded[:, :, k : k + h] + padded[:, :, 2 * r - k : 2 * r - k + h], alpha=weights[k])
    out = rows[..., r : r + w] * weights[r]
    for k in range(r):
        out.add_(rows[..., k : k + w] + rows[..., 2 * r - k : 2 * r - k + w], alpha=weights[k])
    return out


def correlate(images: Float32[Tensor, "b c h w"], kernel: Float32[np.ndarray, "k k"]) -> Float32[Tensor, "b c h w"]:
    """Correlation with an odd square kernel by FFT, borders mirrored without repeating the edge."""
    h, w = images.shape[-2:]
    r = len(kernel) // 2
    padded = functional.pad(images, (r, r, r, r), mode=PAD_REFLECT)
    size = (_fast_length(h + 2 * r), _fast_length(w + 2 * r))
    spectrum = torch.fft.rfft2(padded, s=size) * _spectrum(kernel.tobytes(), len(kernel), size, images.device)
    return torch.fft.irfft2(spectrum, s=size)[..., :h, :w]


@functools.lru_cache(maxsize=16)
def _spectrum(kernel: bytes, side: int, size: tuple[int, int], device: torch.device) -> Complex64[Tensor, "h w"]:
    values = torch.from_numpy(np.frombuffer(kernel, np.float32).copy().reshape(side, side)).to(device)
    return torch.fft.rfft2(values, s=size).conj().resolve_conj()


def _fast_length(n: int) -> int:
    """The next number whose only prime factors are 2, 3 and 5."""
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1


def motion(
    images: Float32[Tensor, "b c h w"], angles: Float32[Tensor, " b"], weights: Sequence[float]
) -> Float32[Tensor, "b c h w"]:
    """A trail: sum over i of weights[i] times the image at (row + round(i sin a), column + round(i cos a)), edges repeated.

    Args:
        images: any channels.
        angles: per image, degrees.
        weights: of the pixel itself, then of those further along.

    Source: ImageMagick, MotionBlurImage, whose offsets are ceil(i sin a - 1/2): whole pixels, one-sided.
    """
    h, w = images.shape[-2:]
    reach = len(weights) - 1
    padded = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    out = torch.zeros_like(images)
    for image, source, degrees in zip(out, padded, angles.tolist(), strict=True):
        rise, run = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        for i, weight in enumerate(weights):
            top, left = reach + math.ceil(i * rise - 0.5), reach + math.ceil(i * run - 0.5)
            image.add_(source[:, top : top + h, left : left + w], alpha=weight)
    return out


def half_gaussian(radius: int, sigma: float) -> list[float]:
    """ImageMagick's weights along a trail of 2 radius + 1 pixels."""
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    return [float(w) for w in weights / weights.sum()]


def zoom(images: Float32[Tensor, "b c h w"], factor: float) -> Float32[Tensor, "b c w h"]:
    """The centre enlarged by `factor` to the image's own size, bilinear, **transposed** (the sum of many is transposed back once).

    Each axis: the middle ceil(n / factor) pixels are stretched, corners on corners, to round(that times factor), whose middle n are
    kept; scipy.ndimage.zoom at order 1 within ImageNet-C's crop.
    """
    h, w = images.shape[-2:]
    low, high, t = _taps(h, factor, images.device)
    rows = torch.lerp(images.index_select(2, low), images.index_select(2, high), t)
    columns = rows.transpose(2, 3).contiguous()
    low, high, t = _taps(w, factor, images.device)
    return torch.lerp(columns.index_select(2, low), columns.index_select(2, high), t)


@functools.lru_cache(maxsize=256)
def _taps(
    n: int, factor: float, device: torch.device
) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"], Float32[Tensor, "n 1"]]:
    """Along one axis of `zoom`: the two pixels between which each result lies, and how far it is from the first."""
    crop = math.ceil(n / factor)
    size = round(crop * factor)
    at = (np.arange(n) + (size - n) // 2) * (crop - 1) / max(size - 1, 1) + (n - crop) // 2
    low = np.clip(np.floor(at).astype(np.int64), 0, n - 1)
    high = np.minimum(low + 1, n - 1)
    t = torch.from_numpy((at - low).astype(np.float32))[:, None]
    return torch.from_numpy(low).to(device), torch.from_numpy(high).to(device), t.to(device)


@functools.lru_cache(maxsize=16)
def reflecting_gaussian(n: int, sigma: float, truncate: float, device: torch.device) -> Float32[Tensor, "n n"]:
    """Gaussian blur along an axis of n pixels as a matrix; the border mirrors as often as needed (d c b a | a b c d | d c b a)."""
    weights = gaussian_weights(sigma, truncate)
    radius = len(weights) // 2
    matrix = np.zeros((n, n))
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        place = np.mod(np.arange(n) + offset, 2 * n)
        np.add.at(matrix, (np.arange(n), np.where(place < n, place, 2 * n - 1 - place)), weight)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)
