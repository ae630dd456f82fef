"""The proof of a softmax regression: a lower bound of its minimum by weak duality, see `linear.softmax_path`. Logits are (k, n)."""

import torch
from torch import Tensor


def right_totals(theta: Tensor, z: Tensor, labels: Tensor) -> Tensor:
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


def label_sums(x: Tensor, labels: Tensor, like: Tensor) -> Tensor:
    """(1/n) sum over the images of each class of x, (k, d)."""
    sums = like.new_zeros(like.shape[0], x.shape[1])
    return sums.index_add_(0, labels, x.to(like.dtype)) / len(x)


def lower_bound(theta: Tensor, gradient: Tensor, p: Tensor, labels: Tensor, penalty: float, by_label: Tensor) -> float:
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
