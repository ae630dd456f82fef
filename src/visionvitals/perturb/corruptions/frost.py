"""Frost: a picture of frosted glass laid over the image; the pictures come from a folder, or are drawn here."""

import functools
import os
from pathlib import Path

import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as v2

from visionvitals.errors import require
from visionvitals.perturb.corruptions import _draw, _filters
from visionvitals.perturb.corruptions.plasma import plasma

BLEND = ((1.0, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
USED = 5  # of ImageNet-C's six pictures the last one is never drawn
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def frost(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"], *, folder: str | None = None
) -> Float32[Tensor, "b 3 h w"]:
    """a x + b f, (a, b) = (1,.4) (.8,.6) (.7,.7) (.65,.7) (.6,.75), f a random part of a random picture of frost.

    Args:
        images, severity, keys: as everywhere.
        folder: of pictures of frost; the first five by name are used. None: f is drawn by `procedural`.

    Parity with ImageNet-C: with its folder statistically equal (other choices; no enlargement, and its sixth picture is never
    used, as there). A picture smaller than the image, which that code cannot take, is enlarged to cover it. Without a folder it
    differs: the frost is our own.
    """
    h, w = images.shape[-2:]
    shade, strength = BLEND[severity - 1]
    if folder is None:
        return images * shade + procedural(keys, (h, w)) * strength
    chosen = pictures(folder)
    which = _draw.integers(keys, 3, 0, len(chosen)).tolist()
    place = _draw.uniform(keys, 3).tolist()
    parts = []
    for (index, _, _), (_, down, right) in zip(which, place, strict=True):
        picture = _covering(folder, index, (h, w))
        top, left = (int(u * max(1, room)) for u, room in ((down, picture.shape[1] - h), (right, picture.shape[2] - w)))
        parts.append(picture[:, top : top + h, left : left + w])
    over = torch.stack(parts).to(images.device)
    return torch.add(images * shade, over.to(torch.float32), alpha=strength / 255)


def pictures(folder: str) -> list[Path]:
    """The pictures of a folder that are used.

    Raises:
        VitalsError: there is no such folder, or no picture in it.
    """
    root = Path(folder).expanduser()
    require(root.is_dir(), "The folder of frost pictures must exist", folder)
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in _ENDINGS and path.name[0] != ".")
    require(bool(found), f"{folder} must hold pictures of frost ({' '.join(_ENDINGS)})", sorted(os.listdir(root))[:5])
    return found[:USED]


@functools.lru_cache(maxsize=2 * USED)
def _covering(folder: str, index: int, size: tuple[int, int]) -> UInt8[Tensor, "3 a b"]:
    """One picture, enlarged where it does not cover `size`."""
    picture = Image.open(pictures(folder)[index]).convert("RGB")
    short = max(size[0] / picture.height, size[1] / picture.width)
    if short > 1:
        wide, high = (max(s, round(n * short)) for s, n in ((size[1], picture.width), (size[0], picture.height)))
        picture = picture.resize((wide, high), Image.Resampling.BILINEAR)
    return torch.as_tensor(v2.pil_to_tensor(picture)).contiguous()


def procedural(keys: Int64[Tensor, " b"], size: tuple[int, int]) -> Float32[Tensor, "b 3 h w"]:
    """Our own frost, in [0, 1]: bright ridges of folded fractal noise and short needles, stronger where ice is thick, on a bluish ground.

    The mean, about .6, is that of ImageNet-C's pictures; nothing else is taken from them.
    """
    h, w = size
    first, second, third, fourth = _draw.fork(keys, 4)
    thick = plasma(first, max(h, w), 2.0)[:, :h, :w]
    fold = plasma(second, max(h, w), 1.7)[:, :h, :w]
    ridges = (1 - (6 * fold - (6 * fold).floor() - 0.5).abs() * 2) ** 3
    grain = _draw.normal(third, h * w).view(-1, 1, h, w)
    angles = _draw.uniform(fourth, 1)[:, 0] * 180
    needles = _filters.motion(grain, angles, [1 / 12] * 12)
    needles += _filters.motion(grain.flip(2), angles + 60, [1 / 12] * 12)
    ice = 0.36 + 0.3 * thick + 0.28 * ridges * (0.4 + thick) + 0.16 * needles[:, 0] * (0.3 + thick)
    soft = functional.avg_pool2d(ice[:, None], 3, stride=1, padding=1, count_include_pad=False)
    tint = torch.tensor([0.88, 0.98, 1.08], device=keys.device).view(1, 3, 1, 1)
    return (soft * tint).clamp_(0, 1)
