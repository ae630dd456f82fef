"""Functions of several means over the same images: any formula, and the worst or best of several columns.

Both draw from what the means may truly be (a confidence distribution; Krishnamoorthy & Lee 2010, Xie & Singh 2013): each mean follows
its own interval of every level, which stays between the bounds and has a width at 0 and 1; all vary together as the columns do. It is a
parametric bootstrap whose size does not depend on the number of images.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np

from visionvitals.stats._means import LEVEL, NOTHING, Z95, Bounds, Estimate, Means, estimate, normal, span
from visionvitals.stats._pairs import apart

DRAWS = 4000
_TOLD = 0.99  # beyond it fewer than twenty draws lie on a side
_ROOT_SEED = 20210521  # any fixed number, so that a report repeats itself
_UNSEEN = Z95**2 / 2  # flips between any two columns that may exist although none was seen


def formula(
    scores: np.ndarray,
    function: Callable[[np.ndarray], np.ndarray],
    *,
    bounds: Bounds | None = None,
    result: Bounds = (-math.inf, math.inf),
    level: float = LEVEL,
) -> Estimate:
    """A formula over the means of columns, with the percentile interval over draws of these means.

    Args:
        scores: float (n, m), a column per condition, a row per image. Rows with a NaN are left out.
        function: means (..., m) -> (...); NaN where it has no value.
        bounds: of the scores, as in `stats.estimate`.
        result: what the formula can give at all; the interval is cut to it.
        level: as in `stats.estimate`.

    Convention: columns that never differ, or have one value only, still vary by what may not have been seen, so there is no width of
    zero unless the formula itself is constant; then, and for one image, the interval is NaN. For the smallest or largest of several
    columns use `extreme`: a formula does not know that the column was chosen by its value.
    """
    scores = scores[~np.isnan(scores).any(axis=1)]
    n = len(scores)
    if n == 0:
        return NOTHING
    means = Means.of(scores, span(scores) if bounds is None else bounds, level)
    value = float(function(means.value))
    if n == 1 or math.isnan(value):
        return Estimate(value, math.nan, math.nan, n)
    found = np.asarray(function(means.limit(_normal(means))))
    found = found[~np.isnan(found)]
    if len(found) < DRAWS / 2 or np.ptp(found) <= 1e-12 * max(1.0, abs(value)):
        return Estimate(value, math.nan, math.nan, n)
    low, high = np.clip([value + _end(found - value, side, level) for side in (-1, 1)], *result)
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def extreme(
    scores: np.ndarray, kind: Literal["min", "max"] = "min", *, bounds: Bounds | None = None, level: float = LEVEL
) -> Estimate:
    """The smallest (or largest) of the true means of several columns.

    The smallest of the observed means is too small, because the column with the most bad luck is chosen. The value is therefore moved
    by the bias that the draws show (bootstrap bias correction; Efron & Tibshirani 1993, section 10.2). The interval is that of
    intersection bounds: its upper end adds to the means the 97.5th percentile (of 95 %) of the largest error among the columns that may be the
    smallest (Chernozhukov, Lee & Rosen 2013); its lower end is the smallest of the columns' own lower ends, which holds without
    correction (Berger 1982).

    Args:
        scores: float (n, m), a column per candidate, a row per image. Rows with a NaN are left out.
        kind: "min" or "max".
        bounds, level: as in `stats.estimate`.

    Convention: one column gives its `estimate`. One image gives a NaN interval.
    """
    scores = scores[~np.isnan(scores).any(axis=1)]
    n, columns = scores.shape
    if n == 0 or columns == 0:
        return NOTHING
    inside = span(scores) if bounds is None else bounds
    if columns == 1:
        return estimate(scores[:, 0], bounds=inside, level=level)
    if kind == "max":
        mirrored = extreme(-scores, "min", bounds=(-inside[1], -inside[0]), level=level)
        return Estimate(-mirrored.value, -mirrored.high, -mirrored.low, n)
    means, z, tail = Means.of(scores, inside, level), normal(level), (1 + level) / 2
    if n == 1:
        return Estimate(float(means.value.min()), math.nan, math.nan, n)
    errors = _normal(means)
    wide = np.quantile(errors.max(axis=1), max(tail, 1 - 0.1 / math.log(n)))
    candidates = means.limit(np.array(-2 * wide)) <= means.limit(np.array(wide)).min()
    upper = _end(errors[:, candidates].max(axis=1), 1, level)
    low, high = (float(means.limit(np.array(end)).min()) for end in (-z, max(z, upper)))
    usual = means if level == LEVEL else Means.of(scores, inside)  # the value is the same at every level
    value = 2 * float(means.value.min()) - float(usual.limit(errors).min(axis=1).mean())
    return Estimate(min(max(value, low), high), low, high, n)


def extreme_difference(
    a: np.ndarray,
    b: np.ndarray,
    kind: Literal["min", "max"] = "min",
    *,
    bounds: Bounds | None = None,
    level: float = LEVEL,
) -> Estimate:
    """The smallest (or largest) true mean of the columns of `a` minus that of the columns of `b`, over the same images.

    From the intervals of both extremes and the correlation of the two columns that hold them (MOVER: Zou & Donner 2008), counted with
    z^2 / 2 flips that were not seen, as in `kept_difference`. Swapping a and b mirrors the result exactly.

    Args:
        a, b: float (n, m) and (n, k), a column per candidate, a row per image in the same order. Rows with a NaN in either are left out.
        kind: "min" or "max".
        bounds, level: as in `stats.estimate`.

    Convention: the two extremes may stand in different columns (the worst block of each network). One image gives a NaN interval.
    """
    known = ~(np.isnan(a).any(axis=1) | np.isnan(b).any(axis=1))
    a, b = a[known], b[known]
    if len(a) == 0 or a.shape[1] == 0 or b.shape[1] == 0:
        return NOTHING
    inside = span(a, b) if bounds is None else bounds
    first, second = (extreme(c, kind, bounds=inside, level=level) for c in (a, b))
    at = np.argmin if kind == "min" else np.argmax
    x, y = (c[:, at(c.mean(axis=0))] for c in (a, b))
    unseen = _UNSEEN * (inside[1] - inside[0]) ** 2 if math.isfinite(inside[1] - inside[0]) else 0.0
    spread = [float(np.square(c - c.mean()).sum()) + unseen for c in (x, y)]
    r = float((x - x.mean()) @ (y - y.mean())) / (math.sqrt(math.prod(spread)) or 1.0)
    value = first.value - second.value
    low = apart(first.value - first.low, second.high - second.value, r)
    high = apart(first.high - first.value, second.value - second.low, r)
    return Estimate(value, value - low, value + high, len(a))


def _end(errors: np.ndarray, side: Literal[-1, 1], level: float) -> float:
    """The error that is not exceeded on one side at a two-sided level. Beyond the levels that so many draws can tell it grows as the normal
    point does."""
    told = min(level, _TOLD)
    return float(np.quantile(errors, (1 + side * told) / 2)) * (normal(level) / normal(told))


def _normal(means: Means) -> np.ndarray:
    """Standard normal errors of the means, float (draws, m), that vary together as the columns do; every draw comes with its mirror.

    In units of images that flip, the smallest variance of any mixture of columns is `_UNSEEN`: two columns that never differed in
    n images may differ in some that were not drawn. Where no mixture is that certain, nothing is changed.
    """
    low, high = means.bounds
    m = len(means.value)
    if math.isfinite(low) and math.isfinite(high):
        p = np.clip((means.value - low) / (high - low), 0, 1)
        size = np.sqrt(np.maximum(means.images * p * (1 - p), _UNSEEN))
    else:
        size = np.sqrt(means.images)
    together = means.deviations.T @ means.deviations
    own = np.sqrt(np.diag(together))
    constant = own <= 1e-9 * math.sqrt(means.n)
    own = np.where(constant, 1.0, own)
    together = np.where(constant[:, None] | constant, 0.0, together / own[:, None] / own)
    np.fill_diagonal(together, 1.0)
    values, vectors = np.linalg.eigh(together * size[:, None] * size)
    root = (vectors * np.sqrt(np.maximum(values, _UNSEEN))) @ vectors.T / size[:, None]  # symmetric: no choice of signs
    half = _independent(m) @ root.T
    return np.concatenate([half, -half])


@lru_cache(maxsize=8)
def _independent(m: int) -> np.ndarray:
    return np.random.default_rng(_ROOT_SEED).standard_normal((DRAWS // 2, m))
