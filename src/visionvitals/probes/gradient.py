"""The gradient of what a network predicts with respect to the image."""

import torch
from jaxtyping import Float
from torch import Tensor

from visionvitals.core import Backbone
from visionvitals.errors import require
from visionvitals.perturb.differentiable import differentiable


def predicted(backbone: Backbone, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """d logit of the predicted class / d pixel, for images in [0, 1]; NaN for an image whose logits are not finite.

    Raises:
        VitalsError: the network has no classifier, so it predicts no class.
    """
    require(backbone.card.outputs > 0, "The gradient of a prediction needs a classifier", backbone.card.architecture)
    with torch.inference_mode(False), torch.enable_grad():
        shown = images.clone().requires_grad_()
        out = differentiable(backbone.logits)(shown)
        (slope,) = torch.autograd.grad(out.amax(dim=1).sum(), shown)
    return slope.masked_fill(~out.isfinite().all(dim=1)[:, None, None, None], torch.nan)
