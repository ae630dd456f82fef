"""A table of pictures: `csv:FILE[?exif=apply]` with the columns path,label in its header. Other columns
(weather, camera, site) are groups: they decide no number, and tables, comparisons and rules show the pictures of each value alone.

Paths are relative to the folder of the csv. Whole-number labels are the indices of the model's outputs, counted from 0; any other
labels are class names. The order is that of the rows. Files that are missing are named in a note when the table is opened, and
left out; where all are missing, the table is refused. A further column counts where its name is there once and is not `class`, which is the
label; a picture whose field is empty is in none of its groups.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import from_paths, local_path, missing, printable
from visionvitals.datasets.base.reading import MOST_CLASSES, read_rows
from visionvitals.errors import VitalsError, near, require, shortened
from visionvitals.registry import Spec, parse


def open(spec: Spec) -> ImageSet:
    """Read the table.

    Raises:
        VitalsError: no such file, no column `path` or `label`, or a bad row (with its line number).
    """
    spec.only("exif")
    table = local_path(spec)
    if not table.is_file():
        raise missing("The csv file", table)
    rows, columns, left = _read(table)
    require(bool(rows), f"{table} must have at least one row below its header", 0)
    numbers = _are_indices(table, rows)
    if numbers:
        classes = tuple(str(index) for index in range(max(int(label) for _, _, label in rows) + 1))
    else:
        classes = tuple(sorted({printable(label) for _, _, label in rows}))
    position = {key: index for index, key in enumerate(classes)}
    ids = [printable(path) for _, path, _ in rows]
    labels = [position[str(int(label)) if numbers else printable(label)] for _, _, label in rows]
    paths = [os.path.join(table.parent, path) for _, path, _ in rows]
    kind = "indices" if numbers else "names"
    said = f"columns that are no groups, since they have no name of their own or are called `class`: {', '.join(left)}"
    notes = (said,) if left else ()
    return from_paths(spec, classes, ids, labels, paths, owner=table, kind=kind, columns=columns, notes=notes)


def files(text: str) -> Iterator[Path]:
    """The pictures that a spelling reads beside the table; none where it cannot be read."""
    try:
        table = local_path(parse(text, families=["csv"]))
        yield from (table.parent / path for _, path, _ in _read(table)[0])
    except (VitalsError, OSError):
        return


_Row = tuple[int, str, str]
"""(line, path relative to the csv, label)"""


def _read(table: Path) -> tuple[list[_Row], dict[str, list[str]], list[str]]:
    """(rows, further column -> its values, names of the columns that are not read)."""
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    reader = read_rows(table)
    _, header = next(reader, (1, []))
    for column in ("path", "label"):
        must = f"The header of {table} must have a column `{column}`"
        require(
            column in header,
            must,
            [shortened(name) for name in header[:20]],
            "The columns must be separated by commas, not by semicolons."
            if len(header) == 1 and ";" in header[0]
            else f"Its first line must name the columns: `path,label`. {near(column, header[:20])}"
            if any("." in name or "/" in name for name in header[:20])
            else near(column, (name for name in header[:20] if len(name) < 50)),
        )
    at_path, at_label = header.index("path"), header.index("label")
    known = ("path", "label", "class", "")
    names = [printable(name) for name in header]
    further = [k for k, name in enumerate(names) if name not in known and names.count(name) == 1]
    columns: dict[str, list[str]] = {names[k]: [] for k in further}
    for line, got in reader:
        where = f"{table}, line {line}"
        filled = len(got) == len(header) and got[at_path] and got[at_label]
        must = f"{where} must have {len(header)} fields with a path and a label"
        require(bool(filled), must, shortened(",".join(got)))
        path = _relative(got[at_path], table.parent)
        must = f"{where}: a path must be listed once; it is also on line {lines.get(path)}"
        require(path not in lines, must, shortened(path))
        lines[path] = line
        rows.append((line, path, got[at_label]))
        for k in further:
            columns[names[k]].append(printable(got[k]))
    read = {*columns, "path", "label", ""}
    return rows, columns, list(dict.fromkeys(name for name in names if name not in read))


def _relative(path: str, folder: Path) -> str:
    """The path as an id: POSIX, without `.` and `..`, and relative to the csv where it lies below its folder."""
    if os.path.isabs(path) and Path(path).is_relative_to(folder.absolute()):
        path = str(Path(path).relative_to(folder.absolute()))
    return Path(os.path.normpath(path)).as_posix()


def _are_indices(table: Path, rows: list[_Row]) -> bool:
    """Whether the labels are whole numbers. Numbers of another form, such as -1 or 2.0, are refused, not taken as names."""
    if not all(re.fullmatch(r"[-+]?\d+(\.\d*)?", label, re.ASCII) for _, _, label in rows):
        return False
    for line, _, label in rows:
        good = re.fullmatch(r"\d+", label, re.ASCII) and int(label) < MOST_CLASSES
        require(
            bool(good), f"{table}, line {line}: a number as label must be a whole output index from 0", shortened(label)
        )
    return True
