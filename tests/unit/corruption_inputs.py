"""Inputs that the tests of corruptions share."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from visionvitals import randomness


def photographs(n: int, size: tuple[int, int] = (64, 64)) -> Tensor:
    """8-bit colour images with power at all scales."""
    rng = np.random.default_rng(5)
    layers = [ndimage.gaussian_filter(rng.normal(size=(n, 3, *size)), (0, 0, s, s)) * s for s in (0.7, 2, 6, 14)]
    images = sum(layers) / 3.0 + 0.45
    return torch.from_numpy(np.round(np.clip(images, 0, 1) * 255).astype(np.float32) / np.float32(255))


def keys(n: int, name: str = "x") -> Tensor:
    return randomness.stream(0, [f"image-{k}" for k in range(n)], name)
