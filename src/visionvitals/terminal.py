"""What the commands print: tables on standard output, everything about progress on standard error."""

import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from visionvitals import registry
from visionvitals.errors import LONGEST, escaped

if TYPE_CHECKING:
    from visionvitals.plan.planner import Planned
    from visionvitals.results import Run
    from visionvitals.results.compare import Difference, Pair


SPELLED = ("backbone", "data")
"""Columns that hold spellings, which may be long."""


def say(text: str) -> None:
    """One line on standard error, at once."""
    print(escaped(text), file=sys.stderr, flush=True)


def print_line(text: object) -> None:
    """A line, or several, on standard output: what a command was asked for."""
    print(escaped(str(text)))


def complain(text: str) -> None:
    """The one message of a command that failed, cut where it is very long."""
    say(f"vitals: {text if len(text) <= LONGEST else text[:LONGEST] + '...'}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; outside a terminal as wide as it needs to be, since a log can be scrolled.

    The spellings in the columns `backbone` and `data` are shortened as far as they stay apart.
    """
    for number in (n for n, column in enumerate(columns) if column in SPELLED):
        short = registry.labels(dict.fromkeys(row[number] for row in rows))
        rows = [[*row[:number], short[row[number]], *row[number + 1 :]] for row in rows]
    numeric = [all(isinstance(row[k], int | float) for row in rows) for k in range(len(columns))]
    texts = [[escaped(written(value)).replace("\n", "\\n").replace("\t", "\\t") for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *texts, strict=True)]
    if sys.stdout.isatty():
        widths = _fitting(widths, shutil.get_terminal_size().columns - 2 - 3 * len(widths))
    rule = ["─" * (sum(widths) + 3 * len(widths) - 1)]
    body = [line for row in texts for line in _lines(row, widths, numeric)]
    lines = ["", *_lines(columns, widths, numeric), *rule, *body, ""]
    print_line("\n".join(f" {line}" if line else "" for line in lines))


def _lines(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    """A row of a table; what is wider than its column goes on below."""
    folded = [
        [text] if len(text) <= width else [text[k : k + width] for k in range(0, len(text), width)]
        for text, width in zip(row, widths, strict=True)
    ]
    lines = []
    for parts in zip_longest(*folded, fillvalue=""):
        padded = zip(parts, widths, numeric, strict=True)
        lines.append("   ".join(" " * (w - _width(t)) + t if n else t + " " * (w - _width(t)) for t, w, n in padded))
    return [line.rstrip() for line in lines]


def _fitting(widths: Sequence[int], room: int) -> list[int]:
    """Widths of which the largest are cut until all fit into the room."""
    widths = list(widths)
    while sum(widths) > room and max(widths) > 8:
        widths[widths.index(max(widths))] -= 1
    return widths


def _width(text: str) -> int:
    """The columns that a text takes on a terminal: Chinese, Japanese and Korean letters take two."""
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def written(value: Any) -> str:
    """A value for people: four digits of a float, nothing for None and NaN."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def show_plan(planned: "Planned", rates: Mapping[str, float], device: str) -> None:
    """Cells by study, skips by reason, notes, and the time they would take.

    Args:
        planned: the resolved plan.
        rates: backbone -> forward passes in images per second.
        device: where they were measured.
    """
    from visionvitals.run import calibrate
    from visionvitals.run.progress import duration

    cells: Counter[tuple[str, str, str, int]] = Counter()
    times: Counter[tuple[str, str, str, int]] = Counter()
    for cell in planned.cells:
        key = (cell.study, cell.backbone.spec, cell.images.spec, calibrate.images_of(cell))
        cells[key] += 1
        times[key] += calibrate.seconds(cell, planned.studies[cell.study].passes(cell.condition), rates)  # type: ignore[assignment]
    print_table(
        ["study", "backbone", "data", "cells", "images each", "time"],
        [[*key[:3], n, key[3], duration(times[key])] for key, n in cells.items()],
    )
    for (study, backbone, reason), n in Counter((s.study, s.backbone, s.reason) for s in planned.skips).items():
        print_line(f"skipped: {n} of {study} on {backbone}: {reason}")
    for note in planned.notes:
        print_line(f"note: {note}")
    total = duration(sum(times.values()))
    speeds = ", ".join(f"{spec} {rate:,.0f} images/s" for spec, rate in rates.items())
    print_line(f"{len(planned.cells)} cells, about {total} of forward passes on {device} ({speeds}).")
    print_line("Decoding comes on top, once for each image set and input size.")


def show_vital_signs(run: "Run") -> None:
    """The report's first table."""
    from visionvitals.results import signs, words

    columns = signs.columns(run)
    rows = [
        [
            *pair,
            *(words.measured(c.readings[pair].estimate, share=c.share) if pair in c.readings else "" for c in columns),
        ]
        for pair in signs.pairs(run)
    ]
    print_table(["backbone", "data", *(c.sign.title + (", %" if c.share else "") for c in columns)], rows)


def show_numbers(rows: "Sequence[Mapping[str, Any]]") -> None:
    """The rows of `results.table`, a table for each study; what is equal in all of its rows stands above it."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["study"], []).append(row)
    for study, several in groups.items():
        used = [c for c in several[0] if c not in ("study", "low", "high") and any(written(r[c]) for r in several)]
        own = ("backbone", "metric", "value", "std_over_items", "std_over_runs")
        fixed = [c for c in used if c not in own and all(r[c] == several[0][c] for r in several)]
        print_line(f"{study}: " + ", ".join(f"{c} {written(several[0][c])}" for c in fixed))
        columns = [c for c in used if c not in fixed]
        short = {"value": "value (95 %)", "std_over_items": "std", "std_over_runs": "std of runs"}
        body = [[_with_interval(r) if c == "value" else r[c] for c in columns] for r in several]
        print_table([short.get(c, c) for c in columns], body)


def _with_interval(row: Mapping[str, Any]) -> str:
    if row["low"] is None or row["low"] != row["low"]:
        return written(row["value"])
    return f"{row['value']:.4f} ({row['low']:.3f}–{row['high']:.3f})"


def show_comparison(pair: "Pair", signs: "Sequence[Difference]", conditions: "Sequence[Difference]") -> None:
    """Every sign with its verdict, then a table for each study, of its first metric, in 80 columns."""
    from visionvitals.results import words
    from visionvitals.results.fields import varying

    sides = [f"{letter}: {name}" for letter, name in (("a", pair.a), ("b", pair.b))]
    print_line("\n".join([*sides, "b minus a on the same images, with 95 % intervals"]))
    for d in signs:
        both = " and ".join(f"{words.value(e, share=d.share)}{' %' if d.share else ''}" for e in (d.a, d.b))
        print_line(f"\n{d.title}, {d.images}: {both}\n  {d.verdict}")
    groups: dict[tuple[str, str], list[Difference]] = {}
    for d in conditions:
        several = groups.setdefault((d.study, d.images), [])
        if not several or d.title == several[0].title:  # one metric of each study; the files hold all of them
            several.append(d)
    for (study, images), several in groups.items():
        varies = varying(several)
        fixed = words.condition({k: v for k, v in several[0].condition.items() if k not in varies})
        print_line(f"{study} on {images}: {several[0].metric.head}" + (f"; {fixed}" if fixed else ""))
        rows = [
            [
                *(words.short(d.condition.get(name)) for name in varies),
                words.value(d.a, share=d.share),
                words.value(d.b, share=d.share),
                words.difference(d.value, share=d.share),
                words.flips(d.lost, d.gained) if d.metric.unit == "share" else "",
                d.value.n,
            ]
            for d in several
        ]
        print_table([*varies, "a", "b", "b - a", "flips", "n"], rows)
    for study, reasons in pair.matched[1].items():
        for reason in reasons:
            print_line(f"not compared: {study}: {reason}")
