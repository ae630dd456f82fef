"""The charts of a study, from its `CHARTS`: what is drawn, as plain values; `vega` draws it.

Fields of the condition that vary and are not on an axis split a chart into small multiples. A heat map and a scatter have one small
multiple per backbone. A grid that follows from the input of each backbone splits nothing: its backbones stand in one chart, at the share of the
image that each really lost.
"""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionvitals.figure import Chart, Metric, Record
from visionvitals.report import scatter
from visionvitals.results import derived, words
from visionvitals.results.fields import is_grid, rank, varying
from visionvitals.results.run import Point, Run
from visionvitals.stats import NOTHING, Estimate

MOST_BARS = 9
"""More words than these on an axis go below each other: side by side their names would be left out."""

FILLS = (
    (
        "unchanged",
        "Does the answer stay the same?",
        "The share of images that still get the class that was predicted of the whole image, right or wrong.",
    ),
    (
        "prediction_entropy",
        "Over how many classes do the answers spread?",
        "A curve that falls shows a network that answers a few classes whatever was removed: the fill has a meaning of its own.",
    ),
    (
        "fill_agreement",
        "Do the fills agree?",
        "The share of images that get the same answer with another fill under the same masks, with the fill that agrees least. Where it is "
        "low, the numbers above say as much about the fill as about what is gone.",
    ),
)
"""(derived metric, title, how to read it) of the charts of a study whose points differ in the fill."""
MOST_NAMED = 3
"""More backbones than these that share a grid are counted, not named."""


@dataclass(frozen=True)
class Multiple:
    """One small multiple.

    Attributes:
        title: the values that tell it from the others; empty where there is one only.
        records: what is drawn, one per backbone and x.
    """

    title: str
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Plot:
    """All small multiples of a study, with what they share.

    Attributes:
        chart: the study's own, with the title of its vertical axis.
        metric: of the vertical axis, or of the colour.
        kind: `line` for numbers and grids, `bars` for words, `rows` where they are too many for that, `none` where there is one
            condition, `heat` where the chart has a `y`, `scatter` where it has an `across`.
        x_order, y_order: the values on the axes, weakest first, as they are written.
        ticks: those of a horizontal axis of numbers, as numbers.
        fixed: the condition's fields that have one value throughout, or one for each backbone.
        backbones: every backbone of the run, so that colours agree over studies.
        multiples: in order of strength.
        chance: accuracy of guessing, where it is one number for all backbones and large enough to see.
        thinned: of a scatter, whether some images are not drawn.
    """

    chart: Chart
    metric: Metric
    kind: Literal["line", "bars", "rows", "none", "heat", "scatter"]
    x_order: tuple[str, ...]
    y_order: tuple[str, ...]
    ticks: tuple[float, ...]
    fixed: Mapping[str, Any]
    backbones: tuple[str, ...]
    multiples: tuple[Multiple, ...]
    chance: float | None
    thinned: bool = False

    @property
    def drawn(self) -> list[str]:
        """The backbones that have a point in it."""
        there = {record["backbone"] for m in self.multiples for record in m.records}
        return [name for name in self.backbones if name in there]


def plots(run: Run, study: str) -> list[Plot]:
    """What to draw of a study: one plot for each of its charts that has points; none where nothing is known of it."""
    record = run.record(study)
    found = [_plot(run, record, chart) for chart in (*record.charts, *_of_fills(run, record))] if record else []
    return [plot for plot in found if plot is not None]


def _of_fills(run: Run, record: Record) -> list[Chart]:
    """What to draw of a study whose points differ in the fill: whether the answer hangs on what was removed or on what was put there."""
    first = next(iter(record.charts), None)
    if first is None or not any(derived.fills(run, p) for p in run.of(record.name)):
        return []
    return [
        dataclasses.replace(first, metric=name, title=title, reads=reads)
        for name, title, reads in FILLS
        if name != first.metric
    ]


def counted(records: Iterable[Mapping[str, Any]]) -> str:
    """How many items stand behind some records: `n = 300`, or `n = 12 to 300`; "" where they do not say it."""
    counts = sorted({r["n"] for r in records if "n" in r}, key=lambda n: int(n.replace(",", "").split()[0]))
    return f"n = {counts[0]}{f' to {counts[-1]}' if len(counts) > 1 else ''}" if counts else ""


def _plot(run: Run, record: Record, chart: Chart) -> Plot | None:
    points = [
        p
        for p in run.of(record.name)
        if _has(p, chart.metric) and all(p.condition.get(k) == v for k, v in chart.where.items())
    ]
    if not points:
        return None
    metric = run.metric(record.name, chart.metric)
    chart = dataclasses.replace(chart, y_title=chart.y_title or words.axis(metric))
    own = _of_backbones(points)
    varies = [f for f in varying(points) if f not in own]
    split = [f for f in dict.fromkeys((*chart.facet, *varies)) if f in varies and f not in (chart.x, chart.y)]
    values, others = (
        sorted({p.condition.get(f) for p in points}, key=lambda v: rank(record, f, v)) for f in (chart.x, chart.y)
    )
    heads = [*(("images",) if len(run.images) > 1 else ()), *(("backbone",) if chart.y or chart.across else ())]
    places = {"images": list(run.images), "backbone": list(run.backbones)}
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for p in points:
        key = (*(getattr(p, head) for head in heads), *(p.condition.get(f) for f in split))
        found.setdefault(key, []).extend(
            scatter.records(run, p, chart) if chart.across else [_record(run, p, chart, metric)]
        )

    def position(key: tuple[Any, ...]) -> tuple[Any, ...]:
        first = (places[head].index(name) for head, name in zip(heads, key, strict=False))
        return *first, *(rank(record, f, v) for f, v in zip(split, key[len(heads) :], strict=True))

    if all(record["v"] is None for records in found.values() for record in records):
        return None
    ordered = sorted(found, key=position)
    return Plot(
        chart=chart,
        metric=metric,
        kind="scatter" if chart.across else "heat" if chart.y else _kind(values, chart),
        x_order=tuple(_written(chart, v) for v in values),
        y_order=tuple(words.short(v) for v in others),
        ticks=tuple(v for v in values if isinstance(v, int | float) and not isinstance(v, bool)),
        fixed={k: v for k, v in points[0].condition.items() if k not in (*split, chart.x, chart.y)} | own,
        backbones=tuple(run.backbones),
        multiples=tuple(
            Multiple(_title(key[: len(heads)], split, key[len(heads) :]), tuple(found[key])) for key in ordered
        ),
        chance=_chance(run, chart) if record.labels == "outputs" else None,
        thinned=bool(chart.across) and any(run.estimate(p, chart.metric).n > scatter.MOST for p in points),
    )


def _has(p: Point, metric: str) -> bool:
    return metric in p.metrics or (metric in derived.DERIVED and derived.has(p, derived.DERIVED[metric]))


def _estimate(run: Run, p: Point, metric: str) -> Estimate:
    """Of a metric, or of a number that is derived from the answers."""
    if metric in p.metrics:
        return run.estimate(p, metric)
    return next((e for _, e in derived.of(run, [p], metric)), NOTHING)


def _of_backbones(points: Sequence[Point]) -> dict[str, str]:
    """The fields with another grid for some backbones but one for each, on an image set -> which it is for whom."""
    found = {}
    for f in varying(points):
        grids: dict[tuple[str, str], set[Any]] = {}
        for p in points:
            grids.setdefault((p.backbone, p.images), set()).add(p.condition.get(f))
        if all(len(own) == 1 and all(map(is_grid, own)) for own in grids.values()):
            whose: dict[Any, dict[str, None]] = {}
            for (backbone, _), own in grids.items():
                whose.setdefault(next(iter(own)), {})[backbone] = None
            named = {
                v: words.listed(b) if len(b) <= MOST_NAMED else words.count(len(b), "backbone")
                for v, b in whose.items()
            }
            found[f] = ", ".join(f"{words.short(v)} ({names})" for v, names in sorted(named.items()))
    return found


def _is_number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool)


def _written(chart: Chart, x: Any) -> str:
    """A value on the horizontal axis, for people."""
    return words.short(x, share=chart.x_unit == "share")


def _record(run: Run, p: Point, chart: Chart, metric: Metric) -> dict[str, Any]:
    e, x = _estimate(run, p, chart.metric), p.condition.get(chart.x)
    at, text = _written(chart, x), words.with_unit(e, share=metric.share)
    low, high = (e.low, e.high) if metric.interval else (math.nan, math.nan)
    true = run.estimate(p, chart.x_metric).value if chart.x_metric in p.metrics and _is_number(x) else math.nan
    exact = {"true": _written(chart, true), "x": true} if math.isfinite(true) else {}
    return {
        "backbone": p.backbone,
        "x": x if _is_number(x) else words.short(x),
        "at": at,
        "beside": words.short(p.condition.get(chart.y)),
        "v": _finite(e.value),
        "low": _finite(low),
        "high": _finite(high),
        "value": text,
        "told": words.exact(e._replace(low=low, high=high), share=metric.share),
        "n": words.n(e),
        "runs": str(p.runs),
        "label": f"{p.backbone}{_at(chart.x, at)}{_at(chart.y, words.short(p.condition.get(chart.y)))}: {text}",
    } | exact


def _at(field: str, value: str) -> str:
    return f", {field} {value}" if field else ""


def _kind(values: Sequence[Any], chart: Chart) -> Literal["line", "bars", "rows", "none"]:
    if not chart.x:
        return "none"
    ordered = all(is_grid(v) or _is_number(v) for v in values)
    return "line" if ordered and len(values) > 1 else "bars" if len(values) <= MOST_BARS else "rows"


def _title(heads: Sequence[str], split: Sequence[str], key: Sequence[Any]) -> str:
    fields = words.condition(dict(zip(split, key, strict=True)))
    return " · ".join(part for part in (*heads, fields) if part)


def _chance(run: Run, chart: Chart) -> float | None:
    found = {card["outputs"] for card in run.backbones.values()} - {
        0
    }  # a backbone without a classifier guesses nothing
    one = next(iter(found)) if len(found) == 1 else None
    return 1 / one if one is not None and chart.metric == "top1" and one <= 100 else None


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
