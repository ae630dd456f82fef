"""Class folders: `folder:PATH[?classes=FILE][&parts=all][&exif=apply]`, one sub-folder a class, pictures at any depth below it.

The name of a class folder is its key (a wnid such as n01440764 is shown by its words). `classes=FILE`, lines of `folder,key`,
renames folders to a model's class names, or to output indices; folders with the same key become one class. An id is the POSIX
path below PATH, so a moved folder keeps its randomness and its digest. Pictures and class folders may be links to what lies outside
PATH; other links to folders are not followed. `exif=apply` turns pictures upright by their EXIF orientation.

A PATH that holds train, val (valid, validation) and test, each with class folders, is refused as it stands: `PATH/test` is what a study
that scores a trained network wants, and `PATH?parts=all` is what a study that trains on features wants. The latter is one set whose
pictures know their part and whose classes are those of all parts together; a study that does not look at parts measures all of it, which
a note in the report says.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from visionvitals.core import ImageSet, Split
from visionvitals.datasets.base.files import (
    ENDINGS,
    Listing,
    apart,
    find_images,
    from_paths,
    listing_notes,
    local_path,
    missing,
    parts_notes,
    printable,
    some_counts,
    user_path,
)
from visionvitals.datasets.base.labels import published_part
from visionvitals.datasets.base.reading import read_keys
from visionvitals.errors import VitalsError, require
from visionvitals.registry import Spec

_PARTS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open(spec: Spec) -> ImageSet:
    """List the pictures of class folders, in the order of class, then path.

    Raises:
        VitalsError: no such folder, no class folders, no pictures, splits instead of classes, or a bad `classes` file.
    """
    options = spec.only("classes", "parts", "exif")
    root = local_path(spec)
    if not root.is_dir():
        raise missing("The folder", root)
    if "parts" in options:
        require(
            options["parts"] == "all", "`parts` must be `all`", options["parts"], "Or name one: `folder:PATH/test`."
        )
        return _open_parts(spec, root, options)
    names, loose, links = _class_folders(root, root)
    if not names and loose:
        raise VitalsError(
            f"The pictures of `{spec.text}` must lie in one sub-folder per class. Got {loose} directly in the folder and no "
            "sub-folder. Sort them into class folders, or write a csv with the columns path,label and use `csv:FILE`."
        )
    listing = {name: find_images(root / name, linked=False) for name in names}
    _refuse_splits(spec, root, listing)
    return _set(spec, root, options, listing, _notes(listing, loose, links))


def _open_parts(spec: Spec, root: Path, options: Mapping[str, str]) -> ImageSet:
    """One set of all parts, in the order of class, then path."""
    parts, loose, links = _class_folders(root, root)
    strange = sorted(set(parts) - set(_PARTS))
    require(
        bool(parts) and not strange,
        f"With `parts=all` the sub-folders of {root} must be parts ({', '.join(_PARTS)})",
        strange or "no sub-folder",
    )
    listing: _Listing = {}
    for part in parts:
        names, pictures, more = _class_folders(root / part, root)
        loose, links = loose + pictures, links + more
        listing |= {f"{part}/{name}": find_images(root / part / name, linked=False) for name in names}
    return _set(spec, root, options, listing, _notes(listing, loose, links))


def _class_folders(folder: Path, root: Path) -> tuple[list[str], int, int]:
    """The sub-folders, sorted; how many pictures lie beside them; and how many links to folders of the set itself were left out."""
    try:
        seen = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise VitalsError(f"The folder {folder} must be readable. Got: {error.strerror or error}.") from None
    loose = sum(entry.suffix.lower() in ENDINGS for entry in seen if os.path.isfile(entry))
    folders = [entry for entry in seen if os.path.isdir(entry)]
    kept = sorted(entry.name for entry in folders if not entry.is_symlink() or apart(entry, root))
    return kept, loose, len(folders) - len(kept)


def _set(spec: Spec, root: Path, options: Mapping[str, str], listing: "_Listing", notes: list[str]) -> ImageSet:
    """The set of the listed folders; the last name of each is its class, and with parts the first one is its part."""
    folders = {place: place.rpartition("/")[2] for place in listing}
    distinct = sorted(set(folders.values()))
    keys = read_keys(user_path(options["classes"]), distinct) if "classes" in options else {f: f for f in distinct}
    files = sorted(
        (keys[name], f"{place}/{image}") for place, name in folders.items() for image in listing[place].pictures
    )
    do = "Name a folder of class folders, each with the pictures of one class."
    require(bool(files), f"`{spec.text}` must hold pictures ({' '.join(ENDINGS)}) in class folders", _seen(listing), do)
    classes = tuple(printable(key) for key in sorted(set(keys.values())))
    position = {key: index for index, key in enumerate(sorted(set(keys.values())))}
    ids = [printable(path) for _, path in files]
    labels = [position[key] for key, _ in files]
    paths = [os.path.join(root, path) for _, path in files]
    splits = [_PARTS[path.partition("/")[0]] for _, path in files] if "parts" in options else []
    part = published_part(classes)
    if part is not None:
        notes = [
            *notes,
            f"its classes are the 200 of {part}: published accuracies choose among these alone, `top1_present`",
        ]
    notes = [*notes, *parts_notes(splits, labels, classes)]
    return from_paths(spec, classes, ids, labels, paths, owner=root, splits=splits, notes=notes)


_Listing = dict[str, Listing]


def _refuse_splits(spec: Spec, root: Path, listing: _Listing) -> None:
    """train/ and val/ with class folders inside would silently become the two classes "train" and "val"."""
    if (
        listing
        and set(listing) <= set(_PARTS)
        and all("/" in image for found in listing.values() for image in found.pictures)
    ):
        one = sorted(listing)[-1]
        raise VitalsError(
            f"The sub-folders of `{spec.text}` must be classes. Got splits: {', '.join(listing)}. "
            f"Name one of them, `folder:{root / one}`, or take all of them as parts of one set, `folder:{root}?parts=all`."
        )


def _notes(listing: _Listing, loose: int, links: int) -> list[str]:
    empty = [name for name, found in listing.items() if not found.pictures]
    notes = [f"{loose} pictures lie outside the class folders and were left out"] if loose else []
    notes += listing_notes([*listing.values()], links)
    if empty:
        notes.append(f"{len(empty)} class folders hold no picture: {', '.join(map(printable, empty[:5]))}")
    return notes


def _seen(listing: _Listing) -> str:
    others = sum((found.others for found in listing.values()), Counter[str]())
    files = f" with {others.total()} other files ({some_counts(others)})" if others else ""
    return f"{len(listing)} sub-folders{files}"
