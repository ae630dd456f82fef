"""The identity of an image set: sha256 over its classes and, in order, each picture's id, label, content and, if it has one, part.

The content of every file is hashed, so a changed pixel changes the identity and a moved folder does not. That reads all files
once (about 1 GB a second and core, once the files are in memory). Later openings trust a file whose size, modification time and
change time are those noted beside its hash, as git's index does; a file that changed less than two seconds before it was hashed is
not noted, since a second change within the clock's tick would go unseen.
"""

import contextlib
import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from visionvitals.datasets.base.cache_folder import cache_folder
from visionvitals.datasets.base.decode import PLAIN, Traits, traits
from visionvitals.files import MAX_BYTES, read_regular, write_safely

MISSING = "missing"
SETTLED = 2.0  # seconds
_CHUNK = 64


def digest(
    classes: Sequence[str],
    ids: Iterable[str],
    labels: Iterable[int],
    contents: Iterable[str],
    splits: Sequence[str] = (),
) -> str:
    """sha256, hexadecimal, of the classes and of (id, label, content) in order.

    Args:
        classes: in label order; they are part of it, since a label is an index into them.
        ids, labels, contents: one per picture; `contents` are hashes, or `MISSING`.
        splits: one per picture for a set with parts, else none.
    """
    total = hashlib.sha256("\0".join(classes).encode())
    for id, label, content in zip(ids, labels, contents, strict=True):
        total.update(f"\n{id}\0{label}\0{content}".encode())
    if splits:
        total.update(b"\n\n" + "\0".join(splits).encode())
    return total.hexdigest()


class Content(NamedTuple):
    """What is known of a file: sha256 of its content, or `MISSING` where it cannot be read; and the traits of a picture."""

    hash: str
    traits: Traits = PLAIN


def contents(paths: Sequence[str | Path], *, owner: Path, any_size: bool = False) -> list[Content]:
    """Hash and look at each file, in order.

    What `read_regular` refuses (no such file, a pipe, a device, too large unless `any_size`) is `MISSING`.

    Args:
        paths: the files.
        owner: the folder or csv file they belong to; names the note of what was hashed before.
    """
    note = cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(owner.absolute())).hexdigest()[:32]}.json"
    known = _read_note(note)
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    noted: dict[str, _Entry] = {}
    found: list[Content] = []
    with ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1))) as pool:
        looked = pool.map(lambda chunk: [_look(str(path), known, any_size) for path in chunk], chunks)
        for path, entry in zip(paths, (entry for part in looked for entry in part), strict=True):
            if entry.settled:
                noted[str(path)] = entry
            found.append(Content(entry.hash, Traits(*entry.traits) if entry.traits else PLAIN))
    if noted != known:
        with contextlib.suppress(OSError):  # a full or read-only disk costs only the time of the next hashing
            write_safely(note, json.dumps(noted))
    return found


def folder_digest(folder: Path) -> str:
    """sha256, hexadecimal, of the names and contents of all regular files below a folder but hidden ones; its path does not matter."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    files = {name.as_posix(): found[name] for name in sorted(found) if not any(part[0] == "." for part in name.parts)}
    looked = contents([*files.values()], owner=folder, any_size=True)
    return digest((), files, [0] * len(files), [content.hash for content in looked])


def look_at(load: Callable[[], bytes]) -> Content:
    """What is known of a picture that is no file of its own; `MISSING` where `load` raises OSError."""
    try:
        data = load()
    except OSError:
        return Content(MISSING)
    return Content(hashlib.sha256(data).hexdigest(), traits(data))


class _Entry(NamedTuple):
    """A line of the note; `traits` is empty for a plain picture."""

    size: int
    modified: int
    changed: int
    settled: bool
    hash: str
    traits: tuple[Any, ...]


def _look(path: str, known: Mapping[str, _Entry], any_size: bool) -> _Entry:
    try:
        status = os.stat(path)
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before = known.get(path) if any_size or status.st_size <= MAX_BYTES else None
        if before is not None and before[:3] == stamp:
            return before
        settled = max(stamp[1:]) < (time.time() - SETTLED) * 1e9
        if any_size and status.st_size > MAX_BYTES and stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                return _Entry(*stamp, settled, hashlib.file_digest(file, "sha256").hexdigest(), ())
        data = read_regular(path)
    except (OSError, ValueError):
        return _Entry(0, 0, 0, False, MISSING, ())
    found = traits(data)
    return _Entry(*stamp, settled, hashlib.sha256(data).hexdigest(), () if found == PLAIN else tuple(found))


def _read_note(note: Path) -> dict[str, _Entry]:
    try:
        noted = json.loads(note.read_bytes())
        return {
            path: _Entry(size, modified, changed, settled, hash, tuple(special))
            for path, (size, modified, changed, settled, hash, special) in noted.items()
        }
    except (
        OSError,
        ValueError,
        AttributeError,
        TypeError,
        IndexError,
    ):  # none yet, of an older form, or damaged: hash again
        return {}


def hashes(ids: Iterable[str], seed: int) -> Iterator[int]:
    """By which a seed draws pictures: those with the smallest ones, of (seed, id), come first."""
    for id in ids:
        yield int.from_bytes(hashlib.blake2b(f"{seed}\0limit\0{id}".encode(), digest_size=8).digest())
