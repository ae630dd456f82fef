"""The one place where results ask for paired bootstrap intervals over several columns of scores."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from visionvitals import stats
from visionvitals.stats import Estimate


def kept(clean: np.ndarray, perturbed: np.ndarray) -> Estimate:
    return stats.kept(clean, perturbed)


def kept_difference(clean_a: np.ndarray, pert_a: np.ndarray, clean_b: np.ndarray, pert_b: np.ndarray) -> Estimate:
    """kept(b) - kept(a), all columns resampled together."""
    scores = np.stack([clean_a, pert_a, clean_b, pert_b], axis=1)
    if (scores.mean(axis=0)[[0, 2]] == 0).any():
        return stats.NOTHING._replace(n=len(scores))

    def ratios(means: np.ndarray) -> np.ndarray:
        clean = np.where(means[..., [0, 2]] == 0, np.nan, means[..., [0, 2]])
        return np.asarray(means[..., 3] / clean[..., 1] - means[..., 1] / clean[..., 0])

    return formula(scores, ratios)


def area_difference(x: np.ndarray, curves_a: np.ndarray, curves_b: np.ndarray) -> Estimate:
    """area(b) - area(a) over the same items, (n, len(x)) each."""
    weights = np.zeros(len(x))
    weights[:-1] += np.diff(x) / 2
    weights[1:] += np.diff(x) / 2
    weights /= x[-1] - x[0]
    return stats.paired_difference(curves_b @ weights, curves_a @ weights)


def formula(scores: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """A formula over the column means of scores, (n, m), with the percentile bootstrap interval over the rows."""
    low, high = np.nanpercentile(function(stats.bootstrap_means(scores)), [2.5, 97.5])
    return Estimate(float(function(scores.mean(axis=0))), float(low), float(high), len(scores))


def extreme(scores: np.ndarray, *, kind: Literal["min", "max"]) -> Estimate:
    """The smallest or largest column mean of scores, (n, m), chosen on one half of the rows and read on the other."""
    return stats.extreme(scores, kind)  # type: ignore[attr-defined,no-any-return]
