"""The charts of a study, drawn from its `CHARTS`: one specification for the page (Vega-Lite as a dict) and for figures (SVG, PNG).

One line per backbone, told apart by colour, dash and symbol; bands and whiskers are 95 % intervals. Fields of the condition that
vary and are not on an axis split the chart into small multiples. A heat map and a scatter have one small multiple per backbone.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from visionvitals.figure import Chart, Metric, Record
from visionvitals.report import scatter
from visionvitals.report.looks import LIGHT, theme
from visionvitals.results import words
from visionvitals.results.fields import is_grid, rank, varying
from visionvitals.results.run import Point, Run

DASHES = ((1, 0), (6, 3), (2, 2), (9, 3, 2, 3), (12, 4))
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right")
MOST_BARS = 9
"""More words than these on an axis go below each other: side by side their names would be left out."""

OUTLINES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "square": "M-3.6 -3.6h7.2v7.2h-7.2z",
    "triangle-up": "M0 -4.6L4.6 3.4H-4.6z",
    "diamond": "M0 -5L4.2 0L0 5L-4.2 0z",
    "cross": "M-4.5 -1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",
    "triangle-down": "M0 4.6L4.6 -3.4H-4.6z",
    "triangle-right": "M4.6 0L-3.4 4.6V-4.6z",
}
"""The symbols as paths, for the page's own legend."""


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
        fixed: the condition's fields that have one value throughout.
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
    found = [_plot(run, record, chart) for chart in record.charts] if record else []
    return [plot for plot in found if plot is not None]


def _plot(run: Run, record: Record, chart: Chart) -> Plot | None:
    points = [
        p
        for p in run.of(record.name)
        if chart.metric in p.metrics and all(p.condition.get(k) == v for k, v in chart.where.items())
    ]
    if not points:
        return None
    metric = run.metric(record.name, chart.metric)
    chart = dataclasses.replace(chart, y_title=chart.y_title or words.axis(metric))
    varies = varying(points)
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

    ordered = sorted(found, key=position)
    return Plot(
        chart=chart,
        metric=metric,
        kind="scatter" if chart.across else "heat" if chart.y else _kind(values, chart),
        x_order=tuple(_written(chart, v) for v in values),
        y_order=tuple(words.short(v) for v in others),
        fixed={k: v for k, v in points[0].condition.items() if k not in (*split, chart.x, chart.y)},
        backbones=tuple(run.backbones),
        multiples=tuple(
            Multiple(_title(key[: len(heads)], split, key[len(heads) :]), tuple(found[key])) for key in ordered
        ),
        chance=_chance(run, chart) if record.labels == "outputs" else None,
        thinned=bool(chart.across) and any(run.estimate(p, chart.metric).n > scatter.MOST for p in points),
    )


def specification(figure: Plot, multiple: Multiple, *, width: int | Literal["container"], height: int) -> Any:
    """One small multiple as an altair chart, without a theme. Its parameter `focus` names the backbone to bring forward."""
    import altair as alt

    if figure.kind == "scatter":
        return scatter.drawn(multiple.records, figure.chart, figure.x_order).properties(width=width, height=height)
    if figure.kind == "heat":
        return _heat(figure, multiple, width=width, height=height)
    names = list(figure.backbones)
    told_apart = len(names) > 1 and figure.kind != "none"
    legend: dict[str, Any] = {"title": None} if told_apart else {"title": None, "legend": None}
    colour = alt.Color("backbone:N", scale=alt.Scale(domain=names), **legend)
    dash = alt.StrokeDash("backbone:N", scale=alt.Scale(domain=names, range=_cycle(DASHES, names)), legend=None)
    shape = alt.Shape("backbone:N", scale=alt.Scale(domain=names, range=_cycle(SYMBOLS, names)), **legend)
    heads = {
        "backbone": "backbone",
        "at": figure.chart.x,
        "value": figure.chart.y_title,
        "n": figure.metric.over,
        "runs": "runs",
    }
    tooltip = [alt.Tooltip(f"{field}:N", title=title) for field, title in heads.items() if title]

    share = figure.metric.share
    along, Along = ("x", alt.X) if figure.kind in ("none", "rows") else ("y", alt.Y)
    value = {
        "title": figure.chart.y_title,
        "scale": alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=figure.kind != "line"),
        "axis": alt.Axis(format="%", tickCount=5) if share else alt.Axis(tickCount=5),
    }
    measured = {along: Along("v:Q", **value)}
    spread = {along: Along("low:Q", **value), f"{along}2": "high:Q"}

    def shown(strong: float, weak: float) -> dict[str, Any]:
        return {"opacity": alt.condition("focus == '' || datum.backbone == focus", alt.value(strong), alt.value(weak))}

    data = alt.Data(values=list(multiple.records))
    base = alt.Chart(data).encode(color=colour, **across(figure))
    if figure.kind == "line":
        crowded = len({r["backbone"] for r in multiple.records}) > 5
        under = base.mark_area(aria=False).encode(**spread, **shown(0.07 if crowded else 0.17, 0.02))
        over = base.mark_line(aria=False, strokeWidth=2).encode(strokeDash=dash, **measured, **shown(1, 0.15))
    else:
        thick = {"height": 10} if figure.kind == "none" else {}
        under = base.mark_bar(aria=False, **thick).encode(**measured, **shown(0 if figure.kind == "rows" else 0.4, 0.1))
        over = base.mark_rule(aria=False, strokeWidth=1 if figure.kind == "rows" else 2).encode(
            **spread, **shown(1, 0.15)
        )
    tip = base.mark_point(filled=True, size=30 if figure.kind == "rows" else 64).encode(
        shape=shape, tooltip=tooltip, description=alt.Description("label:N"), **measured, **shown(1, 0.15)
    )
    layers = [under, over, tip]
    if figure.kind == "none":  # names above the bars: an axis of long names would leave no room for them on a phone
        names_above = alt.Chart(data).mark_text(align="left", baseline="bottom", dy=-9, fontSize=12, aria=False)
        layers.append(names_above.encode(**across(figure), x=alt.value(0), text="label:N", **shown(1, 0.3)))
    if figure.chance is not None:
        guess = alt.Chart(alt.Data(values=[{"chance": figure.chance}]))
        layers.insert(0, guess.mark_rule(strokeDash=[2, 3], aria=False).encode(**{along: Along("chance:Q", **value)}))
    return alt.layer(*layers).add_params(alt.param(name="focus", value="")).properties(width=width, height=height)


def _heat(figure: Plot, multiple: Multiple, *, width: int | Literal["container"], height: int) -> Any:
    import altair as alt

    ends = [r["v"] for m in figure.multiples for r in m.records if r["v"] is not None] or [0.0]
    share = figure.metric.share
    axis = alt.Axis(labelAngle=0, labelOverlap=True, grid=False, domain=False, ticks=False)
    colour = alt.Color(
        "v:Q",
        title=figure.chart.y_title,
        scale=alt.Scale(scheme="viridis", domain=[min(0.0, min(ends)), max(ends)]),  # one scale for all small multiples
        legend=alt.Legend(format="%" if share else ".2g", orient="bottom", gradientLength=140, titleLimit=240),
    )
    tooltip = [alt.Tooltip("at:N", title=figure.chart.x), alt.Tooltip("beside:N", title=figure.chart.y)]
    tooltip += [alt.Tooltip("value:N", title=figure.chart.y_title), alt.Tooltip("n:N", title="n")]
    chart = alt.Chart(alt.Data(values=list(multiple.records))).mark_rect()
    chart = chart.encode(
        x=alt.X("at:O", title=figure.chart.x_title, sort=list(figure.x_order), axis=axis),
        y=alt.Y("beside:O", title=figure.chart.y, sort=list(reversed(figure.y_order)), axis=axis),
        color=colour,
        tooltip=tooltip,
        description=alt.Description("label:N"),
    )
    return chart.add_params(alt.param(name="focus", value="")).properties(width=width, height=height)


def interactive(figure: Plot) -> list[dict[str, Any]]:
    """For the page: one Vega-Lite specification per small multiple, as wide as its container, in the colours of the page's CSS."""
    height = height_of(figure, 300 if len(figure.multiples) == 1 else 220)
    found = []
    for multiple in figure.multiples:
        chart = specification(figure, multiple, width="container", height=height)
        content: dict[str, Any] = chart.properties(description=_description(figure, multiple)).to_dict()
        colours = [f"var(--s{i})" for i in range(len(LIGHT))]
        content["config"] = theme(colours, ink="var(--ink)", soft="var(--soft)", line="var(--line)")
        if figure.kind not in ("heat", "scatter"):
            content["config"]["legend"] = {"disable": True}  # the page has its own, once per chart
        content["autosize"] = {"type": "fit-x", "contains": "padding"}
        found.append(content)
    return found


def across(figure: Plot) -> dict[str, Any]:
    """Where a record stands across the value's axis."""
    import altair as alt

    if figure.kind == "none":
        return {"y": alt.Y("backbone:N", sort=list(figure.backbones), axis=None)}
    title = figure.chart.x_title
    if figure.kind == "rows":
        beside = alt.YOffset("backbone:N", scale=alt.Scale(domain=list(figure.backbones)))
        every = alt.Axis(labelOverlap=False, domain=False, ticks=False)
        return {"y": alt.Y("x:N", title=None, sort=list(figure.x_order), axis=every), "yOffset": beside}
    level = alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=4)
    if figure.kind == "bars":
        side = alt.XOffset("backbone:N", scale=alt.Scale(domain=list(figure.backbones)))
        return {"x": alt.X("x:N", title=title, sort=list(figure.x_order), axis=level), "xOffset": side}
    if isinstance(figure.multiples[0].records[0]["x"], str):
        return {"x": alt.X("x:O", title=title, sort=list(figure.x_order), axis=level)}
    values = sorted({r["x"] for m in figure.multiples for r in m.records})
    whole = all(float(v).is_integer() for v in values)
    percent = {"format": "%"} if figure.chart.x_unit == "share" else {"format": "d"} if whole else {}
    axis = alt.Axis(values=values, labelOverlap="greedy", labelSeparation=8, **percent)
    scale = alt.Scale(domain=[values[0], values[-1]], nice=False)  # the same in all small multiples
    return {"x": alt.X("x:Q", title=title, axis=axis, scale=scale)}


def _written(chart: Chart, x: Any) -> str:
    """A value on the horizontal axis, for people."""
    return words.short(x, share=chart.x_unit == "share")


def _record(run: Run, p: Point, chart: Chart, metric: Metric) -> dict[str, Any]:
    e, x = run.estimate(p, chart.metric), p.condition.get(chart.x)
    at, text = _written(chart, x), words.with_unit(e, share=metric.share)
    low, high = (e.low, e.high) if metric.interval else (math.nan, math.nan)
    return {
        "backbone": p.backbone,
        "x": x if isinstance(x, int | float) and not isinstance(x, bool) else words.short(x),
        "at": at,
        "beside": words.short(p.condition.get(chart.y)),
        "v": _finite(e.value),
        "low": _finite(low),
        "high": _finite(high),
        "value": text,
        "n": f"{e.n:,}",
        "runs": str(p.runs),
        "label": f"{p.backbone}{_at(chart.x, at)}{_at(chart.y, words.short(p.condition.get(chart.y)))}: {text}",
    }


def _at(field: str, value: str) -> str:
    return f", {field} {value}" if field else ""


def _kind(values: Sequence[Any], chart: Chart) -> Literal["line", "bars", "rows", "none"]:
    if not chart.x:
        return "none"
    ordered = all(is_grid(v) or (isinstance(v, int | float) and not isinstance(v, bool)) for v in values)
    return "line" if ordered and len(values) > 1 else "bars" if len(values) <= MOST_BARS else "rows"


def _title(heads: Sequence[str], split: Sequence[str], key: Sequence[Any]) -> str:
    fields = words.condition(dict(zip(split, key, strict=True)))
    return " · ".join(part for part in (*heads, fields) if part)


def _description(figure: Plot, multiple: Multiple) -> str:
    across = f" by {figure.chart.x_title}" if figure.chart.x_title else ""
    part = f", {multiple.title}" if multiple.title else ""
    return f"{figure.chart.y_title}{across}{part}. The table below holds the same numbers."


def _chance(run: Run, chart: Chart) -> float | None:
    found = {card["outputs"] for card in run.backbones.values()} - {
        0
    }  # a backbone without a classifier guesses nothing
    one = next(iter(found)) if len(found) == 1 else None
    return 1 / one if one is not None and chart.metric == "top1" and one <= 100 else None


def height_of(figure: Plot, usual: int) -> int:
    if figure.kind == "heat":
        return max(120, min(18 * len(figure.y_order) + 40, 420))
    if figure.kind == "rows":
        return len(figure.x_order) * (6 * len(figure.backbones) + 8)
    return 46 * len(figure.backbones) if figure.kind == "none" else usual


def _cycle(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [values[i % len(values)] for i in range(len(names))]


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
