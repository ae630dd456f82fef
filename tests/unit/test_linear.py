"""The probes against scikit-learn, direct solutions and brute force; the certificate against the truth."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from visionvitals.probes import linear
from visionvitals.probes.neighbours import neighbours

CLASSES = 5


def data(n: int, d: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    means = rng.normal(size=(CLASSES, d)) * 0.7
    features = (means[labels] + rng.normal(size=(n, d))) * np.exp(rng.normal(size=d)) + 3
    return torch.tensor(features, dtype=dtype), torch.tensor(labels)


def objective(x: Tensor, y: Tensor, weight: np.ndarray, bias: np.ndarray, penalty: float) -> float:
    z = x.double().numpy() @ weight.T.astype(float) + bias
    loss = np.logaddexp.reduce(z, axis=1) - z[np.arange(len(y)), y.numpy()]
    return float(loss.mean() + penalty / 2 * (weight.astype(float) ** 2).sum())


@pytest.mark.parametrize("shape", [(200, 12), (60, 90)])
@pytest.mark.parametrize("penalty", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_regression_is_as_good_as_it_certifies(
    shape: tuple[int, int], penalty: float, dtype: torch.dtype
) -> None:
    x, y = data(*shape, dtype=dtype)
    ((fitted, proof),) = linear.softmax_path(x, y, [penalty], classes=CLASSES, tolerance=1e-3)
    theirs = LogisticRegression(C=1 / (penalty * len(x)), tol=1e-10, max_iter=20_000).fit(x.double().numpy(), y.numpy())
    optimum = objective(x, y, theirs.coef_, theirs.intercept_, penalty)
    ours = objective(x, y, fitted.weight.numpy(), fitted.bias.numpy(), penalty)
    assert ours == pytest.approx(proof.objective, rel=1e-3)
    assert proof.gap <= 1e-3 * proof.objective
    assert -1e-5 * optimum <= ours - optimum <= proof.gap + 1e-5 * optimum
    assert ours <= objective(x, y, *_default(x, y, penalty), penalty) * (1 + 1e-3)


def _default(x: Tensor, y: Tensor, penalty: float) -> tuple[np.ndarray, np.ndarray]:
    found = LogisticRegression(C=1 / (penalty * len(x)), max_iter=1000).fit(x.numpy(), y.numpy())
    return found.coef_, found.intercept_


def test_half_precision_on_the_way_changes_nothing_that_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = data(300, 20)
    plain = linear.softmax_path(x, y, [0.1, 0.01], classes=CLASSES, tolerance=1e-4)
    monkeypatch.setattr(linear, "_half_is_fast", lambda x: True)
    rounded = linear.softmax_path(x, y, [0.1, 0.01], classes=CLASSES, tolerance=1e-4)
    for (_, a), (fitted, b) in zip(plain, rounded, strict=True):
        assert b.gap <= 1e-4 * b.objective
        assert abs(a.objective - b.objective) <= a.gap + b.gap + 1e-6
        true = objective(x, y, fitted.weight.numpy(), fitted.bias.numpy(), fitted.penalty)
        assert b.objective == pytest.approx(true, rel=1e-4)


def test_a_warm_start_saves_iterations_and_leads_to_the_same_place() -> None:
    x, y = data(400, 30, dtype=torch.float64)
    path = linear.softmax_path(x, y, [0.1, 0.05, 0.03], classes=CLASSES, tolerance=1e-6)
    ((cold, proof),) = linear.softmax_path(x, y, [0.03], classes=CLASSES, tolerance=1e-6)
    assert path[-1][1].iterations < proof.iterations
    assert path[-1][1].objective == pytest.approx(proof.objective, rel=2e-6)
    assert torch.allclose(path[-1][0].weight, cold.weight, atol=1e-2)


def test_too_few_iterations_are_admitted() -> None:
    x, y = data(200, 12)
    ((_, proof),) = linear.softmax_path(x, y, [1e-3], classes=CLASSES, most=2)
    assert proof.iterations == 2
    assert proof.gap > 1e-3 * proof.objective


@pytest.mark.parametrize("shape", [(40, 7), (25, 60)])
@pytest.mark.parametrize("penalty", [0.1, 30.0])
def test_ridge_is_the_direct_solution_and_its_left_out_scores_are_brute_force(
    shape: tuple[int, int], penalty: float
) -> None:
    x, y = data(*shape, dtype=torch.float64)
    (found,) = linear.ridge_path(x, y, [penalty], classes=CLASSES)
    targets = np.eye(CLASSES)[y.numpy()] * 2 - 1
    direct = Ridge(alpha=penalty, solver="cholesky").fit(x.numpy(), targets)
    np.testing.assert_allclose(found.linear.weight.numpy(), direct.coef_, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found.linear.scores(x).numpy(), direct.predict(x.numpy()), rtol=1e-7, atol=1e-8)
    for k in range(len(x)):
        others = np.arange(len(x)) != k
        again = Ridge(alpha=penalty, solver="cholesky").fit(x.numpy()[others], targets[others])
        np.testing.assert_allclose(found.left_out[k].numpy(), again.predict(x.numpy()[[k]])[0], rtol=1e-6, atol=1e-7)


def test_neighbours_vote_as_written_and_in_any_portion() -> None:
    x, y = data(60, 8)
    asked, _ = data(17, 8, seed=1)
    found = neighbours(x, y, asked, [1, 7, 1000], classes=CLASSES, rows=5)
    again = neighbours(x, y, asked, [1, 7, 1000], classes=CLASSES)
    unit = [v.double().numpy() / np.linalg.norm(v.double().numpy(), axis=1, keepdims=True) for v in (x, asked)]
    cosine = unit[1] @ unit[0].T
    for k, votes, other in zip((1, 7, 60), found, again, strict=True):
        expected = np.zeros((17, CLASSES))
        for i in range(17):
            for j in np.argsort(-cosine[i])[:k]:
                expected[i, y[j]] += np.exp((cosine[i, j] - 1) / 0.07)
        np.testing.assert_allclose(votes.numpy(), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(votes.numpy(), other.numpy(), rtol=1e-4, atol=1e-7)


def test_what_cannot_be_fitted_is_refused() -> None:
    x, y = data(50, 4)
    for fit in (linear.softmax_path, linear.ridge_path):
        with pytest.raises(ValueError, match="must be positive"):
            fit(x, y, [0.0], classes=CLASSES)
        with pytest.raises(ValueError, match="Every class"):
            fit(x, y, [1.0], classes=CLASSES + 1)
        with pytest.raises(ValueError, match="finite"):
            fit(x.index_fill(0, torch.tensor([3]), float("nan")), y, [1.0], classes=CLASSES)
