"""The gradient of what a network predicts with respect to the image."""

import torch
from jaxtyping import Float
from torch import Tensor

from visionvitals.core import Backbone


def predicted(backbone: Backbone, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """d logit of the predicted class / d pixel, for images in [0, 1].

    A single image is differentiated beside a copy of itself: on a CPU, torch can give a wrong gradient for a batch of one.
    """
    n = len(images)
    with torch.inference_mode(False), torch.enable_grad():
        shown = (images.repeat(2, 1, 1, 1) if n == 1 else images.clone()).requires_grad_()
        (slope,) = torch.autograd.grad(backbone.logits(shown).amax(dim=1).sum(), shown)
    return slope[:n]
