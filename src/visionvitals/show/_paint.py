"""From tensors to pictures: images, heat over an image, colours of tokens."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from visionvitals.pixels import to_uint8

if TYPE_CHECKING:
    from torch import Tensor

_STOPS = np.array(
    [(0, 0, 4), (51, 10, 95), (120, 28, 109), (187, 55, 84), (237, 105, 37), (252, 180, 25), (252, 255, 164)]
)
"""Dark to light through purple and orange; rises evenly in lightness, so it reads in grey print too."""


def picture(image: "Tensor") -> Image.Image:
    """A network input, float (3, h, w) in [0, 1]."""
    return Image.fromarray(to_uint8(image))


def heat(image: "Tensor", weights: "Tensor", grid: tuple[int, int]) -> Image.Image:
    """The weights of an image's cells as glowing squares over the image in grey; the largest weights are the brightest.

    Args:
        image: float (3, h, w) in [0, 1].
        weights: (n,), n = rows * columns of `grid`; shown by their square root, up to the 98th percentile, since attention is often
            a few spikes.
        grid: (rows, columns).
    """
    import torch

    levels = weights.detach().cpu().double().clamp(min=0).sqrt()
    top = levels.quantile(0.98)
    levels = (levels / (top if top > 0 else levels.max().clamp(min=1e-30))).clamp(max=1)
    h, w = image.shape[1:]
    rows, columns = torch.arange(h) * grid[0] // h, torch.arange(w) * grid[1] // w
    spread = levels.view(grid)[rows[:, None], columns].numpy()
    place = spread * (len(_STOPS) - 1)
    glow = np.stack([np.interp(place, np.arange(len(_STOPS)), _STOPS[:, c]) for c in range(3)], axis=-1)
    grey = image.detach().cpu().mean(dim=0).numpy()[..., None] * 255
    mixed = 0.2 * grey + 0.8 * glow * (0.55 + 0.6 * grey / 255)
    return Image.fromarray(mixed.clip(0, 255).round().astype(np.uint8))
