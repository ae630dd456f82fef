"""A run folder as points: every condition of every study on every backbone and image set. Made from the cells' descriptions alone; the
numbers are read when they are asked for.

A point is all repetitions (the condition's field `run`) of one piece of work. What differs in anything else that decides a number is never
averaged: weights, preprocessing, data, companions, version and source of the study, decoder, limit, and the seed, since another seed
draws other images and other perturbations. Where one of these varies within a study, it is shown as a field of the condition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from visionvitals import stats
from visionvitals.core import Place
from visionvitals.figure import COMMON, Metric, Record
from visionvitals.remote import AnyPath
from visionvitals.results.derived_metrics import METRICS
from visionvitals.results.frame import Frame, Group, Summary, Values
from visionvitals.results.known import Known
from visionvitals.run.cell import DamagedCell, Stored
from visionvitals.study import BASELINE

CALLED = {"companions": "other backbones"}
"""Settings that users know by another name."""
SETTINGS = ("version", "source", "companions", "seed", "limit", "decoder", "numerics", "half_width", "minutes")
"""What else decides a number, beside condition, backbone and images."""
CUTS = ("limit", "half_width", "minutes")
"""Those of them that decide which images were measured: two numbers that differ in them are compared on those that both have."""
SAME = ("seed", "limit", "decoder", "numerics")
"""Settings in which a point and its baseline must agree."""
MAY_DIFFER = frozenset({*CUTS, "numerics"})
"""Between two numbers that are compared; what differs is said."""


@dataclass(frozen=True, eq=False)
class Point:
    """One condition of one study on one backbone and one image set.

    Attributes:
        study, backbone, images: names, unique within the run.
        condition: the fields without `run`, the place on the axes, and the settings that vary within the study.
        fields: the same without the settings.
        settings: see `SETTINGS`.
        at: the place on the study's axes.
        group: its cells, which it shares with the other places on the axes.
        metrics: those that have values here and are averaged.
    """

    study: str
    backbone: str
    images: str
    condition: Mapping[str, Any]
    fields: Mapping[str, Any]
    settings: Mapping[str, Any]
    at: Place
    group: Group
    metrics: tuple[str, ...]

    @property
    def cells(self) -> tuple[Stored, ...]:
        return self.group.cells

    @property
    def runs(self) -> int:
        """How many repetitions were averaged."""
        return len(self.group.cells)

    def rest(self, *without: str | None) -> tuple[tuple[str, Any], ...]:
        """The condition's fields other than those named, as a key."""
        return tuple((k, v) for k, v in self.condition.items() if k not in without)


class Lacking(NamedTuple):
    """A cell that a folder was asked for and does not hold: study, names of the backbone and the image set, condition; no `id` where it
    was skipped."""

    study: str
    backbone: str
    images: str
    condition: Mapping[str, Any]
    id: str | None = None


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder, or several together, read.

    Attributes:
        folder: the first of them.
        all_points: everything that was measured.
        studies: name -> what is known of the study, or the reason why nothing is; in the order of the report.
        backbones, images: short name -> card as plain values, with the whole spelling in it; in the order of the report.
        failures: records of the cells whose last try failed.
        plan: what was asked, see `run.requests.asked_of`.
        finished: ids of all finished cells.
        held: the ids that each folder holds, in their order.
        lacking: what each folder was asked for and does not hold.
        warned: content of `warnings.json`.
        noticed: what was noticed on reading, a sentence each.
        frame: its numbers.
        known: the groups of its pictures, see `results.slices`.
    """

    folder: AnyPath
    all_points: tuple[Point, ...]
    studies: Mapping[str, Record | str]
    backbones: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Mapping[str, Any]]
    failures: tuple[Mapping[str, Any], ...]
    plan: Mapping[str, Any]
    finished: frozenset[str]
    held: tuple[frozenset[str], ...]
    lacking: tuple[tuple[Lacking, ...], ...]
    warned: tuple[str, ...]
    noticed: tuple[str, ...]
    frame: Frame = field(default_factory=Frame, repr=False)
    known: Known = field(default_factory=Known, repr=False)

    @property
    def points(self) -> Sequence[Point]:
        """Everything that was measured, without what turned out to be damaged."""
        return [p for p in self.all_points if self.frame.whole(p.group)] if self.frame.damaged else self.all_points

    @property
    def damage(self) -> list[str]:
        """What is left out, a sentence each: cells that are damaged or older, signs that need a study that is not here."""
        return [*self.noticed, *self.known.noticed, *(left_out(error) for error in self.frame.damaged.values())]

    def of(self, name: str) -> list[Point]:
        """The points of a study."""
        return [p for p in self.points if p.study == name]

    def record(self, name: str) -> Record | None:
        """What is known of a study, or None."""
        found = self.studies[name]
        return found if isinstance(found, Record) else None

    def metric(self, name: str, metric: str) -> Metric:
        """What a metric of a study means; one that nothing is known of is a plain number."""
        return metric_of(self.studies[name], metric)

    def values(self, point: Point, metric: str) -> Values:
        """(key of the items, one value per item averaged over its runs, float64 (n,))."""
        return self.frame.values(point.group, point.at, metric)

    def summary(self, point: Point, metric: str) -> Summary:
        """The mean over items with its interval, and the deviation over runs; computed once."""
        return self.frame.summary(point.group, point.at, metric)

    def estimate(self, point: Point, metric: str) -> stats.Estimate:
        return self.summary(point, metric).estimate

    def over_runs(
        self,
        e: stats.Estimate,
        metric: str,
        point: Point,
        less: Point | None = None,
        *,
        of: float = 1.0,
        level: float = stats.LEVEL,
    ) -> stats.Estimate:
        """A mean over items, or one minus a share `of` that of `less`, widened by its runs where their images share what was drawn."""
        if not point.group.shared:
            return e
        draws = self.frame.by_run(point.group, point.at, metric)
        low, high = point.group.metrics[metric].bounds
        if less is not None:
            other = self.frame.by_run(less.group, less.at, metric)
            draws = {run: draws[run] - of * other[run] for run in draws if run in other}
            low, high = low - of * high, high - of * low
        return stats.over_draws(e, np.array([*draws.values()]), bounds=(low, high), level=level)

    def baseline(self, point: Point, metric: str = "top1") -> Point | None:
        """The point of the unchanged images of the same backbone, images, draw and decoder that has a metric, or None."""
        same = (
            p
            for p in self.of(BASELINE)
            if (p.backbone, p.images) == (point.backbone, point.images)
            and metric in p.metrics
            and all(p.settings[name] == point.settings[name] for name in SAME)
        )
        return next(same, None)

    def unfinished(self, points: Sequence[Point], fixed: Mapping[str, Any], x: str | None = None) -> bool:
        """Whether a cell was asked for and is not there that would give a further point beside some points of one backbone: then a number over
        all of them is not there either. Further points have the `fixed` values, and where `x` is given another one of it."""
        first = points[0]
        fields = [{x: p.fields.get(x)} if x else p.fields for p in points]
        for each in (each for several in self.lacking for each in several):
            if each.id is None or each.id in self.finished or each[:3] != (first.study, first.backbone, first.images):
                continue
            alike = all(each.condition.get(k, v) == v for k, v in fixed.items() if k in first.fields)
            known = any(all(here.get(k, v) == v for k, v in each.condition.items() if k in here) for here in fields)
            if alike and not known:
                return True
        return False

    def items(self, key: str) -> list[str]:
        """The items that a key of `values` stands for."""
        return self.frame.items(key)

    def aligned(self, several: Sequence[tuple[Point, str]]) -> np.ndarray:
        """Values at (point, metric) of the items that all have, float64 (items, len(several))."""
        return self.frame.aligned([self.values(*one) for one in several])

    def common(self, several: Sequence[tuple[Point, str]]) -> tuple[list[str], np.ndarray]:
        """As `aligned`, with the items."""
        values = [self.values(*one) for one in several]
        return self.frame.common([key for key, _ in values]), self.frame.aligned(values)

    def summarise(self) -> None:
        """Read everything, so that what is damaged is known."""
        for group in dict.fromkeys(p.group for p in self.points):
            self.frame.summary(group, (), "")

    def spelled(self, backbone: str) -> str:
        """A backbone as tables write it: the name that the user gave it, else its whole spelling; its name here where two contents share one."""
        return self._spelled(backbone, self.backbones)

    def spelled_set(self, images: str) -> str:
        """As `spelled`, an image set."""
        return self._spelled(images, self.images)

    def _spelled(self, name: str, cards: Mapping[str, Mapping[str, Any]]) -> str:
        spec: str = cards[name]["spec"]
        alone = sum(card["spec"] == spec for card in cards.values()) == 1
        return spec if alone and spec not in self.plan.get("names", {}) else name


def comparable(p: Point, q: Point) -> bool:
    """Whether two points differ in nothing but their images. Those of two limits that may both end early have no looks in common."""
    differing = set(apart(p, q))
    return differing <= MAY_DIFFER and not ("limit" in differing and early(p) and early(q))


def early(*points: Point) -> stats.Early | None:
    """How far all of these points were measured, where one of them may have ended early."""
    known = [p.group.early for p in points if p.group.early is not None]
    return min(known, default=None)


def apart(p: Point, q: Point) -> list[str]:
    """The settings in which two points differ."""
    return [name for name in SETTINGS if p.settings[name] != q.settings[name]]


def metric_of(record: Record | str, metric: str) -> Metric:
    known = record.metrics if isinstance(record, Record) else COMMON
    plain = Metric(title=metric, meaning="nothing is known of it", unit="none", better=None)
    return known.get(metric) or COMMON.get(metric) or METRICS.get(metric) or plain


def left_out(error: DamagedCell) -> str:
    return f"Left out: {error}"
