"""What groups each picture of an image set belongs to, kept with the run: its class, and its values in the further columns of a csv.

`groups/<digest of the set>.json`, one a content, sealed as a cell is. It decides no number of a picture, so that it enters no identity: a
later request over the same pictures with other columns replaces it. Readers of a run need no picture for it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from visionvitals.core import ImageSet, ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.files import lexists, read_regular, write_safely
from visionvitals.remote import AnyPath
from visionvitals.run import documents
from visionvitals.run.shelf import LARGEST, Unwritable

CLASS = "class"
"""The column that every image set has."""
MOST = 100_000
"""Pictures of a set in shards; of a larger one no groups are kept, since that takes the names of all of its pictures."""


@dataclass(frozen=True)
class Groups:
    """The groups of one image set.

    Attributes:
        items: ids of the pictures, n of them.
        columns: name -> (its values, each once in their order; for each picture the position of its value, or -1 where it has none).
    """

    items: tuple[str, ...]
    columns: Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]

    def value(self, column: str) -> dict[str, str]:
        """item -> its value in a column; items without one are left out."""
        names, of = self.columns[column]
        return {item: names[k] for item, k in zip(self.items, of, strict=True) if k >= 0}

    @cached_property
    def classes(self) -> dict[str, str]:
        """item -> its class."""
        return self.value(CLASS)


def of_set(images: ImageSet) -> Groups | None:
    """The groups of an image set that knows the ids and labels of its pictures without reading them; else None."""
    ids, labels = getattr(images, "ids", None), getattr(images, "labels", None)
    if ids is None or labels is None:
        return None
    if getattr(images, "shards", None) is not None and len(labels) > MOST:
        return Groups((), {CLASS: ((), ())})
    return of_labels(images.card, ids, labels, getattr(images, "columns", {}))


def columns(several: Iterable[Groups]) -> dict[str, dict[str, None]]:
    """column -> its values, over some image sets."""
    found: dict[str, dict[str, None]] = {}
    for each in several:
        for column, (values, _) in each.columns.items():
            found.setdefault(column, {}).update(dict.fromkeys(values))
    return found


def of_labels(
    card: ImageSetCard, ids: Sequence[str], labels: Sequence[int], columns: Mapping[str, Sequence[str]] | None = None
) -> Groups:
    """The groups of labelled pictures. A class has its readable name, with its key where several have the same."""
    called = Counter(card.class_names)
    both = zip(card.classes, card.class_names, strict=True)
    names = [f"{name} ({key})" if called[name] > 1 else name for key, name in both]
    there = sorted({int(label) for label in labels})
    place = {label: k for k, label in enumerate(there)}
    found = {CLASS: (tuple(names[label] for label in there), tuple(place[int(label)] for label in labels))}
    for column, values in (columns or {}).items():
        known = tuple(sorted({value for value in values if value}))
        position = {value: k for k, value in enumerate(known)}
        found[column] = (known, tuple(position.get(value, -1) for value in values))
    return Groups(tuple(ids), found)


def keep(out: AnyPath, digest: str, groups: Groups) -> None:
    """Write the groups of the image set of a digest, unless they are there already.

    Raises:
        Unwritable: the disk refuses.
    """
    columns = {column: {"names": list(names), "of": list(of)} for column, (names, of) in groups.columns.items()}
    content = documents.sealed({"images": digest, "items": list(groups.items), "columns": columns})
    path = _path(out, digest)
    try:
        if path.is_file() and path.stat().st_size == len(content) and read_regular(path, most=len(content)) == content:
            return
        write_safely(path, content)
    except OSError as error:
        raise Unwritable(path.parent, error) from error


def keep_known(out: AnyPath, sets: Iterable[ImageSet]) -> None:
    """Write the groups of the image sets that know them without reading pictures; the others follow when they are decoded."""
    for images in sets:
        if (known := of_set(images)) is not None:
            keep(out, images.card.digest, known)


def read(out: AnyPath, digest: str) -> Groups | None:
    """The groups of the image set of a digest; None where the run holds none of it.

    Raises:
        VitalsError: the file is damaged.
    """
    path = _path(out, digest)
    if not lexists(path):
        return None
    try:
        found, whole = documents.unsealed(read_regular(path, most=LARGEST))
        if not (whole and _fits(found, digest)):
            raise ValueError("another content than visionvitals writes there")
    except (OSError, ValueError) as error:
        raise VitalsError(
            f"{path} must be as visionvitals wrote it. Got: {error}. `vitals audit` with the same request writes it again."
        ) from error
    columns = {name: (tuple(each["names"]), tuple(each["of"])) for name, each in found["columns"].items()}
    return Groups(tuple(found["items"]), columns)


def whole(out: AnyPath, digests: Iterable[str]) -> bool:
    """Whether a run that keeps groups keeps those of some image sets undamaged."""
    try:
        for digest in digests:
            read(out, digest)
    except VitalsError:
        return False
    return (out / "groups").is_dir()


def _fits(found: Any, digest: str) -> bool:
    if not documents.fits(found, documents.GROUPS) or found["images"] != digest or CLASS not in found["columns"]:
        return False
    n = len(found["items"])
    return all(
        len(each["of"]) == n and all(-1 <= k < len(each["names"]) for k in each["of"])
        for each in found["columns"].values()
    )


def _path(out: AnyPath, digest: str) -> AnyPath:
    return out / "groups" / f"{hashlib.sha256(digest.encode()).hexdigest()[:16]}.json"
