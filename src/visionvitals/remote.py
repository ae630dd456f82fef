"""A folder on an object store, named by a URL that fsspec knows (`s3://bucket/run`): the verbs of `pathlib.Path` that a run folder needs.

A write is one object under its final name. Credentials and endpoints are those of fsspec's configuration and of the environment.
"""

import contextlib
import errno
import fnmatch
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from visionvitals.errors import Unreachable, VitalsError, require

WAITS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before each further try of what timed out or what the server failed at; below it fsspec's libraries have tries of their own."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}
"""protocol -> the extra with its library."""
_AGAIN = {errno.EBUSY, errno.EIO, getattr(errno, "EREMOTEIO", errno.EIO)}
_CODES = {FileNotFoundError: errno.ENOENT, PermissionError: errno.EACCES, FileExistsError: errno.EEXIST}
_URL = re.compile("[A-Za-z][A-Za-z0-9+.-]+:/")
_T = TypeVar("_T")


@dataclass(frozen=True)
class RemotePath:
    """A file or a folder. What is not there is a `FileNotFoundError`, and a write that is refused an `OSError`, as on a disk; a store that
    cannot be read is `Unreachable`, so that nothing there is taken for damaged or missing.

    Attributes:
        url: as it was given.
        key: the name in its file system.
        fs: the file system, of fsspec.
    """

    url: str
    key: str = field(compare=False, repr=False)
    fs: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        return RemotePath(f"{self.url}/{name}", f"{self.key}/{name}", self.fs)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> "RemotePath":
        return RemotePath(self.url.rpartition("/")[0], self.key.rpartition("/")[0], self.fs)

    def resolve(self) -> PurePosixPath:
        """The place, for comparing: there are no links."""
        return PurePosixPath(self.url)

    def absolute(self) -> "RemotePath":
        return self

    def exists(self) -> bool:
        """Whether there is a file of this name, or any below it."""
        return bool(self._kind())

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_symlink(self) -> bool:
        return False

    def stat(self) -> os.stat_result:
        """With the size and the time of writing only."""
        size, at = self._get(lambda: (self.fs.info(self.key)["size"], self.fs.modified(self.key).timestamp()))
        return os.stat_result((0, 0, 0, 0, 0, 0, size, at, at, at))

    lstat = stat

    def files(self) -> dict[str, int]:
        """Name below this folder -> bytes, of every file at any depth: one listing. What a console makes for a folder is none."""
        found = self._get(lambda: self.fs.find(self.key, detail=True))
        return {n[len(self.key) + 1 :]: info["size"] for n, info in found.items() if n != self.key and n[-1] != "/"}

    def names(self, pattern: str) -> Iterator[str]:
        """The names of files below this folder, at the depth of a pattern of `glob`, that match it."""
        folder = pattern.partition("*")[0].rpartition("/")[0]
        below = (f"{folder}/{name}" for name in (self / folder).files()) if folder else self.files()
        return (n for n in below if n.count("/") == pattern.count("/") and fnmatch.fnmatchcase(n, pattern))

    def glob(self, pattern: str) -> "Iterator[RemotePath]":
        """What lies just below this folder with a name that matches."""
        found = self._get(lambda: self.fs.ls(self.key, detail=False)) if self.exists() else []
        return (self / name.rpartition("/")[2] for name in found if fnmatch.fnmatchcase(name, f"*/{pattern}"))

    def read(self, *, most: int) -> bytes:
        """A whole file of at most `most` bytes."""
        try:
            data = bytes(self._get(lambda: self.fs.cat_file(self.key, start=0, end=most + 1)))
        except Unreachable:
            if self._get(lambda: self.fs.info(self.key))["size"]:
                raise
            return b""  # an empty file has no range
        if len(data) > most:
            raise OSError(errno.EFBIG, f"more than the {most:,} bytes that are read")
        return data

    def write(self, content: bytes, *, replace: bool) -> None:
        """Write a file; with `replace=False` what is there stays, where the store knows conditional writes also of two writers at once."""

        def put() -> None:
            self.fs.pipe_file(self.key, content, mode="overwrite" if replace else "create")
            if (there := self.fs.info(self.key)["size"]) != len(content):
                self.fs.rm_file(self.key)
                raise OSError(errno.EIO, f"{there:,} of {len(content):,} bytes arrived")

        with contextlib.suppress(*(() if replace else (FileExistsError,))):
            self._ask(put)

    def rename(self, target: str) -> None:
        """Give a file another name, a URL: a copy and a removal."""
        self._ask(lambda: self.fs.mv(self.key, target))

    def unlink(self, *, missing_ok: bool = False) -> None:
        with contextlib.suppress(*((FileNotFoundError,) if missing_ok else ())):
            self._ask(lambda: self.fs.rm_file(self.key))

    def _kind(self) -> str:
        try:
            return str(self._get(lambda: self.fs.info(self.key))["type"])
        except FileNotFoundError:
            return ""

    def _get(self, action: Callable[[], _T]) -> _T:
        try:
            return self._ask(action)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unreachable(self.url, error) from error

    def _ask(self, action: Callable[[], _T]) -> _T:
        """Do something, again where another try may help. Whatever fsspec's libraries raise is an `OSError` with a code and a sentence."""
        for wait in (*WAITS, None):
            try:
                return action()
            except Exception as error:
                number = getattr(error, "errno", None)
                if wait is None or not (isinstance(error, TimeoutError | ConnectionError) or number in _AGAIN):
                    code = next((n for kind, n in _CODES.items() if isinstance(error, kind)), number or errno.EIO)
                    said = " ".join(str(getattr(error, "strerror", None) or error).split())
                    raise OSError(code, said or type(error).__name__, self.url) from error
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")


AnyPath = Path | RemotePath
"""A run folder, or a file of it."""


def located(name: str | os.PathLike[str] | RemotePath) -> AnyPath:
    """The run folder of a name: a path, or a URL in a text.

    Raises:
        VitalsError: a URL with a password, a query or a chain, of an unknown protocol, or of one whose library is not installed.

    Example:
        >>> located("runs/1"), str(located("file:///runs/1")), str(located("memory://runs/1/"))
        (PosixPath('runs/1'), '/runs/1', 'memory://runs/1')
    """
    if not isinstance(name, str) or "://" not in name:
        return name if isinstance(name, RemotePath) else on_disk(name)
    must = "A run folder must be a path, or a URL such as s3://bucket/run"
    fs, key = opened(name, must)
    require(bool(key.strip("/")), must, name)
    return Path(key) if name.startswith(("file:", "local:")) else RemotePath(name.rstrip("/"), key.rstrip("/"), fs)


def on_disk(name: str | os.PathLike[str]) -> Path:
    """A path of this disk.

    Raises:
        VitalsError: a URL, also one that `Path` has taken for a folder of the name `s3:`.
    """
    path = Path(name)
    must, do = (
        "A path of this disk must be no URL",
        "Only run folders lie elsewhere; give their URL as a text, `s3://bucket/run`.",
    )
    require(not _URL.match(str(path)), must, str(name), do)
    return path


def opened(url: str, must: str, **options: Any) -> tuple[Any, str]:
    """(the file system of a URL, the key in it).

    Args:
        url: as a user wrote it.
        must: what must hold, for errors.
        options: of the file system.

    Raises:
        VitalsError: a URL with a password, a query or a chain, of an unknown protocol, or of one whose library is not installed.
    """
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    do = "Credentials belong into the environment or into fsspec's configuration."
    secret = "::" in url or "?" in url or ":" in url.partition("://")[2].rpartition("@")[0]
    require(not secret, f"{must}, without a password, a query or a chain", f"{protocol}://...", do)
    try:
        found: tuple[Any, str] = url_to_fs(url, use_listings_cache=False, **options)
    except ImportError as error:
        do = f"pip install 'visionvitals[{EXTRAS[protocol]}]'" if protocol in EXTRAS else str(error)
        raise VitalsError(f"{must}, of a protocol whose library is installed. Got {protocol}://. {do}") from error
    except Exception as error:
        raise VitalsError(f"{must}. Got {url!r}: {error}.") from error
    return found
