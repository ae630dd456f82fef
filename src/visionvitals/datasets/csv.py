"""A table of pictures: `csv:FILE` with the columns path,label in its header; other columns are ignored.

Paths are relative to the folder of the csv. Whole-number labels are the indices of the model's outputs, counted from 0; any other
labels are class names. The order is that of the rows. A file that is missing is skipped and counted when it is read.
"""

import csv
import os
import re
from pathlib import Path

import numpy as np
from PIL import Image

from visionvitals.core import ImageSet, ImageSetCard
from visionvitals.datasets.base.digest import digest, file_hashes
from visionvitals.datasets.base.files import from_paths, local_path, missing, printable
from visionvitals.datasets.base.labels import readable_names
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

_MOST_CLASSES = 1_000_000  # a larger index is a mistake, and the card lists every index up to the largest


def open(spec: Spec) -> ImageSet:
    """Read the table.

    Raises:
        VitalsError: no such file, no column `path` or `label`, or a bad row (with its line number).
    """
    spec.only()
    table = local_path(spec)
    if not table.is_file():
        raise missing("The csv file", table)
    rows = _read(table)
    require(bool(rows), f"{table} must have at least one row below its header", 0)
    numbers = _are_indices(table, rows)
    if numbers:
        classes = tuple(str(index) for index in range(max(int(label) for _, _, label in rows) + 1))
    else:
        classes = tuple(sorted({label for _, _, label in rows}))
    position = {key: index for index, key in enumerate(classes)}
    ids = [printable(path) for _, path, _ in rows]
    labels = [position[str(int(label)) if numbers else label] for _, _, label in rows]
    paths = [table.parent / path for _, path, _ in rows]
    card = ImageSetCard(
        spec=spec.text,
        digest=digest(classes, ids, labels, file_hashes(paths, owner=table)),
        n=len(rows),
        classes=classes,
        class_names=readable_names(classes),
        kind="indices" if numbers else "names",
    )
    return from_paths(card, ids, labels, paths)


def examples(tmp: Path) -> list[str]:
    """Spellings of small inputs, written below `tmp`, for the contract tests."""
    rng = np.random.default_rng(0)
    tmp.mkdir(parents=True, exist_ok=True)
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp / f"{index}.png")
    (tmp / "indices.csv").write_text("path,label,note\n" + "".join(f"{i}.png,{i % 2},x\n" for i in range(4)))
    (tmp / "names.csv").write_text("label,path\n" + "".join(f"{'dog' if i % 2 else 'cat'},{i}.png\n" for i in range(4)))
    return [f"csv:{tmp / 'indices.csv'}", f"csv:{tmp / 'names.csv'}"]


_Row = tuple[int, str, str]
"""(line, path relative to the csv, label)"""


def _read(table: Path) -> list[_Row]:
    rows: list[_Row] = []
    lines: dict[str, int] = {}
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            for column in ("path", "label"):
                require(
                    column in header,
                    f"The header of {table} must have a column `{column}`",
                    header,
                    near(column, header),
                )
            at_path, at_label = header.index("path"), header.index("label")
            for row in reader:
                if not row:
                    continue
                where = f"{table}, line {reader.line_num}"
                got = [field.strip() for field in row]
                filled = len(got) == len(header) and got[at_path] and got[at_label]
                require(bool(filled), f"{where} must have {len(header)} fields with a path and a label", ",".join(row))
                path = _relative(got[at_path], table.parent)
                require(
                    path not in lines,
                    f"{where}: a path must be listed once; it is also on line {lines.get(path)}",
                    path,
                )
                lines[path] = reader.line_num
                rows.append((reader.line_num, path, got[at_label]))
    except UnicodeDecodeError as error:
        raise VitalsError(
            f"{table} must be UTF-8 text. Got byte {error.object[error.start]:#x} at {error.start}."
        ) from None
    except csv.Error as error:
        raise VitalsError(f"{table} must be a csv file. {error}.") from None
    return rows


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
        good = re.fullmatch(r"\d+", label, re.ASCII) and int(label) < _MOST_CLASSES
        require(bool(good), f"{table}, line {line}: a number as label must be a whole output index from 0", label)
    return True
