"""Reading files that strangers wrote: only regular files of a sane size, and tables whose faults end in one line."""

import csv
import errno
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from visionvitals.errors import VitalsError, blamed, require

MAX_BYTES = 512 * 2**20
"""No file of a data set may be larger: what the largest picture that is read (`decode.MAX_PIXELS`) takes with 16 bits a channel."""


def read_regular(path: str | Path, *, most: int = MAX_BYTES) -> bytes:
    """The content of a file. A pipe or a device, whose reading would never end, is refused before it is opened.

    Raises:
        OSError: no such file, no regular file, or more than `most` bytes.
    """
    try:
        status = os.stat(path)
    except ValueError as error:  # a NUL byte in the path
        raise OSError(errno.EINVAL, "no valid path") from error
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, more than the {most:,} that are read")
    with open(path, "rb") as file:
        data = file.read(status.st_size + 1)
    if len(data) > status.st_size:
        raise OSError(errno.EBUSY, "grows while it is read")
    return data


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
