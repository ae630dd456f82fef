"""What the commands print: tables on standard output, everything about progress on standard error."""

import re
import shutil
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from visionvitals import short_names
from visionvitals.errors import LONGEST, escaped
from visionvitals.run.progress import say, write

if TYPE_CHECKING:
    from visionvitals.plan.planner import Planned
    from visionvitals.results import Run
    from visionvitals.results.by_image import Part
    from visionvitals.results.compare import Difference
    from visionvitals.results.compared import Compared
    from visionvitals.results.numbers import Block


SPELLED = ("backbone", "data")
"""Columns that hold spellings, which may be long."""
TOGETHER = 20
"""Letters of a piece of a name that stay together where several tables make room for them."""
NARROWEST = 4
"""Letters of a name or a head that stay together where the terminal has no room for its pieces."""
LONGEST_NUMBER = 32
FIRST = 6
"""So many images, and so many conditions of each, are shown of a table by image."""
_ONE = r"[(]?[-+−]?\d[\d.,x]*(e[-+]?\d+)?(–[\d.,]+)?[)]?"
_NUMBER = re.compile(rf"{_ONE}( (to |%$)?{_ONE})*|–")


def print_line(text: object) -> None:
    """A line, or several, on standard output: what a command was asked for."""
    write(str(text), sys.stdout)


def complain(text: str) -> None:
    """The one message of a command that failed, cut where it is very long."""
    say(f"vitals: {text if len(text) <= LONGEST else text[:LONGEST] + '...'}")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, names: int | None = None) -> None:
    """A table on standard output; outside a terminal as wide as it needs to be, since a log can be scrolled.

    The spellings in the columns `backbone` and `data` are shortened as far as they stay apart. The first `names` columns (those before the first
    number where None) tell the rows apart: where the columns are shared among several tables, each begins with them.
    """
    from visionvitals.results.numbers import written

    for number in (n for n, column in enumerate(columns) if column in SPELLED):
        short = short_names.labels(dict.fromkeys(row[number] for row in rows))
        rows = [[*row[:number], short[row[number]], *row[number + 1 :]] for row in rows]
    numeric = [all(isinstance(row[k], int | float) for row in rows) for k in range(len(columns))]
    texts = [[escaped(written(value)).replace("\n", "\\n").replace("\t", "\\t") for value in row] for row in rows]
    for chosen, widths in _layout(columns, texts, names) if sys.stdout.isatty() else [_natural(columns, texts)]:
        rule = ["─" * (sum(widths) + 3 * len(widths) - 1)]
        right = [numeric[k] for k in chosen]
        head, *body = ([row[k] for k in chosen] for row in (columns, *texts))
        lines = [
            "",
            *_lines(head, widths, right),
            *rule,
            *(line for row in body for line in _lines(row, widths, right)),
        ]
        print_line("\n".join(f" {line}" if line else "" for line in [*lines, ""]))


def _natural(columns: Sequence[str], texts: Sequence[Sequence[str]]) -> tuple[list[int], list[int]]:
    """All columns, and how wide each needs to be to stand in one line."""
    return list(range(len(columns))), [max(map(_width, column)) for column in zip(columns, *texts, strict=True)]


def _layout(
    columns: Sequence[str], texts: Sequence[Sequence[str]], names: int | None
) -> list[tuple[list[int], list[int]]]:
    """(columns, their widths) of one table, or of several below each other, in the width of the terminal.

    Names and heads are folded; a number never is. Where that is not enough, the columns are shared among several tables, see `print_table`; where the
    names alone leave no room, words are broken anywhere.
    """
    room = shutil.get_terminal_size().columns - 2
    _, natural = _natural(columns, texts)
    body = [max((_width(row[k]) for row in texts), default=0) for k in range(len(columns))]
    whole = [_is_number(row[k] for row in texts) for k in range(len(columns))]
    longest = [
        max(_width(p) for text in (column, *([] if number else (row[k] for row in texts))) for p in _pieces(text))
        for k, (column, number) in enumerate(zip(columns, whole, strict=True))
    ]
    least = [
        min(n, max(w, piece) if number else min(piece, TOGETHER))
        for n, w, number, piece in zip(natural, body, whole, longest, strict=True)
    ]
    tight = [w if number else NARROWEST for w, number in zip(body, whole, strict=True)]
    if names is None:
        names = whole.index(True) if True in whole else 0
    parts: list[list[int]] = [[]]
    for k in range(names, len(columns)):
        if parts[-1] and sum(least[j] + 3 for j in [*range(names), *parts[-1], k]) > room:
            parts.append([])
        parts[-1].append(k)
    found = []
    for part in parts:
        chosen = [*range(names), *part]
        widths = [natural[k] for k in chosen]
        for floor in (least, tight):
            while sum(widths) + 3 * len(widths) > room:
                reducible = [j for j, k in enumerate(chosen) if widths[j] > floor[k]]
                if not reducible:
                    break
                widths[max(reducible, key=lambda j: (whole[chosen[j]], widths[j]))] -= 1  # heads of numbers first
        found.append((chosen, widths))
    return found


def _is_number(texts: Iterable[str]) -> bool:
    """Whether a column holds numbers, with intervals or without, that must not be folded."""
    known = [text for text in texts if text]
    return bool(known) and all(len(text) <= LONGEST_NUMBER and _NUMBER.fullmatch(text) for text in known)


def _lines(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> list[str]:
    """A row of a table; what is wider than its column goes on below."""
    folded = [_folded(text, width) for text, width in zip(row, widths, strict=True)]
    lines = []
    for parts in zip_longest(*folded, fillvalue=""):
        padded = zip(parts, widths, numeric, strict=True)
        lines.append("   ".join(" " * (w - _width(t)) + t if n else t + " " * (w - _width(t)) for t, w, n in padded))
    return [line.rstrip() for line in lines]


def _folded(text: str, width: int) -> list[str]:
    """A text in lines of at most a width, broken between its pieces where that is possible."""
    lines = [""]
    for piece in _pieces(text):
        if _width(lines[-1] + piece.rstrip()) <= width:
            lines[-1] += piece
            continue
        lines += [""] if lines[-1] else []
        for letter in piece:
            lines += [""] if _width(lines[-1] + letter.strip()) > width else []
            lines[-1] += letter
    return [line.rstrip() for line in lines]


def _pieces(text: str) -> list[str]:
    """A text where it may be broken: after a space, and within a spelling after one of its marks."""
    return re.findall(r"[^ /@?&,:]*[ /@?&,:]|[^ /@?&,:]+$", text) or [""]


def _width(text: str) -> int:
    """The columns that a text takes on a terminal: Chinese, Japanese and Korean letters take two."""
    return len(text) if text.isascii() else sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def show_plan(planned: "Planned", rates: Mapping[str, float], device: str) -> None:
    """Cells and time by study, a table for each image set; skips by reason, notes, and the time of all, in 80 columns.

    Args:
        planned: the resolved plan.
        rates: backbone -> forward passes in images per second.
        device: where they were measured.
    """
    from visionvitals.results import words
    from visionvitals.run.progress import duration

    plan = planned.plan
    called = short_names.labels([*plan.backbones, *plan.sets]) | dict(plan.names)
    total = _show_cells(planned, rates, called)
    skips: dict[tuple[str, str], Counter[str]] = {}
    for skip in planned.skips:
        skips.setdefault((skip.study, skip.reason), Counter())[called.get(skip.backbone, skip.backbone)] += 1
    for (study, reason), by_backbone in skips.items():
        counts = ", ".join(f"{n} of {name}" for name, n in by_backbone.items())
        _wrapped(f"skipped: {study}, {counts}: {reason}")
    for note in planned.notes:
        for spelling in sorted(called, key=len, reverse=True):
            note = note.replace(spelling, called[spelling])
        _wrapped(f"note: {note}")
    speeds = ", ".join(f"{called.get(spec, spec)} {rate:,.0f} images/s" for spec, rate in rates.items())
    about = "at most" if any(cell.may_stop for cell in planned.cells) else "about"
    _wrapped(
        f"{words.count(len(planned.cells), 'cell')}, {about} {duration(total)} of forward passes on {device} ({speeds})."
    )
    print_line("Decoding comes on top, once for each image set and input size.")


def _show_cells(planned: "Planned", rates: Mapping[str, float], called: Mapping[str, str]) -> float:
    """For each image set how many cells a study has on each backbone, of how many images, and their time; the seconds of all."""
    from visionvitals.run import calibrate
    from visionvitals.run.progress import duration

    found: dict[str, dict[tuple[str, int], dict[str, list[float]]]] = {}
    for cell in planned.cells:
        row = found.setdefault(cell.images.spec, {}).setdefault((cell.study, calibrate.images_of(cell)), {})
        seconds = calibrate.seconds(cell, planned.studies[cell.study].passes(cell.condition), rates)
        row.setdefault(cell.backbone.spec, []).append(seconds)
    for images, rows in found.items():
        there = dict.fromkeys(spec for row in rows.values() for spec in row)
        print_line(f"cells and time on {called.get(images, images)}")
        told = [
            [study, n, *(f"{len(row[b])}, {duration(sum(row[b]))}" if b in row else "" for b in there)]
            for (study, n), row in rows.items()
        ]
        print_table(["study", "images", *(called.get(spec, spec) for spec in there)], told, names=2)
    return sum(x for rows in found.values() for row in rows.values() for seconds in row.values() for x in seconds)


def show_vital_signs(run: "Run") -> None:
    """The report's first table, a sign a row, for each image set."""
    from visionvitals.results import numbers

    _show_blocks(numbers.of_signs(run))


def show_numbers(rows: "Sequence[Mapping[str, Any]]") -> None:
    """The rows of `results.table`, a table for each study; what is equal in all of its rows stands above it."""
    from visionvitals.results import numbers

    _show_blocks(numbers.blocks(rows))


def _show_blocks(found: "Sequence[Block]") -> None:
    for block in found:
        _wrapped(block.said)
        print_table(block.heads, block.rows, names=block.names)
        for said in block.remarks:
            _wrapped(said)


def show_images(found: "Sequence[Part]") -> None:
    """The first images of every study, with its first metric at its first conditions."""
    from visionvitals.results import words
    from visionvitals.results.fields import varying

    groups: dict[tuple[str, str, str], list[Part]] = {}
    for part in found:
        for study, metric in {p.study: m for p, m in reversed(part.columns)}.items():
            groups.setdefault((study, part.images, metric), []).append(part)
    for (study, images, metric), several in groups.items():
        points = [p for part in several for p, m in part.columns if (p.study, m) == (study, metric)]
        varies = varying(points)
        fixed = words.condition({k: v for k, v in points[0].condition.items() if k not in varies})
        print_line(f"{study} on {images}: {metric}" + (f"; {fixed}" if fixed else ""))
        places = {words.condition({name: p.condition.get(name) for name in varies}): p.condition for p in points}
        rows: list[list[Any]] = []
        for row, item in enumerate(several[0].items[:FIRST]):
            for part in several:
                known = part.at(study, metric, item)
                values = [known.get(tuple(fields.items())) for fields in [*places.values()][:FIRST]]
                rows.append([item, several[0].groups["label"][row], part.backbone, *values])
        heads = ["item", "label", "backbone", *(place or metric for place in [*places][:FIRST])]
        shown = [k for k in range(len(heads)) if heads[k] != "label" or any(row[k] for row in rows)]
        own = sum(k < 3 for k in shown)
        print_table([heads[k] for k in shown], [[row[k] for k in shown] for row in rows], names=own)
        counts = ((len(several[0].items), "image"), (len(places), "condition"))
        left = [words.count(n - FIRST, what) for n, what in counts if n > FIRST]
        if left:
            print_line(f"{' and '.join(left)} more, and every metric, in the file of --csv or --parquet.\n")


def show_comparison(of: "Compared") -> None:
    """Every sign with its verdict, what flips, then a table for each study, of its first metric, in 80 columns; of a group the signs only."""
    from visionvitals.results import compared, words

    if of.group:
        print_line(f"{words.condition(of.group)}: {of.pair.b} minus {of.pair.a}")
    else:
        sides = [f"{letter}: {name}" for letter, name in (("a", of.pair.a), ("b", of.pair.b))]
        print_line("\n".join([*sides, "b minus a on the same images, with 95 % intervals"]))
    for d in of.signs or (of.conditions if of.group else ()):
        both = " and ".join(f"{words.value(e, share=d.share)}{' %' if d.share else ''}" for e in (d.a, d.b))
        at = ", ".join(filter(None, (d.title, words.condition(d.condition), d.images)))
        print_line(f"\n{at}: {both}")
        _wrapped(d.verdict, indent=2)
    if of.group:
        print_line("")
        return
    for found in of.flips:
        first, *others = compared.flipped(found)
        print_line("")
        _wrapped(first)
        for said in others:
            _wrapped(said, indent=2)
    _show_conditions(of.conditions)
    _wrapped(of.line)
    for said in of.differing:
        _wrapped(said)


def _wrapped(said: str, *, indent: int = 0) -> None:
    """A sentence in 80 columns; a word that is longer stays whole."""
    from visionvitals.results import words

    print_line("\n".join(words.wrapped(said, first=" " * indent, rest=" " * (indent + 2))))


def _show_conditions(conditions: "Sequence[Difference]") -> None:
    from visionvitals.results import words
    from visionvitals.results.fields import varying

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
                words.n(d.value) if d.value.early else d.value.n,
            ]
            for d in several
        ]
        print_table([*varies, "a", "b", "b - a", "flips", "n"], rows, names=len(varies))
