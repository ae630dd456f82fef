"""Every chart of a run as SVG and PNG, for papers and slides."""

from pathlib import Path
from typing import Any

from visionvitals.files import write_safely
from visionvitals.report.charts import Plot, height_of, plots, specification
from visionvitals.report.looks import LIGHT, theme, vega_lite_version
from visionvitals.results import Run


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
        content = chart(figure).to_dict()
        content["config"] = theme(LIGHT, ink="#1d2127", soft="#5b636e", line="#dfe2e6") | {"background": "#ffffff"}
        version = vega_lite_version()
        name = study if number == 1 else f"{study}_{number}"
        svg, png = folder / f"{name}.svg", folder / f"{name}.png"
        write_safely(svg, vl_convert.vegalite_to_svg(content, vl_version=version))
        write_safely(png, vl_convert.vegalite_to_png(content, vl_version=version, scale=2))
        written += [svg, png]
    return written


def chart(figure: Plot) -> Any:
    """A chart of altair: one, or its small multiples beside each other."""
    import altair as alt

    several = len(figure.multiples) > 1
    size: dict[str, Any] = {"width": 300 if several else 460, "height": height_of(figure, 200 if several else 280)}
    charts = [specification(figure, m, **size).properties(title=m.title) for m in figure.multiples]
    return alt.concat(*charts, columns=3).resolve_scale(xOffset="independent") if several else charts[0]
