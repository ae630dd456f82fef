"""Digital: contrast, elastic transform, pixelate, JPEG, saturate. Formulas and constants: Hendrycks and Dietterich 2019, ImageNet-C.

Signatures and conventions are those of `noise`.
"""

import functools

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor
from torch.nn import functional
from torchvision import io

from visionvitals.perturb.corruptions import _draw, _filters

CONTRAST = (0.4, 0.3, 0.2, 0.1, 0.05)
ELASTIC = ((2.0, 0.7, 0.1), (2.0, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))
PIXELATE = (0.6, 0.5, 0.4, 0.3, 0.25)
JPEG = (25, 18, 15, 10, 7)
SATURATE = ((0.3, 0.0), (0.1, 0.0), (2.0, 0.0), (5.0, 0.1), (20.0, 0.2))


def contrast(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """(x - m) c + m, m the mean of each channel, c .4 .3 .2 .1 .05. The keys are not used.

    Parity with ImageNet-C: identical up to float rounding (within one grey level).
    """
    mean = images.mean((2, 3), keepdim=True)
    return torch.lerp(mean, images, CONTRAST[severity - 1])


def saturate(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """HSV's saturation s becomes a s + b within [0, 1], (a, b) (.3,0) (.1,0) (2,0) (5,.1) (20,.2); hue and value stay. No keys used.

    A grey pixel counts as red, the hue 0, so it is tinted where b > 0.

    Parity with ImageNet-C: identical up to float rounding (within one grey level).
    """
    a, b = SATURATE[severity - 1]
    value, least = images.amax(1, keepdim=True), images.amin(1, keepdim=True)
    spread = value - least
    before = spread / value.clamp(min=1e-9)
    after = (before * a + b).clamp_(0, 1)
    coloured = value - (value - images) * (after * value / spread.clamp(min=1e-9))
    tint = torch.tensor([0.0, 1.0, 1.0], device=images.device).view(1, 3, 1, 1)
    return torch.where(spread > 0, coloured, value - value * after * tint)


def jpeg_compression(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Compressed as JPEG of quality 25 18 15 10 7 and decompressed, by libjpeg-turbo on the CPU. The keys are not used.

    Parity with ImageNet-C: identical (Pillow, which it uses, has the same codec and settings: 4:2:0, the slow exact transform).
    """
    levels = images.mul(255).round_().to(torch.uint8).cpu()
    decoded = [io.decode_jpeg(io.encode_jpeg(one, JPEG[severity - 1])) for one in levels]
    return torch.stack(decoded).to(images.device).to(torch.float32).mul_(1 / 255)


def pixelate(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Reduced to .6 .5 .4 .3 .25 of each side by the mean of whole pixels, in 8 bits, and enlarged by repetition. The keys are not used.

    Parity with ImageNet-C: identical (Pillow's box filter, axis by axis, with its rounding after each).
    """
    share = PIXELATE[severity - 1]
    h, w = images.shape[-2:]
    columns = images.transpose(2, 3).mul(255).round_()  # one axis at a time, as the rows of a matrix
    narrow = _bins(columns.contiguous(), int(w * share)).transpose(2, 3).contiguous()
    small = _bins(narrow, int(h * share))
    tall = small.index_select(2, _repeats(h, int(h * share), images.device))
    wide = tall.transpose(2, 3).contiguous().index_select(2, _repeats(w, int(w * share), images.device))
    return wide.transpose(2, 3).contiguous().mul_(1 / 255)


def _bins(images: Float32[Tensor, "b c h w"], n: int) -> Float32[Tensor, "b c n w"]:
    """The mean of the rows whose middles lie in each of n equal parts, rounded half up to a whole number."""
    place, weight = _members(images.shape[2], n, images.device)
    total = images.index_select(2, place[0]).mul_(weight[0])
    for at, share in zip(place[1:], weight[1:], strict=True):
        total.addcmul_(images.index_select(2, at), share)
    return total.add_(0.5 + 1e-4).floor_()


@functools.lru_cache(maxsize=32)
def _members(h: int, n: int, device: torch.device) -> tuple[Int64[Tensor, "m n"], Float32[Tensor, "m n 1"]]:
    """For each part its rows, as many as the fullest has, and their weights, 0 where a part has fewer."""
    part = np.ceil((np.arange(h) + 0.5) * n / h - 1e-9).astype(np.int64) - 1
    count = np.bincount(part, minlength=n)
    first = np.concatenate([[0], np.cumsum(count)[:-1]])
    nth = np.arange(count.max())[:, None]
    weight = np.where(nth < count, 1 / count, 0.0)[..., None]
    place = np.minimum(first + nth, h - 1)
    return torch.from_numpy(place).to(device), torch.from_numpy(weight.astype(np.float32)).to(device)


@functools.lru_cache(maxsize=32)
def _repeats(h: int, n: int, device: torch.device) -> Int64[Tensor, " h"]:
    return torch.from_numpy(np.floor((np.arange(h) + 0.5) * n / h + 1e-9).astype(np.int64)).to(device)


def elastic_transform(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """A random affine map, then every pixel moved by a smooth random field; bilinear both times, borders mirrored.

    Three points around the middle are moved by up to `c` pixels in each direction; the field is uniform noise in (-1, 1), blurred
    by sigma `b` (cut at 3 sigma) and multiplied by `a`; (a, b, c) in `ELASTIC` are shares of 244 pixels at an image side of 224.

    Parity with ImageNet-C: statistically equal (other random numbers; OpenCV's 1/32-pixel steps of the affine map are left out).
    Other sizes than 224, which that code does not scale for, are scaled with the shorter side; at 224 the constants are equal.
    """
    h, w = images.shape[-2:]
    unit = 244 / 224 * min(h, w)
    strength, sigma, shift = (unit * c for c in ELASTIC[severity - 1])
    for_points, *for_field = _draw.fork(keys, 3)
    moved = (_draw.uniform(for_points, 6).to(torch.float64) * 2 - 1).view(-1, 3, 2) * shift
    images = _sample(images, *_affine(moved, (h, w)), edge_twice=False)
    down, across = (_filters.reflecting_gaussian(n, sigma, 3.0, images.device) for n in (h, w))
    fields = []
    for key in for_field:
        noise = _draw.uniform(key, h * w).view(-1, h, w).mul_(2).sub_(1)
        fields.append((down @ noise @ across.T).mul_(strength))
    right, below = fields
    y, x = (torch.arange(n, dtype=torch.float32, device=images.device) for n in (h, w))
    return _sample(images, x + right, y[:, None] + below, edge_twice=True)


def _affine(moved: Tensor, size: tuple[int, int]) -> tuple[Float32[Tensor, "b h w"], Float32[Tensor, "b h w"]]:
    """The (x, y) that each pixel shows, when three points around the middle have been moved by (b, 3, 2) pixels."""
    h, w = size
    cx, cy, s = w // 2, h // 2, min(h, w) // 3
    source = torch.tensor([[cx + s, cy + s], [cx + s, cy - s], [cx - s, cy - s]], dtype=torch.float64)
    source = source.to(moved.device).expand_as(moved)
    target = torch.cat([source + moved, torch.ones_like(moved[..., :1])], dim=2)
    back = torch.linalg.solve(target, source).to(torch.float32)  # (b, 3, 2): [x y 1] of the result -> x, y of the image
    x = torch.arange(w, dtype=torch.float32, device=moved.device)
    y = torch.arange(h, dtype=torch.float32, device=moved.device)[:, None]
    u, v = (
        back[:, 0, k, None, None] * x + (back[:, 1, k, None, None] * y + back[:, 2, k, None, None]) for k in (0, 1)
    )
    return u, v


def _sample(images: Tensor, x: Tensor, y: Tensor, *, edge_twice: bool) -> Float32[Tensor, "b 3 h w"]:
    """Bilinear at pixel coordinates (b, h, w); borders mirror about the edge of the last pixel (`edge_twice`) or its middle."""
    h, w = images.shape[-2:]
    if edge_twice:
        grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=3)
    else:
        grid = torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], dim=3)
    out: Tensor = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=not edge_twice
    )
    return out
