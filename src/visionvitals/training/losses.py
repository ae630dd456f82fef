"""Losses of a training: cross-entropy, and distillation of a teacher into a second head, hard and soft.

Soft distillation is divided in two ways in public code, which differ by the number of classes (1,000 on ImageNet), so that weights and
temperatures found with one do not carry over to the other. Both are here under their own names.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

Distil = Literal["hard", "soft_batch", "soft_elements"]
"""`hard`: the teacher's class is the label. `soft_batch`: divergence of the distributions, averaged over the pictures, as timm does.
`soft_elements`: divided by pictures times classes, as DeiT's published code does."""


def cross_entropy(
    logits: Float[Tensor, "b k"], target: Int64[Tensor, " b"] | Float[Tensor, "b k"], *, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Mean over the pictures of -sum_k target_k log softmax(logits)_k, in nats.

    Args:
        logits: of the network.
        target: classes, or probabilities where pictures were mixed (these are smoothed already).
        smoothing: share of a class that is spread over all classes; not used for probabilities.
    """
    smoothing = 0.0 if target.is_floating_point() else smoothing
    return functional.cross_entropy(logits, target, label_smoothing=smoothing)


def hard_distillation(logits: Float[Tensor, "b k"], teacher: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Cross-entropy with the teacher's predicted class (Touvron et al. 2021, "Training data-efficient image transformers", eq. 3)."""
    return functional.cross_entropy(logits, teacher.argmax(dim=1))


def soft_distillation(
    logits: Float[Tensor, "b k"],
    teacher: Float[Tensor, "b k"],
    *,
    tau: float,
    over: Literal["batch", "elements"],
) -> Float[Tensor, ""]:
    """tau^2 / n * sum over pictures and classes of p_t (log p_t - log p_s), p = softmax(logits / tau), in nats.

    Args:
        logits: of the student's second head.
        teacher: of the teacher for the same pictures.
        tau: temperature, positive.
        over: n is the number of pictures (`batch`; timm) or of pictures times classes (`elements`; DeiT).
    """
    student = functional.log_softmax(logits / tau, dim=1)
    wanted = functional.log_softmax(teacher / tau, dim=1)
    total = functional.kl_div(student, wanted, reduction="sum", log_target=True) * tau**2
    return total / (len(logits) if over == "batch" else logits.numel())


def distillation(
    logits: Float[Tensor, "b k"],
    extra: Float[Tensor, "b k"],
    target: Int64[Tensor, " b"] | Float[Tensor, "b k"],
    teacher: Float[Tensor, "b k"],
    *,
    kind: Distil,
    alpha: float,
    tau: float,
    smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """(1 - alpha) * cross_entropy(class head, label) + alpha * distillation(second head, teacher).

    Args:
        logits: of the class token's head.
        extra: of the second token's head.
        target: as in `cross_entropy`.
        teacher: its logits for the same pictures, over the same classes.
        kind: see `Distil`.
        alpha: weight of the teacher, in [0, 1].
        tau: temperature of the soft kinds.
        smoothing: of the labels.
    """
    base = cross_entropy(logits, target, smoothing=smoothing)
    teacher = teacher.detach()
    with torch.autocast(logits.device.type, enabled=False):
        extra, teacher = extra.float(), teacher.float()
        if kind == "hard":
            from_teacher = hard_distillation(extra, teacher)
        else:
            over: Literal["batch", "elements"] = "batch" if kind == "soft_batch" else "elements"
            from_teacher = soft_distillation(extra, teacher, tau=tau, over=over)
    return (1 - alpha) * base + alpha * from_teacher
