"""The probes of the transfer study: each fitted on some images, its strength chosen on others, asked about the test images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from visionvitals.study import VitalsError

if TYPE_CHECKING:
    from torch import Tensor

LOGISTIC = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
"""Penalties on the mean loss; the features have variance 1 on average."""
RIDGE = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.001)
"""Penalties on the sum of squares, over the number of images."""
NEIGHBOURS = (1, 5, 10, 20, 50)
_EPOCHS, _BATCH, _RATE, _DECAY = 10, 256, 5e-4, 0.05


class Data(NamedTuple):
    """Features (n, d), classes (n,) in [0, k), and which images are for what; a class of `validation` and `test` occurs in `fit`."""

    x: "Tensor"
    y: "Tensor"
    fit: Sequence[int]
    validation: Sequence[int]
    test: Sequence[int]
    classes: int


class Answer(NamedTuple):
    """Predicted classes of the validation images, by the probe fitted without them, and of the test images, by the probe fitted on all
    training images. Of two settings that are equally good on validation the stronger penalty, or the fewer neighbours, is taken."""

    validation: np.ndarray
    test: np.ndarray


def logistic(data: Data) -> Answer:
    """Penalties from the strongest on, until two in a row have not been better on validation."""
    from visionvitals.probes.linear import softmax_path

    x, y, fit, validation, test, classes = data
    held, start, best, worse = x[validation], None, None, 0
    for penalty in LOGISTIC:
        ((linear, _),) = softmax_path(x[fit], y[fit], [penalty], classes=classes, tolerance=1e-2, start=start)
        start = linear
        predicted = linear.scores(held).argmax(dim=1)
        right = int((predicted == y[validation]).sum())
        if best is None or right > best[0]:
            best, worse = (right, penalty, linear, predicted), 0
        else:
            worse += 1
            if worse == 2:
                break
    assert best is not None
    _, penalty, linear, predicted = best
    everything = [*fit, *validation]
    same_strength = penalty * len(fit) / len(everything)  # against the sum of the losses, as scikit-learn's C
    ((linear, proof),) = softmax_path(
        x[everything], y[everything], [same_strength], classes=classes, tolerance=1e-3, start=linear
    )
    if not proof.gap <= 1e-2 * proof.objective:
        raise VitalsError(f"The probe must come within 1 % of its optimum. Got {proof}. The features may be constant.")
    return Answer(predicted.cpu().numpy(), linear.scores(x[test]).argmax(dim=1).cpu().numpy())


def ridge(data: Data) -> Answer:
    """The penalty of the best leave-one-out accuracy, on the images without and with the validation images."""
    from visionvitals.probes.linear import ridge_path

    def best(rows: Sequence[int], asked: Sequence[int]) -> np.ndarray:
        found = ridge_path(data.x[rows], data.y[rows], [p * len(rows) for p in RIDGE], classes=data.classes)
        chosen = max(found, key=lambda r: int((r.left_out.argmax(dim=1) == data.y[rows]).sum()))
        answer: np.ndarray = chosen.linear.scores(data.x[asked]).argmax(dim=1).cpu().numpy()
        return answer

    return Answer(best(data.fit, data.validation), best([*data.fit, *data.validation], data.test))


def neighbours(data: Data) -> Answer:
    from visionvitals.probes.neighbours import neighbours as votes_of

    x, y, fit, validation, test, classes = data
    found = [v.argmax(dim=1) for v in votes_of(x[fit], y[fit], x[validation], NEIGHBOURS, classes=classes)]
    best = max(range(len(found)), key=lambda k: int((found[k] == y[validation]).sum()))
    everything = [*fit, *validation]
    (votes,) = votes_of(x[everything], y[everything], x[test], [NEIGHBOURS[best]], classes=classes)
    return Answer(found[best].cpu().numpy(), votes.argmax(dim=1).cpu().numpy())


def as_published(data: Data, seed: int) -> Answer:
    """What the authors did: a linear layer by AdamW at a constant rate, and of ten epochs the one that is best on the TEST images."""
    import torch
    from torch.nn import functional

    from visionvitals import randomness

    x, y, fit, validation, test, classes = data
    train = torch.tensor([*fit, *validation], device=x.device)
    keys = randomness.stream(seed, [str(c) for c in range(classes)], "transfer/adamw", device=x.device)
    start = (randomness.uniform(keys, x.shape[1] + 1) * 2 - 1) / x.shape[1] ** 0.5  # as torch's linear layer
    weight, bias = start[:, :-1].clone().requires_grad_(), start[:, -1].clone().requires_grad_()
    optimiser = torch.optim.AdamW(
        [{"params": [weight], "weight_decay": _DECAY}, {"params": [bias], "weight_decay": 0.0}], lr=_RATE
    )
    best: tuple[int, np.ndarray] | None = None
    for epoch in range(_EPOCHS):
        key = randomness.stream(seed, [f"epoch {epoch}"], "transfer/adamw/order", device=x.device)
        order = train[randomness.permutation(key, len(train))[0]]
        for first in range(0, len(order), _BATCH):
            rows = order[first : first + _BATCH]
            with torch.enable_grad():
                loss = functional.cross_entropy(functional.linear(x[rows], weight, bias), y[rows])
            weight.grad, bias.grad = torch.autograd.grad(loss, [weight, bias])
            optimiser.step()
        predicted = functional.linear(x[test], weight.detach(), bias.detach()).argmax(dim=1)
        right = int((predicted == y[test]).sum())
        if best is None or right > best[0]:
            best = right, predicted.cpu().numpy()
    assert best is not None
    return Answer(np.empty(0, dtype=np.int64), best[1])
