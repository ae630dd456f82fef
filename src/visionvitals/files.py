"""One function that writes a file, whole or not at all, and one that reads a file which anyone may have put there."""

import contextlib
import errno
import io
import os
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from visionvitals.errors import VitalsError
from visionvitals.remote import AnyPath, RemotePath, on_disk

ABANDONED = 24 * 3600.0
"""Seconds without a write after which a temporary file is nobody's: its writer was killed, on this or on another machine."""
MAX_BYTES = 512 * 2**20
"""No file that a stranger wrote may be larger: what the largest picture that is read takes with 16 bits a channel."""
Content = bytes | memoryview | str | Callable[[BinaryIO], None]


def read_regular(path: str | AnyPath, *, most: int = MAX_BYTES) -> bytes:
    """The content of a file. A pipe or a device, whose reading would never end, is refused before it is opened.

    Raises:
        OSError: no such file, no regular file, or more than `most` bytes.
    """
    if isinstance(path, RemotePath):
        return path.read(most=most)
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
        raise VitalsError(f"{path} must be UTF-8 text. Got {found}. Save it as UTF-8, or name another file.") from None
    except OSError as error:
        raise VitalsError(f"{path} must be a file that can be read. Got: {error.strerror or error}.") from None


def lexists(path: AnyPath) -> bool:
    """Whether anything has this name, be it a link that leads nowhere."""
    return path.exists() if isinstance(path, RemotePath) else os.path.lexists(path)


def matching(folder: AnyPath, pattern: str) -> list[AnyPath]:
    """What lies just below a folder with a name that matches, sorted."""
    return sorted([*folder.glob(pattern)], key=str)


def write_safely(path: AnyPath, content: Content, *, replace: bool = True) -> None:
    """Write a file under a temporary name in its folder, sync it to the disk, rename it, sync the folder.

    Whatever happens in between, a reader finds the old file or the new one. The temporary name holds a random number, since process
    ids repeat over machines that share a disk. A link in the place of `path` is replaced, not followed. On an object store it is one
    object under its final name.

    Args:
        path: the file; its folder is made where it is missing.
        content: bytes, text (UTF-8), or a function that writes into the open file.
        replace: False where a file that is there already stays and its content is not written; what is no file (a pipe) is replaced.

    Raises:
        OSError: the disk is full, read-only or gone; nothing half-written stays behind.
        VitalsError: the path is made of a URL.
    """
    if isinstance(path, RemotePath):
        held = io.BytesIO()
        _fill(held, content)
        return path.write(held.getvalue(), replace=replace)
    a_folder = path.is_dir() and not path.is_symlink()
    if not on_disk(path).name or a_folder:  # the empty path is this folder
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    if not replace and path.is_file():
        return None
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            _fill(file, content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return sync_folder(path.parent)


def _fill(file: BinaryIO, content: Content) -> None:
    """Write, or let a function write. What the disk refuses is raised as such, also where a library's clean-up hides it behind an error of its own."""
    if not callable(content):
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        return
    try:
        content(file)
    except Exception as error:
        hidden: BaseException | None = error
        while hidden is not None and not isinstance(hidden, OSError):
            hidden = hidden.__cause__ or hidden.__context__
        raise hidden or error from None


def temporary_beside(path: Path) -> Path:
    """A name in the same folder that nobody else uses and that `is_temporary` knows."""
    return path.with_name(f".tmp-{uuid.uuid4().hex}-{path.name[:100]}")


def is_temporary(path: Path) -> bool:
    """Whether a name was made by `temporary_beside`."""
    return path.name.startswith(".tmp-")


def sweep(folder: Path) -> None:
    """Delete the temporary files at any depth of a folder of ours that nobody has written to for `ABANDONED` seconds, by the clock of the
    disk: machines that share it have other ones."""
    left = [path for path in folder.rglob(".tmp-*") if is_temporary(path)]
    if not left:
        return
    now = _clock(folder)
    for path in left:
        with contextlib.suppress(OSError):  # its writer renames it just now, or another process sweeps too
            if path.is_file() and now - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _clock(folder: Path) -> float:
    """The time of the disk on which a folder lies: that of a file which is written just now."""
    path = temporary_beside(folder / "clock")
    try:
        path.write_bytes(b"")
        return path.stat().st_mtime
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: AnyPath) -> Iterator[None]:
    """Hold a folder alone among the processes that ask for it so; one that dies lets go of it. It is made where it is missing. A disk or a
    store that knows no locks is left alone.

    Raises:
        OSError: it cannot be made.
    """
    if isinstance(folder, RemotePath):
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError, ImportError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder lasting; a system that cannot is left alone."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
