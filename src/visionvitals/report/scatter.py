"""A scatter: every image of a study as a point, where the other charts show means over images."""

from collections.abc import Mapping, Sequence
from typing import Any

from visionvitals.report.read import Point, aligned

from visionvitals.figure import Chart
from visionvitals.report import words


def records(p: Point, chart: Chart) -> list[dict[str, Any]]:
    """What is drawn of a point of the run: one record per image that has both metrics."""
    at = words.short(p.condition.get(chart.x))
    if chart.across not in p.scores:
        return []
    both = aligned([p.scores[chart.metric], p.scores[chart.across]]).tolist()
    others = set(p.scores[chart.across][0])
    items = [item for item in p.scores[chart.metric][0] if item in others]
    return [
        {"backbone": p.backbone, "x": at, "at": at, "item": item, "v": v, "across": across, "label": f"{item}, {at}"}
        for item, (v, across) in zip(items, both, strict=True)
    ]


def drawn(found: Sequence[Mapping[str, Any]], chart: Chart, groups: Sequence[str]) -> Any:
    """The altair chart of some records, without a size; a colour and a symbol for each of `groups`."""
    import altair as alt

    told_apart = {"scale": alt.Scale(domain=list(groups)), "title": None}
    points = alt.Chart(alt.Data(values=list(found))).mark_point(filled=True, size=40, opacity=0.8)
    points = points.encode(
        x=alt.X("across:Q", title=chart.x_title, scale=alt.Scale(zero=False)),
        y=alt.Y("v:Q", title=chart.y_title, scale=alt.Scale(zero=False)),
        color=alt.Color("at:N", **told_apart),
        shape=alt.Shape("at:N", **told_apart),
        tooltip=[alt.Tooltip("item:N", title="image"), alt.Tooltip("at:N", title=chart.x)],
        description=alt.Description("label:N"),
    )
    return points.add_params(alt.param(name="focus", value=""))
