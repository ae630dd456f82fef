"""The report: one self-contained HTML file, made from a run folder alone. It opens offline and asks the network for nothing."""

import base64
import functools
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionvitals import stats, study
from visionvitals.errors import VitalsError
from visionvitals.figure import Metric
from visionvitals.files import write_safely
from visionvitals.report import by_class, charts, looks, notes, origin, panels, tables
from visionvitals.report import figures as figures_of
from visionvitals.results import signs, words
from visionvitals.results.run import Run
from visionvitals.run import noted

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """One study of the page.

    Attributes:
        name: of the study, also its anchor.
        title, asks: of the study; its name and "" where nothing is known of it.
        gone: why nothing is known of it, or "".
        plots: what is drawn.
        published: numbers of others beside ours.
        table: all numbers.
        panels: pictures.
        classes: answers class by class.
    """

    name: str
    title: str
    asks: str
    gone: str
    plots: list[charts.Plot]
    published: list[tables.Beside]
    table: tables.Table
    panels: list[panels.Panel]
    classes: list[by_class.ByClass]


def build(run: Run, *, out: Path | None = None) -> Path:
    """Make the report of a run.

    Args:
        run: as `results.run.load` reads it; it may be unfinished.
        out: the file to write; `report.html` in the run folder by default.

    Returns:
        The file that was written.

    Raises:
        VitalsError: the file cannot be written.
    """
    page = render(run)
    target = run.folder / "report.html" if out is None else out
    try:
        write_safely(target, page)
    except OSError as error:
        raise VitalsError(
            f"The report must be writable. Got {target}: {error.strerror}. Give another --out."
        ) from error
    return target


def render(run: Run) -> str:
    """The report as text."""
    run.summarise()
    return str(_environment().get_template("page.html.jinja").render(**_content(run)))


def figures(run: Run, folder: Path) -> list[Path]:
    """Write every study's chart as SVG and PNG; see `charts.save`.

    Raises:
        VitalsError: the files cannot be written.
    """
    try:
        return figures_of.save(run, folder)
    except OSError as error:
        raise VitalsError(
            f"The figures must be writable. Got {folder}: {error.strerror}. Give another --figures."
        ) from error


def _content(run: Run) -> dict[str, Any]:
    """Everything that the template shows."""
    columns = signs.columns(run)
    sections = [_section(run, name) for name in run.studies if run.of(name)]
    library = Library()
    for picture in (p for s in sections for panel in s.panels for row in panel.rows for p in row.pictures):
        library.add(picture.data)  # before the page's head, which holds them all, is written
    for worst in (w for s in sections for c in s.classes for found in c.worst.values() for w in found if w.picture):
        library.add(worst.picture or b"")
    return {
        "run": run,
        "cells": len({cell.id for p in run.points for cell in p.cells}),
        "title": _title(run),
        "summary": summary(run, columns),
        "date": origin.date(run),
        "sections": sections,
        "columns": columns,
        "pairs": signs.pairs(run),
        "comparisons": _comparisons(run, columns),
        "series": {name: i for i, name in enumerate(run.backbones)},
        "specifications": {
            f"{s.name}/{number}": charts.interactive(plot) for s in sections for number, plot in enumerate(s.plots)
        },
        "skips": notes.skips(run),
        "failures": notes.failures(run),
        "missing": notes.missing(run),
        "unreadable": notes.unreadable(run),
        "warnings": notes.warnings(run),
        "label_sentences": notes.label_sentences(run),
        "notes": noted.lines(run.folder),
        "command": origin.command(run),
        "settings": origin.settings(run),
        "versions": origin.versions(run),
        "metrics": _metrics(run),
        "baseline": study.BASELINE,
        "library": library,
        "words": words,
        "origin": origin,
        "charts": charts,
        "looks": looks,
        "signs": signs,
    }


def _section(run: Run, name: str) -> Section:
    found, record = run.studies[name], run.record(name)
    return Section(
        name=name,
        title=(record.title if record else "") or name,
        asks=record.asks if record else "",
        gone=found if isinstance(found, str) else "",
        plots=charts.plots(run, name),
        published=tables.beside_published(run, name),
        table=tables.of_study(run, name),
        panels=panels.panels(run, name),
        classes=by_class.by_class(run, name),
    )


def _metrics(run: Run) -> dict[str, Metric]:
    """What the numbers of the page mean: name -> metric, each meaning once."""
    found: dict[str, Metric] = {}
    for name, metric in dict.fromkeys((p.study, m) for p in run.points for m in p.metrics):
        known = run.metric(name, metric)
        found[metric if found.get(metric, known) == known else f"{metric} of {name}"] = known
    return found


def summary(run: Run, columns: Sequence[signs.Column]) -> str:
    """The first result in one sentence: what is recognised, and what of it is kept."""
    if not run.points:
        return "No cell finished, so nothing was measured; the reasons are listed below."
    clean = next((c for c in columns if c.study == study.BASELINE and c.sign.kind == "mean"), None)
    kept = next((c for c in columns if c.sign.kind == "kept"), None)
    pair = signs.pairs(run)
    if clean is None or len(pair) > 3:
        column = kept or clean or next(iter(columns), None)
        return (
            _extremes(column, several=len(run.images) > 1)
            if column
            else f"{words.count(len(run.points), 'condition')} measured."
        )
    parts = []
    for key in pair:
        if key not in clean.readings:
            continue
        e = clean.readings[key].estimate
        where = f" on {key[1]}" if len(run.images) > 1 else ""
        part = f"`{key[0]}` recognises {words.with_unit(e)} of the images{where}"
        if kept is not None and key in kept.readings and not kept.readings[key].at_chance:
            of_that = words.with_unit(kept.readings[key].estimate)
            part += f" and keeps {of_that} of that {kept.sign.at or f'({kept.sign.title})'}"
        parts.append(part)
    return "; ".join(parts) + ". In brackets: 95 % intervals." if parts else ""


def _extremes(column: signs.Column, *, several: bool) -> str:
    """Who is highest and who lowest."""

    def who(key: tuple[str, str]) -> str:
        return f"`{key[0]}`" + (f" on {key[1]}" if several else "")

    known = [(k, r.estimate) for k, r in column.readings.items() if r.estimate.value == r.estimate.value]
    if not known:
        return "Nothing could be compared."
    known.sort(key=lambda pair: pair[1].value)
    (low, least), (high, most) = known[0], known[-1]
    said = f"{column.sign.title[:1].upper()}{column.sign.title[1:]}: "
    if len(known) == 1:
        return f"{said}{who(high)}: {words.with_unit(most, share=column.share)}. In brackets: the 95 % interval."
    return (
        f"{said}highest for {who(high)}, {words.with_unit(most, share=column.share)}, and lowest for {who(low)}, "
        f"{words.with_unit(least, share=column.share)}, of {len(known)} measured. In brackets: 95 % intervals."
    )


def _title(run: Run) -> str:
    names = list(run.backbones)
    if not names:
        return "Vital signs: nothing measured"
    return f"Vital signs of {words.listed(names) if len(names) <= 2 else words.count(len(names), 'backbone')}"


def _comparisons(run: Run, columns: Sequence[signs.Column]) -> list[tuple[str, str, str, list[stats.Estimate | None]]]:
    """(images, second, first, differences under `columns`): every backbone against the first one of its image set."""
    found = []
    for images in run.images:
        there = [b for b, i in signs.pairs(run) if i == images]
        for second in there[1:]:
            found.append((images, second, there[0], [signs.compare(run, c, images, there[0], second) for c in columns]))
    return found


class Library:
    """Pictures of the page, each once: the same bytes get the same CSS class."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[str, str, str]] = {}

    def add(self, data: bytes) -> str:
        """The class of a picture."""
        from PIL import Image

        key = hashlib.sha256(data).hexdigest()
        if key not in self.names:
            width, height = Image.open(io.BytesIO(data)).size
            uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
            self.names[key] = f"p{len(self.names)}", uri, f"{width}/{height}"
        return self.names[key][0]

    def rules(self) -> list[tuple[str, str, str]]:
        """(class, data URI, aspect ratio) of every picture."""
        return list(self.names.values())


@functools.cache
def _bundle() -> Any:
    """Vega, Vega-Lite and vega-embed as one script, from the package that also draws the figures."""
    import vl_convert
    from markupsafe import Markup

    export = "window.vegaEmbed = vegaEmbed;"
    code = vl_convert.javascript_bundle(export, vl_version=looks.vega_lite_version())
    return Markup(code.replace("</script", "<\\/script"))


def _environment() -> Any:
    import jinja2
    from markupsafe import Markup, escape

    def prose(text: str) -> Markup:
        """Plain text with `code` in it; intervals and percent signs are not torn apart."""
        coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
        whole = re.sub(r"(\([^\s()]+–[^\s()]+\))", r'<span class="whole">\1</span>', coded)
        return Markup(re.sub(r"(\d) %", "\\1\N{NO-BREAK SPACE}%", whole))

    def breakable(text: str) -> Markup:
        """Text whose long names may be broken after their separators; its words, where it has several, as `span`s."""
        parts = [Markup("<wbr>").join(re.split(r"(?<=[/:@._?=-])(?=[^/:@._?=-])", word)) for word in text.split(" ")]
        return (
            parts[0] if len(parts) == 1 else Markup(" ").join(Markup("<span>{}</span>").format(part) for part in parts)
        )

    def inline(name: str) -> Markup:
        return Markup((_HERE / name).read_text(encoding="utf-8"))

    def script_json(value: Any) -> Markup:
        return Markup(json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"prose": prose, "breakable": breakable, "script_json": script_json}
    environment.globals |= {"inline": inline, "bundle": _bundle}
    return environment
