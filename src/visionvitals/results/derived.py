"""Numbers of a condition that are no means over images: how far confidence can be trusted, and what the answers are as a set.

They are computed from the answers that every study of answers keeps (`top1`, `confidence`, `prediction`), when they are asked for by name: no
pass of a network. docs/answers.md says how to read them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from visionvitals import stats
from visionvitals.results.derived_metrics import METRICS
from visionvitals.results.run import Point, Run, early
from visionvitals.stats import Estimate
from visionvitals.study import REPEATS

CHANGED_BY = "fill"
"""The condition's field that says what stands in the place of what was removed."""


class Derived(NamedTuple):
    """The columns of a point that a number needs, and how it is computed; None where it does not apply."""

    needs: tuple[str, ...]
    of: Callable[[Run, Point], Estimate | None]


def has(point: Point, derived: Derived) -> bool:
    """Whether a point keeps what a number needs."""
    return set(derived.needs) <= set(point.group.points[point.at])


def by_run(run: Run, p: Point, metric: str) -> tuple[list[str], np.ndarray]:
    """(items, values float (runs, items)), NaN where an item has none: of items of this run, which may be a part of what was measured."""
    items = run.items(run.values(p, next(iter(p.metrics)))[0])
    found = [*of_runs(run, p, metric, items).values()]
    return items, np.asarray(found, dtype=np.float64).reshape(len(found), len(items))


def of_runs(run: Run, p: Point, metric: str, items: Sequence[str]) -> dict[int, np.ndarray]:
    """repetition -> values of these items, float (items,); NaN where one has none."""
    found = {}
    for cell in run.frame.whole(p.group):
        if metric in cell.points.get(p.at, ()):
            there = dict(zip(cell.items(p.at), cell.place(p.at, cell.columns([metric])[metric]), strict=True))
            values = np.array([there.get(item, np.nan) for item in items], dtype=np.float64)
            found[int(cell.cell["condition"].get(REPEATS, 0))] = values
    return found


@lru_cache(maxsize=16)
def calibration(run: Run, p: Point) -> stats.Calibration | None:
    """Of the answers in the first repetition of a point; None where none is known."""
    return stats.calibration(*_first(run, p), level=_level(p))


def risks(run: Run, p: Point, coverage: np.ndarray) -> np.ndarray:
    """As `stats.risks`, of the first repetition of a point."""
    return stats.risks(*_first(run, p), coverage)


def _first(run: Run, p: Point) -> tuple[np.ndarray, np.ndarray]:
    """(confidence, rightness) of the items in the first repetition."""
    sure, right = (by_run(run, p, metric)[1][:1].ravel() for metric in CONFIDENT)
    return sure, right


def _level(*points: Point) -> float:
    return stats.at_look(stats.LEVEL, early(*points))


def _of_calibration(read: Callable[[stats.Calibration], Estimate | float], run: Run, p: Point) -> Estimate | None:
    found = calibration(run, p)
    if found is None:
        return None
    value = read(found)
    return value if isinstance(value, Estimate) else Estimate(value, np.nan, np.nan, found.n)


def _beside_clean(run: Run, p: Point) -> tuple[np.ndarray, np.ndarray] | None:
    """(answers (runs, n), answers to the clean images (n,)) on the items of a point; None where the clean images were not measured."""
    clean = run.baseline(p)
    if clean is None:
        return None
    items, said = by_run(run, p, "prediction")
    before = of_runs(run, clean, "prediction", items)
    return (said, next(iter(before.values()))) if before else None


def _unchanged(run: Run, p: Point) -> Estimate | None:
    both = _beside_clean(run, p)
    return None if both is None else _alike(*both, p)


def _alike(said: np.ndarray, others: np.ndarray, *points: Point) -> Estimate:
    """The share of answers that are the same, averaged over runs within an image."""
    lacking = np.isnan(said) | np.isnan(others)
    same = np.where(lacking, np.nan, said == others)
    known = ~lacking.all(axis=0)
    return stats.estimate(np.nanmean(same[:, known], axis=0), bounds=(0, 1), level=_level(*points))


def _entropy(run: Run, p: Point) -> Estimate:
    return stats.entropy(by_run(run, p, "prediction")[1])


def _shift(run: Run, p: Point) -> Estimate | None:
    both = _beside_clean(run, p)
    return None if both is None else stats.shift(*both, level=_level(p))


def fills(run: Run, p: Point) -> list[Point]:
    """The points that differ from one in nothing but what stands in the place of what was removed."""
    if CHANGED_BY not in p.fields:
        return []
    here = p.rest(CHANGED_BY)
    same = [q for q in run.of(p.study) if (q.backbone, q.images, q.at) == (p.backbone, p.images, p.at) and q is not p]
    return [q for q in same if q.rest(CHANGED_BY) == here and q.settings == p.settings]


def agreement(run: Run, p: Point, q: Point) -> Estimate:
    """How often two conditions get the same answer on the same images, run by run."""
    items = run.items(run.values(p, next(iter(p.metrics)))[0])
    mine, others = (of_runs(run, each, "prediction", items) for each in (p, q))
    both = [r for r in mine if r in others]
    if not both:
        return stats.NOTHING
    return _alike(np.stack([mine[r] for r in both]), np.stack([others[r] for r in both]), p, q)


def _agreement(run: Run, p: Point) -> Estimate | None:
    """With each other fill, the least."""
    found = [agreement(run, p, q) for q in fills(run, p)]
    return min(found, key=lambda e: e.value, default=None)


CONFIDENT = ("confidence", "top1")
_CALIBRATED: Mapping[str, Callable[[stats.Calibration], Estimate | float]] = {
    "overconfidence": lambda c: c.over,
    "ece": lambda c: c.ece,
    "ece_mass": lambda c: c.mass,
    "ece_null": lambda c: c.null[1],
    "calibration_error": lambda c: c.error,
    "aurc": lambda c: c.aurc,
    "risk_at_80": lambda c: c.risk,
    "auroc": lambda c: c.auroc,
    "rejection_ratio": lambda c: c.rejection,
}
_OF_ANSWERS: Mapping[str, Callable[[Run, Point], Estimate | None]] = {
    "unchanged": _unchanged,
    "prediction_entropy": _entropy,
    "class_shift": _shift,
    "fill_agreement": _agreement,
}
DERIVED: Mapping[str, Derived] = {
    name: Derived(CONFIDENT, partial(_of_calibration, _CALIBRATED[name]))
    if name in _CALIBRATED
    else Derived(("prediction",), _OF_ANSWERS[name])
    for name in METRICS
}
"""name -> a number that `vitals table --metric` gives; `METRICS` says what it means."""


def of(run: Run, points: Sequence[Point], name: str) -> list[tuple[Point, Estimate]]:
    """One of `DERIVED` at every point that has it."""
    chosen = DERIVED[name]
    found = ((p, chosen.of(run, p)) for p in points if has(p, chosen) and p.metrics)
    return [(p, e) for p, e in found if e is not None and e.n]
