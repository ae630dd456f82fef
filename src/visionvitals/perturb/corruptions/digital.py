"""Digital: contrast, elastic transform, pixelate, JPEG, saturate. Formulas and constants: Hendrycks and Dietterich 2019, ImageNet-C.

Signatures and conventions are those of `noise`.
"""

import functools
from io import BytesIO

import numpy as np
import torch
from jaxtyping import Float32, Int64
from PIL import Image
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

    Parity with ImageNet-C: identical (Pillow encodes, as there; torchvision decodes, sooner, to Pillow's bits).
    """
    levels = (
        images.mul(255).round_().to(torch.int32).to(torch.uint8).cpu().numpy()
    )  # by way of int32: torch is twice as fast
    decoded = []
    for one in levels:
        encoded = BytesIO()
        Image.merge("RGB", [Image.fromarray(band) for band in one]).save(encoded, "JPEG", quality=JPEG[severity - 1])
        decoded.append(io.decode_jpeg(torch.frombuffer(encoded.getbuffer(), dtype=torch.uint8)).permute(1, 2, 0))
    return torch.stack(decoded).to(images.device).to(torch.float32).div_(255).permute(0, 3, 1, 2)


def pixelate(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """Reduced to .6 .5 .4 .3 .25 of each side by the mean of whole pixels, in 8 bits, and enlarged by repetition. The keys are not used.

    Parity with ImageNet-C: identical (Pillow's box filter, axis by axis, with its rounding after each).
    """
    share = PIXELATE[severity - 1]
    h, w = images.shape[-2:]
    b, c = images.shape[:2]
    high, wide = int(h * share), int(w * share)
    narrow = _bins(_filters.to_columns(images), wide, 255)
    small = _bins(_filters.from_columns(narrow, (b, c, h, wide)).permute(2, 0, 1, 3).reshape(h, -1), high, 1)
    small = small.div_(255).view(high, b, c, wide).permute(1, 2, 0, 3)
    return functional.interpolate(small, (h, w), mode="nearest-exact")


def _bins(lines: Float32[Tensor, "m k"], n: int, scale: int) -> Float32[Tensor, "n k"]:
    """`scale` times the mean of the lines whose middles lie in each of n equal parts, rounded half up to a whole number."""
    at, weight = _members(len(lines), n, scale, lines.device)
    total: Tensor = functional.embedding_bag(at, lines, mode="sum", per_sample_weights=weight)
    return total.add_(0.5 + 1e-4).floor_()


@functools.lru_cache(maxsize=32)
def _members(m: int, n: int, scale: int, device: torch.device) -> tuple[Int64[Tensor, "n f"], Float32[Tensor, "n f"]]:
    """For each part its lines, as many as the fullest has, and their weights, together `scale`, 0 where a part has fewer."""
    part = np.ceil((np.arange(m) + 0.5) * n / m - 1e-9).astype(np.int64) - 1
    count = np.bincount(part, minlength=n)[:, None]
    nth = np.arange(count.max())
    place = np.minimum(np.cumsum(count)[:, None] - count + nth, m - 1)
    weight = np.where(nth < count, scale / count, 0.0).astype(np.float32)
    return torch.from_numpy(place).to(device), torch.from_numpy(weight).to(device)


def elastic_transform(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """A random affine map, then every pixel moved by a smooth random field; bilinear both times, borders mirrored.

    Three points around the middle are moved by up to `c` pixels in each direction; the field is uniform noise in (-1, 1), blurred
    by sigma `b` (cut at 3 sigma) and multiplied by `a`; (a, b, c) in `ELASTIC` are shares of 244 pixels at an image side of 224.

    Parity with ImageNet-C: statistically equal (other random numbers), with the 1/32-pixel steps of the affine map in OpenCV to 4.
    Other sizes than 224, which that code does not scale for, are scaled with the shorter side; at 224 the constants are equal.
    """
    h, w = images.shape[-2:]
    unit = 244 / 224 * min(h, w)
    strength, sigma, shift = (unit * c for c in ELASTIC[severity - 1])
    for_points, for_field = _draw.fork(keys, 2)
    moved = (_draw.uniform(for_points, 6).to(torch.float64) * 2 - 1).view(-1, 3, 2) * shift
    images = _sample(images, *_affine(moved, (h, w)), edge_twice=False)
    noise = _draw.uniform(for_field, 2 * h * w).view(-1, 2, h, w).mul_(2).sub_(1)
    right, below = _filters.mirrored_gaussian(noise, sigma, 3.0).mul_(strength).unbind(1)
    y, x = (torch.arange(n, dtype=torch.float32, device=images.device) for n in (h, w))
    return _sample(images, right + x, below + y[:, None], edge_twice=True)


def _affine(moved: Tensor, size: tuple[int, int]) -> tuple[Float32[Tensor, "b h w"], Float32[Tensor, "b h w"]]:
    """The (x, y) that each pixel shows, when three points around the middle have been moved by (b, 3, 2) pixels; in steps of 1/32, as OpenCV's."""
    h, w = size
    cx, cy, s = w // 2, h // 2, min(h, w) // 3
    source = torch.tensor([[cx + s, cy + s], [cx + s, cy - s], [cx - s, cy - s]], dtype=torch.float64)
    source = source.to(moved.device).expand_as(moved)
    target = torch.cat([source + moved, torch.ones_like(moved[..., :1])], dim=2)
    back = torch.linalg.solve(target, source)  # (b, 3, 2): [x y 1] of the result -> x, y of the image
    x = torch.arange(w, dtype=torch.float64, device=moved.device)
    y = torch.arange(h, dtype=torch.float64, device=moved.device)[:, None]
    along, down = back[:, 0, :, None, None], back[:, 1, :, None, None]
    ends = (along * x * 1024).round() + ((down * y + back[:, 2, :, None, None]) * 1024).round()
    u, v = ((ends + 16) / 32).floor().div(32).to(torch.float32).unbind(1)
    return u, v


def _sample(images: Tensor, x: Tensor, y: Tensor, *, edge_twice: bool) -> Float32[Tensor, "b 3 h w"]:
    """Bilinear at pixel coordinates (b, h, w); borders mirror about the edge of the last pixel (`edge_twice`) or its middle."""
    h, w = images.shape[-2:]
    grid = torch.empty(*x.shape, 2, device=x.device)
    for at, n, k in ((x, w, 0), (y, h, 1)):
        scale, shift = (2 / n, 1 / n - 1) if edge_twice else (2 / (n - 1), -1)
        torch.add(at * scale, shift, out=grid[..., k])
    out: Tensor = functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=not edge_twice
    )
    return out
