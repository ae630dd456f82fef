"""Files that a spelling names by a pattern, on this disk or anywhere that fsspec reaches: `part-{000..999}.tar`, `*.tar`, or a folder.

What a server does not answer is asked for a few times. A file from elsewhere is read from a copy on this disk that has no name, so
that it goes with the process.
"""

import contextlib
import functools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, TypeVar

from visionvitals import remote
from visionvitals.datasets.base.cache_folder import decoded_folder
from visionvitals.datasets.base.files import missing, user_path, whole_name
from visionvitals.errors import VitalsError, require, shortened
from visionvitals.registry import parse

SECONDS = 30.0
"""Without a byte from an HTTP server, after which it is asked again."""
TRIES, _WAIT = 3, 0.5  # the wait doubles
_MOST = 1_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MARKS = ("etag", "lastmodified", "contentmd5", "digest", "md5hash", "updated", "created", "mtime", "blobid")
"""What stores call the mark of a file's content or of its last change."""
_R = TypeVar("_R")


class Located(NamedTuple):
    """A file.

    Attributes:
        url: as users write it.
        fs, path: of fsspec.
        size: in bytes.
        stamp: changes with the content.
        sure: whether `stamp` tells every change; else what was read before is not trusted.
    """

    url: str
    fs: Any
    path: str
    size: int
    stamp: str
    sure: bool

    def here(self) -> BinaryIO:
        """The file on this disk, itself or a copy.

        Raises:
            VitalsError: it cannot be read, or is not what it was when it was found.
        """
        now = _look(self.fs, self.path)
        must = f"{self.url} must stay as it was when the run began"
        require(now.stamp == self.stamp, must, now.stamp, "Give the command again: the set is then opened again.")
        return tries(self._fetch, self.url)

    def ranges(self) -> BinaryIO:
        """The file, of which only what is asked for is transferred, where the server can do that."""

        def opened() -> BinaryIO:
            with contextlib.ExitStack() as stack:
                file: BinaryIO = stack.enter_context(self.fs.open(self.path, cache_type="none"))
                file.seek(max(self.size - 1, 0))
                file.read(1)
                stack.pop_all()
            return file

        try:
            return tries(opened, self.url)
        except ValueError:  # a server that gives whole files only
            return self.here()

    def _fetch(self) -> BinaryIO:
        if self.fs.protocol[0] == "file":
            return open(self.path, "rb")
        decoded_folder().mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            copy: Any = stack.enter_context(tempfile.TemporaryFile(dir=decoded_folder()))
            with self.fs.open(self.path) as source:
                shutil.copyfileobj(source, copy, 2**23)
            if copy.tell() != self.size:
                raise OSError(f"{copy.tell():,} of {self.size:,} bytes came")
            copy.seek(0)
            stack.pop_all()
        return copy  # type: ignore[no-any-return]


def locate(text: str, ending: str) -> list[Located]:
    """The files of a pattern in its order: ranges `{000..999}` count up, what `*` or a folder finds is sorted.

    Args:
        text: a path or a URL.
        ending: of the files that a folder is asked for.

    Raises:
        VitalsError: a file that is missing (it is named), an unknown protocol, a server that does not answer.
    """
    fs, root = _filesystem(text)

    def ask(what: Callable[[str], _R], path: str) -> _R:
        return tries(lambda: what(path), path)

    found: list[str] = []
    for path in _expanded(root):
        require(len(found) < _MOST, f"`{shortened(text)}` must name at most {_MOST:,} files", "more")
        if "*" in path:
            found += sorted(ask(fs.glob, path))
        elif path == root and not path.endswith(ending) and ask(fs.isdir, path):
            inside = ask(lambda folder: fs.ls(folder, detail=False), path)
            found += sorted(each for each in inside if each.endswith(ending))
        else:
            found.append(path)
    require(bool(found), f"`{shortened(text)}` must name files, or a folder of `*{ending}`", "no such file")
    with ThreadPoolExecutor(16) as pool:
        some = (found[start : start + 256] for start in range(0, len(found), 256))  # one that is missing ends it soon
        return [each for paths in some for each in pool.map(functools.partial(_look, fs), paths)]


def files(text: str, family: str, ending: str) -> Iterator[Any]:
    """The local files that a spelling of a family names by a pattern; none where it cannot be read."""
    try:
        name = whole_name(parse(text, families=[family]))
        yield from (user_path(file.path) for file in ([] if "://" in name else locate(name, ending)))
    except (VitalsError, OSError):
        return


def tries(function: Callable[[], _R], url: str) -> _R:
    """The result of a function that reads `url`, which is called again where it fails for a reason that may pass.

    Raises:
        VitalsError: it failed `TRIES` times, or there is no such file.
        ValueError: the server gives whole files only.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return function()
        except (VitalsError, ValueError):
            raise
        except Exception as error:  # of any store; their classes have nothing in common
            status = getattr(error.__cause__, "status", getattr(error, "status", None))
            if status in (404, 410) or (
                isinstance(error, FileNotFoundError | NotADirectoryError) and not error.__cause__
            ):
                path = user_path(url) if "://" not in url else None
                raise missing("The file", path) if path else VitalsError(f"The file must exist. Got `{url}`.") from None
            if attempt == TRIES or isinstance(error, PermissionError) or status in (401, 403):
                said = " ".join(str(error.__cause__ or error).split()) or type(error.__cause__ or error).__name__
                times = f"asked {attempt} times: " if attempt > 1 else ""
                raise VitalsError(f"`{shortened(url)}` must be readable. Got, {times}{shortened(said)}.") from error
            time.sleep(_WAIT * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _filesystem(text: str) -> tuple[Any, str]:
    """(file system, path or pattern in it)."""
    import fsspec

    if "://" not in text:
        return fsspec.filesystem("file"), os.path.abspath(user_path(text))
    options: dict[str, Any] = {}
    if text.startswith("http"):
        import aiohttp

        limit = aiohttp.ClientTimeout(total=None, sock_connect=SECONDS, sock_read=SECONDS)
        options = {"client_kwargs": {"timeout": limit}}
    return remote.opened(text, "An image set must be at a path, or at a URL such as s3://bucket/set", **options)


def _expanded(text: str) -> Iterator[str]:
    found = _RANGE.search(text)
    if found is None:
        yield text
        return
    first, last = int(found[1]), int(found[2])
    must = f"`{found[0]}` must count up, over at most {_MOST:,} files"
    require(first <= last < first + _MOST, must, "the reverse" if last < first else f"{last - first + 1:,} files")
    padded = any(end[0] == "0" and len(end) > 1 for end in found.groups())
    width = max(map(len, found.groups())) if padded else 1
    for number in range(first, last + 1):
        yield from _expanded(f"{text[: found.start()]}{number:0{width}d}{text[found.end() :]}")


def _look(fs: Any, path: str) -> Located:
    url = path if fs.protocol[0] == "file" or "://" in path else fs.unstrip_protocol(path)
    info: dict[str, Any] = tries(lambda: fs.info(path), url)
    require(info["type"] == "file", f"{shortened(url)} must be a file", info["type"])
    require(info["size"] is not None, f"The server of {url} must say how large it is", None)
    if fs.protocol[0] == "file":
        status = os.stat(path)
        sure = max(status.st_mtime_ns, status.st_ctime_ns) < (time.time() - 2) * 1e9  # as `digest` trusts a file
        return Located(
            url, fs, path, status.st_size, f"{status.st_size}/{status.st_mtime_ns}/{status.st_ctime_ns}", sure
        )
    plain = {re.sub("[^a-z0-9]", "", key.lower()): value for key, value in info.items()}
    marks = [f"{mark}={plain[mark]}" for mark in _MARKS if plain.get(mark)]
    return Located(url, fs, path, info["size"], "/".join([str(info["size"]), *marks]), bool(marks))
