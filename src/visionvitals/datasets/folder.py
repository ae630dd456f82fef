"""Class folders: `folder:PATH[?classes=FILE][&parts=all]`, one sub-folder a class, pictures at any depth below it.

The name of a class folder is its key (a wnid such as n01440764 is shown by its words). `classes=FILE`, lines of `folder,key`,
renames folders to a model's class names, or to output indices; folders with the same key become one class. An id is the POSIX
path below PATH, so a moved folder keeps its randomness and its digest.

A PATH that holds train, val (valid, validation) and test, each with class folders, is refused as it stands: `PATH/test` is what a study
that scores a trained network wants, and `PATH?parts=all` is what a study that trains on features wants. The latter is one set whose
pictures know their part and whose classes are those of all parts together; a study that does not look at parts measures all of it, which
a note in the report says.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from visionvitals.core import ImageSet, ImageSetCard, Split
from visionvitals.datasets.base.digest import digest, file_hashes
from visionvitals.datasets.base.files import (
    ENDINGS,
    find_images,
    from_paths,
    local_path,
    missing,
    parts_notes,
    printable,
)
from visionvitals.datasets.base.labels import readable_names
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

_PARTS: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def open(spec: Spec) -> ImageSet:
    """List the pictures of class folders, in the order of class, then path.

    Raises:
        VitalsError: no such folder, no class folders, no pictures, splits instead of classes, or a bad `classes` file.
    """
    options = spec.only("classes", "parts")
    root = local_path(spec)
    if not root.is_dir():
        raise missing("The folder", root)
    if "parts" in options:
        require(
            options["parts"] == "all", "`parts` must be `all`", options["parts"], "Or name one: `folder:PATH/test`."
        )
        return _open_parts(spec, root, options)
    names, loose = _class_folders(root)
    if not names and loose:
        raise VitalsError(
            f"The pictures of `{spec.text}` must lie in one sub-folder per class. Got {loose} directly in the folder and no "
            "sub-folder. Sort them into class folders, or write a csv with the columns path,label and use `csv:FILE`."
        )
    listing = {name: find_images(root / name) for name in names}
    _refuse_splits(spec, root, listing)
    return _set(spec, root, options, listing, loose)


def _open_parts(spec: Spec, root: Path, options: Mapping[str, str]) -> ImageSet:
    """One set of all parts, in the order of class, then path."""
    parts, loose = _class_folders(root)
    strange = sorted(set(parts) - set(_PARTS))
    require(
        bool(parts) and not strange,
        f"With `parts=all` the sub-folders of {root} must be parts ({', '.join(_PARTS)})",
        strange or "no sub-folder",
    )
    listing: _Listing = {}
    for part in parts:
        names, pictures = _class_folders(root / part)
        loose += pictures
        listing |= {f"{part}/{name}": find_images(root / part / name) for name in names}
    return _set(spec, root, options, listing, loose)


def _class_folders(root: Path) -> tuple[list[str], int]:
    """The sub-folders, sorted, and how many pictures lie beside them."""
    seen = [entry for entry in root.iterdir() if not entry.name.startswith(".")]
    loose = sum(entry.suffix.lower() in ENDINGS for entry in seen if entry.is_file())
    return sorted(entry.name for entry in seen if entry.is_dir()), loose


def _set(spec: Spec, root: Path, options: Mapping[str, str], listing: "_Listing", loose: int) -> ImageSet:
    """The set of the listed folders; the last name of each is its class, and with parts the first one is its part."""
    folders = {place: place.rpartition("/")[2] for place in listing}
    distinct = sorted(set(folders.values()))
    keys = (
        _read_mapping(Path(options["classes"]).expanduser(), distinct)
        if "classes" in options
        else {f: f for f in distinct}
    )
    files = sorted((keys[name], f"{place}/{image}") for place, name in folders.items() for image in listing[place][0])
    require(bool(files), f"`{spec.text}` must hold pictures ({' '.join(ENDINGS)}) in class folders", _seen(listing))
    classes = tuple(printable(key) for key in sorted(set(keys.values())))
    position = {key: index for index, key in enumerate(sorted(set(keys.values())))}
    ids = [printable(path) for _, path in files]
    labels = [position[key] for key, _ in files]
    paths = [root / path for _, path in files]
    splits = [_PARTS[path.partition("/")[0]] for _, path in files] if "parts" in options else []
    card = ImageSetCard(
        spec=spec.text,
        digest=digest(classes, ids, labels, file_hashes(paths, owner=root), splits),
        n=len(files),
        classes=classes,
        class_names=readable_names(classes),
        provides=("split",) if splits else (),
        notes=(*_notes(listing, loose), *parts_notes(splits, labels, classes)),
    )
    return from_paths(card, ids, labels, paths, splits=splits)


def examples(tmp: Path) -> list[str]:
    """Spellings of small inputs, written below `tmp`, for the contract tests."""
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp / "pictures" / name).mkdir(parents=True)
        for index in range(3):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp / "pictures" / name / f"{index}.png")
    for part, names in {"train": ("cat", "dog"), "test": ("cat", "owl")}.items():
        for name in names:
            (tmp / "parts" / part / name).mkdir(parents=True)
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(
                tmp / "parts" / part / name / "0.png"
            )
    return [f"folder:{tmp / 'pictures'}", f"folder:{tmp / 'parts'}?parts=all"]


_Listing = dict[str, tuple[list[str], Counter[str]]]


def _refuse_splits(spec: Spec, root: Path, listing: _Listing) -> None:
    """train/ and val/ with class folders inside would silently become the two classes "train" and "val"."""
    if (
        listing
        and set(listing) <= set(_PARTS)
        and all("/" in image for images, _ in listing.values() for image in images)
    ):
        one = sorted(listing)[-1]
        raise VitalsError(
            f"The sub-folders of `{spec.text}` must be classes. Got splits: {', '.join(listing)}. "
            f"Name one of them, `folder:{root / one}`, or take all of them as parts of one set, `folder:{root}?parts=all`."
        )


def _read_mapping(path: Path, folders: list[str]) -> dict[str, str]:
    """Folder name -> class key, from lines of `folder,key`."""
    if not path.is_file():
        raise missing("The file of `classes=`", path)
    keys: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, skipinitialspace=True)
        for row in reader:
            if not row:
                continue
            where = f"{path}, line {reader.line_num}"
            require(
                len(row) == 2 and all(field.strip() for field in row), f"{where} must read `folder,key`", ",".join(row)
            )
            name, key = (field.strip() for field in row)
            require(name not in keys, f"{where}: each folder must be listed once", name)
            keys[name] = key
    for name in folders:
        require(name in keys, f"{path} must list every class folder", name, near(name, keys))
    return {name: keys[name] for name in folders}


def _notes(listing: _Listing, loose: int) -> list[str]:
    others = sum((counts for _, counts in listing.values()), Counter[str]())
    empty = [name for name, (images, _) in listing.items() if not images]
    notes = []
    if loose:
        notes.append(f"{loose} pictures lie outside the class folders and were left out")
    if others:
        notes.append(f"{others.total()} files have no ending of a picture and were left out ({_counts(others)})")
    if empty:
        notes.append(f"{len(empty)} class folders hold no picture: {', '.join(map(printable, empty[:5]))}")
    return notes


def _seen(listing: _Listing) -> str:
    others = sum((counts for _, counts in listing.values()), Counter[str]())
    files = f" with {others.total()} other files ({_counts(others)})" if others else ""
    return f"{len(listing)} sub-folders{files}"


def _counts(others: Counter[str]) -> str:
    most = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{ending} {count}" for ending, count in most)
