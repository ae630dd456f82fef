"""What is computed once from an image set and used by many cells: saliency, features. Arrays on disk, one row per image.

A product is an entry of the cache beside the decoded pictures (`vitals cache` shows and clears it), a folder with one mapped file per
column and `meta.json`. It is made under the name `<key>.part` and renamed when it is whole; `done.json` in there says how many rows
are on the disk, so that a killed run goes on where it stood. Two processes that make the same product write the same values into the
same files, and neither takes back what the other has written.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visionvitals.core import Columns
from visionvitals.datasets.base.cache_folder import decoded_folder, make_room
from visionvitals.errors import VitalsError

Fill = Callable[[Mapping[str, np.ndarray], int], Iterator[int]]


def product(
    source: Mapping[str, Any], name: str, facts: Mapping[str, Any], n: int, columns: Columns, fill: Fill
) -> Mapping[str, np.ndarray]:
    """The arrays of a product, from the cache or computed now; see `core.Job.product`.

    Args:
        source: what decides the images and their order.
        name: of the product, for people.
        facts: what decides the values beside the images; JSON values.
        n: rows.
        columns: name -> (shape of a row, dtype).
        fill: (arrays, start) -> the number of rows done so far, again and again; the last one must be n.

    Raises:
        VitalsError: no room for it.
    """
    content = {"product": name, "source": source, "facts": facts, "n": n, "columns": _plain(columns)}
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    final, part = decoded_folder() / key, decoded_folder() / f"{key}.part"
    if (final / "meta.json").is_file():
        with contextlib.suppress(OSError):
            os.utime(final / "meta.json")
        return _open(final, n, columns, "c")
    try:
        start = _begun(part)
        decoded_folder().mkdir(parents=True, exist_ok=True)
        if not start:
            make_room(sum(_bytes(n, shape, dtype) for shape, dtype in columns.values()))
            part.mkdir(parents=True, exist_ok=True)
            _extend(part, n, columns)
        arrays = _open(part, n, columns, "r+")
        done = start
        for done in fill(arrays, start):
            for array in arrays.values():
                array.flush()
            _replace(part / "done.json", done)
        if done != n:
            raise RuntimeError(f"the product `{name}` stopped at {done} of {n} rows")
        _replace(part / "meta.json", {"description": f"{name}, {n} images", **content})
        if not final.exists():
            part.rename(final)
    except OSError as error:
        if not (final / "meta.json").is_file():  # else another process made the same one first
            raise VitalsError(
                f"The cache {decoded_folder()} cannot be used: {error.strerror or error}. "
                "Set VISIONVITALS_CACHE to a folder that can."
            ) from error
    return _open(final, n, columns, "c")


def _begun(part: Path) -> int:
    """The rows that an earlier, killed process has finished."""
    try:
        return int(json.loads((part / "done.json").read_text()))
    except (FileNotFoundError, ValueError):
        return 0


def _replace(path: Path, content: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def _extend(part: Path, n: int, columns: Columns) -> None:
    """Give every column its file at full length, of zeros; rows that another process has written already stay."""
    for key, (shape, dtype) in columns.items():
        with (part / key).open("ab") as file:  # never "w", which would empty a file that another process has mapped
            file.truncate(_bytes(n, shape, dtype))


def _bytes(n: int, shape: tuple[int, ...], dtype: str) -> int:
    return n * int(np.prod(shape)) * np.dtype(dtype).itemsize


def _open(folder: Path, n: int, columns: Columns, mode: Any) -> "dict[str, np.memmap[Any, Any]]":
    return {
        key: np.memmap(folder / key, np.dtype(dtype), mode, shape=(n, *shape))
        for key, (shape, dtype) in columns.items()
    }


def _plain(columns: Columns) -> dict[str, Any]:
    return {key: [list(shape), dtype] for key, (shape, dtype) in columns.items()}
