"""Principal components for the eye: patch tokens as colours, images as points of a plane.

Source: Caron et al. and Oquab et al. (DINOv2, Figure 1) show tokens this way. Deviation: the components are those of one image, so
colours do not compare between images.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def principal_colours(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n 3"]:
    """The projections of an image's patch tokens on their three principal components, each stretched to [0, 1].

    Args:
        tokens: of the patches only; n >= 2 and d >= 3.

    Convention: a component has no sign of its own; here its skewness is positive, so what few patches share is bright. It is stretched
    from its 2nd to its 98th percentile. Where tokens do not differ, all colours are 0.
    """
    centred = tokens.detach().double() - tokens.detach().double().mean(dim=1, keepdim=True)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    values = centred @ axes[:, :3].mT
    values = values * torch.where(values.pow(3).sum(dim=1, keepdim=True) < 0, -1.0, 1.0)
    low, high = values.quantile(0.02, dim=1, keepdim=True), values.quantile(0.98, dim=1, keepdim=True)
    spread = high - low
    scale = centred.abs().amax(dim=(1, 2), keepdim=True)
    flat = spread <= 1e-9 * scale.clamp(min=1e-30)
    stretched = ((values - low) / torch.where(flat, 1.0, spread)).clamp(0, 1)
    return torch.where(flat, 0.0, stretched).to(tokens.dtype)


def projection(features: Float[Tensor, "n d"]) -> Float[Tensor, "n 2"]:
    """Images on the first two principal components of their features, each coordinate in its own standard deviations.

    Convention: signs as in `principal_colours`. Fewer than two components: zeros.
    """
    centred = features.detach().double() - features.detach().double().mean(dim=0)
    left, _, _ = torch.linalg.svd(centred, full_matrices=False)
    values = torch.nn.functional.pad(left[:, :2], (0, 2 - min(2, left.shape[1]))) * len(features) ** 0.5
    values = values * torch.where(values.pow(3).sum(dim=0) < 0, -1.0, 1.0)
    flat = centred.abs().amax() <= 1e-9 * features.abs().amax()
    return torch.where(flat, 0.0, values).to(features.dtype)
