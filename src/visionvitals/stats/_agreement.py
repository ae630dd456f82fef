"""Do two observers fail on the same pictures, beyond what their accuracies force? Error consistency (Geirhos, Meding & Wichmann 2020)."""

import math
from typing import NamedTuple

import numpy as np

from visionvitals.stats._functions import formula
from visionvitals.stats._means import LEVEL, NOTHING, Estimate

DRAWS = 4000
FEWEST = 10
"""Mistakes, and right answers, that each observer must have: with fewer, kappa is noise."""
_ROOT_SEED = 20200630  # any fixed number, so that a page repeats itself


class Agreement(NamedTuple):
    """How far two observers are right and wrong on the same pictures.

    Attributes:
        kappa: 1 where both are right and wrong together, 0 where they agree as often as independent observers of their accuracies would,
            below where they agree less; with its interval over pictures. NaN where it is not defined, or one of them has fewer than
            `FEWEST` mistakes or right answers.
        most: the largest kappa that their accuracies allow.
        null: (low, high), between which kappa of independent observers of these accuracies falls in 95 % of the cases for n pictures: a
            kappa outside is no accident.
        observed, expected: shares of pictures on which both are right or both wrong; as measured, and for independent observers.
    """

    kappa: Estimate
    most: float
    null: tuple[float, float]
    observed: float
    expected: float


def error_consistency(
    first: np.ndarray, second: np.ndarray, agree: np.ndarray | None = None, *, level: float = LEVEL
) -> Agreement:
    """Cohen's kappa of rightness, (observed - expected) / (1 - expected) with expected = p1 p2 + (1 - p1)(1 - p2), for p1 and p2 the
    accuracies (Geirhos, Meding & Wichmann 2020, eq. 1 and 2); which wrong answer was given is ignored. Swapping gives the same.

    With accuracies p1 and p2 both are right or both wrong on at most 1 - |p1 - p2| and at least |p1 + p2 - 1| of the pictures, which bounds
    kappa more closely than the expected share alone does.

    Args:
        first, second: float (n,), 1 where the observer is right and 0 where it is wrong; or means over several showings of the picture.
        agree: float (n,), whether both were right or both wrong, averaged over the showings; None where there was one showing.
        level: of the interval of kappa, from draws of the three means (see `formula`).

    Pictures with a NaN are left out. The null band is drawn from independent pictures, one showing each, so that it is too wide for
    several showings, never too narrow.

    Raises:
        ValueError: the lengths differ, or a value lies outside [0, 1], or without `agree` is neither 0 nor 1.
    """
    if agree is None:
        if not np.isin(first[~np.isnan(first)], (0, 1)).all() or not np.isin(second[~np.isnan(second)], (0, 1)).all():
            raise ValueError("Answers must be right (1) or wrong (0), or `agree` must say how often both are alike.")
        agree = np.where(np.isnan(first + second), np.nan, first == second)
    if not first.shape == second.shape == agree.shape:
        raise ValueError(
            f"Both must answer the same pictures. Got shapes {first.shape}, {second.shape}, {agree.shape}."
        )
    known = ~np.isnan(first + second + agree)
    pair = sorted((first[known], second[known]), key=lambda each: (each.mean() if len(each) else 0.0, each.tobytes()))
    scores = np.stack([*pair, agree[known]], axis=1)
    n = len(scores)
    if n == 0:
        return Agreement(NOTHING, math.nan, (math.nan, math.nan), math.nan, math.nan)
    if scores.min() < 0 or scores.max() > 1:
        raise ValueError("Shares of right answers must lie between 0 and 1.")
    p1, p2, observed = map(float, scores.mean(axis=0))
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    fewest = n * min(p1, p2, 1 - p1, 1 - p2)
    if fewest < FEWEST - 1e-9:
        return Agreement(NOTHING._replace(n=n), math.nan, (math.nan, math.nan), observed, expected)
    kappa = formula(scores, _kappa, bounds=(0, 1), result=(-1, 1), level=level)
    most = (1 - abs(p1 - p2) - expected) / (1 - expected)
    return Agreement(kappa, most, _null(p1, p2, n), observed, expected)


def _kappa(means: np.ndarray) -> np.ndarray:
    """(..., 3) -> (...): of two accuracies and a share of agreement, which is held to what the accuracies allow."""
    p1, p2, observed = np.moveaxis(means, -1, 0)
    observed = np.clip(observed, np.abs(p1 + p2 - 1), 1 - np.abs(p1 - p2))
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    return np.asarray((observed - expected) / np.where(expected == 1, np.nan, 1 - expected))


def _null(p1: float, p2: float, n: int) -> tuple[float, float]:
    """The middle 95 % of kappa of independent observers."""
    shares = [p1 * p2, p1 * (1 - p2), (1 - p1) * p2, (1 - p1) * (1 - p2)]
    tables = np.random.default_rng(_ROOT_SEED).multinomial(n, shares, size=DRAWS) / n
    means = np.stack([tables[:, 0] + tables[:, 1], tables[:, 0] + tables[:, 2], tables[:, 0] + tables[:, 3]], axis=1)
    low, high = np.nanquantile(_kappa(means), [0.025, 0.975])
    return float(low), float(high)
