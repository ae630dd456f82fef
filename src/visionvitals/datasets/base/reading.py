"""Reading what strangers wrote: text, tables and JSON whose faults end in one line."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from visionvitals.datasets.base.files import missing
from visionvitals.errors import VitalsError, blamed, near, require, shortened
from visionvitals.files import read_text

MOST_CLASSES = 1_000_000
"""A larger index of an output is a mistake, and a card lists every index up to the largest."""


def read_json(path: Path) -> dict[str, Any]:
    """The table of a json file of ours.

    Raises:
        VitalsError: it cannot be read, or is no JSON object.
    """
    with blamed(f"{path} must be JSON as it was written; delete it to start again"):
        found = json.loads(read_text(path))
    require(isinstance(found, dict), f"{path} must hold a JSON object", found, "Delete it to start again.")
    return dict(found)


def read_rows(path: Path, *, delimiter: str = ",") -> Iterator[tuple[int, list[str]]]:
    """(number of the line, fields without surrounding spaces) of each line of a csv file that is not empty.

    Raises:
        VitalsError: it cannot be read, or is no csv file.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, delimiter=delimiter)
    try:
        for row in reader:
            if row:
                yield reader.line_num, [field.strip() for field in row]
    except csv.Error as error:
        raise VitalsError(f"{path}, line {reader.line_num}, must be a csv row. {str(error).capitalize()}.") from None


def read_keys(path: Path, names: Sequence[str], *, what: str = "folder") -> dict[str, str]:
    """The `classes=` of an image set: for each of its names of classes the key, from lines of `folder,key` (or another word of `what`).

    Raises:
        VitalsError: it cannot be read, a bad line, or a name that it does not list.
    """
    must = f"`classes` must name a csv file with one line `{what},key` for each {'class folder' if what == 'folder' else what}"
    require(not path.is_dir(), must, str(path), "This is a folder: give the file.")
    if not path.is_file():
        raise VitalsError(f"{must}. {missing('The file', path)}")
    keys: dict[str, str] = {}
    for line, row in read_rows(path):
        got = shortened(",".join(row))
        require(len(row) == 2 and all(row), f"{path}, line {line} must read `{what},key`", got)
        require(row[0] not in keys, f"{path}, line {line}: each {what} must be listed once", shortened(row[0]))
        keys[row[0]] = row[1]
    for name in names:
        must = f"{path} must list every {'class folder' if what == 'folder' else what}"
        do = partial(_line_for, name, keys)
        require(name in keys, must, f"no line for {name}", do)
    return {name: keys[name] for name in names}


def _line_for(name: str, keys: Iterable[str]) -> str:
    return f"Add `{shortened(name)},KEY`. {near(name, keys)}".rstrip()
