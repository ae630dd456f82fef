"""Does a network know when it is wrong? Calibration of its confidence, and what rejecting the unsure answers is worth.

Every statistic is a function of images sorted by confidence, so that draws of images are weights and nothing is sorted again. Intervals are
percentiles of drawn values; of the calibration error, whose draws are biased, those of their deviation, turned about the value.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from visionvitals.stats._agreement import FEWEST
from visionvitals.stats._means import LEVEL, NOTHING, Estimate, estimate, normal
from visionvitals.stats._pairs import paired_difference

BINS = 15
COVERAGE = 0.8
"""Share of the answers that are kept in `risk`."""
_ENTRIES = 4_000_000  # draws x images at a time
_FEW = 400  # draws, with which quantiles near the ends are unsure
_ROOT_SEED = 20170806  # any fixed number, so that a page repeats itself


class Bin(NamedTuple):
    """The answers of one step of confidence: its ends, how many, their mean confidence and accuracy (NaN where there are none)."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Calibration(NamedTuple):
    """How far confidence and rightness agree, over n images.

    Attributes:
        n: images.
        accuracy, confidence: means.
        over: mean confidence minus accuracy, above 0 where the network is too sure of itself.
        ece: expected calibration error over 15 bins of equal width (edges k/15, the upper one inside): the mean over images of |mean confidence -
            accuracy| of their bin (Naeini et al. 2015, Guo et al. 2017). Biased upwards: see `null`.
        mass: the same over 15 bins of equally many images.
        null: (mean, 95 % quantile) of `ece` where these confidences are true: rightness drawn from them. An `ece` below the quantile
            is no evidence of a fault.
        error: root of the debiased squared calibration error over bins of equal mass (Kumar, Liang & Ma 2019), negative root where noise alone
            would give more: the number to compare networks by. 15 bins, fewer where they would hold a single image; NaN of one image.
        aurc: area under risk and coverage: the mean error rate of the k surest answers over k = 1..n (Geifman & El-Yaniv 2017).
        risk: error rate of the surest 80 %.
        auroc: how often a right answer is surer than a wrong one, ties half; 0.5 where confidence says nothing.
        rejection: prediction-rejection ratio (Malinin 2019): 1 where every wrong answer is rejected before any right one, 0 where rejection is
            no better than chance. NaN, as `auroc`, with fewer than ten right or ten wrong answers: it would be noise.
        bins: of equal width.
    """

    n: int
    accuracy: float
    confidence: float
    over: Estimate
    ece: float
    mass: float
    null: tuple[float, float]
    error: Estimate
    aurc: Estimate
    risk: Estimate
    auroc: Estimate
    rejection: Estimate
    bins: tuple[Bin, ...]


def calibration(confidence: np.ndarray, right: np.ndarray, *, level: float = LEVEL) -> Calibration | None:
    """Calibration of answers, one an image.

    Args:
        confidence: float (n,) in [0, 1], of the answer that was given. Images with a NaN in either are left out.
        right: float (n,), 1 where it is right, 0 where not (between where a tie is shared).
        level: of the intervals.

    Returns:
        None without images.

    Raises:
        ValueError: a value lies outside [0, 1].
    """
    known = ~np.isnan(confidence + right)
    order = np.lexsort((-right[known], -confidence[known]))  # equal for any order of the images
    sure, hit = confidence[known][order].astype(np.float64), right[known][order].astype(np.float64)
    n = len(sure)
    if n == 0:
        return None
    if min(sure.min(), hit.min()) < 0 or max(sure.max(), hit.max()) > 1:
        raise ValueError("Confidences and shares of right answers must lie in [0, 1].")
    answers = _Answers(sure, hit)
    over = paired_difference(sure, hit, bounds=(0, 1), level=level)
    bins = _bins(sure, hit)
    plug_in = _squared(answers, answers.once, debiased=False)[0]
    few = min(hit.sum(), (1 - hit).sum()) < FEWEST
    parts: dict[str, tuple[Callable[[np.ndarray], np.ndarray], tuple[float, float]]] = {
        "aurc": (answers.aurc, (0, 1)),
        "risk": (answers.risk, (0, 1)),
        "auroc": (answers.auroc, (0, 1)),
        "rejection": (answers.rejection, (-1, 1)),
    }
    square = percentiles(
        _squared(answers, answers.once)[0],
        plug_in,
        _drawn(answers, lambda weights: _squared(answers, weights)),
        (-1, 1),
        level,
        n,
    )
    found = {
        name: NOTHING._replace(n=n)
        if few and name in ("auroc", "rejection")
        else percentiles(float(function(answers.once)[0]), None, _drawn(answers, function), bounds, level, n)
        for name, (function, bounds) in parts.items()
    }
    kept = estimate(answers.shared()[: round(COVERAGE * n)], bounds=(0, 1), level=level)
    found["risk"] = _wider(found["risk"], kept)
    return Calibration(
        n=n,
        accuracy=float(hit.mean()),
        confidence=float(sure.mean()),
        over=over,
        ece=_ece(bins, n),
        mass=float(
            sum(abs(each.mean()) * len(each) for each in np.array_split(sure - 1 + answers.shared(), BINS) if len(each))
            / n
        ),
        null=_null(sure),
        error=Estimate(_root(square.value), _root(square.low), _root(square.high), n)
        if n > 1
        else NOTHING._replace(n=n),
        bins=bins,
        **found,
    )


def risks(confidence: np.ndarray, right: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The error rate of the surest answers, float (m,), for each share of them that is kept, `coverage` (m,) in (0, 1]; NaN without images."""
    known = ~np.isnan(confidence + right)
    order = np.argsort(-confidence[known], kind="stable")
    if not len(order):
        return np.full(len(coverage), np.nan)
    answers = _Answers(confidence[known][order], right[known][order])
    return np.array([answers.risk(answers.once, share)[0] for share in coverage])


class _Answers:
    """Images in order of confidence, the surest first; those of equal confidence are a group, whose errors are shared evenly.

    Methods take weights (draws, n), how often each image was drawn, and give (draws,)."""

    def __init__(self, sure: np.ndarray, hit: np.ndarray) -> None:
        self.sure, self.hit = sure, hit
        self.once = np.ones((1, len(sure)))
        self.starts = np.flatnonzero(np.r_[True, np.diff(sure) != 0])
        self.sizes = np.diff(np.r_[self.starts, len(sure)])

    def spread(self, weights: np.ndarray) -> np.ndarray:
        """The expected error of each image where equal confidences stand in any order."""
        wrong = 1 - self.hit
        if len(self.starts) == len(wrong):
            return np.broadcast_to(wrong, weights.shape)
        errors = np.add.reduceat(weights * wrong, self.starts, axis=1)
        counts = np.add.reduceat(weights, self.starts, axis=1)
        return np.repeat(errors / np.maximum(counts, 1e-12), self.sizes, axis=1)

    def shared(self) -> np.ndarray:
        """The error of each image, (n,)."""
        return np.asarray(self.spread(self.once)[0])

    def aurc(self, weights: np.ndarray) -> np.ndarray:
        wrong = self.spread(weights)
        before, failed = np.cumsum(weights, axis=1) - weights, np.cumsum(weights * wrong, axis=1) - weights * wrong
        middle = (weights + 1) / 2  # of the copies of an image, where the next is the first
        risk = (failed + middle * wrong) / np.maximum(before + middle, 1e-12)
        return np.asarray((weights * risk).sum(axis=1) / weights.sum(axis=1))

    def risk(self, weights: np.ndarray, coverage: float = COVERAGE) -> np.ndarray:
        wrong = self.spread(weights)
        total = weights.sum(axis=1, keepdims=True)
        kept = np.clip(coverage * total - (np.cumsum(weights, axis=1) - weights), 0, weights)
        return np.asarray((kept * wrong).sum(axis=1) / kept.sum(axis=1))

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        right = np.add.reduceat(weights * self.hit, self.starts, axis=1)
        wrong = np.add.reduceat(weights * (1 - self.hit), self.starts, axis=1)
        behind = wrong.sum(axis=1, keepdims=True) - np.cumsum(wrong, axis=1)
        pairs = right.sum(axis=1) * wrong.sum(axis=1)
        won = (right * (behind + wrong / 2)).sum(axis=1)
        return np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan)

    def rejection(self, weights: np.ndarray) -> np.ndarray:
        n, failed = weights.sum(axis=1), (weights * (1 - self.hit)).sum(axis=1)
        mine = _rejected(weights, self.spread(weights))
        order = np.argsort(1 - self.hit, kind="stable")  # the errors last, which are rejected first
        ideal = _rejected(weights[:, order], np.broadcast_to((1 - self.hit)[order], weights.shape))
        chance = failed / n / 2
        apart = ideal - chance
        return np.where(np.abs(apart) > 1e-12, (mine - chance) / np.where(np.abs(apart) > 1e-12, apart, 1), np.nan)


def rejection_area(errors: np.ndarray, uncertainty: np.ndarray) -> float:
    """The mean over j = 0..n of the errors that are left, over n, when the j most uncertain of n answers were rejected; equal ones share theirs."""
    order = np.argsort(uncertainty, kind="stable")
    _, inverse, counts = np.unique(uncertainty[order], return_inverse=True, return_counts=True)
    shared = (np.bincount(inverse, errors[order]) / counts)[inverse]
    return float(_rejected(np.ones((1, len(errors))), shared[None])[0])


def _rejected(weights: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """As `rejection_area`, of answers in the order in which they are kept; copies of an image go one by one."""
    n = weights.sum(axis=1)
    kept = np.cumsum(weights * errors, axis=1)
    left = weights * kept - errors * weights * (weights - 1) / 2
    return np.asarray(left.sum(axis=1) / n / (n + 1))


def _place(sure: np.ndarray) -> np.ndarray:
    """The bin of equal width that each confidence lies in, from 0; an edge belongs to the one below."""
    return np.searchsorted(np.arange(1, BINS) / BINS, sure, side="left")


def _bins(sure: np.ndarray, hit: np.ndarray) -> tuple[Bin, ...]:
    there, found = _place(sure), []
    for k in range(BINS):
        at = there == k
        mean, share = ((float(x[at].mean()) if at.any() else math.nan) for x in (sure, hit))
        found.append(Bin(k / BINS, (k + 1) / BINS, int(at.sum()), mean, share))
    return tuple(found)


def _ece(bins: tuple[Bin, ...], n: int) -> float:
    return sum(each.n * abs(each.confidence - each.accuracy) for each in bins if each.n) / n


def _squared(answers: _Answers, weights: np.ndarray, *, debiased: bool = True) -> np.ndarray:
    """The squared calibration error over bins of equal mass: of each bin the squared gap, less what its rightness varies by chance."""
    n = len(answers.sure)
    starts = _starts(n)
    counts = np.add.reduceat(weights, starts, axis=1)
    some = np.maximum(counts, 1e-12)
    accuracy = np.add.reduceat(weights * (1 - answers.spread(weights)), starts, axis=1) / some
    gap = (np.add.reduceat(weights * answers.sure, starts, axis=1) / some - accuracy) ** 2
    if debiased:
        gap = np.where(counts >= 2, gap - accuracy * (1 - accuracy) / np.maximum(counts - 1, 1), 0)
    return np.asarray((counts * gap).sum(axis=1) / counts.sum(axis=1))


def _starts(n: int) -> np.ndarray:
    """Where each of at most 15 bins of equally many of n images begins: at least two where there are two, since of one chance cannot be told."""
    sizes = [len(part) for part in np.array_split(np.arange(n), min(BINS, max(1, n // 2)))]
    return np.cumsum([0, *sizes])[:-1]


def _wider(e: Estimate, kept: Estimate) -> Estimate:
    """An interval from draws of images, at least as wide as that of the errors of the images that are kept, so that none has a width of zero."""
    if kept.n == 0:
        return e
    return e._replace(low=float(np.fmin(e.low, kept.low)), high=float(np.fmax(e.high, kept.high)))


def _root(square: float) -> float:
    return math.copysign(math.sqrt(abs(square)), square)


def _null(sure: np.ndarray) -> tuple[float, float]:
    rng = np.random.default_rng(_ROOT_SEED)
    starts = np.sort(np.unique(_place(sure), return_index=True)[1])
    found = []
    for count in _blocks(len(sure), 10_000):
        gap = (rng.random((count, len(sure))) < sure) - sure
        found.append(np.abs(np.add.reduceat(gap, starts, axis=1)).sum(axis=1) / len(sure))
    every = np.concatenate(found)
    return float(every.mean()), float(np.quantile(every, 0.95))


def _blocks(n: int, draws: int = 1000) -> list[int]:
    """How many draws of n images at a time; so many in all, fewer of many images, at least 100."""
    draws, most = max(100, min(draws, _ENTRIES // n)), max(1, _ENTRIES // n)
    return [min(most, draws - start) for start in range(0, draws, most)]


def _drawn(answers: _Answers, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A function of draws of the images with replacement; the same draws for every function."""
    found, n = [], len(answers.sure)
    for images in drawn_images(n):
        count = len(images)
        places = images + n * np.arange(count)[:, None]
        found.append(function(np.bincount(places.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)))
    return np.concatenate(found)


def drawn_images(n: int) -> Iterator[np.ndarray]:
    """Draws of n images with replacement, int (draws, n) at a time; the same at every call."""
    rng = np.random.default_rng(_ROOT_SEED)
    for count in _blocks(n):
        yield rng.integers(n, size=(count, n))


def percentiles(
    value: float,
    centre: float | None,
    found: np.ndarray,
    bounds: tuple[float, float],
    level: float,
    n: int,
) -> Estimate:
    """A value with an interval from values of drawn images: their quantiles, or with `centre`, which they are drawn about, those of how far they
    lie from it, turned about the value. Of few draws, which many images have, by the normal points of their deviation."""
    known = found[~np.isnan(found)]
    if n < 2 or len(known) < len(found) / 2 or np.ptp(known) < 1e-12:
        return Estimate(value, math.nan, math.nan, n)
    if len(known) < _FEW:
        away = normal(level) * known.std()
        middle = known.mean()
        low, high = middle - away, middle + away
    else:
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    if centre is not None:
        low, high = value + centre - high, value + centre - low
    ends = np.clip([low, high], *bounds)
    return Estimate(value, min(float(ends[0]), value), max(float(ends[1]), value), n)
