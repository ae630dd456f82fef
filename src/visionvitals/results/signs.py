"""The vital signs: one row per backbone and image set, one column per `Sign` of the studies that were run.

`mean`: of the metric. `kept`: its mean over that of the clean images, paired. `area`: under the mean curve over `x`. `index`: a
formula over the means at several points. Two backbones
are compared on the images both have seen, paired: for `kept` the ratios are resampled together, for the others the differences.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from visionvitals.report.read import Point, Run, aligned, load, strength, usual

from visionvitals import stats
from visionvitals.figure import Sign
from visionvitals.report import words

CLEAN = "clean"


@dataclass(frozen=True)
class Reading:
    """One sign of one backbone.

    Attributes:
        estimate: the value with its interval.
        points: what it was computed from; for `kept` the clean point first, for `area` in order of `x`.
        fixed: the condition's fields that the sign leaves open, with the values that were chosen.
        at_chance: for `kept`, the clean accuracy is no better than guessing: then nothing can be lost, and keeping it means
            nothing.
    """

    estimate: stats.Estimate
    points: tuple[Point, ...]
    fixed: tuple[tuple[str, Any], ...]
    at_chance: bool = False


@dataclass(frozen=True)
class Column:
    """One sign over all backbones and image sets.

    Attributes:
        study: whose sign it is.
        sign: what is computed.
        fixed: the open fields' values that most readings share.
        readings: (backbone, images) -> reading; a pair that could not be measured is missing.
    """

    study: str
    sign: Sign
    fixed: tuple[tuple[str, Any], ...]
    readings: dict[tuple[str, str], Reading]

    @property
    def share(self) -> bool:
        """Whether the values read as percent."""
        by_kind = self.sign.kind == "kept" or words.is_share(self.sign.metric)
        return by_kind if self.sign.share is None else self.sign.share

    @property
    def top(self) -> float:
        """The end of the scale: 1 for a share, or more where what is kept exceeds it."""
        ends = [x for r in self.readings.values() for x in (r.estimate.value, r.estimate.high) if not np.isnan(x)]
        return max([1.0] * self.share + ends, default=1.0) or 1.0

    def best(self, images: str) -> frozenset[str]:
        """The backbones with the best value on an image set; none where fewer than two can be compared, or where there is no better
        end."""
        values = {b: r.estimate.value for (b, i), r in self.readings.items() if i == images and not r.at_chance}
        known = {b: v for b, v in values.items() if not np.isnan(v)}
        if len(known) < 2 or self.sign.better == "neither":
            return frozenset()
        end = max(known.values()) if self.sign.better == "high" else min(known.values())
        return frozenset(b for b, v in known.items() if v == end)


def vital_signs(run_folder: Path) -> list[dict[str, Any]]:
    """The table that the report begins with.

    Returns:
        One dict per backbone and image set: `backbone`, `data`, then one `Estimate` (value, low, high, n) under the title of each
        sign; NaN with n = 0 where it could not be measured.
    """
    run = load(run_folder)
    found = columns(run)
    return [
        {"backbone": pair[0], "data": pair[1]}
        | {c.sign.title: c.readings[pair].estimate if pair in c.readings else stats.NOTHING for c in found}
        for pair in pairs(run)
    ]


def pairs(run: Run) -> list[tuple[str, str]]:
    """(backbone, images) of everything that was measured, image set by image set."""
    measured = {(p.backbone, p.images) for p in run.points}
    return [(b, i) for i in run.images for b in run.backbones if (b, i) in measured]


def columns(run: Run) -> list[Column]:
    """The signs of every study that can be loaded, without those that nobody has."""
    found = [
        _column(run, study, sign)
        for study in run.studies
        if (module := run.module(study)) is not None
        for sign in module.SIGNS
    ]
    return [column for column in found if column.readings]


def compare(column: Column, images: str, first: str, second: str) -> stats.Estimate | None:
    """`second` minus `first` over the same images; None where their conditions differ or one was not measured."""
    a, b = column.readings.get((first, images)), column.readings.get((second, images))
    if a is None or b is None or a.fixed != b.fixed or len(a.points) != len(b.points):
        return None
    metric = column.sign.metric
    scores = aligned([p.scores[metric] for p in (*a.points, *b.points)])
    scores = scores[~np.isnan(scores).any(axis=1)]
    if len(scores) == 0:
        return None
    if column.sign.kind == "kept":
        return _humble(_ratio_difference(scores))
    half = len(a.points)
    if column.sign.kind == "index":
        there, here = (partial(_index, column.sign, r.points) for r in (b, a))
        return _humble(_over_means(scores, lambda m: there(m[..., half:]) - here(m[..., :half])))
    if column.sign.kind == "mean":
        return _humble(stats.paired_difference(scores[:, half], scores[:, 0]))
    weights = _trapezoid(_x(a.points, column.sign))
    return _humble(stats.paired_difference(scores[:, half:] @ weights, scores[:, :half] @ weights))


def _column(run: Run, study: str, sign: Sign) -> Column:
    matching = [
        p
        for p in run.of(study)
        if sign.metric in p.scores and all(p.condition.get(k) == v for k, v in sign.where.items())
    ]
    popularity = Counter[tuple[Any, ...]]()
    for p in run.of(study):  # of the whole study: at one fraction, every grid has equally many cells
        popularity[p.rest(*sign.where, sign.x)] += len(p.cells)
    readings = {}
    for backbone in run.backbones:
        for images in run.images:
            own = [p for p in matching if (p.backbone, p.images) == (backbone, images)]
            if own and (reading := _read(run, sign, own, popularity)) is not None:
                readings[backbone, images] = reading
    shared = Counter(r.fixed for r in readings.values()).most_common(1)
    return Column(study, sign, shared[0][0] if shared else (), readings)


def _read(run: Run, sign: Sign, own: Sequence[Point], popularity: Counter[tuple[Any, ...]]) -> Reading | None:
    """The sign at the most measured combination of the open fields that this backbone has."""
    module = run.module(own[0].study)
    assert module is not None
    open_fields = {p.rest(*sign.where, sign.x) for p in own}
    fixed = max(open_fields, key=lambda rest: (popularity[rest], usual(module, rest), str(rest)))
    points = [p for p in own if p.rest(*sign.where, sign.x) == fixed]
    if sign.kind == "mean":
        return Reading(points[0].estimates[sign.metric], (points[0],), fixed)
    if sign.kind == "kept":
        clean = [
            p
            for p in run.of(CLEAN)
            if (p.backbone, p.images) == (points[0].backbone, points[0].images) and sign.metric in p.scores
        ]
        if not clean:
            return None
        both = aligned([p.scores[sign.metric] for p in (clean[0], points[0])])
        at_chance = (
            sign.metric == "top1" and clean[0].estimates["top1"].low <= 1 / run.backbones[points[0].backbone]["outputs"]
        )
        return Reading(_humble(stats.kept(both[:, 0], both[:, 1])), (clean[0], points[0]), fixed, at_chance)
    if sign.kind == "index":
        scores = aligned([p.scores[sign.metric] for p in own])
        scores = scores[~np.isnan(scores).any(axis=1)]
        assert sign.index is not None
        if len(scores) == 0 or sign.index([p.condition for p in own], scores.mean(axis=0)) is None:
            return None
        return Reading(_humble(_over_means(scores, partial(_index, sign, own))), tuple(own), ())
    if len(points) < 2:
        return None
    points.sort(key=lambda p: strength(p.condition[str(sign.x)]))
    curves = aligned([p.scores[sign.metric] for p in points])
    curves = curves[~np.isnan(curves).any(axis=1)]
    if len(curves) == 0:
        return None
    return Reading(_humble(stats.area(_x(points, sign), curves)), tuple(points), fixed)


def _index(sign: Sign, points: Sequence[Point], means: np.ndarray) -> np.ndarray:
    assert sign.index is not None
    found = sign.index([p.condition for p in points], means)
    assert found is not None, "the points were enough for it"
    return np.asarray(found)


def _over_means(scores: np.ndarray, formula: Callable[[np.ndarray], np.ndarray]) -> stats.Estimate:
    """A formula over the column means of scores, float (n, m), with the percentile bootstrap interval over the rows."""
    low, high = np.nanpercentile(formula(stats.bootstrap_means(scores)), [2.5, 97.5])
    return stats.Estimate(float(formula(scores.mean(axis=0))), float(low), float(high), len(scores))


def _x(points: Sequence[Point], sign: Sign) -> np.ndarray:
    return np.array([p.condition[str(sign.x)] for p in points], dtype=np.float64)


def _humble(e: stats.Estimate) -> stats.Estimate:
    """Without the interval where there is one image: its bootstrap has no width, which would read as certainty."""
    return e if e.n > 1 else e._replace(low=float("nan"), high=float("nan"))


def _trapezoid(x: np.ndarray) -> np.ndarray:
    """The weights of `stats.area`."""
    weights = np.zeros(len(x))
    weights[:-1] += np.diff(x) / 2
    weights[1:] += np.diff(x) / 2
    return np.asarray(weights / (x[-1] - x[0]))


def _ratio_difference(scores: np.ndarray) -> stats.Estimate:
    """kept(second) - kept(first) from columns (clean, perturbed) of the first and of the second, resampled together."""
    mean = scores.mean(axis=0)
    if mean[0] == 0 or mean[2] == 0:
        return stats.NOTHING._replace(n=len(scores))
    means = stats.bootstrap_means(scores)
    clean = np.where(means[:, [0, 2]] == 0, np.nan, means[:, [0, 2]])
    low, high = np.nanpercentile(means[:, 3] / clean[:, 1] - means[:, 1] / clean[:, 0], [2.5, 97.5])
    return stats.Estimate(float(mean[3] / mean[2] - mean[1] / mean[0]), float(low), float(high), len(scores))
