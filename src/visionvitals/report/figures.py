"""Every chart of a run as SVG and PNG, for papers and slides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionvitals.files import write_safely
from visionvitals.report.charts import Multiple, Plot, counted, plots
from visionvitals.report.looks import LIGHT, theme, vega_lite_version
from visionvitals.report.vega import across, height_of, specification
from visionvitals.results import Run, words

_LINE = 14.0  # pixels between two names


def save(run: Run, folder: Path) -> list[Path]:
    """Write every chart as `<study>.svg` and `<study>.png` (twice the size) into `folder`, for papers and slides; further charts
    of a study as `<study>_2`, `<study>_3`.

    Returns:
        The files, in the order of the report.
    """
    import vl_convert

    written = []
    drawn = [(study, number, figure) for study in run.studies for number, figure in enumerate(plots(run, study), 1)]
    for study, number, figure in drawn:
        content = _printed(run, study, figure)
        version = vega_lite_version()
        name = study if number == 1 else f"{study}_{number}"
        line_art, pixels = folder / f"{name}.svg", folder / f"{name}.png"
        write_safely(line_art, vl_convert.vegalite_to_svg(content, vl_version=version))
        write_safely(pixels, vl_convert.vegalite_to_png(content, vl_version=version, scale=2))
        written += [line_art, pixels]
    return written


def svg(run: Run, study: str, figure: Plot) -> str:
    """A chart as SVG."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(_printed(run, study, figure), vl_version=vega_lite_version()))


def _printed(run: Run, study: str, figure: Plot) -> dict[str, Any]:
    """The specification of a chart on white."""
    content: dict[str, Any] = chart(run, study, figure).to_dict()
    content["config"] = theme(LIGHT, ink="#1d2127", soft="#5b636e", line="#dfe2e6") | {"background": "#ffffff"}
    content["padding"] = {
        "left": 5,
        "top": 5,
        "bottom": 5,
        "right": 20,
    }  # a name at the end of a line is wider than it is taken to be
    return content


def chart(run: Run, study: str, figure: Plot) -> Any:
    """A chart of altair that stands alone: the study's title, what was measured on how many images, and the names on the lines."""
    import altair as alt

    several = len(figure.multiples) > 1
    size: dict[str, Any] = {"width": 300 if several else 460, "height": height_of(figure, 200 if several else 280)}
    charts = []
    for m in figure.multiples:
        drawn = specification(figure, m, **size)
        if figure.kind == "line":
            drawn = alt.layer(drawn, *_names(figure, m, size["height"]))
        charts.append(drawn.properties(title=m.title) if several else drawn)
    whole = alt.concat(*charts, columns=3).resolve_scale(xOffset="independent") if several else charts[0]
    record = run.record(study)
    return whole.properties(title=alt.Title(record.title if record else study, subtitle=_about(run, study, figure)))


def _about(run: Run, study: str, figure: Plot) -> list[str]:
    """Lines below the title: the images, what is fixed, what the marks mean."""
    n = counted(r for m in figure.multiples for r in m.records)
    drawn = {"line": "bands", "scatter": "", "heat": ""}.get(figure.kind, "lines")
    intervals = drawn and any(r["low"] is not None for m in figure.multiples for r in m.records)
    marks = [f"{drawn}: 95 % intervals"] if intervals else []
    marks += ["dotted: guessing"] if figure.chance is not None else []
    there = {p.images for p in run.of(study) if figure.chart.metric in p.metrics}
    first = ", ".join(name for name in run.images if name in there) + (f", {n}" if n else "")
    return [text for text in ("; ".join([first, *marks]), words.condition(figure.fixed)) if text]


def _names(figure: Plot, multiple: Multiple, height: int) -> list[Any]:
    """The name of each backbone at the end of its line, moved apart where two ends meet."""
    import altair as alt

    ends: dict[str, Any] = {r["backbone"]: r for r in multiple.records if r["v"] is not None}  # the last one of each
    values = [r["v"] for m in figure.multiples for r in m.records if r["v"] is not None]
    top = 1.0 if figure.metric.share else max(values, default=1.0)
    bottom = 0.0 if figure.metric.share else min(values, default=0.0)
    scale = height / ((top - bottom) or 1.0)
    ends = dict(sorted(ends.items(), key=lambda pair: -pair[1]["v"]))
    layers = []
    for end, at in zip(ends.values(), _apart([(top - end["v"]) * scale for end in ends.values()], height), strict=True):
        mark = alt.Chart(alt.Data(values=[end])).mark_text(
            align="left", dx=9, fontSize=12, dy=at - (top - end["v"]) * scale
        )
        place = {
            **across(figure),
            "y": alt.Y("v:Q"),
            "color": alt.Color("backbone:N", legend=None),
            "text": "backbone:N",
        }
        layers.append(mark.encode(**place))
    return layers


def _apart(wanted: Sequence[float], height: float) -> list[float]:
    """Places from above, in pixels, moved so that names stand below each other, and none below the axis where there is room for all."""
    found: list[float] = []
    for at in wanted:
        found.append(max(at, found[-1] + _LINE) if found else at)
    for k in reversed(range(len(found))):
        found[k] = min(found[k], height - _LINE * (len(found) - 1 - k)) if len(found) * _LINE <= height else found[k]
    return found
