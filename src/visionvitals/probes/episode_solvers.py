"""Linear classifiers of many few-shot episodes, solved together: logistic regression, ridge, nearest centroid.

For an episode with features x_i (scaled to length 1) and classes y_i of the support:

    logistic   min over W, b of  1/2 |W|^2 + C sum_i -log softmax(W x_i + b)[y_i]      C = 1
    ridge      min over W, b of  a |W|^2 + sum_i |W x_i + b - t_i|^2                   a = 1, t_i = +1 at y_i and -1 elsewhere
    centroid   the class whose mean of x_i is nearest

and the prediction is the class of the highest score. The intercept b is not penalised.

Method: the mean of the support is moved to zero, and support and queries are rotated onto the span of the support (Cholesky factor of its
Gram matrix) where that has fewer dimensions than the features; neither changes any of the three. Episodes of like size are padded to one
batch. The logistic objective is minimised by L-BFGS with a history and line search for each episode; it is 1-strongly convex in
W, so what is left above the optimum is at most about half the squared gradient norm, which is returned. All is float64.

Sources: Tian et al. 2020, "Rethinking few-shot image classification" (length 1, C = 1); Nocedal 1980 (L-BFGS).
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from torch.nn import functional

from visionvitals.errors import require
from visionvitals.probes import lbfgs
from visionvitals.probes.episodes import Episode

Solver = Literal["logistic", "ridge", "centroid"]
SOLVERS: tuple[Solver, ...] = ("logistic", "ridge", "centroid")
BUDGET = 96 * 2**20  # bytes of gathered features at a time
GRADIENT = 1e-3
_JITTER = 1e-10  # of the mean square: an image that is there twice must not make the Gram matrix singular


class Batch(NamedTuple):
    """Episodes of like size, padded.

    Attributes:
        z: support features; zero where padded.
        y: class of each within its episode, 0 where padded.
        real: which of them are images.
        classes: which of the k classes an episode has.
        q: query features.
        answer: class of each query, -1 where padded.
    """

    z: Float64[Tensor, "e m r"]
    y: Int64[Tensor, "e m"]
    real: Bool[Tensor, "e m"]
    classes: Bool[Tensor, "e k"]
    q: Float64[Tensor, "e n r"]
    answer: Int64[Tensor, "e n"]


class Fit(NamedTuple):
    """A linear classifier for each episode, and the norm of its objective's gradient (zero for closed forms)."""

    weight: Float64[Tensor, "e k r"]
    bias: Float64[Tensor, "e k"]
    gradient: Float64[Tensor, " e"]


class Solved(NamedTuple):
    """Accuracy over the queries of each episode, and the largest gradient norm that was left."""

    accuracy: Float64[np.ndarray, " e"]
    gradient: float


def solve(
    features: Float[Tensor, "n d"],
    episodes: Sequence[Episode],
    solver: Solver,
    *,
    c: float = 1.0,
    alpha: float = 1.0,
    budget: int = BUDGET,
) -> Solved:
    """Train and score one classifier per episode.

    Args:
        features: of all images, finite, of any length but zero; scaled to length 1 here.
        episodes: their rows are those of `features`.
        solver: which classifier.
        c: weight of the logistic loss against the penalty.
        alpha: penalty of ridge.
        budget: bytes of features that are gathered at a time; changes the memory and not the result.

    Raises:
        VitalsError: an unknown solver, no episodes, or features that are not finite or zero.
    """
    require(solver in SOLVERS, f"`solver` must be one of {', '.join(SOLVERS)}", solver)
    require(len(episodes) > 0, "There must be at least one episode", 0)
    scale = 1 / torch.linalg.vector_norm(features, dim=1, dtype=torch.float64)
    used = torch.tensor(sorted({i for e in episodes for part in (e.support, e.query) for rows in part for i in rows}))
    usable = scale[used.to(scale.device)]
    require(bool(((usable > 0) & usable.isfinite()).all()), "Features must be finite and not zero", "others")
    accuracy = np.zeros(len(episodes))
    worst = 0.0
    for chosen in _chunks(episodes, features.shape[1], budget):
        batch = gather(features, scale, [episodes[i] for i in chosen], rotate=solver != "centroid")
        if solver == "logistic":
            fit = logistic(batch, c=c)
        else:
            fit = ridge(batch, alpha=alpha) if solver == "ridge" else centroid(batch)
        accuracy[chosen] = score(fit, batch).cpu().numpy()
        worst = max(worst, float(fit.gradient.max()))
    return Solved(accuracy, worst)


def gather(
    features: Float[Tensor, "n d"],
    scale: Float64[Tensor, " n"],
    episodes: Sequence[Episode],
    *,
    rotate: bool = True,
) -> Batch:
    """The features of some episodes, times their scale, padded, rotated and centred as the top of the file says.

    Args:
        features: of all images.
        scale: what each is multiplied with.
        episodes: of like size.
        rotate: whether to rotate where the support has fewer images than dimensions; means alone are cheaper without.
    """
    device = features.device
    m = max(sum(map(len, e.support)) for e in episodes)
    n = max(sum(map(len, e.query)) for e in episodes)
    k = max(len(e.classes) for e in episodes)
    rows, y = _padded([e.support for e in episodes], m, device)
    asked, answer = _padded([e.query for e in episodes], n, device)
    real = y >= 0
    z = features[rows].double().mul_((scale[rows] * real)[:, :, None])
    q = features[asked].double().mul_(scale[asked][:, :, None])
    mean = z.sum(1, keepdim=True) / real.sum(1)[:, None, None]
    z, q = (z - mean) * real[:, :, None], q - mean
    if rotate and m < features.shape[1]:
        spread = z.square().sum((1, 2)) / real.sum(1)
        lift = torch.diag_embed(torch.where(real, _JITTER * torch.where(spread > 0, spread, 1.0)[:, None], 1.0))
        factor = torch.linalg.cholesky(z @ z.mT + lift)
        q = torch.linalg.solve_triangular(factor, z @ q.mT, upper=False).mT
        z = factor * real[:, :, None]
    ways = torch.tensor([len(e.classes) for e in episodes], device=device)
    return Batch(z, y.clamp(min=0), real, torch.arange(k, device=device) < ways[:, None], q, answer)


def score(fit: Fit, batch: Batch) -> Float64[Tensor, " e"]:
    """The share of each episode's queries whose highest score is at their class."""
    scores = batch.q @ fit.weight.mT + fit.bias[:, None, :]
    best = scores.masked_fill(~batch.classes[:, None, :], -torch.inf).argmax(dim=2)
    asked = batch.answer >= 0
    return ((best == batch.answer) & asked).sum(1).double() / asked.sum(1)


def centroid(batch: Batch) -> Fit:
    """Nearest class mean in Euclidean distance, as a linear classifier: 2 mu.x - |mu|^2."""
    taught = functional.one_hot(batch.y, batch.classes.shape[1]).double() * batch.real[:, :, None]
    mean = taught.mT @ batch.z / taught.sum(1).clamp(min=1)[:, :, None]
    return Fit(2 * mean, -mean.square().sum(2), mean.new_zeros(len(mean)))


def ridge(batch: Batch, *, alpha: float = 1.0) -> Fit:
    """The closed form, on centred features and targets."""
    w = batch.real[:, :, None].double()
    count = w.sum(1, keepdim=True)
    targets = 2.0 * functional.one_hot(batch.y, batch.classes.shape[1]) - 1
    z_mean, t_mean = (w * batch.z).sum(1, keepdim=True) / count, (w * targets).sum(1, keepdim=True) / count
    z, t = (batch.z - z_mean) * w, (targets - t_mean) * w
    eye = torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    weight = torch.cholesky_solve(z.mT @ t, torch.linalg.cholesky(z.mT @ z + alpha * eye)).mT
    return Fit(weight, (t_mean - z_mean @ weight.mT)[:, 0], weight.new_zeros(len(weight)))


def logistic(batch: Batch, *, c: float = 1.0, gradient: float = GRADIENT) -> Fit:
    """Minimise the logistic objective of every episode until its gradient norm is at most `gradient`, and `gradient` times the first one."""
    e, m, r = batch.z.shape
    k = batch.classes.shape[1]
    x = torch.cat((batch.z, batch.z.new_ones(e, m, 1)), 2)
    penalty = torch.cat((x.new_ones(r), x.new_zeros(1)))
    shut = ~batch.classes[:, None, :]
    target = functional.one_hot(batch.y, k).double()
    w = batch.real.double()
    counts = (target * w[:, :, None]).sum(1)
    start, unit = x.new_zeros(e, k, r + 1), x.new_ones(e, k, r + 1)
    start[:, :, -1] = torch.where(batch.classes, counts.clamp(min=1).log(), 0.0)
    unit[:, :, -1] = (c * counts.clamp(min=1)).rsqrt()

    def value(theta: Tensor) -> tuple[Tensor, Tensor]:
        logs = (x @ theta.mT).masked_fill(shut, -torch.inf).log_softmax(2)
        loss = -(w * logs.gather(2, batch.y[:, :, None])[:, :, 0]).sum(1)
        slope = ((logs.exp() - target) * (c * w)[:, :, None]).mT @ x + penalty * theta
        return c * loss + (penalty * theta.square()).sum((1, 2)) / 2, slope

    theta, left = lbfgs.minimise(value, start, unit, gradient)
    return Fit(theta[:, :, :-1], theta[:, :, -1], left)


def _padded(parts: Sequence[tuple[tuple[int, ...], ...]], width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows and classes within the episode, both (e, width); row 0 and class -1 where padded."""
    rows = np.zeros((len(parts), width), np.int64)
    classes = np.full((len(parts), width), -1, np.int64)
    for e, by_class in enumerate(parts):
        flat = [(row, k) for k, members in enumerate(by_class) for row in members]
        rows[e, : len(flat)], classes[e, : len(flat)] = np.array(flat).T
    return torch.from_numpy(rows).to(device), torch.from_numpy(classes).to(device)


def _chunks(episodes: Sequence[Episode], d: int, budget: int) -> Iterator[list[int]]:
    """Episodes of like size together, no more of them than the budget holds."""
    images = [sum(map(len, e.support)) + sum(map(len, e.query)) for e in episodes]
    order = sorted(range(len(episodes)), key=lambda i: (sum(map(len, episodes[i].support)), len(episodes[i].classes)))
    chunk: list[int] = []
    for i in order:
        if chunk and (len(chunk) + 1) * max(images[j] for j in (i, chunk[-1])) * d * 8 > budget:
            yield chunk
            chunk = []
        chunk.append(i)
    yield chunk
