"""Pictures with masks: `masks:PATH[?images=images&masks=masks&kinds=N&exif=apply]`, a folder of pictures and a folder of masks of the same names.

A mask has the name of its picture and any ending (a PNG where there are several), the same size, and holds 0 for background and 255
(or 1) for the object; a palette of black and white is read by its colours, any other by its indices, if the first colour is black.
With `kinds=N` it is a label map: 0 background, 1 to N kinds of objects, 255 unlabelled; grey levels or palette indices, never colours.
A mask that lies in an alpha channel is refused. A picture whose mask is missing, of another size or holds other values is left out and named.

A picture is read as stored, or upright with `exif=apply`, and its mask is brought to the same orientation: by its own EXIF
orientation, else by its size; where neither tells, it is laid on as stored, which a note says.

Where the pictures lie in sub-folders, the first sub-folder is the class; otherwise there is one class, `object`.
"""

import os

import numpy as np
from jaxtyping import UInt8

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import find_images, from_paths, listing_notes, local_path, missing, printable
from visionvitals.datasets.base.masks import VOID, MaskFiles, as_kinds, as_object
from visionvitals.errors import require
from visionvitals.registry import Spec


def open(spec: Spec) -> ImageSet:
    """Pair pictures with masks, in the order of class, then path.

    Raises:
        VitalsError: no such folder, no pictures, no mask for any of them, or a bad `kinds`.
    """
    options = spec.only("images", "masks", "kinds", "exif")
    root = local_path(spec)
    folders = [root / options.get(key, key) for key in ("images", "masks")]
    for folder, what in zip((root, *folders), ("folder", "folder of pictures", "folder of masks"), strict=True):
        if not folder.is_dir():
            raise missing(f"The {what} of `{spec.text}`", folder)
    kinds = _kinds(spec)
    listing = find_images(folders[0])
    pictures = listing.pictures
    require(
        bool(pictures), f"`{spec.text}` must hold pictures in {folders[0]}", f"{listing.others.total()} other files"
    )
    masks: dict[str, str] = {}
    for path in find_images(folders[1]).pictures:
        if path.endswith(".png") or _stem(path) not in masks:
            masks[_stem(path)] = path
    paired = [masks.get(_stem(path)) for path in pictures]
    must = f"Masks in {folders[1]} must have the names of the pictures in {folders[0]}, with any ending"
    require(any(paired), must, f"{len(masks)} masks, {pictures[0]} without one among the pictures")
    in_classes = all("/" in path for path in pictures)
    keys = [path.partition("/")[0] if in_classes else "object" for path in pictures]
    classes = tuple(sorted(set(keys)))
    position = {key: index for index, key in enumerate(classes)}
    labels = [position[key] for key in keys]
    ids = [printable(path) for path in pictures]
    paths = [os.path.join(folders[0], path) for path in pictures]

    def mean(values: UInt8[np.ndarray, "h w"], id: str) -> UInt8[np.ndarray, "h w"]:
        return as_object(values, id) if kinds is None else as_kinds(values, kinds, id)

    files = [None if path is None else folders[1] / path for path in paired]
    found = MaskFiles(files, folders[1], mean, suffix=f"/{kinds or 'black and white'}", plain=kinds is None)
    notes = [] if in_classes else ["its pictures have no classes, only masks"]
    notes += listing_notes([listing])
    names = [printable(key) for key in classes]
    return from_paths(spec, names, ids, labels, paths, owner=folders[0], masks=found, notes=notes)


def _stem(path: str) -> str:
    return path.rpartition(".")[0]


def _kinds(spec: Spec) -> int | None:
    text = spec.options.get("kinds")
    if text is None:
        return None
    good = text.isascii() and text.isdecimal() and 1 <= int(text) < VOID
    require(good, f"`kinds` of `{spec.text}` must be the number of kinds of objects, 1 to {VOID - 1}", text)
    return int(text)
