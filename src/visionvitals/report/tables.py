"""The numbers of a study as tables: all of ours, and the published ones beside them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from visionvitals.figure import Published
from visionvitals.results import words
from visionvitals.results.fields import varying
from visionvitals.results.run import Point, Run

ROWS = 600
"""As many rows of a study as the page shows; all of them are in `vitals table`."""


@dataclass(frozen=True)
class Table:
    """All numbers of a study.

    Attributes:
        fields: heads of the columns after the backbone's: image set and condition, where they vary.
        metrics: heads of the columns of values.
        rows: (backbone, texts under `fields`, texts under `metrics`, n, runs).
        fixed: the condition's fields that have one value throughout.
        averaged: whether several runs were averaged anywhere.
        mixed: whether the metrics of a row have different n, of which the largest is given.
        left_out: how many rows beyond `ROWS` are not shown.
    """

    fields: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], tuple[str, ...], str, int], ...]
    fixed: Mapping[str, Any]
    averaged: bool
    mixed: bool
    left_out: int


class Beside(NamedTuple):
    """A published number with ours for the same condition."""

    published: Published
    value: str
    condition: str
    metric: str
    backbone: str
    images: str
    ours: str
    n: str

    @property
    def where(self) -> str:
        """The publication and its data."""
        return f"{self.published.source} on {self.published.data}"


def of_study(run: Run, study: str) -> Table:
    """Every measured point of a study, backbone by backbone, in order of strength."""
    points = run.of(study)
    varies = varying(points)
    several = len(run.images) > 1
    metrics = list(dict.fromkeys(m for p in points for m in p.metrics))
    position = {pair: i for i, pair in enumerate((b, i) for b in run.backbones for i in run.images)}
    rows = []
    for p in sorted(points, key=lambda p: position[p.backbone, p.images]):
        where = (*((p.images,) if several else ()), *(words.short(p.condition.get(f)) for f in varies))
        values = tuple(_value(run, p, m) for m in metrics)
        rows.append((p.backbone, where, values, _sizes(run, p)[-1], p.runs))
    return Table(
        fields=(*(("data",) if several else ()), *varies),
        metrics=tuple(run.metric(study, m).head for m in metrics),
        rows=tuple(rows[:ROWS]),
        left_out=max(0, len(rows) - ROWS),
        fixed={k: v for k, v in points[0].condition.items() if k not in varies},
        averaged=any(p.runs > 1 for p in points),
        mixed=any(len(_sizes(run, p)) > 1 for p in points),
    )


def beside_published(run: Run, study: str) -> list[Beside]:
    """The published numbers whose architecture, size of the input, image sets and condition are those of a point here."""
    record = run.record(study)
    varies = varying(run.of(study))
    found = [
        Beside(
            published=published,
            value=f"{published.value:.1%}".replace("%", " %") if metric.share else f"{published.value:g}",
            condition=words.condition({k: v for k, v in published.where.items() if k in varies}),
            metric=words.axis(metric),
            backbone=p.backbone,
            images=p.images,
            ours=words.with_unit(run.estimate(p, published.metric), share=metric.share),
            n=words.n(run.estimate(p, published.metric)),
        )
        for published in (record.published if record else ())
        for metric in (run.metric(study, published.metric),)
        for p in run.of(study)
        if published.metric in p.metrics and _was_published(run, p, published)
    ]
    return sorted(found, key=lambda beside: list(run.backbones).index(beside.backbone))


def _was_published(run: Run, p: Point, published: Published) -> bool:
    card, family = run.backbones[p.backbone], run.images[p.images]["spec"].partition(":")[0]
    return (
        card["architecture"] in published.architectures
        and tuple(card["preprocess"]["size"]) == published.size
        and (not published.families or family in published.families)
        and all(p.condition.get(k) == v for k, v in published.where.items())
    )


def _sizes(run: Run, p: Point) -> list[str]:
    """How many items the metrics of a point have, each number once, the largest last."""
    found = {e.n: words.n(e) for e in (run.estimate(p, m) for m in p.metrics)}
    return [found[n] for n in sorted(found)] or ["0"]


def _value(run: Run, p: Point, metric: str) -> str:
    e, known = run.estimate(p, metric), run.metric(p.study, metric)
    if metric not in p.metrics or math.isnan(e.value):
        return words.MISSING
    return (words.measured if known.interval else words.value)(e, share=known.share)
