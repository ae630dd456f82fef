"""Where decoded pictures are kept, how much of the disk they may take, and how they are cleared.

`VISIONVITALS_CACHE` names the folder (default: the platform's cache folder), `VISIONVITALS_CACHE_LIMIT` its size (default 50 GB).
All of it can be made again, and can be cleared at any time: an entry that a process has mapped stays readable there until it is closed,
what is being written is left alone, and what is not ours is never touched. Several machines may share the folder, so nothing is
decided by process ids or by their clocks: a writer lives as long as it writes.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from visionvitals.errors import VitalsError, near, require
from visionvitals.files import temporary_beside

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_ABANDONED = 600.0  # seconds without a write, after which nobody writes an unfinished entry any more
_KEY = re.compile(r"[0-9a-f]{32}")
_UNFINISHED = re.compile(r"\.tmp-[0-9a-f]{32}-[0-9a-f]{32}(\.part)?")
_PART = re.compile(r"[0-9a-f]{32}\.part")  # an entry that was begun and can be continued


@dataclass(frozen=True)
class Entry:
    """One decoded image set.

    Attributes:
        key: names it; `clear` takes it.
        description: the image set's spelling and how it was decoded, for people.
        bytes: what it takes on the disk.
        last_used: when it was last opened, in seconds since 1970.
    """

    key: str
    description: str
    bytes: int
    last_used: float


def cache_folder() -> Path:
    """The folder of the cache; it need not exist."""
    return Path(os.environ.get("VISIONVITALS_CACHE") or platformdirs.user_cache_path("visionvitals")).expanduser()


def decoded_folder() -> Path:
    """The folder of the decoded image sets; one folder an entry, named by its key."""
    return cache_folder() / "decoded"


def cache_limit() -> int:
    """The size limit of all decoded image sets together, in bytes.

    Raises:
        VitalsError: the variable is no size.
    """
    text = os.environ.get("VISIONVITALS_CACHE_LIMIT") or "50GB"
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?I?)B?", text.strip().upper())
    if size is None or size[2] not in _UNITS:
        raise VitalsError(f"VISIONVITALS_CACHE_LIMIT must be a size such as 50GB or 800MiB. Got {text!r}.")
    return int(float(size[1]) * _UNITS[size[2]])


def entries() -> list[Entry]:
    """What is in the cache, the least recently used first."""
    found = []
    for folder in _folders(_KEY):
        meta = folder / "meta.json"
        try:
            description = str(json.loads(meta.read_bytes())["description"])
            found.append(Entry(folder.name, description, _bytes_of(folder), meta.stat().st_mtime))
        except (OSError, ValueError, KeyError, TypeError):  # damaged, or deleted by another process just now
            continue
    return sorted(found, key=lambda entry: (entry.last_used, entry.key))


def clear(keys: Collection[str] | None = None) -> int:
    """Delete entries of the cache, and return how many bytes that freed.

    Args:
        keys: of the entries; None deletes all of them, and the notes of what was hashed and loaded before.

    Raises:
        VitalsError: no entry has such a key, or the cache cannot be written.
    """
    known = {entry.key: entry for entry in entries()}
    for key in keys or ():
        require(key in known, "A key must name an entry of the cache", key, near(key, known))
    try:
        freed = sweep()
        for key in known if keys is None else set(keys):
            delete(decoded_folder() / key)
            freed += known[key].bytes
        if keys is None:
            for folder in _folders(_PART):
                freed += _delete_if_abandoned(folder)
            freed += _forget_notes()
    except OSError as error:
        raise VitalsError(f"The cache {cache_folder()} must be writable. Got: {error.strerror or error}.") from error
    return freed


def temporary_folder(key: str) -> Path:
    """A path for an unfinished entry that nobody else uses."""
    return temporary_beside(decoded_folder() / key)


def sweep() -> int:
    """Delete what killed writers left behind, and return how many bytes that freed."""
    return sum(_delete_if_abandoned(folder) for folder in _folders(_UNFINISHED))


def delete(folder: Path) -> None:
    """Delete an entry: it vanishes at once under its name, then its files go. Folders in it are none of ours and stay."""
    doomed = folder
    if not _UNFINISHED.fullmatch(folder.name):
        doomed = temporary_folder(folder.name)
        try:
            folder.rename(doomed)
        except FileNotFoundError:  # another process was faster
            return
    with contextlib.suppress(OSError):
        for path in doomed.iterdir():
            if path.is_symlink() or not path.is_dir():
                path.unlink(missing_ok=True)
        doomed.rmdir()


def _folders(name: re.Pattern[str]) -> list[Path]:
    """Folders of the decoded image sets by their name; links are none of ours."""
    found = sorted(decoded_folder().glob("*"))
    return [path for path in found if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]


def _delete_if_abandoned(folder: Path) -> int:
    """Delete an unfinished entry unless somebody writes it, and return how many bytes that freed."""
    try:
        os.utime(decoded_folder())  # the clock of the disk
        now = decoded_folder().stat().st_mtime
        if max(path.stat().st_mtime for path in (folder, *folder.glob("*"))) > now - _ABANDONED:
            return 0
    except OSError:  # gone just now, or not ours to write
        return 0
    freed = _bytes_of(folder)
    delete(folder)
    return freed


def _forget_notes() -> int:
    """Delete the notes of what was hashed, the indices of shards, and the cards of networks; other files in their folders stay."""
    freed = 0
    for note in (*(cache_folder() / "hashes").glob("*"), *(cache_folder() / "cards").glob("*.json")):
        if _KEY.fullmatch(note.stem) and note.suffix in (".json", ".npz") and note.is_file():
            freed += note.stat().st_size
            note.unlink(missing_ok=True)
    return freed


def make_room(needed: int) -> None:
    """Delete the least recently used entries until `needed` more bytes are within the limit, and check the disk.

    Raises:
        VitalsError: the limit or the free space is less than `needed`.
    """
    limit = cache_limit()
    if needed > limit:
        raise VitalsError(
            f"The decoded pictures need {readable(needed)} and the cache may hold {readable(limit)}. "
            "Raise VISIONVITALS_CACHE_LIMIT, or measure fewer images with --limit."
        )
    kept = entries()
    while kept and sum(entry.bytes for entry in kept) + needed > limit:
        delete(decoded_folder() / kept.pop(0).key)
    free = shutil.disk_usage(decoded_folder()).free
    if needed > free:
        raise disk_full(needed, free)


def disk_full(needed: int, free: int) -> VitalsError:
    """The error for a disk without room for a new entry."""
    return VitalsError(
        f"The decoded pictures need {readable(needed)} and the disk of {decoded_folder()} has {readable(free)} free. "
        "Move the cache with VISIONVITALS_CACHE, free some with `vitals cache --clear`, or measure fewer images with --limit."
    )


def readable(size: int) -> str:
    """Bytes for people, in decimal units.

    Example:
        >>> readable(45_158_400)
        '45.2 MB'
    """
    for unit, bytes in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= bytes:
            return f"{size / bytes:.1f} {unit}"
    return f"{size} bytes"


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process deletes it just now
            total += path.stat().st_size
    return total
