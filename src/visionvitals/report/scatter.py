"""A scatter: every image of a study as a point, where the other charts show means over images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visionvitals.figure import Chart
from visionvitals.results import words
from visionvitals.results.run import Point, Run

MOST = 2000
"""As many images of one point of the run are drawn; more are thinned out evenly, since a page cannot hold them."""


def records(run: Run, p: Point, chart: Chart) -> list[dict[str, Any]]:
    """What is drawn of a point of the run: one record per image that has both metrics."""
    at = words.short(p.condition.get(chart.x), share=chart.x_unit == "share")
    if chart.across not in p.metrics:
        return []
    (key, v), (_, across) = run.values(p, chart.metric), run.values(p, chart.across)  # of one place: the same items
    both = np.flatnonzero(np.isfinite(v) & np.isfinite(across))
    both = both[np.unique(np.linspace(0, len(both) - 1, min(MOST, len(both))).round().astype(int))]
    items = run.items(key) if len(both) else []
    return [
        {
            "backbone": p.backbone,
            "x": at,
            "at": at,
            "item": items[k],
            "v": v_k,
            "across": a_k,
            "label": f"{items[k]}, {at}",
        }
        for k, v_k, a_k in zip(both.tolist(), v[both].tolist(), across[both].tolist(), strict=True)
    ]


def drawn(found: Sequence[Mapping[str, Any]], chart: Chart, groups: Sequence[str]) -> Any:
    """The altair chart of some records, without a size; a colour and a symbol for each of `groups`."""
    import altair as alt

    told = [
        alt.Tooltip(f"{v}:Q", title=title, format=".4f")
        for v, title in (("across", chart.x_title), ("v", chart.y_title))
    ]
    told_apart = {"scale": alt.Scale(domain=list(groups)), "title": None}
    points = alt.Chart(alt.Data(values=list(found))).mark_point(filled=True, size=40, opacity=0.8)
    points = points.encode(
        x=alt.X("across:Q", title=chart.x_title, scale=alt.Scale(zero=False)),
        y=alt.Y("v:Q", title=chart.y_title, scale=alt.Scale(zero=False)),
        color=alt.Color("at:N", **told_apart),
        shape=alt.Shape("at:N", **told_apart),
        tooltip=[alt.Tooltip("item:N", title="image"), alt.Tooltip("at:N", title=chart.x), *told],
        description=alt.Description("label:N"),
    )
    return points.add_params(alt.param(name="focus", value=""))
