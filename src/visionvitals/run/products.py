"""What is computed once from an image set and used by many cells: saliency, features. Arrays on disk, one row per image.

A product is an entry of the cache beside the decoded pictures (`vitals cache` shows and clears it), a folder with one mapped file per
column and `meta.json`. It is made under the name `<key>.part` and renamed when it is whole; `done.json` in there says how many rows
are on the disk, so that a killed run goes on where it stood. Two processes that make the same product write the same values.
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
from visionvitals.datasets._cache_folder import decoded_folder, make_room
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
            make_room(sum(n * int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in columns.values()))
            part.mkdir(parents=True, exist_ok=True)
        arrays = _begin(part, n, columns)
        done = start
        for done in fill(arrays, start):
            for array in arrays.values():
                array.flush()
            (part / "done.tmp").write_text(json.dumps(done))
            (part / "done.tmp").replace(part / "done.json")
        if done != n:
            raise RuntimeError(f"the product `{name}` stopped at {done} of {n} rows")
        (part / "meta.json").write_text(json.dumps({"description": f"{name}, {n} images", **content}))
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


def _begin(part: Path, n: int, columns: Columns) -> "dict[str, np.memmap[Any, Any]]":
    """Mapped for writing. Rows that are there stay: another process may just be writing the same ones."""
    for key, (shape, dtype) in columns.items():
        with (part / key).open("ab") as file:
            file.truncate(n * int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return _open(part, n, columns, "r+")


def _open(folder: Path, n: int, columns: Columns, mode: Any) -> "dict[str, np.memmap[Any, Any]]":
    return {
        key: np.memmap(folder / key, np.dtype(dtype), mode, shape=(n, *shape))
        for key, (shape, dtype) in columns.items()
    }


def _plain(columns: Columns) -> dict[str, Any]:
    return {key: [list(shape), dtype] for key, (shape, dtype) in columns.items()}
