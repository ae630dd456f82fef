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
    weights = gaussian_weights(sigma)
    r = len(weights) // 2
    return _separable(functional.pad(images, (r, r, r, r), mode="replicate"), weights)


def mirrored_gaussian(images: Float32[Tensor, "b c h w"], sigma: float, truncate: float) -> Float32[Tensor, "b c h w"]:
    """Gaussian blur; the border mirrors, edge pixels included (d c b a | a b c d | d c b a)."""
    h, w = images.shape[-2:]
    weights = gaussian_weights(sigma, truncate)
    r = len(weights) // 2
    if r > min(h, w) // 8:  # a full matrix costs less than so many additions, and mirrors as often as needed
        down, across = (_mirroring(n, sigma, truncate, images.device) for n in (h, w))
        return down @ images @ across.T
    wide = torch.cat([images[..., :r].flip(3), images, images[..., w - r :].flip(3)], dim=3)
    return _separable(torch.cat([wide[:, :, :r].flip(2), wide, wide[:, :, h - r :].flip(2)], dim=2), weights)


def _separable(padded: Float32[Tensor, "b c h w"], weights: Sequence[float]) -> Float32[Tensor, "b c i j"]:
    """The same odd, symmetric filter along both axes, where it does not cross the border.

    A sum of shifted images: on a CPU several times faster than a convolution with one input channel.
    """
    r = len(weights) // 2
    h, w = padded.shape[2] - 2 * r, padded.shape[3] - 2 * r
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
    padded = functional.pad(images, (r, r, r, r), mode="reflect")
    size = (_fast_length(h + 2 * r), _fast_length(w + 2 * r))
    spectrum = torch.fft.rfft2(padded, s=size) * _spectrum(kernel.tobytes(), len(kernel), size, images.device)
    out: Tensor = torch.fft.irfft2(spectrum, s=size)[..., :h, :w]
    return out


@functools.lru_cache(maxsize=16)
def _spectrum(kernel: bytes, side: int, size: tuple[int, int], device: torch.device) -> Complex64[Tensor, "h w"]:
    values = torch.from_numpy(np.frombuffer(kernel, np.float32).copy().reshape(side, side)).to(device)
    out: Tensor = torch.fft.rfft2(values, s=size).conj().resolve_conj()
    return out


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
    """ImageMagick's weights along a trail of 2 radius + 1 pixels, of sum 1, without an end that together weighs less than 1e-6."""
    weights = np.exp(-0.5 * (np.arange(2 * radius + 1) / sigma) ** 2)
    weights = weights[np.cumsum(weights[::-1])[::-1] >= 1e-6 * weights.sum()]
    return [float(w) for w in weights / weights.sum()]


def zooms(images: Float32[Tensor, "b c h w"], factors: Sequence[float]) -> Float32[Tensor, "b c h w"]:
    """The sum of the centres enlarged by each factor to the image's own size, bilinear.

    Each axis: the middle ceil(n / factor) pixels are stretched, corners on corners, to round(that times factor), whose middle n are
    kept; scipy.ndimage.zoom at order 1 within ImageNet-C's crop.
    """
    b, c, h, w = images.shape
    lines = images.permute(2, 0, 1, 3).reshape(
        h, b * c * w
    )  # whole lines are added, not single pixels: several times faster
    total = torch.zeros(w, b * c * h, device=images.device)
    for factor in factors:
        at, weight = _taps(h, factor, images.device)
        rows = functional.embedding_bag(at, lines, mode="sum", per_sample_weights=weight)
        columns = rows.view(h, b * c, w).permute(2, 1, 0).reshape(w, b * c * h)
        at, weight = _taps(w, factor, images.device)
        total.add_(functional.embedding_bag(at, columns, mode="sum", per_sample_weights=weight))
    return from_columns(total, images.shape).contiguous()  # in another layout, all that follows would be slow


def to_columns(images: Float32[Tensor, "b c h w"]) -> Float32[Tensor, "w bch"]:
    """One line per column of pixels."""
    return images.permute(3, 0, 1, 2).reshape(images.shape[3], -1)


def from_columns(columns: Float32[Tensor, "w bch"], shape: Sequence[int]) -> Float32[Tensor, "b c h w"]:
    """Back from it; `shape` is that of the images."""
    b, c, h, w = shape
    return columns.view(w, b, c, h).permute(1, 2, 3, 0)


@functools.lru_cache(maxsize=256)
def _taps(n: int, factor: float, device: torch.device) -> tuple[Int64[Tensor, "n 2"], Float32[Tensor, "n 2"]]:
    """Along one axis of `zooms`: the two pixels between which each result lies, and their weights."""
    crop = math.ceil(n / factor)
    size = round(crop * factor)
    at = (np.arange(n) + (size - n) // 2) * (crop - 1) / max(size - 1, 1) + (n - crop) // 2
    low = np.clip(np.floor(at).astype(np.int64), 0, n - 1)
    places = np.stack([low, np.minimum(low + 1, n - 1)], axis=1)
    weights = np.stack([1 - (at - low), at - low], axis=1).astype(np.float32)
    return torch.from_numpy(places).to(device), torch.from_numpy(weights).to(device)


@functools.lru_cache(maxsize=16)
def _mirroring(n: int, sigma: float, truncate: float, device: torch.device) -> Float32[Tensor, "n n"]:
    """`mirrored_gaussian` along an axis of n pixels."""
    weights = gaussian_weights(sigma, truncate)
    radius = len(weights) // 2
    matrix = np.zeros((n, n))
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        place = np.mod(np.arange(n) + offset, 2 * n)
        np.add.at(matrix, (np.arange(n), np.where(place < n, place, 2 * n - 1 - place)), weight)
    return torch.from_numpy(matrix.astype(np.float32)).to(device)
