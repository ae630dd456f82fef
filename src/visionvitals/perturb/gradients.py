"""Whether a network has gradients that an attack can follow: refuse one that has none, name the signs of one that hides them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from visionvitals.errors import VitalsError, require
from visionvitals.perturb import attacks
from visionvitals.perturb.differentiable import Logits, differentiable


def require_gradients(logits: Logits, images: Float[Tensor, "b 3 h w"]) -> None:
    """Refuse a network that cannot be differentiated: one trial backward pass.

    Raises:
        VitalsError: the logits do not depend on the images in a way torch can follow (an exported or compiled network, inference mode,
            `detach`, an operation without a derivative).
    """
    do = "An exported (ONNX), compiled or inference-only network has none: attack the network it was made from."
    must = "A white-box attack needs gradients of the logits with respect to the image"
    with torch.inference_mode(False), torch.enable_grad():
        x = images.clone().requires_grad_()
        out = differentiable(logits)(x)
        require(out.requires_grad, must, "logits that carry no gradient", do)
        try:
            (gradient,) = torch.autograd.grad(out.sum(), x, allow_unused=True)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            raise VitalsError(f"{must}. Got {type(error).__name__}: {error}. {do}") from error
        require(gradient is not None, must, "logits that do not depend on the image", do)


def masked_gradients(
    logits: Logits, images: Float[Tensor, "b 3 h w"], labels: Int64[Tensor, " b"], keys: Int64[Tensor, " b"]
) -> tuple[str, ...]:
    """Signs that this network hides its gradients, so that an attack's failure says nothing about its robustness.

    Looks at the images that are classified right. (1) Two passes over the same images must agree. (2) The gradient of the loss must
    not be exactly zero: it is where an operation without a slope (rounding, thresholds) or a saturated softmax lies on the way. (3)
    PGD with l_inf eps 0.5 (10 steps, a random start) can turn any image into any other half-way, or all grey: next to no image may
    stay right. (4) The gradient of an image must be the same whether its copy or other images pass beside it.

    Source: Athalye et al. 2018, "Obfuscated gradients give a false sense of security"; Carlini et al. 2019, "On evaluating
    adversarial robustness", section 5.

    Returns:
        One sentence for each sign; none where all is well, or where no image is right.
    """
    with torch.no_grad():
        first, second = logits(images).float(), logits(images).float()
    signs = []
    largest = float(first.abs().nan_to_num(posinf=0).max())
    if not torch.allclose(first, second, rtol=1e-4, atol=1e-5 * largest, equal_nan=True):
        signs.append(
            "two passes over the same images give different logits: a randomised network needs averaged gradients"
        )
    right = (first.argmax(dim=1) == labels) & first.isfinite().all(dim=1)
    n = int(right.sum())
    if n == 0:
        return tuple(signs)
    end = attacks.pgd(logits, images[right], labels[right], eps=0.5, steps=10, step_size=0.1, keys=(keys[right],))
    zero = int(end.vanished.sum())
    left = int((~end.success & ~end.broken).sum())
    if zero:
        signs.append(
            f"the loss has a gradient of exactly zero at {zero} of {n} images: rounding, a threshold or a saturated softmax lies on the way"
        )
    if left > 0.1 * n:
        signs.append(
            f"an attack of l_inf eps 0.5, with which every image can be turned grey, leaves {left} of {n} images right"
        )
    if not _of_the_image_alone(logits, images[right], labels[right]):
        signs.append(
            "the gradient of an image depends on the batch that it is in: one image alone is attacked otherwise"
        )
    return tuple(signs)


def _of_the_image_alone(logits: Logits, images: Tensor, labels: Tensor) -> bool:
    """Whether the first image has the gradient it has among others, to a hundredth of its largest value."""
    network = differentiable(logits)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        images, labels = images.clone(), labels.clone()
        found = []
        for part in (slice(1), slice(None)):
            x = images[part].clone().requires_grad_()
            loss = functional.cross_entropy(network(x).float(), labels[part], reduction="sum")
            found.append(torch.autograd.grad(loss, x)[0][0])
    alone, among = found
    return not bool((alone - among).abs().max() > 0.01 * among.abs().max())
