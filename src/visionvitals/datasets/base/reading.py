"""Reading what strangers wrote: text, tables and JSON whose faults end in one line."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionvitals.errors import VitalsError, blamed, require
from visionvitals.files import read_regular


def read_text(path: Path) -> str:
    """The text of a table or a list, without a byte-order mark.

    Raises:
        VitalsError: it cannot be read, or is not UTF-8.
    """
    try:
        return read_regular(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#x} at {error.start}"
        raise VitalsError(f"{path} must be UTF-8 text. Got {found}.") from None
    except OSError as error:
        raise VitalsError(f"{path} must be a file that can be read. Got: {error.strerror or error}.") from None


def read_json(path: Path) -> dict[str, Any]:
    """The table of a json file of ours.

    Raises:
        VitalsError: it cannot be read, or is no JSON object.
    """
    with blamed(f"{path} must be JSON as it was written; delete it to begin anew"):
        found = json.loads(read_text(path))
    require(isinstance(found, dict), f"{path} must hold a JSON object", found, "Delete it to begin anew.")
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
