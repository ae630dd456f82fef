"""What the sets of files share: encoded pictures with what is known of each, the file endings, and paths in spellings."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionvitals.core import Example, ImageSetCard, Split
from visionvitals.datasets.base.decode import open_image
from visionvitals.errors import UnreadableImage, VitalsError, near
from visionvitals.registry import Spec

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class EncodedImages:
    """An image set whose pictures are encoded bytes. `[i]` decodes one; any thread may call it.

    Attributes:
        card: see `ImageSetCard`.
        ids: one per picture, unique.
        labels: indices into `card.classes`.
        load: index -> the encoded bytes; OSError where there are none.
        splits: the part of the set that each belongs to, or empty.
        textures: the surface of each, as `Example.texture`, or empty.
        mask: index -> `Example.mask`; UnreadableImage where it is missing or damaged. None where the set has no masks.
    """

    card: ImageSetCard
    ids: tuple[str, ...]
    labels: tuple[int, ...]
    load: Callable[[int], bytes]
    splits: tuple[Split, ...] = ()
    textures: tuple[int | None, ...] = ()
    mask: Callable[[int], np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> bytes:
        """The encoded bytes.

        Raises:
            UnreadableImage: the file is missing or cannot be read.
        """
        try:
            return self.load(index)
        except OSError as error:
            raise UnreadableImage(f"{self.ids[index]}: {error.strerror or error}") from error

    def __getitem__(self, index: int) -> Example:
        image = open_image(self.read(index), self.ids[index])
        return Example(
            id=self.ids[index],
            image=image,
            label=self.labels[index],
            texture=self.textures[index] if self.textures else None,
            mask=None if self.mask is None else self.mask(index),
            split=self.splits[index] if self.splits else None,
        )


def from_paths(
    card: ImageSetCard,
    ids: Sequence[str],
    labels: Sequence[int],
    paths: Sequence[Path],
    *,
    splits: Sequence[Split] = (),
    textures: Sequence[int | None] = (),
    mask: Callable[[int], np.ndarray] | None = None,
) -> EncodedImages:
    """A set of files."""
    return EncodedImages(
        card=card,
        ids=tuple(ids),
        labels=tuple(labels),
        load=lambda index: paths[index].read_bytes(),
        splits=tuple(splits),
        textures=tuple(textures),
        mask=mask,
    )


def parts_notes(splits: Sequence[Split], labels: Sequence[int], classes: Sequence[str]) -> tuple[str, ...]:
    """What the report must say of a set with parts: their sizes, and classes that are not in every part."""
    if not splits:
        return ()
    counts = Counter(splits)
    sizes = ", ".join(f"{part} {counts[part]}" for part in ("train", "val", "test") if part in counts)
    notes = [f"the set has parts ({sizes}): a study that does not look at parts measures all of them"]
    taught = {label for label, part in zip(labels, splits, strict=True) if part == "train"}
    untaught = sorted({label for label, part in zip(labels, splits, strict=True) if part != "train"} - taught)
    if untaught and taught:
        named = ", ".join(classes[label] for label in untaught[:5]) + (", ..." if len(untaught) > 5 else "")
        notes.append(f"{len(untaught)} classes have no training picture: {named}")
        spelled = {_bare(classes[label]): classes[label] for label in taught}
        for label in untaught:
            if (other := spelled.get(_bare(classes[label]))) is not None:
                notes.append(f"`{classes[label]}` and `{other}` may be one class; `classes=FILE` can join them")
    return tuple(notes)


def _bare(name: str) -> str:
    """A class without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name).casefold()


def local_path(spec: Spec) -> Path:
    """The path in a spelling; an `@` in it is part of the path, since image sets have no checkpoint."""
    return Path(spec.name if spec.checkpoint is None else f"{spec.name}@{spec.checkpoint}").expanduser()


def missing(what: str, path: Path) -> VitalsError:
    """The error for a path that does not exist, with the near names beside it."""
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return VitalsError(f"{what} must exist. Got {str(path)!r}. {near(path.name, beside)}".rstrip())


def find_images(folder: Path) -> tuple[list[str], Counter[str]]:
    """The pictures below a folder, as POSIX paths relative to it, sorted; and how many files of other endings there are.

    Hidden files and folders are ignored; links are followed, loops are not.
    """
    found: list[str] = []
    others: Counter[str] = Counter()
    seen: set[str] = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            ending = os.path.splitext(name)[1].lower()
            if ending in ENDINGS and not name.startswith("."):
                found.append((Path(here) / name).relative_to(folder).as_posix())
            elif not name.startswith("."):
                others[ending or "no ending"] += 1
    return sorted(found), others


def printable(path: str) -> str:
    """A path as an id: bytes that are no UTF-8 are written `\\xff`, so that every id can be hashed, stored and printed."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
