"""The look of every chart, on the page and in figures."""

from collections.abc import Sequence
from typing import Any

LIGHT = ("#0f6cbd", "#c8501e", "#0b7a5c", "#9a4a9e", "#8a6a00", "#50565e", "#3d8fc9", "#b23a48")
DARK = ("#6db6f2", "#ff9d66", "#4fd1a5", "#dd9be0", "#e3c04f", "#b9c0c9", "#a5d8ff", "#ff8f98")
"""Eight hues that stay apart under the common colour blindnesses, for a light and for a dark page. A ninth backbone repeats a hue
with another dash and another symbol."""
DASHES = ((1, 0), (6, 3), (2, 2), (9, 3, 2, 3), (12, 4))
HOURGLASS = "M-.9 -.9H.9L-.9 .9H.9Z"
SYMBOLS = (
    *("circle", "square", "triangle-up", "diamond", "cross"),
    *("triangle-down", "triangle-right", "triangle-left", HOURGLASS),
)
"""As Vega names them, or as a path from -1 to 1."""
OUTLINES = {
    "circle": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0",
    "square": "M-3.6 -3.6h7.2v7.2h-7.2z",
    "triangle-up": "M0 -4.6L4.6 3.4H-4.6z",
    "diamond": "M0 -5L4.2 0L0 5L-4.2 0z",
    "cross": "M-4.5 -1.5h3v-3h3v3h3v3h-3v3h-3v-3h-3z",
    "triangle-down": "M0 4.6L4.6 -3.4H-4.6z",
    "triangle-right": "M4.6 0L-3.4 4.6V-4.6z",
    "triangle-left": "M-4.6 0L3.4 4.6V-4.6z",
    HOURGLASS: "M-4 -4H4L-4 4H4z",
}
"""The symbols as paths, for the page's own legend."""


def vega_lite_version() -> str:
    """The version that altair writes, as vl-convert spells it."""
    import altair as alt

    return ".".join(str(alt.SCHEMA_VERSION).split(".")[:2])


def theme(colours: Sequence[str], *, ink: str, soft: str, line: str) -> dict[str, Any]:
    """The look of every chart as a Vega-Lite config.

    Args:
        colours: of the backbones, in order.
        ink, soft, line: of titles, of labels, of the grid.
    """
    return {
        "background": "transparent",
        "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif",
        "view": {"stroke": None},
        "range": {"category": list(colours)},
        "axis": {
            "labelColor": soft, "titleColor": soft, "gridColor": line, "domainColor": line, "tickColor": line,
            "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 10, "labelPadding": 6,
            "tickSize": 4,
        },
        "axisX": {"grid": False, "labelFlush": False},
        "axisY": {"domain": False, "ticks": False},
        "rule": {"color": soft},
        "text": {"color": ink},
        "title": {
            "color": ink, "fontSize": 13, "fontWeight": 600, "anchor": "start", "offset": 12,
            "subtitleColor": soft, "subtitleFontSize": 12, "subtitlePadding": 4,
        },
        "legend": {"labelColor": ink, "labelFontSize": 12, "symbolOpacity": 1, "labelLimit": 420, "orient": "top", "columns": 2},
    }  # fmt: skip
