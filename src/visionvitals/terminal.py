"""What the commands print: tables on standard output, everything about progress on standard error."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals import registry

if TYPE_CHECKING:
    from visionvitals.plan.planner import Planned


SPELLED = ("backbone", "data")
"""Columns that hold spellings, which may be long."""


def say(text: str) -> None:
    """One line on standard error, at once."""
    print(text, file=sys.stderr, flush=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on standard output; outside a terminal as wide as it needs to be, since a log can be scrolled.

    The spellings in the columns `backbone` and `data` are shortened as far as they stay apart.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    for number in (n for n, column in enumerate(columns) if column in SPELLED):
        short = registry.labels(row[number] for row in rows)
        rows = [[*row[:number], short[row[number]], *row[number + 1 :]] for row in rows]
    shown = Table(box=box.SIMPLE, pad_edge=False)
    for number, column in enumerate(columns):
        numeric = all(isinstance(row[number], int | float) for row in rows)
        shown.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(written(value)) for value in row))
    console = Console(width=None if sys.stdout.isatty() else 1000)
    with console.capture() as captured:  # printed by ourselves: rich answers a closed pipe with an exit code of its own
        console.print(shown)
    print(captured.get(), end="")


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
        print(f"skipped: {n} of {study} on {backbone}: {reason}")
    for note in planned.notes:
        print(f"note: {note}")
    total = duration(sum(times.values()))
    speeds = ", ".join(f"{spec} {rate:,.0f} images/s" for spec, rate in rates.items())
    print(f"{len(planned.cells)} cells, about {total} of forward passes on {device} ({speeds}).")
    print("Decoding comes on top, once for each image set and input size.")


def show_vital_signs(run_folder: Path) -> None:
    """The report's first table."""
    from visionvitals.report import read, signs, words

    run = read.load(run_folder)
    columns = signs.columns(run)
    rows = [
        [
            *pair,
            *(words.measured(c.readings[pair].estimate, share=c.share) if pair in c.readings else "" for c in columns),
        ]
        for pair in signs.pairs(run)
    ]
    print_table(["backbone", "data", *(c.sign.title + (", %" if c.share else "") for c in columns)], rows)
