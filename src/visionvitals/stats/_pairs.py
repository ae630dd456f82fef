"""Two measurements of the same images: differences, ratios, areas under curves.

Score methods for zeros and ones take counts of pairs. Values between bounds, as averages over runs are, come to them as the counts
that zeros and ones with the same means would give, divided by the design effect (Rao & Scott 1992).
"""

import math
from collections.abc import Callable

import numpy as np

from visionvitals.stats._means import (
    LEVEL,
    NOTHING,
    UNBOUNDED,
    Bounds,
    Estimate,
    critical,
    design_effect,
    estimate,
    normal,
    scaled,
    span,
)

_STEPS = 40  # of a bisection: the end is known to 1e-12 of the bracket


def paired_difference(a: np.ndarray, b: np.ndarray, *, bounds: Bounds | None = None, level: float = LEVEL) -> Estimate:
    """mean(a - b) over the same images with its interval.

    Zeros and ones: Tango's score interval. Other values between finite bounds: the same from effective counts. Else Student's t of the
    differences. Swapping a and b mirrors the result exactly.

    Args:
        a, b: float (n,), one value per image in the same order. Pairs with a NaN are left out.
        bounds, level: as in `estimate`.

    Convention: as in `estimate`, no differences at all are no certainty: 0 flips of n leave z^2 / (n + z^2) on both sides. One pair
    has an interval only where both values are 0 or 1.

    Raises:
        ValueError: the lengths differ, or a value lies outside the bounds.
    """
    a, b = _common(a, b)
    n = len(a)
    if n == 0:
        return NOTHING
    inside = span(a, b) if bounds is None else bounds
    if not all(map(math.isfinite, inside)):
        return estimate(a - b, bounds=UNBOUNDED, level=level)
    difference = scaled(a, inside) - scaled(b, inside)
    value, width = float(difference.mean()), inside[1] - inside[0]
    if n == 1 and not np.isin(difference, (-1, 0, 1)).all():
        return Estimate(value * width, math.nan, math.nan, 1)
    up, down = float(np.maximum(difference, 0).sum()), float(np.maximum(-difference, 0).sum())
    effect = _effect(difference - value, (up + down) / n - value**2)
    k = float(critical(n, np.array(effect), level)) if n > 1 else normal(level)
    up, down, images = up / effect, down / effect, n / effect
    high, low = tango_high(up, down, images, k), -tango_high(down, up, images, k)
    return Estimate(value * width, width * min(low, value), width * max(high, value), n)


def kept(clean: np.ndarray, perturbed: np.ndarray, *, chance: float | None = None, level: float = LEVEL) -> Estimate:
    """mean(perturbed) / mean(clean) over the same images: the share of the accuracy that is kept, by the score interval of Tang, Tang &
    Chan (2003) for a ratio of paired proportions; averages over runs enter by effective counts.

    Args:
        clean, perturbed: float (n,) in [0, 1], one value per image in the same order. Pairs with a NaN are left out.
        chance: accuracy of guessing. Where the interval of the clean accuracy does not lie above it there is nothing to keep.
        level: as in `estimate`.

    Returns:
        Between 0 and one over the smallest clean accuracy that the data allow. NaN (with n) where the clean accuracy is zero or no
        better than chance.

    Raises:
        ValueError: the lengths differ, or a value lies outside [0, 1].
    """
    clean, perturbed = _common(clean, perturbed)
    n = len(clean)
    clean, perturbed = scaled(clean, (0, 1)), scaled(perturbed, (0, 1))
    base = estimate(clean, bounds=(0, 1), level=level)
    if n == 0 or base.value == 0 or (chance is not None and not base.low > chance):
        return NOTHING._replace(n=n)
    ratio = float(perturbed.sum() / clean.sum())
    if n == 1 and not np.isin((clean, perturbed), (0, 1)).all():
        return Estimate(ratio, math.nan, math.nan, 1)
    both, gained, lost = _cells(clean, perturbed)
    effect = _effect(perturbed - ratio * clean, (both * (1 - ratio) ** 2 + gained + lost * ratio**2) / n)
    k = float(critical(n, np.array(effect), level)) if n > 1 else normal(level)
    low, high = tang(both / effect, gained / effect, lost / effect, n / effect, k)
    return Estimate(ratio, min(low, ratio), max(ratio, min(high, 1 / base.low)), n)


def kept_difference(
    clean_a: np.ndarray,
    perturbed_a: np.ndarray,
    clean_b: np.ndarray,
    perturbed_b: np.ndarray,
    *,
    chance: float | None = None,
    level: float = LEVEL,
) -> Estimate:
    """kept(a) - kept(b) over the same images, from the two intervals and the correlation of the two ratios (MOVER: Zou & Donner 2008).

    The correlation is that of the linear parts, perturbed - ratio * clean. z^2 / 2 flips that were not seen are counted on either side
    before it is computed, so that two networks which never differ are not certain to be equal. Swapping mirrors the result exactly.

    Args:
        clean_a, perturbed_a, clean_b, perturbed_b: float (n,) in [0, 1]. Images where one is NaN are left out.
        chance, level: as in `kept`.

    Returns:
        NaN (with n) where one of the two has nothing to keep.
    """
    clean_a, perturbed_a, clean_b, perturbed_b = _common(clean_a, perturbed_a, clean_b, perturbed_b)
    a, b = (kept(c, p, chance=chance, level=level) for c, p in ((clean_a, perturbed_a), (clean_b, perturbed_b)))
    if math.isnan(a.value + b.value):
        return NOTHING._replace(n=a.n)
    parts = [(p - e.value * c) for c, p, e in ((clean_a, perturbed_a, a), (clean_b, perturbed_b, b))]
    unseen = [normal(level) ** 2 / 2 * _effect(part, float(np.abs(part).mean())) for part in parts]
    shared = float(parts[0] @ parts[1])
    r = shared / math.sqrt(math.prod(float(part @ part) + more for part, more in zip(parts, unseen, strict=True)))
    value = a.value - b.value
    low, high = apart(a.value - a.low, b.high - b.value, r), apart(a.high - a.value, b.value - b.low, r)
    return Estimate(value, value - low, value + high, a.n)


def area(x: np.ndarray, curves: np.ndarray, *, bounds: Bounds | None = None, level: float = LEVEL) -> Estimate:
    """The area under the mean curve by the trapezoid rule, divided by the range of x: the mean over images of the area of each.

    Args:
        x: float (m,), strictly increasing, m >= 2.
        curves: float (n, m), one curve per image. Images with a NaN are left out.
        bounds, level: as in `estimate`.

    Convention: 1.0 means the value 1 everywhere; the number depends on the range of x, so compare equal ranges only.

    Raises:
        ValueError: x is not strictly increasing, or a value lies outside the bounds.
    """
    inside = _bounds(bounds, curves)
    return estimate(np.clip(curves @ trapezoid(x), *inside), bounds=inside, level=level)


def area_difference(
    x: np.ndarray, a: np.ndarray, b: np.ndarray, *, bounds: Bounds | None = None, level: float = LEVEL
) -> Estimate:
    """area(x, a) - area(x, b) over the same images, as a `paired_difference` of the areas of each image."""
    weights, inside = trapezoid(x), _bounds(bounds, a, b)
    return paired_difference(np.clip(a @ weights, *inside), np.clip(b @ weights, *inside), bounds=inside, level=level)


def trapezoid(x: np.ndarray) -> np.ndarray:
    """The weight of each point in the area over the range, float (m,), summing to one."""
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise ValueError(f"`x` must be strictly increasing with at least two points. Got {x!r}.")
    weights = np.zeros(len(x))
    weights[:-1] += np.diff(x) / 2
    weights[1:] += np.diff(x) / 2
    return np.asarray(weights / (x[-1] - x[0]))


def tango_high(up: float, down: float, n: float, k: float) -> float:
    """The upper end for a difference of paired proportions (Tango 1998, eq. 29), by bisection.

    Args:
        up, down: how many pairs are (1, 0) and (0, 1); need not be whole.
        n: number of pairs.
        k: critical value; 1.96 for 95 %.
    """

    def beyond(delta: float) -> bool:
        b = (2 * n - up + down) * delta - up - down
        q = (math.sqrt(max(0.0, b * b + 8 * n * down * delta * (1 - delta))) - b) / (4 * n)
        return (up - down - n * delta) ** 2 > k * k * n * max(0.0, 2 * q + delta * (1 - delta))

    return _bisect(beyond, (up - down) / n, 1.0)


def tang(both: float, gained: float, lost: float, n: float, k: float) -> tuple[float, float]:
    """Both ends for the ratio (both + gained) / (both + lost) of paired proportions (Tang, Tang & Chan 2003), by bisection.

    Args:
        both, gained, lost: how many pairs are (1, 1), (0, 1), (1, 0) as (clean, perturbed), both + lost > 0; need not be whole.
        n: number of pairs.
        k: critical value; 1.96 for 95 %.
    """
    above, below = both + gained, both + lost

    def beyond(ratio: float) -> bool:
        a, b = n * (1 + ratio), below * ratio**2 - (above + 2 * lost)
        c = lost * (1 - ratio) * (above + lost) / n
        q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        return (above - below * ratio) ** 2 > k * k * max(0.0, a * q + (above + lost) * (ratio - 1))

    value = above / below
    end = 2 * value + 1
    while not beyond(end):
        end *= 2
    return _bisect(beyond, value, 0.0), _bisect(beyond, value, end)


def _bisect(beyond: Callable[[float], bool], inside: float, outside: float) -> float:
    """Where the interval that holds `inside` ends; `outside` itself where it still belongs to the interval."""
    if not beyond(outside):
        return outside
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if beyond(middle):
            outside = middle
        else:
            inside = middle
    return (inside + outside) / 2


def _cells(clean: np.ndarray, perturbed: np.ndarray) -> tuple[float, float, float]:
    """How often (both are right, only the perturbed, only the clean); for averages over runs the least disagreement they allow."""
    both = float(np.minimum(clean, perturbed).sum())
    return both, float(np.maximum(perturbed - clean, 0).sum()), float(np.maximum(clean - perturbed, 0).sum())


def _effect(deviations: np.ndarray, binary: float) -> float:
    """`design_effect` of one column; 1 for one image."""
    return float(design_effect(deviations[:, None], np.array([binary]))[0]) if len(deviations) > 1 else 1.0


def apart(first: float, second: float, r: float) -> float:
    """The distance from a difference to its end, from those of its two parts and the correlation of these."""
    square = first**2 + second**2 - 2 * r * first * second
    return math.nan if math.isnan(square) else math.sqrt(max(0.0, square))


def _bounds(bounds: Bounds | None, *curves: np.ndarray) -> Bounds:
    return span(*(c[~np.isnan(c)] for c in curves)) if bounds is None else bounds


def _common(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns without the images where one is NaN."""
    if len({c.shape for c in columns}) > 1:
        raise ValueError(f"All arrays must hold the same images. Got shapes {[c.shape for c in columns]}.")
    known = ~np.isnan(columns[0])
    for column in columns[1:]:
        known &= ~np.isnan(column)
    return columns if known.all() else tuple(c[known] for c in columns)
