"""A chart in the language of Vega-Lite: one specification for the page (as a dict) and for figures (SVG, PNG).

One line per backbone, told apart by colour, dash and symbol; bands and whiskers are 95 % intervals.
"""

from collections.abc import Sequence
from typing import Any, Literal

from visionvitals.report import scatter
from visionvitals.report.charts import Multiple, Plot
from visionvitals.report.looks import DASHES, LIGHT, SYMBOLS, theme

LONGEST_NAME = 320
"""Pixels of a name in a chart; a longer one would take the room of the points. The tooltip has all of it."""
STEP, GAP = 8, 14
"""Pixels for a backbone in a row of a chart of many words, and between two rows."""
TALL = {"orient": "top", "grid": True}
"""The axis of values of such a chart: where it begins, and lines down through all rows."""


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
    dash = alt.StrokeDash("backbone:N", scale=alt.Scale(domain=names, range=_cycle(DASHES, names)), **legend)
    shape = alt.Shape("backbone:N", scale=alt.Scale(domain=names, range=_cycle(SYMBOLS, names)), **legend)
    heads = {
        "backbone": "backbone",
        "at": figure.chart.x,
        "true": figure.chart.x_metric and figure.chart.x_title,
        "told": figure.chart.y_title,
        "n": figure.metric.over,
        "runs": "runs",
    }
    tooltip = [alt.Tooltip(f"{field}:N", title=title) for field, title in heads.items() if title]

    share = figure.metric.share
    along, Along = ("x", alt.X) if figure.kind in ("none", "rows") else ("y", alt.Y)
    value = {
        "title": figure.chart.y_title,
        "scale": alt.Scale(domain=[0, 1]) if share else alt.Scale(zero=figure.kind != "line"),
        "axis": alt.Axis(tickCount=5, **({"format": "%"} if share else {}), **(TALL if figure.kind == "rows" else {})),
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
        under = base.mark_bar(aria=False, **thick).encode(
            tooltip=tooltip, **measured, **shown(0 if figure.kind == "rows" else 0.4, 0.1)
        )
        over = base.mark_rule(aria=False, strokeWidth=1 if figure.kind == "rows" else 2).encode(
            strokeDash=dash, **spread, **shown(1, 0.15)
        )
    tip = base.mark_point(filled=True, size=44 if figure.kind == "rows" else 64).encode(
        shape=shape, tooltip=tooltip, description=alt.Description("label:N"), **measured, **shown(1, 0.15)
    )
    layers = [under, over, tip]
    if all(r["low"] is None for r in multiple.records):  # numbers without intervals: an axis of nothing has no ends
        layers.remove(under if figure.kind == "line" else over)
    if figure.kind == "none":  # names above the bars: an axis of long names would leave no room for them on a phone
        names_above = alt.Chart(data).mark_text(
            align="left", baseline="bottom", dy=-9, fontSize=12, limit=LONGEST_NAME, aria=False
        )
        layers.append(names_above.encode(**across(figure), x=alt.value(0), text="label:N", **shown(1, 0.3)))
    values = [r["v"] for m in figure.multiples for r in m.records if r["v"] is not None]
    signed = min(values, default=0) < 0
    marked = [(figure.chance, [2, 3])] if figure.chance is not None else []
    marked += [(0.0, [1, 0])] if signed else []  # where bars of both signs begin
    for place, strokes in marked:
        line = alt.Chart(alt.Data(values=[{"place": place}])).mark_rule(strokeDash=strokes, aria=False)
        layers.insert(0, line.encode(**{along: Along("place:Q", **value)}))
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
    tooltip += [alt.Tooltip("told:N", title=figure.chart.y_title), alt.Tooltip("n:N", title="n")]
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
        between = alt.Scale(domain=figure.drawn, paddingInner=0, paddingOuter=GAP / STEP / 2)
        beside = alt.YOffset("backbone:N", scale=between)
        every = alt.Axis(labelOverlap=False, domain=False, ticks=False, grid=True, tickBand="extent")
        return {
            "y": alt.Y("x:N", title=None, sort=list(figure.x_order), axis=every, scale=alt.Scale(padding=0)),
            "yOffset": beside,
        }
    level = alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=4)
    if figure.kind == "bars":
        side = alt.XOffset("backbone:N", scale=alt.Scale(domain=figure.drawn))
        return {"x": alt.X("x:N", title=title, sort=list(figure.x_order), axis=level), "xOffset": side}
    if isinstance(figure.multiples[0].records[0]["x"], str):
        return {"x": alt.X("x:O", title=title, sort=list(figure.x_order), axis=level)}
    values = figure.ticks
    ends = [*values, *(r["x"] for m in figure.multiples for r in m.records)]
    whole = all(float(v).is_integer() for v in values)
    percent = {"format": ".1~%"} if figure.chart.x_unit == "share" else {"format": "d"} if whole else {}
    axis = alt.Axis(values=list(values), labelOverlap="greedy", labelSeparation=8, **percent)
    scale = alt.Scale(domain=[min(ends), max(ends)], nice=False)  # the same in all small multiples
    return {"x": alt.X("x:Q", title=title, axis=axis, scale=scale)}


def _description(figure: Plot, multiple: Multiple) -> str:
    across = f" by {figure.chart.x_title}" if figure.chart.x_title else ""
    part = f", {multiple.title}" if multiple.title else ""
    return f"{figure.chart.y_title}{across}{part}. The table below holds the same numbers."


def _row(figure: Plot) -> int:
    """The height of one word of a chart of many."""
    return STEP * len(figure.drawn) + GAP


def height_of(figure: Plot, usual: int) -> int:
    if figure.kind == "heat":
        return max(120, min(18 * len(figure.y_order) + 40, 420))
    if figure.kind == "rows":
        return len(figure.x_order) * _row(figure)
    return 46 * len(figure.backbones) if figure.kind == "none" else usual


def _cycle(values: Sequence[Any], names: Sequence[str]) -> list[Any]:
    return [values[i % len(values)] for i in range(len(names))]
