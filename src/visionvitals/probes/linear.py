"""Linear classifiers on frozen features: each with its equation and, where it iterates, a proof.

Conventions: features X are (n, d), float32 or float64, on any device; labels y are int64 in [0, k) and every class occurs. Features
are centred inside (the bias, which is never penalised, takes the mean up), not scaled. Weights come as (k, d), scores are
X weight^T + bias. Nothing here is random.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from visionvitals.probes.lbfgs import Memory

PAIRS = 10  # of differences that L-BFGS remembers
_ROUGH_UNTIL = 0.002  # half-precision products suffice until the gap is this share of the objective


class Linear(NamedTuple):
    """A fitted linear classifier.

    Attributes:
        weight, bias: (k, d) and (k,).
        penalty: what it was fitted with.
    """

    weight: Float[Tensor, "k d"]
    bias: Float[Tensor, " k"]
    penalty: float

    def scores(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n k"]:
        return torch.addmm(self.bias, features, self.weight.T)


class Certificate(NamedTuple):
    """How good a fit is.

    Attributes:
        objective: its value.
        gap: the objective is at most this far above its minimum, whatever the data: the duality gap.
        gradient_norm: Euclidean norm of the gradient over weights and biases.
        iterations: each costs two products with X.
    """

    objective: float
    gap: float
    gradient_norm: float
    iterations: int


def softmax_path(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    penalties: Sequence[float],
    *,
    classes: int,
    tolerance: float = 1e-3,
    most: int = 1000,
    start: Linear | None = None,
) -> list[tuple[Linear, Certificate]]:
    """Softmax regression with an L2 penalty, one fit per penalty, each started at the one before; give the strongest first.

        f(W, b) = (1/n) sum_i [log sum_k exp(z_ik) - z_iy(i)] + (penalty / 2) ||W||^2,    z_i = W x_i + b

    scikit-learn's C is 1 / (penalty n). Full-batch L-BFGS (Nocedal 1980, "Updating quasi-Newton matrices with limited storage"); the
    step is Newton's along the direction, which costs no product with X, because z is linear in the step. It stops at a proof: for any
    probabilities P whose class totals are those of the labels, weak duality gives

        min f >= (1/n) sum_i H(p_i) - ||G||^2 / (2 penalty),    G = (1/n) sum_i (p_i - e_y(i)) x_i^T,  H the entropy

    and P is the current softmax, mixed with as little of one fixed distribution as puts its totals right. Where the processor
    multiplies bfloat16 faster, the first iterations round X to it; the last ones and the proof never do.

    Args:
        features, labels: see the module.
        penalties: positive.
        classes: k; every class must occur.
        tolerance: stop where gap <= tolerance * objective.
        start: where the first fit starts; zero by default.
        most: iterations per penalty; the certificate says where it did not suffice.

    Raises:
        ValueError: a penalty is not positive, a class does not occur, or a feature is not finite.
    """
    if min(penalties) <= 0:
        raise ValueError(f"`penalties` must be positive. Got {min(penalties)}.")
    x, mean, _ = _centred(features, labels, classes)
    rough = x.bfloat16() if _half_is_fast(x) else None
    weight = start.weight if start else x.new_zeros(classes, x.shape[1])
    bias = start.bias + weight @ mean if start else x.new_zeros(classes)
    found = []
    for penalty in penalties:
        memory = Memory(PAIRS)
        spent = 0
        if rough is not None:
            weight, bias, certificate = _descend(
                rough, labels, weight, bias, penalty, memory, tolerance=_ROUGH_UNTIL, most=most
            )
            spent = certificate.iterations
        weight, bias, certificate = _descend(x, labels, weight, bias, penalty, memory, tolerance=tolerance, most=most)
        certificate = certificate._replace(iterations=certificate.iterations + spent)
        found.append((Linear(weight, bias - weight @ mean, penalty), certificate))
    return found


class Ridge(NamedTuple):
    """A fitted ridge classifier, with the scores that each training image gets from the fit to all others, (n, k)."""

    linear: Linear
    left_out: Float[Tensor, "n k"]


def ridge_path(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], penalties: Sequence[float], *, classes: int
) -> list[Ridge]:
    """Least squares on targets +-1 with an L2 penalty, in closed form, and its exact leave-one-out scores.

        min ||X W^T + b - T||^2 + penalty ||W||^2,    T_ik = 1 where y_i = k, else -1

    One eigendecomposition of the smaller Gram matrix of the centred features serves every penalty (big_vision's `fewshot_lsr.py`; no
    whitening here). With the hat matrix H, which the bias makes 1/n + Xc (Xc^T Xc + penalty)^-1 Xc^T, the score of image i from the
    fit to all others is

        t_i - (t_i - s_i) / (1 - H_ii)

    (Allen 1974, "The relationship between variable selection and data augmentation and a method for prediction").

    Raises:
        ValueError: as `softmax_path`.
    """
    if min(penalties) <= 0:
        raise ValueError(f"`penalties` must be positive. Got {min(penalties)}.")
    x, mean, counts = _centred(features, labels, classes)
    n, d = x.shape
    targets = torch.nn.functional.one_hot(labels, classes).to(x.dtype) * 2 - 1
    level = 2 * counts / n - 1  # the targets' means
    if d <= n:
        values, vectors = torch.linalg.eigh(_gram(x.T))
        turned = x @ vectors  # columns of squared length `values`
        onto = turned.T @ targets
    else:
        values, vectors = torch.linalg.eigh(_gram(x))
        turned, onto = vectors, vectors.T @ (targets - level)
    values = values.clamp(min=0)
    squares = turned.square()
    found = []
    for penalty in penalties:
        shrink = 1 / (values + penalty) if d <= n else values / (values + penalty)
        inner = shrink[:, None] * onto
        scores = torch.addmm(level, turned, inner)
        hat = 1 / n + squares @ shrink
        left_out = targets - (targets - scores) / (1 - hat).clamp(min=torch.finfo(x.dtype).eps)[:, None]
        weight = (vectors @ inner).T if d <= n else (vectors @ (onto / (values + penalty)[:, None])).T @ x
        found.append(Ridge(Linear(weight, level - weight @ mean, penalty), left_out))
    return found


def _descend(
    x: Tensor,
    labels: Tensor,
    weight: Tensor,
    bias: Tensor,
    penalty: float,
    memory: Memory,
    *,
    tolerance: float,
    most: int,
) -> tuple[Tensor, Tensor, Certificate]:
    """L-BFGS from (weight, bias) until the gap is proven. Weights and bias are one (k, d + 1) tensor; logits are (k, n)."""
    n = len(x)
    images = torch.arange(n, device=x.device)

    def times_x(theta: Tensor) -> Tensor:
        return (theta[:, :-1].to(x.dtype) @ x.T).to(theta.dtype).add_(theta[:, -1:])

    def look(theta: Tensor, z: Tensor) -> tuple[float, Tensor, Tensor]:
        """Objective, gradient, probabilities; from logits in float64 the objective is exact to the last digits of theirs."""
        log_total = torch.logsumexp(z, dim=0)
        loss = float((log_total - z[labels, images]).double().mean())
        p = (z - log_total).exp_()
        p[labels, images] -= 1
        sums = torch.cat([(p.to(x.dtype) @ x).to(theta.dtype), p.sum(dim=1, keepdim=True).to(theta.dtype)], dim=1)
        gradient = sums / n
        gradient[:, :-1].add_(theta[:, :-1], alpha=penalty)
        p[labels, images] += 1
        return loss + penalty / 2 * float(theta[:, :-1].double().square().sum()), gradient, p

    theta = torch.cat([weight, bias[:, None]], dim=1)
    z = times_x(theta)
    value, gradient, p = look(theta, z)
    fresh, done = False, 0
    by_label = _label_sums(x, labels, theta)
    while True:
        slope_bound = float(gradient[:, :-1].double().square().sum()) / (2 * penalty)
        if slope_bound <= tolerance * value or done == most:
            gap = value - _dual(theta, gradient, p, labels, penalty, by_label)
            if fresh and (gap <= tolerance * value or done == most):
                break
            if not fresh:  # the logits were summed up step by step: make them anew before anything is claimed
                theta = _right_totals(theta, times_x(theta), labels)
                z = times_x(theta)
                value, gradient, p = look(theta, z.double())
                fresh = True
                continue
        direction = memory.direction(gradient[None])[0]
        along = times_x(direction)
        t = _newton_along(z, along, labels, images, theta, direction, penalty, start=1.0 if memory.pairs else 0.0, p=p)
        if t == 0:  # rounding leaves nothing to gain
            value, gradient, p = look(theta, times_x(theta).double())
            gap = value - _dual(theta, gradient, p, labels, penalty, by_label)
            break
        step = t * direction
        theta = theta + step
        z.add_(along, alpha=t)
        before = gradient
        value, gradient, p = look(theta, z)
        memory.add(step[None], (gradient - before)[None])
        fresh, done = False, done + 1
    norm = float(gradient.double().square().sum()) ** 0.5
    return theta[:, :-1], theta[:, -1], Certificate(value, max(gap, 0.0), norm, done)


def _newton_along(
    z: Tensor,
    along: Tensor,
    labels: Tensor,
    images: Tensor,
    theta: Tensor,
    direction: Tensor,
    penalty: float,
    *,
    start: float,
    p: Tensor,
) -> float:
    """The step at which the slope along a direction has fallen to a tenth, by Newton's method within a bracket; 0 where the direction
    does not descend."""
    w, v = theta[:, :-1], direction[:, :-1]
    target = float(along[labels, images].double().mean())
    wv, vv = penalty * float((w * v).double().sum()), penalty * float(v.double().square().sum())

    def derivatives(t: float, q: Tensor) -> tuple[float, float]:
        product = q.to(along.dtype) * along
        mean = product.sum(dim=0)
        variance = (product * along).sum(dim=0) - mean * mean
        return float(mean.double().mean()) - target + wv + t * vv, float(variance.double().mean()) + vv

    first, bend = derivatives(0.0, p)
    if not first < 0:
        return 0.0
    low, high = 0.0, float("inf")
    t = start or -first / bend
    for _ in range(12):
        slope, bend = derivatives(t, torch.softmax(z + t * along, dim=0))
        if abs(slope) <= 0.1 * abs(first):
            break
        low, high = (low, t) if slope > 0 else (t, high)
        newton = t - slope / bend
        t = newton if low < newton < high else (low + high) / 2 if high < float("inf") else 2 * t
    return t


def _right_totals(theta: Tensor, z: Tensor, labels: Tensor) -> Tensor:
    """The same weights with the bias at its own optimum, where the probabilities of each class add up to its number of images: without
    this the lower bound is poor. Two Newton steps in k numbers, which cost no product with X."""
    k = len(z)
    counts = torch.bincount(labels, minlength=k).to(z.dtype)
    shift = z.new_zeros(k)
    for _ in range(2):
        p = torch.softmax(z + shift[:, None], dim=0)
        totals = p.sum(dim=1)
        hessian = totals.diag() - p @ p.T + totals.mean() / k  # the last: along equal shifts, which change nothing
        hessian.diagonal().add_(1e-6 * totals.mean())
        move = torch.linalg.solve(hessian, counts - totals)
        if not float(move.abs().max()) < 1:
            return theta
        shift = shift + move
    return torch.cat([theta[:, :-1], theta[:, -1:] + shift[:, None]], dim=1)


def _label_sums(x: Tensor, labels: Tensor, like: Tensor) -> Tensor:
    """(1/n) sum over the images of each class of x, (k, d)."""
    sums = like.new_zeros(like.shape[0], x.shape[1])
    return sums.index_add_(0, labels, x.to(like.dtype)) / len(x)


def _dual(theta: Tensor, gradient: Tensor, p: Tensor, labels: Tensor, penalty: float, by_label: Tensor) -> float:
    """The lower bound of `softmax_path`. Mixing q into P takes the share t of it, so G becomes (1 - t) G - t (sums by label), as the
    features are centred."""
    k = len(p)
    counts = torch.bincount(labels, minlength=k).to(torch.float64)
    short = counts - p.sum(dim=1, dtype=torch.float64)  # sums to zero but for rounding
    t = float((-short / (counts - short)).clamp(min=0).max())
    mixed = p
    if t > 0:
        q = (t * counts + (1 - t) * short).clamp(min=0)
        mixed = (1 - t) * p + (t * q / q.sum()).to(p.dtype)[:, None]
    entropy = -float(torch.xlogy(mixed, mixed).sum(dim=0).double().mean())
    g = (1 - t) * (gradient[:, :-1] - penalty * theta[:, :-1]) - t * by_label
    return entropy - float(g.double().square().sum()) / (2 * penalty)


def _centred(features: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features without their mean, the mean, and how often each class occurs."""
    counts = torch.bincount(labels, minlength=classes)
    if len(counts) > classes or int(counts.min()) == 0:
        raise ValueError(f"Every class in [0, {classes}) must occur, and no other. Got {counts.tolist()} images.")
    mean = features.mean(dim=0)
    if not bool(mean.isfinite().all()):
        raise ValueError("`features` must be finite.")
    return features - mean, mean, counts.to(features.dtype)


def _gram(rows: Tensor) -> Tensor:
    """rows rows^T, of which only the lower triangle is filled, in stripes: all that `eigh` reads, for 5/8 of the work."""
    made = rows.new_zeros(len(rows), len(rows))
    stripe = max(1, -(-len(rows) // 4))
    for first in range(0, len(rows), stripe):
        part = slice(first, first + stripe)
        made[first:, part] = rows[first:] @ rows[part].T
    return made


@functools.cache
def _bfloat16_processor() -> bool:
    info = Path("/proc/cpuinfo")
    return info.is_file() and "avx512_bf16" in info.read_text(errors="replace")


def _half_is_fast(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() > 2**20 and _bfloat16_processor()
