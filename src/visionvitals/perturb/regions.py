"""Change one region of an image, the object or what surrounds it, and leave the rest as it is.

Conventions: images are float (b, 3, h, w) in [0, 1], before any normalisation; regions are bool (b, 1, h, w). Randomness comes in as per-image
keys (`randomness.stream`).
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from visionvitals import randomness


def add_noise(
    images: Float[Tensor, "b 3 h w"],
    region: Bool[Tensor, "b 1 h w"],
    keys: Int64[Tensor, " b"],
    strength: float,
    *,
    norm: bool = False,
) -> Float[Tensor, "b 3 h w"]:
    """The images with Gaussian noise, independent in every pixel and channel, in the region alone; clipped to [0, 1].

    The draw of a pixel depends on the key and its place only: with equal keys, noise on one region and noise on the rest are the two parts of noise
    on the whole image, and all strengths have the same pattern.

    Args:
        images: the clean images.
        region: where the noise goes; an image whose region is empty stays as it is.
        keys: per image.
        strength: the standard deviation on the [0, 1] scale; or, with `norm`, the Euclidean norm of what is added to all pixels and channels
            together, before clipping, whatever the size of the region.
        norm: see `strength`.
    """
    noise = randomness.normal(keys, math.prod(images.shape[1:])).view(images.shape) * region
    scale = torch.full((len(images), 1, 1, 1), strength, dtype=torch.float64, device=images.device)
    if norm:
        length = noise.double().square().flatten(1).sum(dim=1).sqrt().view(-1, 1, 1, 1)
        scale = scale / length.where(length > 0, 1.0)
    return (images + noise * scale.float()).clamp(0, 1)


def without_object(images: Float[Tensor, "b 3 h w"], background: Bool[Tensor, "b 1 h w"]) -> Float[Tensor, "b 3 h w"]:
    """The background alone; elsewhere its colours run on, ever more blurred, so that no outline of the object is left to be recognised.

    A pixel outside the background becomes the weighted mean of the background around it, by a Gaussian of sigma = 1/20 of the shorter side (a
    normalised convolution, Knutsson and Westin 1993), and deep inside a large object the mean colour of the background.

    Args:
        images: the clean images.
        background: a pixel at least in each image.
    """
    weight = background.to(images.dtype)
    total = (images * weight).double().sum(dim=(2, 3), keepdim=True)
    mean = (total / weight.double().sum(dim=(2, 3), keepdim=True)).to(images.dtype)
    sigma = min(images.shape[2:]) / 20
    side = 2 * math.ceil(2 * sigma) + 1
    around = v2.gaussian_blur(torch.cat([images * weight, weight], dim=1), kernel_size=[side] * 2, sigma=[sigma] * 2)
    least = 1e-3  # of the kernel's weight: where less background is near, the mean colour is as good
    filled = (around[:, :3] + least * mean) / (around[:, 3:] + least)
    return torch.where(background, images, filled.clamp(0, 1))
