"""The report: one self-contained HTML file, made from a run folder alone. It opens offline and asks the network for nothing.

The sections of the studies lie compressed in it and are built by the browser one after the other, that in view first.
"""

import base64
import functools
import gzip
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionvitals import stats, study
from visionvitals.errors import VitalsError
from visionvitals.figure import Metric
from visionvitals.files import write_safely
from visionvitals.remote import AnyPath
from visionvitals.report import (
    by_class,
    charts,
    confidence,
    first,
    groups,
    looks,
    notes,
    origin,
    panels,
    tables,
    templates,
    vega,
)
from visionvitals.report import figures as figures_of
from visionvitals.results import signs, words
from visionvitals.results.run import Run
from visionvitals.run import folder, noted


@dataclass(frozen=True)
class Section:
    """One study of the page.

    Attributes:
        name: of the study, also its anchor.
        title, asks: of the study; its name and "" where nothing is known of it.
        gone: why nothing is known of it, or "".
        plots: what is drawn.
        grouped: column -> the first of them by the groups of that column.
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
    grouped: Mapping[str, charts.Plot]
    published: list[tables.Beside]
    table: tables.Table
    panels: list[panels.Panel]
    classes: list[by_class.ByClass]

    @property
    def pictures(self) -> list[bytes]:
        """Every picture of it, the content of a webp file."""
        worst = (w.picture for c in self.classes for found in c.worst.values() for w in found)
        return [p.data for panel in self.panels for row in panel.rows for p in row.pictures] + [w for w in worst if w]


def build(run: Run, *, out: AnyPath | None = None) -> AnyPath:
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


def render(run: Run) -> str:
    """The report as text."""
    run.summarise()
    environment, content, library = _environment(), _content(run), Library()
    groupings = groups.groupings(run)
    sections = [_section(run, name, groupings) for name in run.studies if run.of(name)]
    for s in sections:
        for data in s.pictures:
            library.add(data, s.name)
    shared: dict[str, Any] = {**content, "library": library, "sections": sections}
    study, packed = environment.get_template("study.html.jinja"), {}
    for s in sections:
        drawn = [vega.interactive(plot) for plot in (*s.plots, *s.grouped.values())]
        packed[s.name] = _packed(study.render(**shared, s=s), drawn, library.style(s.name))
    by_group = [groups.signs_of(grouping, content["columns"]) for grouping in groupings]
    if by_group:
        packed[groups.SECTION] = _packed(
            environment.get_template("groups.html.jinja").render(**shared, by_group=by_group)
        )
    confident = _confidence(run)
    if confident is not None:
        drawn = [vega.interactive(plot) for plot in confident.plots]
        packed[confidence.SECTION] = _packed(study.render(**shared, s=confident), drawn)
    drawn_any = any(s.plots for s in sections)
    return str(environment.get_template("page.html.jinja").render(**shared, packed=packed, drawn=drawn_any))


def _confidence(run: Run) -> Section | None:
    """What the confidence of the answers is worth, where a study keeps it."""
    shown = confidence.points(run)
    if not shown:
        return None
    return Section(
        name=confidence.SECTION,
        title=confidence.TITLE,
        asks=confidence.ASKS,
        gone="",
        plots=confidence.plots(run, shown),
        grouped={},
        published=[],
        table=confidence.table(run, shown),
        panels=[],
        classes=[],
    )


def _packed(html: str, drawn: Sequence[Any] = (), style: str = "") -> str:
    """What the page keeps of a section until it is opened: its content, its charts and the CSS of its pictures."""
    return pack(json.dumps({"html": html, "charts": drawn, "style": style}, separators=(",", ":"), allow_nan=False))


def _content(run: Run) -> dict[str, Any]:
    """What the templates show beside the sections."""
    columns = signs.columns(run)
    told, others = first.telling(run, columns)
    pairs = signs.pairs(run)
    return {
        "run": run,
        "cells": len({cell.id for p in run.points for cell in p.cells}),
        "title": _title(run),
        "state": folder.state(run.folder, run.held[0]),
        "summary": first.summary(run, columns),
        "cards": first.cards(run, columns),
        "sizes": {images: first.measured(run, images) for images in run.images},
        "date": origin.date(run),
        "columns": told,
        "others": others,
        "plain": [column.sign.title for column in told if not column.share],
        "pairs": pairs,
        "comparisons": _comparisons(run, told),
        "series": {name: i for i, name in enumerate(run.backbones)},
        "skips": notes.skips(run),
        "failures": notes.failures(run),
        "missing": notes.missing(run),
        "go_on": "the same call in Python" if origin.from_python(run) else "vitals run on the run folder",
        "unreadable": notes.unreadable(run),
        "warnings": notes.warnings(run),
        "label_sentences": notes.label_sentences(run),
        "notes": noted.lines(run.folder),
        "command": origin.command(run),
        "settings": origin.settings(run),
        "versions": origin.versions(run),
        "metrics": _metrics(run),
        "baseline": study.BASELINE,
        "words": words,
        "origin": origin,
        "looks": looks,
        "signs": signs,
        "groups": groups,
        "confidence": confidence,
    }


def _section(run: Run, name: str, groupings: Sequence[groups.Grouping]) -> Section:
    found, record = run.studies[name], run.record(name)
    return Section(
        name=name,
        title=(record.title if record else "") or name,
        asks=record.asks if record else "",
        gone=found if isinstance(found, str) else "",
        plots=charts.plots(run, name),
        grouped={g.column: plot for g in groupings if (plot := groups.chart(run, name, g)) is not None},
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
        self.known: dict[str, tuple[str, str, set[str]]] = {}

    def add(self, data: bytes, section: str) -> str:
        """The class of a picture, which a section shows."""
        from PIL import Image

        key = hashlib.sha256(data).hexdigest()
        if key not in self.known:
            width, height = Image.open(io.BytesIO(data)).size
            name = f"p{len(self.known)}"
            uri = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
            rule = f".{name}{{background-image:url({uri});aspect-ratio:{width}/{height}}}"
            self.known[key] = name, rule, set()
        name, _, users = self.known[key]
        users.add(section)
        return name

    def style(self, section: str = "") -> str:
        """The CSS of the pictures of one section alone; without one, of those that several sections show."""
        return "".join(
            rule for _, rule, users in self.known.values() if ("" if len(users) > 1 else min(users)) == section
        )


def pack(text: str) -> str:
    """Text as the page keeps it: compressed by gzip, in base64."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one packed script, from the package that also draws the figures."""
    import vl_convert

    export = "window.vegaEmbed = vegaEmbed;"
    return pack(vl_convert.javascript_bundle(export, vl_version=looks.vega_lite_version()))


def _environment() -> Any:
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
        return Markup((templates.HERE / name).read_text(encoding="utf-8"))

    def exact(e: stats.Estimate) -> str:
        """A value as it is, for those who point at it."""
        between = "" if e.low != e.low else f", 95 % interval {e.low:.4f} to {e.high:.4f}"
        return f"{e.value:.4f}{between}, n = {words.n(e)}".replace("-", "−")

    environment = templates.environment()
    environment.filters |= {"prose": prose, "breakable": breakable, "exact": exact}
    environment.globals |= {"inline": inline, "bundle": _bundle}
    return environment
