"""Which cells of a picture an answer rests on, by a linear fit to answers under random masks (LIME), and how far two such rankings agree.

Source: Ribeiro et al. 2016, "Why Should I Trust You?" (arXiv 1602.04938), in the setting of Jain et al. 2022 (arXiv 2204.08945): the kernel
exp(-D^2 / 0.25^2) under a root, D the cosine distance of a mask to the one that keeps everything, and a ridge of 1.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

WIDTH = 0.25
RIDGE = 1.0


def importance(kept: Bool[np.ndarray, "m n"], response: Float[np.ndarray, "m ..."]) -> Float[np.ndarray, "n ..."]:
    """The weight of each cell in a linear model of the response.

    Minimises sum_i w_i (response_i - intercept - kept_i . weights)^2 + |weights|^2; the intercept is not penalised.

    Args:
        kept: m masks over n cells, True where a cell is kept.
        response: to each mask, of one or of several fits.

    Returns:
        float64: how much of the response a cell adds when it is kept. 0 everywhere where the response does not vary.
    """
    kept = kept.astype(np.float64)
    distance = 1 - np.sqrt(
        kept.mean(axis=1)
    )  # the cosine of a mask of 0 and 1 with the one of all 1 is the root of what it keeps
    weight = np.exp(-np.square(distance) / WIDTH**2) ** 0.5
    share = weight / weight.sum()
    flat = response.reshape(len(kept), -1).astype(np.float64)
    masks, response_off = kept - share @ kept, flat - share @ flat
    weighted = masks.T * weight
    weights = np.linalg.solve(weighted @ masks + RIDGE * np.eye(kept.shape[1]), weighted @ response_off)
    fitted: np.ndarray = weights.reshape(kept.shape[1], *response.shape[1:])
    return fitted


def ranking(weights: Float[np.ndarray, "n ..."]) -> Int[np.ndarray, "n ..."]:
    """Cells from the most important one down; of equal ones the first comes first."""
    ranked: np.ndarray = np.argsort(-weights, axis=0, kind="stable")
    return ranked


def overlap(rankings: Sequence[Int[np.ndarray, "n ..."]], count: int) -> Float[np.ndarray, "..."]:
    """Mean Jaccard index of the `count` first cells over all pairs of rankings: the share of the cells that either has which both have."""
    members = np.stack([_members(each, count) for each in rankings]).astype(np.float64)
    pairs = [(a, b) for b in range(len(members)) for a in range(b)]
    both = np.stack([(members[a] * members[b]).sum(axis=0) for a, b in pairs])
    mean: np.ndarray = (both / (2 * count - both)).mean(axis=0)
    return mean


def chance(n: int, count: int) -> float:
    """Expected Jaccard index of two random sets of `count` of n cells: their overlap is hypergeometric.

    Example:
        >>> round(chance(196, 20), 4)
        0.055
    """
    ways = math.comb(n, count)
    return sum(
        math.comb(count, both) * math.comb(n - count, count - both) / ways * both / (2 * count - both)
        for both in range(max(0, 2 * count - n), count + 1)
    )


def _members(ranked: Int[np.ndarray, "n ..."], count: int) -> Bool[np.ndarray, "n ..."]:
    found = np.zeros(ranked.shape, dtype=bool)
    np.put_along_axis(found, ranked[:count], True, axis=0)
    return found
