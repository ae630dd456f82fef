"""Weather: snow, fog, brightness, and our own rain; frost has a file of its own. Source: Hendrycks and Dietterich 2019, ImageNet-C.

Signatures and conventions are those of `noise`.
"""

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from visionvitals.perturb.corruptions import _draw, _filters
from visionvitals.perturb.corruptions.plasma import plasma

SNOW = (
    (0.1, 0.3, 3.0, 0.5, 10, 4.0, 0.8),
    (0.2, 0.3, 2.0, 0.5, 12, 4.0, 0.7),
    (0.55, 0.3, 4.0, 0.9, 12, 8.0, 0.7),
    (0.55, 0.3, 4.5, 0.85, 12, 8.0, 0.65),
    (0.55, 0.3, 2.5, 0.85, 12, 12.0, 0.55),
)
FOG = ((1.5, 2.0), (2.0, 2.0), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
RAIN = (
    (0.010, 12, 0.55, 0.92),
    (0.014, 16, 0.60, 0.85),
    (0.018, 22, 0.65, 0.78),
    (0.024, 28, 0.70, 0.70),
    (0.032, 36, 0.75, 0.60),
)


def snow(images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]) -> Float32[Tensor, "b 3 h w"]:
    """Flakes: normal noise, enlarged, cut below a threshold, drawn into trails, laid over a whitened image, once and turned by 180 degrees.

    Constants (mean, deviation, enlargement, threshold, radius, sigma, share of the image that is not whitened) in `SNOW`.

    Parity with ImageNet-C: statistically equal (other random numbers; the trail as in `motion_blur`).
    """
    mean, deviation, enlargement, threshold, radius, sigma, keep = SNOW[severity - 1]
    b, _, h, w = images.shape
    for_noise, for_angle = _draw.fork(keys, 2)
    noise = _draw.normal(for_noise, h * w).view(b, 1, h, w).mul_(deviation).add_(mean)
    flakes = _filters.zooms(noise, [enlargement])
    flakes = torch.where(flakes < threshold, 0.0, flakes).clamp_(0, 1).mul_(255).floor_().mul_(1 / 255)
    angles = _draw.uniform(for_angle, 1)[:, 0] * 90 - 135
    layer = _filters.motion(flakes, angles, _filters.half_gaussian(radius, sigma))
    layer = layer.mul_(255).add_(1e-3).floor_().mul_(1 / 255)
    whitened = torch.maximum(images, grey(images).mul_(1.5).add_(0.5))
    return torch.lerp(whitened, images, keep).add_(layer).add_(layer.flip((2, 3)))


def fog(images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]) -> Float32[Tensor, "b 3 h w"]:
    """(x + c p) m / (m + c): p a plasma fractal from 0 to 1, m the image's largest value, (c, decay of the fractal) in `FOG`.

    Parity with ImageNet-C: statistically equal (other random numbers). Images over 256 pixels get a larger map, not a repeated one.
    """
    amount, decay = FOG[severity - 1]
    h, w = images.shape[-2:]
    largest = images.amax((1, 2, 3), keepdim=True)
    cloud = plasma(keys, max(h, w), decay)[:, None, :h, :w]
    return torch.add(images, cloud, alpha=amount).mul_(largest / (largest + amount))


def brightness(
    images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]
) -> Float32[Tensor, "b 3 h w"]:
    """HSV's value plus .1 .2 .3 .4 .5, at most 1; hue and saturation stay, so all three channels grow by one factor. No keys used.

    Parity with ImageNet-C: identical up to float rounding (within one grey level).
    """
    value = images.amax(1, keepdim=True)
    more = (value + BRIGHTNESS[severity - 1]).clamp_(max=1)
    return torch.where(value > 0, images * (more / value.clamp(min=1e-9)), more)


def rain(images: Float32[Tensor, "b 3 h w"], severity: int, keys: Int64[Tensor, " b"]) -> Float32[Tensor, "b 3 h w"]:
    """Our own, outside the benchmark: a darker, greyer scene behind two layers of bright streaks, near and far, of one slant per image.

    Constants (share of pixels where a streak begins, its length in pixels, its brightness, contrast that is left) in `RAIN`.

    Parity with ImageNet-C: none; it has no rain.
    """
    density, length, brightness_, contrast_left = RAIN[severity - 1]
    b, _, h, w = images.shape
    for_near, for_far, for_angle = _draw.fork(keys, 3)
    angles = 90 + 36 * _draw.uniform(for_angle, 1)[:, 0] - 18
    streaks = torch.zeros(b, 1, h, w, device=images.device)
    for key, n, share, light in ((for_near, length, 0.4, 1.0), (for_far, length // 2, 1.0, 0.55)):
        drops = (_draw.uniform(key, h * w).view(b, 1, h, w) < density * share).to(torch.float32)
        fade = [1 - k / n for k in range(n)]
        trail = _filters.motion(drops, angles, fade)
        soft = _filters.gaussian(trail, 0.5) if n == length else trail
        streaks = torch.maximum(streaks, soft.clamp_(0, 1) * light)
    scene = torch.lerp(grey(images), images, 0.5 + 0.5 * contrast_left) * contrast_left + 0.35 * (1 - contrast_left)
    return torch.lerp(scene, torch.ones_like(scene), streaks * brightness_)


def grey(images: Float32[Tensor, "b 3 h w"]) -> Float32[Tensor, "b 1 h w"]:
    """Luma .299 .587 .114 (ITU-R BT.601), OpenCV's conversion."""
    return (images[:, :1] * 0.299).add_(images[:, 1:2], alpha=0.587).add_(images[:, 2:], alpha=0.114)
