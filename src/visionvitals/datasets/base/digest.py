"""The identity of an image set: sha256 over its classes and, in order, each picture's id, label, content and, if it has one, part.

The content of every file is hashed, so a changed pixel changes the identity and a moved folder does not. That reads all files
once (about 1 GB a second and core, once the files are in memory). Later openings trust a file whose size, modification time and
change time are those noted beside its hash, as git's index does; a file that changed less than two seconds before it was hashed is
not noted, since a second change within the clock's tick would go unseen.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from visionvitals.datasets.base.cache_folder import cache_folder

MISSING = "missing"
_SETTLED = 2.0  # seconds
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


def file_hashes(paths: Sequence[Path], *, owner: Path) -> list[str]:
    """sha256 of each file's content, in order, or `MISSING` where it cannot be read.

    Args:
        paths: the files.
        owner: the folder or csv file they belong to; names the note of what was hashed before.
    """
    note = cache_folder() / "hashes" / f"{hashlib.sha256(os.fsencode(owner.absolute())).hexdigest()[:32]}.json"
    known = _read_note(note)
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    with ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1))) as pool:
        found = [
            entry for part in pool.map(lambda chunk: [_hash(path, known) for path in chunk], chunks) for entry in part
        ]
    settled = {str(path): entry for path, entry in zip(paths, found, strict=True) if entry[3]}
    if settled != known:
        _write_note(note, settled)
    return [entry[4] for entry in found]


def folder_digest(folder: Path) -> str:
    """sha256, hexadecimal, of the names and contents of all files below a folder but hidden ones; its own path does not matter."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    files = {name.as_posix(): found[name] for name in sorted(found) if not any(part[0] == "." for part in name.parts)}
    return digest((), files, [0] * len(files), file_hashes(list(files.values()), owner=folder))


_Entry = tuple[int, int, int, bool, str]
"""(size, modification time in ns, change time in ns, worth noting, hash)"""


def _hash(path: Path, known: dict[str, _Entry]) -> _Entry:
    try:
        status = path.stat()
        stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before = known.get(str(path))
        if before is not None and before[:3] == stamp:
            return before
        settled = max(stamp[1:]) < (time.time() - _SETTLED) * 1e9
        with path.open("rb") as file:
            return (*stamp, settled, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return (0, 0, 0, False, MISSING)


def _read_note(note: Path) -> dict[str, _Entry]:
    try:
        return {path: tuple(entry) for path, entry in json.loads(note.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):  # none yet, or damaged: hash again
        return {}


def _write_note(note: Path, entries: dict[str, _Entry]) -> None:
    temporary = note.with_suffix(f".{os.getpid()}.tmp")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entries))
        temporary.replace(note)
    except OSError:  # a full or read-only disk costs only the time of the next hashing
        temporary.unlink(missing_ok=True)
