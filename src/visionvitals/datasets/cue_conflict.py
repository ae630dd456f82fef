"""Texture against shape: `cue_conflict:PATH[?exif=apply]`, pictures with the shape of one class and the surface of another, 16 classes.

PATH holds `stimuli/` (or is it itself) with files called `<shape><i>-<texture><j>.png`, e.g. `cat3-elephant1.png`, at any depth. The
label is the shape, `texture` the surface, both indices into the 16 classes; where they are equal there is no conflict (80 of the
1,280 published pictures), and studies of shape bias leave those out. Where PATH holds `silhouettes/<shape>/<shape><i>.png` (black is
the object, of the same size), the pictures have masks.

Source: Geirhos et al. 2019, "ImageNet-trained CNNs are biased towards texture".
"""

import os
import re
from functools import partial

import numpy as np
from jaxtyping import Bool, UInt8

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import find_images, from_paths, listing_notes, local_path, missing, printable
from visionvitals.datasets.base.masks import MaskFiles
from visionvitals.errors import near, require
from visionvitals.registry import Spec

CLASSES = (
    "airplane", "bear", "bicycle", "bird", "boat", "bottle", "car", "cat",
    "chair", "clock", "dog", "elephant", "keyboard", "knife", "oven", "truck",
)  # fmt: skip
_NAME = re.compile(r"([a-z]+)(\d+)-([a-z]+)(\d+)\.png")


def open(spec: Spec) -> ImageSet:
    """List the pictures, in the order of their path.

    Raises:
        VitalsError: no such folder, no picture whose name reads `<shape><i>-<texture><j>.png`, or one of an unknown class.
    """
    spec.only("exif")
    root = local_path(spec)
    if not root.is_dir():
        raise missing("The folder", root)
    folder = root / "stimuli" if (root / "stimuli").is_dir() else root
    listing = find_images(folder)
    found = {path: _NAME.fullmatch(path.rpartition("/")[2]) for path in listing.pictures}
    named = {path: match.groups() for path, match in found.items() if match is not None}
    must = f"`{spec.text}` must hold pictures called `<shape><i>-<texture><j>.png`"
    require(bool(named), must, f"{len(found)} pictures of other names", "Name the folder that holds `stimuli/`.")
    for path, words in named.items():
        for word in (words[0], words[2]):
            require(
                word in CLASSES, f"{path}: `{word}` must be one of the 16 classes", word, partial(near, word, CLASSES)
            )
    shapes = [CLASSES.index(words[0]) for words in named.values()]
    textures = [CLASSES.index(words[2]) for words in named.values()]
    outlines = root / "silhouettes"
    masks = [outlines / words[0] / f"{words[0]}{words[1]}.png" for words in named.values()]
    paths = [os.path.join(folder, path) for path in named]
    ids = [printable(path) for path in named]
    has_masks = outlines.is_dir()
    agree = sum(shape == texture for shape, texture in zip(shapes, textures, strict=True))
    notes = [f"{agree} of {len(ids)} pictures have the texture of their own shape: no conflict"] if agree else []
    if len(found) > len(named):
        notes.append(f"{len(found) - len(named)} pictures are not called `<shape><i>-<texture><j>.png`, and left out")
    notes += listing_notes([listing])

    def silhouette(values: UInt8[np.ndarray, "h w"], id: str) -> Bool[np.ndarray, "h w"]:
        return values < 128  # the rims are grey

    held = MaskFiles(masks, outlines, silhouette) if has_masks else None
    return from_paths(
        spec, CLASSES, ids, shapes, paths, owner=folder, names=CLASSES, textures=textures, masks=held, notes=notes
    )
