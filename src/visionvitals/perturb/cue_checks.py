"""What an operation that weakens one cue leaves of each: numbers of two pictures, without a network.

Conventions: float (b, 3, h, w) in [0, 1], the picture as it was and as it is shown; all numbers but `colour_left` look at grey values.
Ratios are 1 where the picture had nothing of it.

Source: Burgert et al. 2025 (arXiv 2509.20234) for local variance, high-frequency energy and gradient correlation.
"""

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.nn import functional

from visionvitals.perturb.suppress import luma

WINDOW = 11
"""Side of the windows of the local variance, in pixels."""
RADIUS = 11
"""The frequencies from here on count as high, in cycles over the picture."""
_NONE = 1e-10
"""A variance or energy below this is rounding."""


def left(before: Float[Tensor, "b 3 h w"], after: Float[Tensor, "b 3 h w"]) -> dict[str, Float64[Tensor, " b"]]:
    """All four numbers of each pair of pictures: 1 where nothing was taken."""
    grey = [luma(x.double()) for x in (before, after)]
    measures = {"local_variance": local_variance, "high_frequency": high_frequency}
    found = {name: _ratio(*(measure(x) for x in grey)) for name, measure in measures.items()}
    found["gradient_correlation"] = gradient_correlation(*grey)
    found["colour_left"] = _ratio(*(colour(x.double()) for x in (before, after)))
    return found


def local_variance(grey: Float64[Tensor, "b 1 h w"]) -> Float64[Tensor, " b"]:
    """Mean of the variance in all windows of 11 x 11 px that lie in the picture (in all of it where that is smaller): its texture."""
    height, width = (min(WINDOW, n) for n in grey.shape[-2:])
    sums = functional.pad(torch.cat([grey, grey.square()], dim=1).cumsum(dim=2).cumsum(dim=3), (1, 0, 1, 0))
    rows = sums[:, :, height:] - sums[:, :, :-height]
    mean, square = ((rows[..., width:] - rows[..., :-width]) / (height * width)).unbind(dim=1)
    return (square - mean.square()).clamp(min=0).mean(dim=(1, 2))


def high_frequency(grey: Float64[Tensor, "b 1 h w"]) -> Float64[Tensor, " b"]:
    """Share of the spectral power at 11 or more cycles over the picture, the mean value being one of the low ones: its detail."""
    h, w = grey.shape[-2:]
    power = torch.fft.rfft2(grey).abs().square().squeeze(1)  # half of the columns; the others mirror them
    y = torch.fft.fftfreq(h, 1 / h, dtype=torch.float64, device=grey.device)
    x = torch.arange(power.shape[2], dtype=torch.float64, device=grey.device)
    twice = 2.0 - ((x == 0) | (2 * x == w)).double()
    high = twice * ((y.square()[:, None] + x.square()) >= RADIUS**2)
    total = (power * twice).sum(dim=(1, 2))
    return torch.where(total > _NONE, (power * high).sum(dim=(1, 2)) / total.clamp(min=_NONE), 0.0)


def gradient_correlation(
    before: Float64[Tensor, "b 1 h w"], after: Float64[Tensor, "b 1 h w"]
) -> Float64[Tensor, " b"]:
    """Mean of Pearson's correlations of the gradients along x, and of those along y, by Sobel: the edges that are where they were, in [-1, 1].

    Along an axis on which neither picture has differences they agree, 1; on which one has none, 0.
    """
    axes = []
    for a, b in zip(_sobel(before), _sobel(after), strict=True):
        a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
        flat = [x.square().mean(dim=1) <= _NONE for x in (a, b)]
        both = (a.norm(dim=1) * b.norm(dim=1)).clamp(min=_NONE)
        axes.append(torch.where(flat[0] | flat[1], (flat[0] & flat[1]).double(), (a * b).sum(dim=1) / both))
    return torch.stack(axes).mean(dim=0).clamp(-1, 1)


def _sobel(grey: Float64[Tensor, "b 1 h w"]) -> list[Float64[Tensor, "b n"]]:
    """Gradients along x and y in the inside of the picture."""
    found = []
    for along, across in ((3, 2), (2, 3)):
        n, m = grey.shape[along], grey.shape[across]
        slope = grey.narrow(along, 2, n - 2) - grey.narrow(along, 0, n - 2)
        smooth = sum(weight * slope.narrow(across, k, m - 2) for k, weight in enumerate((1, 2, 1)))
        assert isinstance(smooth, Tensor)
        found.append(smooth.flatten(1))
    return found


def colour(images: Float64[Tensor, "b 3 h w"]) -> Float64[Tensor, " b"]:
    """Mean difference between the largest and the smallest channel of a pixel."""
    return (images.amax(dim=1) - images.amin(dim=1)).mean(dim=(1, 2))


def _ratio(before: Float64[Tensor, " b"], after: Float64[Tensor, " b"]) -> Float64[Tensor, " b"]:
    """after / before, 1 where there was nothing."""
    return torch.where(before > _NONE, after / before.clamp(min=_NONE), 1.0)
