"""ImageNet-C as released: `imagenet_c:FOLDER[?images=500][&clean=FOLDER][&exif=apply]`, corruption/severity/wnid/picture, also one level deeper.

The tar files unpack to such folders, with or without the name of the tar above (`blur/defocus_blur/1/...`); those that are there are
read. `images=500` takes 500 pictures, the same ones in every corruption and severity, by a hash of their names. `clean=FOLDER` adds
the clean pictures of the same names, in folders of wnids (after the benchmark's resize to 256 and crop of 224), for relative mCE.
An id is `corruption/severity/wnid/picture`, or `wnid/picture` where it is clean.
"""

import hashlib
from pathlib import Path

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import find_images, from_paths, local_path, missing, printable, user_path
from visionvitals.errors import require
from visionvitals.probes.mce import COMMON, EXTRA, SEVERITIES
from visionvitals.registry import Spec


def open(spec: Spec) -> ImageSet:
    """List the pictures: clean ones first, then by corruption in the benchmark's order, severity, wnid and name.

    Raises:
        VitalsError: no such folder, no folder of a corruption, no pictures, or `images` that is no positive number.
    """
    options = spec.only("images", "clean", "exif")
    root = local_path(spec)
    if not root.is_dir():
        raise missing("The folder", root)
    count = options.get("images")
    require(count is None or (count.isdecimal() and int(count) > 0), "`images` must be a positive whole number", count)
    folders = _folders(root)
    require(
        bool(folders),
        f"{root} must hold folders `corruption/severity/wnid`, such as {COMMON[0]}/1",
        sorted(entry.name for entry in root.iterdir())[:8],
    )
    if "clean" in options:
        clean = user_path(options["clean"])
        if not clean.is_dir():
            raise missing("The folder of `clean=`", clean)
        folders = {"": clean, **folders}
    if count is None:
        held = {place: _names(folder) for place, folder in folders.items()}
    else:  # of 95 folders with 50,000 pictures each only one is listed
        chosen = _draw(_names(next(reversed(folders.values()))), int(count))
        held = {place: [name for name in chosen if (folder / name).is_file()] for place, folder in folders.items()}
    fewer = [place.rstrip("/") or "clean" for place, names in held.items() if len(names) < max(map(len, held.values()))]
    files = [(f"{place}{name}", name, folders[place] / name) for place, names in held.items() for name in names]
    require(bool(files), f"`{spec.text}` must hold pictures in folders of wnids", 0)
    wnids = {entry.name for folder in folders.values() for entry in folder.iterdir() if entry.is_dir()}
    classes = tuple(sorted(map(printable, wnids)))
    position = {wnid: index for index, wnid in enumerate(classes)}
    ids = [printable(id) for id, _, _ in files]
    labels = [position[printable(name.partition("/")[0])] for _, name, _ in files]
    paths = [path for _, _, path in files]
    notes = [
        "its pictures are corrupted: measure it with the study `imagenet_c`; `clean` on it is the mean over all its folders"
    ]
    if fewer:
        notes.append(f"{len(fewer)} folders hold fewer pictures than the others: {', '.join(fewer[:5])}")
    absent = [name for name in COMMON if not any(place.startswith(f"{name}/") for place in folders)]
    if absent:
        notes.append(f"there is no mCE without all 15 corruptions; missing: {', '.join(absent)}")
    return from_paths(spec, classes, ids, labels, paths, owner=root, notes=notes)


def _folders(root: Path) -> dict[str, Path]:
    """`corruption/severity/` -> its folder, of those that are there."""
    found = {}
    for name in (*COMMON, *EXTRA):
        for severity in SEVERITIES:
            places = [root / name / str(severity), *sorted(root.glob(f"*/{name}/{severity}"))]
            existing = [place for place in places if place.is_dir()]
            require(len(existing) < 2, f"{name}/{severity} must be there once", [str(place) for place in existing])
            if existing:
                found[f"{name}/{severity}/"] = existing[0]
    return found


def _names(folder: Path) -> list[str]:
    """`wnid/picture` of every picture, sorted."""
    return [name for name in find_images(folder).pictures if "/" in name]


def _draw(names: list[str], count: int) -> list[str]:
    """The names with the smallest hashes, in their own order; a smaller draw is part of a larger one."""
    return sorted(sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())[:count])
