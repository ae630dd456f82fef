"""The corruptions of ImageNet-C (Hendrycks and Dietterich 2019), and rain of our own, as functions of batches of images.

    corrupt("fog", images, 3, randomness.stream(seed, ids, "corruption/fog"))

The files are families: noise, blur, weather, frost, digital, spatter; each function says how it stands to ImageNet-C.

Conventions. Images are float32 (b, 3, h, w) in [0, 1], of any size; a grey image has three equal channels. The result is what
ImageNet-C's functions hand on before they save: clipped and cut to 8 bits (downwards, as there), so it lies on multiples of 1/255.
The released ImageNet-C was then saved as JPEG of quality 85, which costs some accuracy more; that is not done here: the released
files are the reference, and are read by `imagenet_c:`. Where constants are pixels they are pixels at any size.

Every image has its own random numbers, which do not depend on the batch. On a CPU each image is computed alone: it stays in the
processor's cache, which is faster, and its bits do not depend on its neighbours. On other devices the results agree up to float
rounding, which moves single values by one level.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from visionvitals.errors import VitalsError, near, require
from visionvitals.perturb.corruptions import blur, digital, frost, noise, spatter, weather

Corruption = Callable[[Tensor, int, Tensor], Tensor]
SEVERITIES = (1, 2, 3, 4, 5)
COMMON: Mapping[str, Corruption] = MappingProxyType(
    {
        "gaussian_noise": noise.gaussian_noise,
        "shot_noise": noise.shot_noise,
        "impulse_noise": noise.impulse_noise,
        "defocus_blur": blur.defocus_blur,
        "glass_blur": blur.glass_blur,
        "motion_blur": blur.motion_blur,
        "zoom_blur": blur.zoom_blur,
        "snow": weather.snow,
        "frost": frost.frost,
        "fog": weather.fog,
        "brightness": weather.brightness,
        "contrast": digital.contrast,
        "elastic_transform": digital.elastic_transform,
        "pixelate": digital.pixelate,
        "jpeg_compression": digital.jpeg_compression,
    }
)
"""The 15 of the benchmark, in its order."""
EXTRA: Mapping[str, Corruption] = MappingProxyType(
    {
        "speckle_noise": noise.speckle_noise,
        "gaussian_blur": blur.gaussian_blur,
        "spatter": spatter.spatter,
        "saturate": digital.saturate,
    }
)
"""The 4 that it holds out for validation."""
OWN: Mapping[str, Corruption] = MappingProxyType({"rain": weather.rain})
"""Not of the benchmark."""
_EIGHT_BIT = ("pixelate", "jpeg_compression")  # they return levels, and `cut` would only cost time
CORRUPTIONS: Mapping[str, Corruption] = MappingProxyType({**COMMON, **EXTRA, **OWN})


def corrupt(
    name: str,
    images: Float32[Tensor, "b 3 h w"],
    severity: int,
    keys: Int64[Tensor, " b"],
    *,
    frost_folder: str | None = None,
) -> Float32[Tensor, "b 3 h w"]:
    """Corrupted images, multiples of 1/255 in [0, 1].

    Args:
        name: a key of `CORRUPTIONS`.
        images: float32 in [0, 1].
        severity: 1 to 5.
        keys: per image, from `randomness.stream`; equal keys give related draws at all severities.
        frost_folder: of frost pictures, see `frost.frost`; other corruptions ignore it.

    Raises:
        VitalsError: an unknown name or severity, or an image smaller than what the corruption looks at.
    """
    if name not in CORRUPTIONS:
        raise VitalsError(f"`name` must be a corruption. Got {name!r}. {near(name, CORRUPTIONS)}")
    require(severity in SEVERITIES, "`severity` must be a whole number from 1 to 5", severity)
    side, needed = min(images.shape[-2:]), smallest_side(name, severity)
    require(side >= needed, f"{name} at severity {severity} looks at {needed} px, the shorter side", side)
    images = images.contiguous()  # the corruptions read pixels row by row
    out = torch.empty_like(images)
    step = 1 if images.device.type == "cpu" else len(images)
    for i in range(0, len(images), step):
        part, key = images[i : i + step], keys[i : i + step]
        if name == "frost":
            raw = frost.frost(part, severity, key, folder=frost_folder)
        else:
            raw = CORRUPTIONS[name](part, severity, key)
        if name in _EIGHT_BIT:
            out[i : i + step] = raw
        else:
            cut(raw, out[i : i + step])
    return out


def cut(values: Float32[Tensor, "b 3 h w"], out: Float32[Tensor, "b 3 h w"]) -> None:
    """Write values, clipped to [0, 1] and cut down to a multiple of 1/255, into `out`; `values` is used up.

    What is less than 1/1000 of a level below one counts as it: float32 lands there where the exact value is that level.
    """
    torch.div(values.mul_(255).add_(1e-3).clamp_(0, 255).floor_(), 255, out=out)


def smallest_side(name: str, severity: int) -> int:
    """The shorter side, in pixels, of the smallest image that is not smaller than what the corruption looks at (its kernel)."""
    if name == "motion_blur":
        return 2 * blur.MOTION[severity - 1][0] + 1
    if name == "snow":
        return 2 * weather.SNOW[severity - 1][4] + 1
    if name == "defocus_blur":
        return len(blur.disk(*blur.DEFOCUS[severity - 1]))
    if name == "gaussian_blur":
        return 8 * int(blur.GAUSSIAN[severity - 1]) + 1
    if name == "rain":
        return weather.RAIN[severity - 1][1]
    if name == "spatter":
        return 33  # four times the largest sigma on both sides
    if name == "glass_blur":
        return 2 * blur.GLASS[severity - 1][1] + 3
    return 8
