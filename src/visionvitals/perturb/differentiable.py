"""A network to differentiate with respect to its images: the one way in which this package asks for input gradients."""

from collections.abc import Callable

import torch
from torch import Tensor

Logits = Callable[[Tensor], Tensor]
"""Images in [0, 1], float (b, 3, h, w) -> logits (b, k)."""


def differentiable(logits: Logits) -> Logits:
    """The same network, to which a single image is never given alone where gradients are taken: its copy passes beside it.

    On the CPU, torch (seen in 2.14) gives a wrong input gradient for a batch of one where a batch normalisation in evaluation mode
    is followed by flattening and transposing, as in a stem of convolutions before tokens: the error is a quarter of the largest value of
    the gradient. A batch of two is right. The copy's answer is thrown away, so that no gradient comes from it.

    Convention: every gradient with respect to images, or to what is drawn on them, is taken through this, also where few images are left
        of a larger batch.
    """

    def answers(images: Tensor) -> Tensor:
        if len(images) != 1 or not torch.is_grad_enabled():
            return logits(images)
        return logits(torch.cat([images, images]))[:1]

    return answers
