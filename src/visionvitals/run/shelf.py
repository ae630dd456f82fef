"""Where a store lies, as names and bytes: all that the store knows of a disk. An object store needs the same few verbs."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from visionvitals import files

STALE_SECONDS = 24 * 3600
"""A temporary file that nobody has touched for so long has no writer any more, on whatever machine it was."""


class Shelf:
    """Names such as `clean/clean-1f0c/cell.json` below one folder; the parts of a name never leave it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def names(self, pattern: str) -> Iterator[str]:
        """The names that match a pattern of `glob`, in no order; temporary files are none of them."""
        found = (path for path in self.root.glob(pattern) if not path.name.startswith("."))
        return (path.relative_to(self.root).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        return self._path(name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        return self._path(name).open("rb")

    def write(self, name: str, content: bytes | memoryview, *, replace: bool = True) -> None:
        """Write a name whole or not at all; with `replace=False` what is there stays."""
        files.write_safely(self._path(name), lambda file: _all(file, content), replace=replace)

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def youngest(self) -> int:
        """When something was last added or removed, in nanoseconds: a folder's time follows its names."""
        folders = [self.root, *(path for path in self.root.glob("*") if path.is_dir())]
        return max((path.stat().st_mtime_ns for path in folders), default=0)

    def sweep(self) -> None:
        """Remove temporary files that no writer, of any machine, has touched for a day."""
        now = time.time()
        for folder, _, names in os.walk(self.root):
            for path in (Path(folder) / name for name in names):
                if files.is_temporary(path) and now - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"A name must stay below its shelf. Got {name!r}.")
        return self.root.joinpath(*parts)


def _all(file: BinaryIO, content: bytes | memoryview) -> None:
    file.write(content)
