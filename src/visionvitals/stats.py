"""Means with intervals, paired differences and areas under curves. Pure numpy; images are the sampling unit.

Conventions: all intervals are two-sided at 95 %. Several runs of one image are first averaged within the image, because
they are not independent evidence about new images; n always counts images.
"""

from typing import NamedTuple

import numpy as np

Z95 = 1.959963984540054
RESAMPLES = 2000
_ROOT_SEED = 20210521  # of the bootstrap; any fixed number, so that a report repeats itself


class Estimate(NamedTuple):
    """A value with its 95 % interval and the number of images behind it."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)


def wilson(successes: int, n: int) -> Estimate:
    """A proportion with Wilson's score interval (Wilson 1927, "Probable inference", eq. 5).

    Args:
        successes: number of ones, 0 <= successes <= n.
        n: number of images. n = 0 gives NaN.

    Example:
        >>> [round(x, 4) for x in wilson(8, 10)[:3]]
        [0.8, 0.4902, 0.9433]
    """
    if n == 0:
        return NOTHING
    if not 0 <= successes <= n:
        raise ValueError(f"`successes` must be in [0, n]. Got {successes} of {n}.")
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Estimate(p, float(max(0.0, centre - half)), float(min(1.0, centre + half)), n)


def estimate(values: np.ndarray) -> Estimate:
    """The mean over images with an interval: Wilson where every value is 0 or 1, else the normal approximation.

    Args:
        values: float (n,), one per image (already averaged over its runs). NaN marks an image that could not be scored; it
            is left out and not counted.

    Convention: proportions averaged over runs lie in [0, 1]; their interval is clipped to it. One image gives a NaN interval.
    """
    scored = values[~np.isnan(values)]
    n = len(scored)
    if n == 0:
        return NOTHING
    if np.isin(scored, (0.0, 1.0)).all():
        return wilson(int(scored.sum()), n)
    mean = float(scored.mean())
    if n == 1:
        return Estimate(mean, float("nan"), float("nan"), 1)
    half = Z95 * float(scored.std(ddof=1)) / np.sqrt(n)
    low, high = mean - half, mean + half
    if scored.min() >= 0 and scored.max() <= 1:
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(mean, float(low), float(high), n)


def bootstrap_means(values: np.ndarray, *, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of `resamples` bootstrap samples of the rows of `values`, float (n, ...) -> (resamples, ...).

    All columns of a row are resampled together, which is what makes a comparison over columns paired.
    """
    n = len(values)
    rng = np.random.default_rng(_ROOT_SEED)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=resamples)
    flat = counts @ values.reshape(n, -1) / n
    return np.asarray(flat.reshape(resamples, *values.shape[1:]))


def paired_difference(a: np.ndarray, b: np.ndarray) -> Estimate:
    """mean(a - b) over the same images, with the percentile bootstrap interval (Efron 1979).

    Args:
        a, b: float (n,), one value per image in the same order. Pairs with a NaN are left out.

    Raises:
        ValueError: the lengths differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"`a` and `b` must hold the same images. Got shapes {a.shape} and {b.shape}.")
    difference = (a - b)[~np.isnan(a - b)]
    if len(difference) == 0:
        return NOTHING
    low, high = np.percentile(bootstrap_means(difference), [2.5, 97.5])
    return Estimate(float(difference.mean()), float(low), float(high), len(difference))


def kept(clean: np.ndarray, perturbed: np.ndarray) -> Estimate:
    """mean(perturbed) / mean(clean) over the same images: the share of the accuracy that is kept, paired bootstrap.

    NaN where the clean accuracy is zero.
    """
    both = np.stack([clean, perturbed], axis=1)
    both = both[~np.isnan(both).any(axis=1)]
    if len(both) == 0 or both[:, 0].mean() == 0:
        return NOTHING._replace(n=len(both))
    means = bootstrap_means(both)
    ratios = means[:, 1] / np.where(means[:, 0] == 0, np.nan, means[:, 0])
    low, high = np.nanpercentile(ratios, [2.5, 97.5])
    return Estimate(float(both[:, 1].mean() / both[:, 0].mean()), float(low), float(high), len(both))


def area(x: np.ndarray, curves: np.ndarray) -> Estimate:
    """Area under the mean curve by the trapezoid rule, divided by the range of x, with the paired bootstrap interval.

    Args:
        x: float (m,), strictly increasing, m >= 2.
        curves: float (n, m), one curve per image.

    Convention: 1.0 means the value 1 everywhere; the number depends on the range of x, so compare equal ranges only.
    """
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"`x` must be strictly increasing with at least two points. Got {x!r}.")
    weights = np.zeros(len(x))
    weights[:-1] += np.diff(x) / 2
    weights[1:] += np.diff(x) / 2
    areas = curves @ (weights / (x[-1] - x[0]))
    low, high = np.percentile(bootstrap_means(areas), [2.5, 97.5])
    return Estimate(float(areas.mean()), float(low), float(high), len(areas))
