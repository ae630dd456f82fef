"""Where a store lies, as names and bytes: all that the store knows of a disk, or of an object store."""

import contextlib
import errno
import glob
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import TypeVar

from visionvitals import files
from visionvitals.errors import VitalsError
from visionvitals.files import read_regular
from visionvitals.remote import AnyPath, RemotePath

LARGEST = 1 << 28
"""Bytes of a description that are read at most."""
THREADS = 16
"""Requests that an object store gets at once."""
_A = TypeVar("_A")
_B = TypeVar("_B")


class Unwritable(VitalsError):
    """Results cannot be written, so that going on would keep nothing."""

    def __init__(self, where: object, error: OSError) -> None:
        super().__init__(
            f"Results must be writable under {where}. Got: {error}. Free some space or rights and give the same command again: "
            "finished cells are kept and only the rest is computed."
        )


class Shelf:
    """Names such as `clean/clean-1f0c/cell.json` below one folder. What would leave it, by its name or by a link on the way to a file
    that is written, is an `OSError` as any other thing that a disk refuses. An object store has neither folders nor links, and checks by
    itself what it gets and keeps."""

    def __init__(self, root: AnyPath) -> None:
        self.root, self._root = root, str(root)

    def __str__(self) -> str:
        return self._root

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def present(self, names: Collection[str]) -> set[str]:
        """Those of some names that are files."""
        if isinstance(self.root, RemotePath) and len(names) > 2:  # one listing
            return self.root.files().keys() & set(names)
        return set(filter(self.exists, names))

    def sizes(self) -> Mapping[str, int]:
        """Name -> bytes of the files that are as they were written, without reading them. Of a disk none: there a bit may flip."""
        return self.root.files() if isinstance(self.root, RemotePath) else {}

    def each(self, function: Callable[[_A], _B], of: Iterable[_A]) -> Iterable[_B]:
        """What a function that reads gives for each of some, in their order."""
        if isinstance(self.root, Path):
            return map(function, of)
        with ThreadPoolExecutor(THREADS) as pool:
            return list(pool.map(function, of))

    def names(self, pattern: str) -> Iterator[str]:
        """The names that match a pattern of `glob`, in no order; temporary files are none of them."""
        if isinstance(self.root, RemotePath):
            return self.root.names(pattern)
        return (name.replace(os.sep, "/") for name in glob.iglob(pattern, root_dir=self._root))

    def read(self, name: str, *, most: int = LARGEST) -> bytes:
        """A whole file; never a pipe or a device, and never more than `most` bytes."""
        return read_regular(self._checked(name), most=most)

    def write(self, name: str, content: bytes | memoryview, *, replace: bool = True) -> None:
        """Write a name whole or not at all; with `replace=False` what is there stays. A folder in its place is set aside."""
        path = self._inside(name)
        if isinstance(path, Path) and path.is_dir():
            self.set_aside(name, "damaged")
        files.write_safely(path, content, replace=replace)

    def remove(self, name: str) -> int:
        """Remove a file and the folders that it leaves empty; how many bytes it had, 0 where there is none."""
        path = self._inside(name)
        try:
            if not files.lexists(path) or (path.is_dir() and not path.is_symlink()):
                return 0
            size = path.lstat().st_size
            path.unlink(missing_ok=True)
        except FileNotFoundError:  # another process removes it, too
            return 0
        with contextlib.suppress(OSError):  # not empty
            for folder in path.parents[: name.count("/")] if isinstance(path, Path) else ():
                folder.rmdir()
        return size

    def set_aside(self, name: str, ending: str) -> None:
        """Rename whatever has this name, so that nothing has it."""
        path = self._inside(name)
        path.rename(f"{path.parent}/{PurePath(name).stem}.{uuid.uuid4().hex[:8]}.{ending}")

    def sweep(self) -> None:
        """Remove temporary files that no writer, of any machine, has touched for a day."""
        if isinstance(self.root, Path):
            files.sweep(self.root)

    def _inside(self, name: str) -> AnyPath:
        """Where to write: no folder on the way is a link that leads elsewhere."""
        path = self._checked(name)
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise PermissionError(errno.EPERM, f"a link leads out of {self}", name)
        return path

    def _checked(self, name: str) -> AnyPath:
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise PermissionError(errno.EPERM, "a name must stay below its shelf", name)
        return self.root / name
