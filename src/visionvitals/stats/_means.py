"""A mean over images: the value, its interval, and what the methods for pairs and formulas need to know of it."""

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from visionvitals.stats._looks import Early, at_look

Z95 = 1.959963984540054
Bounds = tuple[float, float]
UNBOUNDED: Bounds = (-math.inf, math.inf)
_UNIT: Bounds = (0.0, 1.0)
_SLACK = 1e-9  # of the range: rounding of a weighted sum, not a value beyond the bounds
LEVEL = 0.95
_STEPS = 6


class Estimate(NamedTuple):
    """A value with its interval, of 95 % where nothing else is said, the number of images behind it, and whether they might be fewer than all."""

    value: float
    low: float
    high: float
    n: int
    early: Early | None = None


NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def wilson(successes: int, n: int, *, level: float = LEVEL) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927, "Probable inference", eq. 5).

    Args:
        successes: number of ones, 0 <= successes <= n.
        n: number of images. n = 0 gives NaN.
        level: of the interval, in (0, 1).

    Convention: the lower end at 0 of n is exactly 0, the upper end at n of n exactly 1.

    Example:
        >>> [round(x, 4) for x in wilson(8, 10)[:3]]
        [0.8, 0.4902, 0.9433]
    """
    if n == 0:
        return NOTHING
    if not 0 <= successes <= n:
        raise ValueError(f"`successes` must be in [0, n]. Got {successes} of {n}.")
    z = normal(level)
    p, z2 = successes / n, z**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Estimate(p, 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half, n)


def clopper_pearson(successes: int, n: int, *, level: float = LEVEL) -> Estimate:
    """A proportion with the exact interval (Clopper & Pearson 1934, *Biometrika* 26:404), which holds at every level; as `wilson`."""
    from scipy import special

    def low(k: int) -> float:
        return float(special.betaincinv(k, n - k + 1, (1 - level) / 2)) if k else 0.0

    return Estimate(successes / n, low(successes), 1 - low(n - successes), n) if n else NOTHING


def estimate(
    values: np.ndarray, *, bounds: Bounds | None = None, level: float = LEVEL, early: Early | None = None
) -> Estimate:
    """The mean over images with its interval.

    Zeros and ones: Wilson, or Clopper-Pearson at one of several looks. Other values between finite bounds: Wilson with the effective number of
    images (`Means`). Else Student's t.

    Args:
        values: float (n,), one per image (already averaged over its runs). NaN marks an image that could not be scored; it is left
            out and not counted.
        bounds: the smallest and the largest value that is possible, infinite where there is none. None: (0, 1) where all values are in
            [0, 1], else unbounded; say `stats.UNBOUNDED` for a metric that only happens to lie there.
        level: of the interval, in (0, 1).
        early: which of several looks this is; their intervals hold together at the level.

    Convention: one image gives a NaN interval, unless its value is 0 or 1. Equal values say nothing about their spread: between bounds
    each image then counts as if it could have had either end (the widest possible spread), without bounds the interval is NaN.

    Raises:
        ValueError: a value lies outside the bounds.
    """
    missing = np.isnan(values)
    scored = values[~missing] if missing.any() else values
    n, level = len(scored), at_look(level, early)
    if n == 0:
        return NOTHING
    inside = span(scored) if bounds is None else bounds
    ones = np.count_nonzero(scored == 1)
    if inside == _UNIT and ones + np.count_nonzero(scored == 0) == n:
        return (clopper_pearson if early else wilson)(int(ones), n, level=level)._replace(early=early)
    means, z = Means.of(scored[:, None], inside, level), normal(level)
    low, high = (float(means.limit(np.array([end]))[0]) for end in (-z, z))
    return Estimate(float(means.value[0]), low, high, n, early)


def over_draws(e: Estimate, draws: np.ndarray, *, bounds: Bounds, level: float = LEVEL) -> Estimate:
    """An interval over images, widened by what all images of a run share: a trained patch with its split, its start and its poses.

    The distances to the ends are combined with those of the mean over draws, each draw being one unit of `estimate` (the square root of
    the sum of squares: MOVER for a sum, Zou & Donner 2008). Draws vary with their images too, so that this part counts twice.

    Args:
        e: over images, each averaged over its draws.
        draws: float (k,), the mean of each draw over its images. NaN is left out.
        bounds: the smallest and the largest possible value of both.
        level: that of `e`.

    Convention: fewer than two draws have no interval: nothing is known of other draws. Equal draws between bounds count as if each could have
    had either end, as in `estimate`.
    """
    over = estimate(draws, bounds=bounds, level=level)
    if over.n < 2 or e.n == 0 or math.isnan(e.low + e.high + over.low + over.high):
        return e._replace(low=math.nan, high=math.nan)
    low = e.value - math.hypot(e.value - e.low, over.value - over.low)
    high = e.value + math.hypot(e.high - e.value, over.high - over.value)
    return e._replace(low=max(bounds[0], low), high=min(bounds[1], high))


def std(values: np.ndarray) -> float:
    """The sample standard deviation over images (divided by n - 1), without those that are NaN; NaN for fewer than two."""
    scored = values[~np.isnan(values)]
    return float(scored.std(ddof=1)) if len(scored) > 1 else math.nan


def needed(e: Estimate, margin: float) -> int | None:
    """About how many images would narrow the half-width of an interval to `margin`, as widths shrink with the root of n.

    The answer is a plan, not a promise: it takes the value and the spread seen so far for the true ones.

    Returns:
        At least 1; None where there is no interval to scale or the margin is not positive.
    """
    half = (e.high - e.low) / 2
    if not (half > 0 and margin > 0):
        return None
    return max(1, math.ceil(e.n * (half / margin) ** 2))


def deciding(interval: Callable[[float], Estimate], threshold: float, *, level: float = LEVEL) -> int | None:
    """About how many images in all would move an interval that holds a threshold off it, if what was seen stays as it is.

    A score interval ends where (value - end)^2 = z^2 V(end) / n, V being the variance of one image if the end were the true mean. So the z at which it
    ends at the threshold tells V there, and n grows by the square of the level's z over this one. Widths that shrink with the root of n would ask
    near 0 and 1 for up to twice as many.

    Args:
        interval: the estimate with its interval of a level in (0, 1).
        threshold: in the interval of `level`.
        level: at which it is to be decided.

    Returns:
        More than n; None where there is no interval, the threshold lies outside it, or is the value itself.

    Example:
        >>> deciding(lambda level: wilson(294, 300, level=level), 0.97)
        1118
    """
    z = normal(level)
    e = interval(level)
    if not e.low <= threshold <= e.high or threshold == e.value:
        return None
    away = abs(threshold - e.value)

    def beyond(e: Estimate) -> float:
        arm = e.value - e.low if threshold < e.value else e.high - e.value
        return math.log(arm / away) if arm > 0 else -math.inf

    known = (math.log(z), beyond(e))
    tried = known[0] - known[1]
    for _ in range(_STEPS):  # secants of logarithms: arms are nearly powers of z
        here = (tried, beyond(interval(math.erf(math.exp(tried) / math.sqrt(2)))))
        if here[1] == known[1] or abs(here[1]) < 1e-6 or math.isinf(here[1]):  # a percentile may pass the value
            break
        known, tried = here, min(math.log(z), tried - here[1] * (tried - known[0]) / (here[1] - known[1]))
    return max(e.n + 1, math.ceil(e.n * (z / math.exp(tried)) ** 2))


def span(*arrays: np.ndarray) -> Bounds:
    """(0, 1) where all values are in [0, 1] up to rounding, else unbounded."""
    within = all(a.size == 0 or (a.min() >= -_SLACK and a.max() <= 1 + _SLACK) for a in arrays)
    return _UNIT if within else UNBOUNDED


def scaled(values: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Values between finite bounds, moved to [0, 1].

    Raises:
        ValueError: a value lies outside the bounds by more than rounding.
    """
    low, high = bounds
    if not low < high:
        raise ValueError(f"`bounds` must be (low, high) with low < high. Got {bounds}.")
    unit = values if bounds == _UNIT else (values - low) / (high - low)
    least, most = (unit.min(), unit.max()) if unit.size else _UNIT
    if least < -_SLACK or most > 1 + _SLACK:
        raise ValueError(f"All values must be in {bounds}. Got {values.min()} to {values.max()}.")
    return unit if least >= 0 and most <= 1 else np.asarray(np.clip(unit, 0, 1))


@lru_cache
def normal(level: float) -> float:
    """How many standard errors lie on either side of the middle of a normal distribution at a level in (0, 1)."""
    return Z95 if level == LEVEL else statistics.NormalDist().inv_cdf((1 + level) / 2)


@lru_cache(maxsize=4096)
def student(degrees: int, level: float = LEVEL) -> float:
    """The two-sided point of Student's t at a level in (0, 1); NaN for fewer than one degree of freedom."""
    from scipy import special  # not needed for zeros and ones, and slow to import

    return float(special.stdtrit(degrees, (1 + level) / 2)) if degrees >= 1 else math.nan


def design_effect(deviations: np.ndarray, binary: np.ndarray) -> np.ndarray:
    """The variance of values between 0 and 1 over the variance that zeros and ones of the same mean would have, at most 1.

    n divided by it is the effective number of images (Kish 1965; Rao & Scott 1992; Korn & Graubard 1998). Where only a few images differ
    from the rest the observed variance is not to be trusted, so the ratio is pulled towards 1 by the effective number of deviating
    images, (sum d^2)^2 / sum d^4: it is raised to the power i / (i + 1). Equal values give 1.

    Args:
        deviations: float (n, m), from the mean of each column, n >= 2.
        binary: float (m,), the variance of one image if it were 0 or 1.

    Returns:
        float (m,), in (0, 1].
    """
    n = len(deviations)
    square = np.square(deviations)
    total, fourth = square.sum(axis=0), np.einsum("ij,ij->j", square, square)
    spread = total > n * 1e-18
    safe = np.where(spread, total, 1.0)
    informative = np.where(spread, safe**2 / np.where(spread, fourth, 1.0), 0.0)
    ratio = np.where(spread & (binary > 0), safe / (n - 1) / np.where(binary > 0, binary, 1.0), 1.0)
    return np.asarray(np.minimum(ratio, 1.0) ** (informative / (informative + 1)))


def critical(n: int, effect: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """What stands for z: z where the mean fixes the variance (effect 1), Student's t where it had to be estimated, squares in between."""
    if np.all(effect == 1):
        return np.full_like(effect, normal(level))
    return np.sqrt(normal(level) ** 2 + (student(n - 1, level) ** 2 - normal(level) ** 2) * (1 - effect))


@dataclass(frozen=True)
class Means:
    """The means of columns as what they may truly be: a limit for every critical value.

    Attributes:
        n: number of images.
        value: float (m,), the means.
        deviations: float (n, m), on the scale of the bounds.
        images: float (m,), the effective number of images; n for unbounded columns.
        stretch: float (m,), by what a critical value of the normal law is multiplied.
        bounds: finite, or the scale is that of the values.
    """

    n: int
    value: np.ndarray
    deviations: np.ndarray
    images: np.ndarray
    stretch: np.ndarray
    bounds: Bounds

    @classmethod
    def of(cls, values: np.ndarray, bounds: Bounds, level: float = LEVEL) -> "Means":
        """Of float (n, m) without NaN."""
        n, m = values.shape
        if not all(map(math.isfinite, bounds)):
            if values.min() < bounds[0] or values.max() > bounds[1]:
                raise ValueError(f"All values must be in {bounds}. Got {values.min()} to {values.max()}.")
            mean = values.mean(axis=0)
            return cls(
                n, mean, values - mean, np.full(m, float(n)), np.full(m, student(n - 1, level) / normal(level)), bounds
            )
        unit = scaled(values, bounds)
        mean = unit.mean(axis=0)
        away = unit - mean
        value = bounds[0] + (bounds[1] - bounds[0]) * mean
        if n == 1:
            known = np.isin(unit[0], _UNIT)
            return cls(n, value, away, np.ones(m), np.where(known, 1.0, math.nan), bounds)
        effect = design_effect(away, mean * (1 - mean))
        return cls(n, value, away, n / effect, critical(n, effect, level) / normal(level), bounds)

    def limit(self, z: np.ndarray) -> np.ndarray:
        """The means that lie z standard errors away, judged by the error at that mean and the level of `of`: float (..., m) -> (..., m).

        z = -1.96 gives the lower end of the interval, 0 the mean, 1.96 the upper end.
        """
        k = z * self.stretch
        low, high = self.bounds
        if not (math.isfinite(low) and math.isfinite(high)):
            error = np.sqrt(np.square(self.deviations).sum(axis=0) / max(1, self.n - 1) / self.n)
            k = np.where((error > 1e-15 * np.abs(self.value)) | (z == 0), k, math.nan)
            return np.asarray(np.clip(self.value + k * error, low, high))
        p, images = np.clip((self.value - low) / (high - low), 0, 1), self.images
        centre = p + k**2 / (2 * images)
        found = (centre + k * np.sqrt(p * (1 - p) / images + k**2 / (4 * images**2))) / (1 + k**2 / images)
        found = np.where((p == 0) & (k <= 0), 0.0, np.where((p == 1) & (k >= 0), 1.0, np.clip(found, 0, 1)))
        return np.asarray(low + (high - low) * found)
