"""Where a store lies, as names and bytes: all that the store knows of a disk. An object store needs the same few verbs."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from visionvitals import files


class Shelf:
    """Names such as `clean/clean-1f0c/cell.json` below one folder; the parts of a name never leave it."""

    def __init__(self, root: Path) -> None:
        self.root, self._root = root, str(root)

    def __str__(self) -> str:
        return str(self.root)

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def names(self, pattern: str) -> Iterator[str]:
        """The names that match a pattern of `glob`, in no order; temporary files are none of them."""
        return (name.replace(os.sep, "/") for name in glob.iglob(pattern, root_dir=self._root))

    def read(self, name: str) -> bytes:
        with open(
            self._checked(name), "rb"
        ) as file:  # a Path for each of ten thousand files costs more than reading it
            return file.read()

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
        files.sweep(self.root)

    def _path(self, name: str) -> Path:
        return Path(self._checked(name))

    def _checked(self, name: str) -> str:
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(f"A name must stay below its shelf. Got {name!r}.")
        return f"{self._root}/{name}"


def _all(file: BinaryIO, content: bytes | memoryview) -> None:
    file.write(content)
