"""Where decoded pictures are kept, how much of the disk they may take, and how they are cleared.

`VISIONVITALS_CACHE` names the folder (default: the platform's cache folder), `VISIONVITALS_CACHE_LIMIT` its size (default 50 GB).
The folder can be deleted at any time: an entry that is in use stays readable until it is closed, and all of it can be made again.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from visionvitals.errors import VitalsError, near, require

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_ABANDONED = 24 * 3600.0  # seconds without a write, after which an unfinished entry of an unknown writer is deleted


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
    for folder in decoded_folder().glob("*"):
        if ".tmp-" in folder.name:
            continue
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
        keys: of the entries; None deletes all of them, and the notes of what was hashed before.

    Raises:
        VitalsError: no entry has such a key.
    """
    known = {entry.key: entry for entry in entries()}
    for key in keys or ():
        require(key in known, "A key must name an entry of the cache", key, near(key, known))
    freed = sweep()
    for key in known if keys is None else set(keys):
        delete(decoded_folder() / key)
        freed += known[key].bytes
    for folder in decoded_folder().glob("*.part") if keys is None else ():  # products that were begun, see run.products
        freed += _bytes_of(folder)
        delete(folder)
    if keys is None and (cache_folder() / "hashes").is_dir():
        freed += _bytes_of(cache_folder() / "hashes")
        delete(cache_folder() / "hashes")
    return freed


def temporary_folder(key: str) -> Path:
    """The path for an unfinished entry; its name says which process of which machine writes it."""
    return decoded_folder() / f"{key}.tmp-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def sweep() -> int:
    """Delete what killed writers left behind, and return how many bytes that freed."""
    freed = 0
    for folder in decoded_folder().glob("*.tmp-*"):
        host, _, process = folder.name.partition(".tmp-")[2].rpartition("-")[0].rpartition("-")
        if _is_stale(folder, host, process):
            freed += _bytes_of(folder)
            shutil.rmtree(folder, ignore_errors=True)
    return freed


def delete(folder: Path) -> None:
    """Delete an entry: it vanishes at once under its name, then its files go."""
    doomed = temporary_folder(folder.name)
    try:
        doomed.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(doomed)
    except FileNotFoundError:  # another process was faster
        return
    shutil.rmtree(doomed, ignore_errors=True)


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


def _is_stale(folder: Path, host: str, process: str) -> bool:
    try:
        if os.name == "posix" and host == socket.gethostname() and process.isdigit():
            os.kill(int(process), 0)  # signal 0 only asks whether the process lives
        return max(path.stat().st_mtime for path in (folder, *folder.glob("*"))) < time.time() - _ABANDONED
    except ProcessLookupError:
        return True
    except OSError:  # alive but another user's, or the folder is gone
        return False
