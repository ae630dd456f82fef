"""Where a store lies, as names and bytes: all that the store knows of a disk. An object store needs the same few verbs."""

import contextlib
import errno
import glob
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from visionvitals import files
from visionvitals.errors import VitalsError
from visionvitals.files import read_regular

LARGEST = 1 << 28
"""Bytes of a description that are read at most."""


class Unwritable(VitalsError):
    """Results cannot be written, so that going on would keep nothing."""

    def __init__(self, where: object, error: OSError) -> None:
        super().__init__(
            f"Results must be writable under {where}. Got: {error}. Free some space or rights and give the same command again: "
            "finished cells are kept and only the rest is computed."
        )


class Shelf:
    """Names such as `clean/clean-1f0c/cell.json` below one folder. What would leave it, by its name or by a link on the way to a file
    that is written, is an `OSError` as any other thing that a disk refuses."""

    def __init__(self, root: Path) -> None:
        self.root, self._root = root, str(root)

    def __str__(self) -> str:
        return str(self.root)

    def exists(self, name: str) -> bool:
        return (self.root / name).is_file()

    def names(self, pattern: str) -> Iterator[str]:
        """The names that match a pattern of `glob`, in no order; temporary files are none of them."""
        return (name.replace(os.sep, "/") for name in glob.iglob(pattern, root_dir=self._root))

    def read(self, name: str, *, most: int = LARGEST) -> bytes:
        """A whole file; never a pipe or a device, and never more than `most` bytes."""
        return read_regular(self._checked(name), most=most)

    def write(self, name: str, content: bytes | memoryview, *, replace: bool = True) -> None:
        """Write a name whole or not at all; with `replace=False` what is there stays. A folder in its place is set aside."""
        path = self._inside(name)
        if path.is_dir():
            self.set_aside(name, "damaged")
        files.write_safely(path, content, replace=replace)

    def remove(self, name: str) -> int:
        """Remove a file and the folders that it leaves empty; how many bytes it had, 0 where there is none."""
        path = self._inside(name)
        if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
            return 0
        size = path.lstat().st_size
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty
            for folder in path.parents[: len(path.relative_to(self.root).parts) - 1]:
                folder.rmdir()
        return size

    def set_aside(self, name: str, ending: str) -> None:
        """Rename whatever has this name, so that nothing has it."""
        path = self._inside(name)
        path.replace(path.with_name(f"{path.stem}.{uuid.uuid4().hex[:8]}.{ending}"))

    def sweep(self) -> None:
        """Remove temporary files that no writer, of any machine, has touched for a day."""
        files.sweep(self.root)

    def _inside(self, name: str) -> Path:
        """Where to write: no folder on the way is a link that leads elsewhere."""
        path = Path(self._checked(name))
        if not path.parent.resolve().is_relative_to(self.root.resolve()):
            raise PermissionError(errno.EPERM, f"a link leads out of {self}", name)
        return path

    def _checked(self, name: str) -> str:
        if any(part in ("", ".", "..") for part in name.split("/")):
            raise PermissionError(errno.EPERM, "a name must stay below its shelf", name)
        return f"{self._root}/{name}"
