"""High-norm tokens: two Gaussians fitted to the norms of patch tokens, and the threshold between them where they are apart.

Source of the rule: vit-xray (github.com/MikeDegany/vit-xray), on what Darcet et al. 2024, "Vision Transformers Need Registers", saw: two
Gaussians of the norms; no outliers where the two weighted densities share more than 2 % of area or the upper one holds more than 10 % of the
tokens; else the threshold is where they cross between the means. Deviations: theirs is fitted to each image, from random starts; ours once
to the tokens of all images, from fixed starts, and with a weak prior on the variances (that of Fraley and Raftery 2007), without which
the upper Gaussian shrinks onto a single token. Two gates more, since an upper Gaussian of less than 2 % shares less than 2 % of area wherever
it lies: two Gaussians must be better than one by the Bayesian information criterion, and a quarter of the upper one at most may lie
under the lower one.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

MOST_OVERLAP = 0.02
"""Area that the two weighted densities may share."""
MOST_UPPER = 0.1
"""Share of the tokens that the upper one may hold."""
MOST_HIDDEN = 0.25
"""Share of the upper one's own area that may lie under the lower one."""
MOST_FITTED = 20_000
"""Norms that are fitted; of more, so many order statistics, evenly spaced."""
STARTS = (0.5, 0.9, 0.98, 0.995)
"""Shares of the norms, from below, that the lower Gaussian begins with; the best fit of all starts is taken."""
_SHAPE, _SCALE = 1.5, 0.125
"""Of the inverse gamma prior on a variance, in units of the variance of all norms: as if a few tokens more had been seen."""
_STEPS, _TOLERANCE = 500, 1e-8


class Mixture(NamedTuple):
    """Two Gaussians, in the units of the norms: weights, means and standard deviations, the one with the lower mean first."""

    weights: tuple[float, float]
    means: tuple[float, float]
    stds: tuple[float, float]

    def overlap(self) -> float:
        """Area under the smaller of the two weighted densities, in [0, 0.5]."""
        crossings = self.crossings()
        reach = sum(self.stds)
        if not crossings:
            return min(self.weights)
        inner = [(a + b) / 2 for a, b in itertools.pairwise(crossings)]
        edges, area = [-math.inf, *crossings, math.inf], 0.0
        for k, x in enumerate((crossings[0] - reach, *inner, crossings[-1] + reach)):
            lower = min((0, 1), key=lambda of, x=x: self._log_density(of, x))  # type: ignore[misc]
            below, above = ((edge - self.means[lower]) / self.stds[lower] for edge in edges[k : k + 2])
            area += self.weights[lower] * float(ndtr(above) - ndtr(below))
        return area

    def threshold(self) -> float:
        """Where the weighted densities cross between the means; infinity where the gates say that there are no outliers."""
        between = [x for x in self.crossings() if self.means[0] < x < self.means[1]]
        apart = self.overlap() <= min(MOST_OVERLAP, MOST_HIDDEN * self.weights[1])
        return between[0] if apart and between and self.weights[1] <= MOST_UPPER else math.inf

    def crossings(self) -> list[float]:
        """Where the two weighted densities are equal, in increasing order: none, one or two places."""
        (v, w), (m, n), (s, t) = self
        logs = 2 * (math.log(v / s) - math.log(w / t))
        a, b, c = 1 / t**2 - 1 / s**2, 2 * (m / s**2 - n / t**2), n**2 / t**2 - m**2 / s**2 + logs
        if abs(s - t) <= 1e-9 * s:
            return [-c / b] if b else []
        inside = b**2 - 4 * a * c
        return sorted((-b + sign * math.sqrt(inside)) / (2 * a) for sign in (-1, 1)) if inside >= 0 else []

    def _log_density(self, of: int, x: float) -> float:
        return math.log(self.weights[of] / self.stds[of]) - ((x - self.means[of]) / self.stds[of]) ** 2 / 2


def fit(norms: np.ndarray) -> Mixture | None:
    """The mixture of two Gaussians that fits best, by expectation and maximisation.

    The order of the norms does not matter; a factor on all of them is one on means and standard deviations.

    Args:
        norms: finite, (n,).

    Returns:
        None where one Gaussian describes them as well, there are fewer than three norms, or all are one number within float32.
    """
    ordered = np.sort(np.asarray(norms, dtype=np.float64))
    if len(ordered) > MOST_FITTED:
        ordered = ordered[np.linspace(0, len(ordered) - 1, MOST_FITTED).round().astype(np.int64)]
    if len(ordered) < 3 or ordered[-1] - ordered[0] <= 1e-6 * abs(ordered[-1]):
        return None
    centre, spread = ordered.mean(), ordered.std()
    fits = [_fitted((ordered - centre) / spread, start) for start in STARTS]
    _, likelihood, (weights, means, stds) = max(fits, key=lambda found: found[0])
    n = len(ordered)
    if likelihood + n * (math.log(2 * math.pi) + 1) / 2 <= 3 / 2 * math.log(n):  # the gain of three parameters more
        return None
    low, high = (0, 1) if means[0] <= means[1] else (1, 0)
    found = (weights, means * spread + centre, stds * spread)
    return Mixture(*((float(each[low]), float(each[high])) for each in found))


def _fitted(x: np.ndarray, start: float) -> tuple[float, float, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The logarithms of posterior and likelihood at a maximum, and weights, means and standard deviations there, (2,) each.

    Args:
        x: standardised, in increasing order.
        start: share of them, from below, that the first Gaussian begins with.
    """
    first = min(max(1, round(start * len(x))), len(x) - 1)
    belongs = np.stack([np.arange(len(x)) < first, np.arange(len(x)) >= first]).astype(np.float64)
    before = -math.inf
    for _ in range(_STEPS):
        count = belongs.sum(axis=1)
        means = (belongs * x).sum(axis=1) / count
        squares = (belongs * (x - means[:, None]) ** 2).sum(axis=1)
        variances = (squares + 2 * _SCALE) / (count + 2 * _SHAPE + 2)
        weights = count / len(x)
        parts = np.log(weights / np.sqrt(2 * np.pi * variances))[:, None] - (x - means[:, None]) ** 2 / (
            2 * variances[:, None]
        )
        whole = np.logaddexp(parts[0], parts[1])
        prior = -((_SHAPE + 1) * np.log(variances) + _SCALE / variances).sum()
        now = float(whole.sum() + prior)
        if now - before <= _TOLERANCE * len(x) or count.min() < 1e-6:
            break
        before, belongs = now, np.exp(parts - whole)
    return now, float(whole.sum()), (weights, means, np.sqrt(variances))
