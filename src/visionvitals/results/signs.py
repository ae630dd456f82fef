"""The vital signs: one row per backbone and image set, one column per `Sign` of the studies that were run.

`figure.KINDS` says how each is computed. Two backbones are compared on the items that both have, paired. `stats` says which interval each has.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from visionvitals import stats
from visionvitals.figure import BOUNDS, FEWEST, Better, Index, Metric, Record, Sign, Unit
from visionvitals.results.fields import strength, usual
from visionvitals.results.run import Point, Run, comparable, early

UNBOUNDED = (-math.inf, math.inf)
Fields = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Reading:
    """One sign of one backbone.

    Attributes:
        estimate: the value with its interval.
        points: what it was computed from; for `kept` the baseline's point first, for kinds with an `x` in its order.
        fixed: the condition's fields that the sign leaves open, with the values that were chosen.
        at_chance: the accuracy that `kept`, or an `index` with a `base`, is relative to is no better than guessing.
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
        metric: of its values.
        fixed: the open fields' values that most readings share.
        readings: (backbone, images) -> reading; a pair that could not be measured is missing.
    """

    study: str
    sign: Sign
    metric: Metric
    fixed: tuple[tuple[str, Any], ...]
    readings: dict[tuple[str, str], Reading]

    @property
    def unit(self) -> Unit:
        """Of the values."""
        return "share" if self.sign.kind == "kept" else self.sign.unit or self.metric.unit

    @property
    def share(self) -> bool:
        """Whether the values read as percent."""
        return self.unit == "share"

    @property
    def better(self) -> Better | None:
        """The good end; None where neither is."""
        if self.sign.better is None:
            return self.metric.better
        return None if self.sign.better == "neither" else self.sign.better

    @property
    def top(self) -> float:
        """The end of the scale: 1 for a share, or more where what is kept exceeds it."""
        ends = [x for r in self.readings.values() for x in (r.estimate.value, r.estimate.high) if not np.isnan(x)]
        return max([1.0 if self.share else 0.0, *ends]) or 1.0

    @property
    def bottom(self) -> float:
        """The beginning of the scale: 0, or less where a value is negative."""
        ends = [x for r in self.readings.values() for x in (r.estimate.value, r.estimate.low) if not np.isnan(x)]
        return min([0.0, *ends])


def best(run: Run, column: Column, images: str) -> str | None:
    """The backbone that has the best value on an image set, where the paired comparison with each other one decides it; else None."""
    values = {b: r.estimate.value for (b, i), r in column.readings.items() if i == images and not r.at_chance}
    known = {b: v for b, v in values.items() if not np.isnan(v)}
    if len(known) < 2 or column.better is None:
        return None
    first = (max if column.better == "high" else min)(known, key=lambda name: known[name])
    for other in known.keys() - {first}:
        ahead = compare(run, column, images, other, first)
        if ahead is None or not (ahead.low > 0 if column.better == "high" else ahead.high < 0):
            return None
    return first


def vital_signs(run: Run) -> list[dict[str, Any]]:
    """The table that the report begins with.

    Returns:
        One dict per backbone and image set: `backbone`, `data`, then one `Estimate` (value, low, high, n) under the title of each
        sign; NaN with n = 0 where it could not be measured.
    """
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
    """The signs of every study of which something is known, without those that nobody has."""
    found = [
        column_of(run, record, sign)
        for name in run.studies
        if (record := run.record(name)) is not None
        for sign in record.signs
    ]
    return [column for column in found if column.readings]


def compare(run: Run, column: Column, images: str, first: str, second: str) -> stats.Estimate | None:
    """`second` minus `first` on one image set, see `difference`; None where one was not measured."""
    a, b = column.readings.get((first, images)), column.readings.get((second, images))
    return None if a is None or b is None else difference(run, column, a, b)


def difference(
    run: Run, column: Column, a: Reading, b: Reading, *, of: float = 1.0, level: float = stats.LEVEL
) -> stats.Estimate | None:
    """b minus a, or minus a share `of` a, over the items that both have; None where their conditions or settings differ.

    Extremes need no equal places: a network of more blocks has a worst one too.
    """
    ended = early(*a.points, *b.points)
    e = _difference(run, column, a, b, of, stats.at_look(level, ended))
    return e if e is None else e._replace(early=ended)


def _difference(run: Run, column: Column, a: Reading, b: Reading, of: float, level: float) -> stats.Estimate | None:
    extreme = column.sign.kind in ("lowest", "highest")
    together = list(zip(a.points, b.points, strict=False))[: 1 if extreme else None]
    free = column.sign.x if extreme else None
    fields = [[{k: v for k, v in p.fields.items() if k != free} for p in pair] for pair in together]
    alike = all(p == q for p, q in fields) and all(comparable(p, q) for p, q in together)
    if not alike or (len(a.points) != len(b.points) and not extreme):
        return None
    scores = _scores(run, column.sign, (*a.points, *b.points))
    half, bounds = len(a.points), column.metric.bounds
    if len(scores) == 0:
        return None
    here, there, kind = scores[:, :half], scores[:, half:], column.sign.kind
    if a.at_chance or b.at_chance or (column.sign.room and np.isnan([a.estimate.value, b.estimate.value]).any()):
        return None
    shared = any(p.group.shared for p in (*a.points, *b.points))
    if (shared and kind != "mean") or (extreme and of != 1):
        return None  # no interval knows the runs of other kinds, or a share of an extreme
    if extreme:
        return stats.extreme_difference(there, here, _end(column.sign), bounds=bounds, level=level)
    if of == 1 and kind == "kept" and column.metric.share:
        return stats.kept_difference(*there.T, *here.T, level=level)
    if of == 1 and kind == "mean":
        e = stats.paired_difference(there[:, 0], here[:, 0], bounds=bounds, level=level)
        return run.over_runs(e, column.sign.metric, b.points[0], a.points[0], level=level)
    if of == 1 and kind == "area":
        return stats.area_difference(_x(a.points, column.sign), there, here, bounds=bounds, level=level)
    of_a, of_b = (_formula(column.sign, r.points) for r in (a, b))

    def apart_by(means: np.ndarray) -> np.ndarray:
        return of_b(means[..., half:]) - of * of_a(means[..., :half])

    e = stats.formula(scores, apart_by, bounds=bounds, level=level)
    return run.over_runs(e, column.sign.metric, b.points[0], a.points[0], of=of, level=level) if shared else e


def column_of(run: Run, record: Record, sign: Sign, *, level: float = stats.LEVEL) -> Column:
    """One sign, or one number of a study, of every backbone and image set that has it, with intervals of a level."""
    whole = run.of(record.name)
    matching = [
        p for p in whole if sign.metric in p.metrics and all(p.condition.get(k) == v for k, v in sign.where.items())
    ]
    popularity = Counter[tuple[Any, ...]]()
    for p in whole:  # of the whole study: at one fraction, every grid has equally many cells
        popularity[p.rest(*sign.where, sign.x)] += len(p.cells)
    by_pair: dict[tuple[str, str], list[Point]] = {}
    for p in matching:
        by_pair.setdefault((p.backbone, p.images), []).append(p)
    readings = {}
    for pair, own in by_pair.items():
        if (reading := _reading(run, record, sign, own, popularity, level)) is not None:
            unknown = sign.kind != "mean" and any(p.group.shared for p in reading.points)  # no interval knows the runs
            e = reading.estimate._replace(early=early(*reading.points))
            e = e._replace(low=math.nan, high=math.nan) if unknown else e
            readings[pair] = replace(reading, estimate=e)
    over = {pair: tuple(p.fields.get(str(sign.x)) for p in r.points) for pair, r in readings.items()}
    if sign.kind == "area" and len(set(over.values())) > 1:  # areas over other ranges are other numbers
        readings = {pair: replace(r, fixed=(*r.fixed, (str(sign.x), over[pair]))) for pair, r in readings.items()}
    shared = Counter(r.fixed for r in readings.values()).most_common(1)
    return Column(record.name, sign, run.metric(record.name, sign.metric), shared[0][0] if shared else (), readings)


def _reading(
    run: Run, record: Record, sign: Sign, own: Sequence[Point], popularity: Counter[tuple[Any, ...]], level: float
) -> Reading | None:
    """The sign at the most measured combination of the open fields that this backbone has."""
    metric = run.metric(record.name, sign.metric)
    if sign.kind == "index":
        return None if run.unfinished(own, sign.where) else _of_index(run, sign, own, metric, level)
    open_fields = {p.rest(*sign.where, sign.x) for p in own}
    fixed = max(open_fields, key=lambda rest: (popularity[rest], usual(record, rest), str(rest)))
    points = [p for p in own if p.rest(*sign.where, sign.x) == fixed]
    if sign.kind == "mean":
        return Reading(_mean(run, sign, metric, points[0], level), (points[0],), fixed)
    if sign.kind == "kept":
        return _of_kept(run, sign, points[0], fixed, metric, level)
    if len(points) < 2 or run.unfinished(points, dict(fixed) | dict(sign.where), str(sign.x)):
        return None
    points.sort(key=lambda p: strength(p.condition.get(str(sign.x))))
    scores = _scores(run, sign, points)
    if len(scores) == 0:
        return None
    level = stats.at_look(level, early(*points))
    return Reading(_value(sign, metric, points, scores, level), tuple(points), fixed)


def alone(run: Run, column: Column, a: Reading, b: Reading) -> tuple[stats.Estimate, stats.Estimate]:
    """Both readings over the items that both have, where these are not all of each."""
    scores, ended = _scores(run, column.sign, (*a.points, *b.points)), early(*a.points, *b.points)

    def on(r: Reading, own: np.ndarray) -> stats.Estimate:
        if r.estimate.n == len(own):
            return r.estimate
        level = stats.at_look(stats.LEVEL, ended)
        return _value(column.sign, column.metric, r.points, own, level)._replace(early=ended)

    return on(a, scores[:, : len(a.points)]), on(b, scores[:, len(a.points) :])


def at_level(run: Run, column: Column, reading: Reading, level: float) -> stats.Estimate:
    """A reading with its interval at another level."""
    if column.sign.kind == "mean":
        return _mean(run, column.sign, column.metric, reading.points[0], level)
    scores, level = _scores(run, column.sign, reading.points), stats.at_look(level, early(*reading.points))
    return _value(column.sign, column.metric, reading.points, scores, level)


def _mean(run: Run, sign: Sign, metric: Metric, point: Point, level: float) -> stats.Estimate:
    if level == stats.LEVEL:
        return run.estimate(point, sign.metric)
    ended = early(point)
    e = stats.estimate(run.values(point, sign.metric)[1], bounds=metric.bounds, level=level, early=ended)
    return run.over_runs(e, sign.metric, point, level=stats.at_look(level, ended))


def _value(
    sign: Sign, metric: Metric, points: Sequence[Point], scores: np.ndarray, level: float, chance: float | None = None
) -> stats.Estimate:
    """A sign of one backbone from the values of its items at its points."""
    if sign.kind == "mean":
        return stats.estimate(scores[:, 0], bounds=metric.bounds, level=level)
    if sign.kind == "kept" and metric.share:
        return stats.kept(scores[:, 0], scores[:, 1], chance=chance, level=level)
    if sign.kind == "area":
        return stats.area(_x(points, sign), scores, bounds=metric.bounds, level=level)
    if sign.kind in ("lowest", "highest"):
        return stats.extreme(scores, _end(sign), bounds=metric.bounds, level=level)
    ends = (sign.bounds or (BOUNDS[sign.unit] if sign.unit else UNBOUNDED)) if sign.kind == "index" else UNBOUNDED
    return stats.formula(scores, _formula(sign, points), bounds=metric.bounds, result=ends, level=level)


def _of_kept(run: Run, sign: Sign, point: Point, fixed: Fields, metric: Metric, level: float) -> Reading | None:
    """Against the baseline of the same backbone, images, draw and decoder."""
    clean = run.baseline(point, sign.metric)
    if clean is None:
        return None
    both = _scores(run, sign, (clean, point))
    chance = _chance(run, sign, clean) if metric.share else None
    level = stats.at_look(level, early(clean, point))
    e = _value(sign, metric, (clean, point), both, level, chance)
    return Reading(e, (clean, point), fixed, _at_chance(both[:, 0], chance, level))


def _of_index(run: Run, sign: Sign, own: Sequence[Point], metric: Metric, level: float) -> Reading | None:
    scores = _scores(run, sign, own)
    assert sign.index is not None
    if len(scores) == 0 or sign.index([p.condition for p in own], scores.mean(axis=0)) is None:
        return None
    level = stats.at_look(level, early(*own))
    base = None if sign.base is None else sign.base([p.condition for p in own])
    if base is not None and _at_chance(scores[:, base], _chance(run, sign, own[base]), level):
        return Reading(stats.NOTHING._replace(n=len(scores)), tuple(own), (), at_chance=True)
    if sign.room is not None and sign.room([p.condition for p in own], scores.mean(axis=0)) * len(scores) < FEWEST:
        return Reading(stats.NOTHING._replace(n=len(scores)), tuple(own), ())
    return Reading(_value(sign, metric, own, scores, level), tuple(own), ())


def _chance(run: Run, sign: Sign, point: Point) -> float | None:
    """The accuracy of guessing; None where the metric is no accuracy."""
    return 1 / run.backbones[point.backbone]["outputs"] if sign.metric == "top1" else None


def _at_chance(right: np.ndarray, chance: float | None, level: float) -> bool:
    """Whether an interval of this level does not tell an accuracy from guessing."""
    return chance is not None and len(right) > 0 and stats.estimate(right, bounds=(0, 1), level=level).low <= chance


def _scores(run: Run, sign: Sign, points: Sequence[Point]) -> np.ndarray:
    """Values of the items that have one at every point, float64 (items, points)."""
    scores = run.aligned([(p, sign.metric) for p in points])
    lacking = np.isnan(scores).any(axis=1)
    return np.asarray(scores[~lacking] if lacking.any() else scores)


def _formula(sign: Sign, points: Sequence[Point]) -> Callable[[np.ndarray], np.ndarray]:
    """means (..., points) -> (...): the mean, the area, the ratio of what is `kept` (NaN of nothing), or the formula of an `index`."""
    if sign.kind == "mean":
        return lambda means: np.asarray(means[..., 0])
    if sign.kind == "area":
        weights = stats.trapezoid(_x(points, sign))
        return lambda means: np.asarray(means @ weights)
    if sign.index is None:
        return lambda means: np.asarray(means[..., 1] / np.where(means[..., 0] == 0, np.nan, means[..., 0]))
    return partial(_index, sign.index, [p.condition for p in points])


def _index(index: Index, fields: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray:
    found = index(fields, means)
    assert found is not None, "the points were enough for it"
    return np.asarray(found)


def _end(sign: Sign) -> Literal["min", "max"]:
    return "min" if sign.kind == "lowest" else "max"


def _x(points: Sequence[Point], sign: Sign) -> np.ndarray:
    return np.array([p.condition[str(sign.x)] for p in points], dtype=np.float64)
