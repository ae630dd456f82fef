"""What is computed once from an image set and used by many cells (saliency, features, a patch), on disk: see `job.Job.memo`.

A memo is an entry of the cache beside the decoded pictures (`vitals cache` shows and clears it): a folder with one file per column and
`meta.json`, which holds the whole key and checksums. A key that differs or a checksum that does not fit costs a computation, never a
number. Rows are made under the name `<key>.part`; `done.json` in there says how many are on the disk, so that a killed run goes on
where it stood. Two processes that make the same memo write the same values into the same files, and neither takes back what the
other has written.
"""

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from visionvitals.datasets.base.cache_folder import decoded_folder, make_room
from visionvitals.errors import VitalsError
from visionvitals.files import write_safely
from visionvitals.job import Arrays, Columns, Fill

CHUNK = 1 << 22
"""Bytes of a column under one checksum."""
SAMPLED = 16
"""So many chunks of a column are verified when it is opened, evenly spread, the first and the last among them."""
EVERY = 5.0
"""Seconds between two records of how many rows are on the disk: what a kill can cost."""


class DiskMemos:
    """`job.Memos` in the cache folder."""

    def rows(self, name: str, key: Mapping[str, Any], n: int, columns: Columns, fill: Fill) -> Arrays:
        shapes = {column: [[n, *shape], dtype] for column, (shape, dtype) in columns.items()}
        content = {"memo": name, "key": {**_plain(key), "columns": shapes}}
        return _kept(content, lambda folder: _fill(folder, name, n, shapes, fill))

    def whole(self, name: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        def save(folder: Path) -> dict[str, Any]:
            made = {column: np.ascontiguousarray(array) for column, array in make().items()}
            for column, array in made.items():
                write_safely(folder / column, array.tobytes())
            return {column: [list(array.shape), array.dtype.str] for column, array in made.items()}

        return _kept({"memo": name, "key": _plain(key)}, save)


def _kept(content: Mapping[str, Any], make: Callable[[Path], dict[str, Any]]) -> Arrays:
    """The arrays of an entry, which `make` writes into a folder where there is none that is whole; it returns their shapes."""
    key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
    final, part = decoded_folder() / key, decoded_folder() / f"{key}.part"
    found = _open(final, content)
    if found is not None:
        with contextlib.suppress(OSError):
            os.utime(final / "meta.json")
        return found
    try:
        part.mkdir(parents=True, exist_ok=True)
        shapes = make(part)
        sums = {column: _sums(part / column) for column in shapes}
        meta = {"description": content["memo"], **content, "columns": shapes, "sums": sums}
        write_safely(part / "meta.json", json.dumps(meta))
        if final.exists() and _open(final, content) is None:  # damaged: out of the way, then gone
            shutil.rmtree(final.rename(final.with_name(f"{uuid.uuid4().hex}.part")), ignore_errors=True)
        try:
            part.rename(final)
        except OSError:  # another process made the same one first
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        found = _open(final, content)
        if found is None:  # else another process has finished the same one, and taken the folder away
            raise VitalsError(
                f"The cache {decoded_folder()} cannot be used: {error.strerror or error}. "
                "Set VISIONVITALS_CACHE to a folder that can."
            ) from error
        return found
    found = _open(final, content)
    if found is None:
        raise VitalsError(f"The cache {decoded_folder()} must keep what is written to it. Got another content.")
    return found


def _fill(part: Path, name: str, n: int, shapes: Mapping[str, Any], fill: Fill) -> dict[str, Any]:
    """Compute the rows that are not on the disk yet."""
    start = _begun(part, n)
    sizes = {column: int(np.prod(shape)) * np.dtype(dtype).itemsize for column, (shape, dtype) in shapes.items()}
    if not start:
        make_room(sum(sizes.values()))
        for column, size in sizes.items():
            with (part / column).open("ab") as file:  # never "w": another process may have it mapped
                file.truncate(size)
    arrays = {column: _mapped(part / column, shape, dtype, "r+") for column, (shape, dtype) in shapes.items()}
    done, sums, last = start, {column: list[int]() for column in shapes}, time.monotonic()

    def record(done: int) -> None:
        for column, array in arrays.items():
            if isinstance(array, np.memmap):
                array.flush()
            sums[column] += _sums(part / column, len(sums[column]), int(sizes[column] * done / n) // CHUNK)
        write_safely(part / "done.json", json.dumps([done, sums]))

    if start < n:
        try:
            for done in fill(arrays, start):
                if time.monotonic() - last > EVERY:
                    record(done)
                    last = time.monotonic()
        finally:
            record(done)
    if done != n:
        raise RuntimeError(f"the memo `{name}` stopped at {done} of {n} rows")
    return dict(shapes)


def _begun(part: Path, n: int) -> int:
    """The rows that an earlier, killed process has finished, as far as they are still what it wrote."""
    try:
        done, sums = json.loads((part / "done.json").read_text())
        whole = all(_sums(part / column, 0, len(kept)) == kept for column, kept in sums.items())
        return int(done) if whole and 0 <= done <= n else 0
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def _open(folder: Path, content: Mapping[str, Any]) -> Arrays | None:
    """The mapped arrays of a finished entry; None where there is none, it has another key, or it is damaged."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if {k: meta[k] for k in content} != json.loads(json.dumps(content)):
            return None
        found = {}
        for column, (shape, dtype) in meta["columns"].items():
            path, kept = folder / column, meta["sums"][column]
            if not _fits(path, kept, int(np.prod(shape)) * np.dtype(dtype).itemsize):
                return None
            found[column] = _mapped(path, shape, dtype, "c")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _mapped(path: Path, shape: Sequence[int], dtype: str, mode: Literal["r+", "c"]) -> np.ndarray:
    """A column on disk; one without entries cannot be mapped."""
    return np.zeros(shape, dtype) if 0 in shape else np.memmap(path, np.dtype(dtype), mode, shape=tuple(shape))


def _sums(path: Path, start: int = 0, stop: int | None = None) -> list[int]:
    """The checksums of the chunks `start` to `stop` of a file, all from `start` where None."""
    with path.open("rb") as file:
        file.seek(start * CHUNK)
        count = -(-path.stat().st_size // CHUNK) if stop is None else stop
        return [zlib.crc32(file.read(CHUNK)) for _ in range(start, count)]


def _fits(path: Path, kept: list[int], size: int) -> bool:
    """Whether a file has its size, and the chunks that are looked at their checksums."""
    if path.stat().st_size != size or len(kept) != -(-size // CHUNK):
        return False
    chosen = sorted({round(k) for k in np.linspace(0, len(kept) - 1, min(SAMPLED, len(kept)))}) if kept else []
    with path.open("rb") as file:
        for k in chosen:
            file.seek(k * CHUNK)
            if zlib.crc32(file.read(CHUNK)) != kept[k]:
                return False
    return True


def _plain(key: Mapping[str, Any]) -> dict[str, Any]:
    """The key as JSON reads it back, so that it can be compared."""
    found: dict[str, Any] = json.loads(json.dumps(key, sort_keys=True, allow_nan=False))
    return found
