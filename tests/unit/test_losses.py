"""Distillation losses: known answers by DeiT's formula, written out here, and by timm's task."""

import math

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from visionvitals.training import losses  # noqa: E402

B, K = 6, 10


@pytest.fixture(scope="module")
def logits():
    generator = torch.Generator().manual_seed(0)
    own, extra, teacher = (3 * torch.randn(B, K, generator=generator) for _ in range(3))
    return own, extra, teacher, torch.arange(B) % K


def deit(own, extra, teacher, labels, *, kind: str, alpha: float, tau: float) -> float:
    """The formula in double precision, element by element."""
    total = 0.0
    for b in range(B):
        p = [math.exp(v) for v in own[b].tolist()]
        total -= (1 - alpha) * math.log(p[int(labels[b])] / sum(p)) / B
        if kind == "hard":
            p = [math.exp(v) for v in extra[b].tolist()]
            total -= alpha * math.log(p[int(teacher[b].argmax())] / sum(p)) / B
            continue
        s = [math.exp(v / tau) for v in extra[b].tolist()]
        t = [math.exp(v / tau) for v in teacher[b].tolist()]
        for k in range(K):
            wanted = t[k] / sum(t)
            total += alpha * wanted * (math.log(wanted) - math.log(s[k] / sum(s))) * tau**2 / (B * K)
    return total


@pytest.mark.parametrize(("kind", "tau"), [("hard", 1.0), ("soft_elements", 1.0), ("soft_elements", 3.0)])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 1.0])
def test_it_is_deits_formula(logits, kind, tau, alpha) -> None:
    own, extra, teacher, labels = logits
    ours = losses.distillation(own, extra, labels, teacher, kind=kind, alpha=alpha, tau=tau)
    assert float(ours) == pytest.approx(deit(*logits, kind=kind, alpha=alpha, tau=tau), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "timms", "tau"), [("hard", "hard", 1.0), ("soft_batch", "soft", 1.0), ("soft_batch", "soft", 2.5)]
)
def test_it_is_timms_task(kind, timms, tau) -> None:
    from timm.models.deit import VisionTransformerDistilled
    from timm.task import TokenDistillationTask

    with torch.random.fork_rng():
        torch.manual_seed(0)
        student = VisionTransformerDistilled(
            img_size=16, patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=K
        )
        student.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, K)).eval()
        teacher.pretrained_cfg = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
        images = torch.randn(B, 3, 16, 16)
    task = TokenDistillationTask(
        student,
        teacher,
        criterion=nn.CrossEntropyLoss(),
        distill_type=timms,
        task_loss_weight=0.7,
        temperature=tau,
        verbose=False,
    )
    labels = torch.arange(B) % K
    theirs = task(images, labels)["loss"]
    own, extra = student(images)
    ours = losses.distillation(own, extra, labels, teacher(images), kind=kind, alpha=0.3, tau=tau)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_the_two_normalisations_differ_by_the_number_of_classes(logits) -> None:
    _, extra, teacher, _ = logits
    batch, elements = (losses.soft_distillation(extra, teacher, tau=2.0, over=over) for over in ("batch", "elements"))
    torch.testing.assert_close(batch, elements * K)


def test_a_student_equal_to_its_teacher_has_no_soft_loss_and_no_gradient(logits) -> None:
    extra = logits[2].clone().requires_grad_()
    loss = losses.soft_distillation(extra, logits[2], tau=3.0, over="batch")
    (gradient,) = torch.autograd.grad(loss, extra)
    assert abs(loss.item()) < 1e-6
    assert gradient.abs().max() < 1e-6


def test_no_gradient_reaches_the_teacher(logits) -> None:
    own, extra, teacher, labels = logits
    teacher = teacher.clone().requires_grad_()
    own = own.clone().requires_grad_()
    losses.distillation(own, extra, labels, teacher, kind="soft_batch", alpha=0.5, tau=1.0).backward()
    assert teacher.grad is None


def test_smoothing_is_for_classes_and_probabilities_stay_as_they_are(logits) -> None:
    own, _, _, labels = logits
    onehot = torch.nn.functional.one_hot(labels, K).float()
    smooth = onehot * 0.9 + 0.1 / K
    torch.testing.assert_close(losses.cross_entropy(own, labels, smoothing=0.1), losses.cross_entropy(own, smooth))
    torch.testing.assert_close(losses.cross_entropy(own, onehot, smoothing=0.1), losses.cross_entropy(own, labels))
