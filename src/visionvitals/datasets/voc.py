"""Pascal VOC segmentation: `voc:PATH[?split=val&year=2012&exif=apply]`, from a VOCdevkit on the disk; nothing is ever downloaded.

PATH is the VOCdevkit, its parent, or the folder VOC2012 itself. Read are `ImageSets/Segmentation/<split>.txt`, `JPEGImages` and
`SegmentationClass`: indices 0 background, 1 to 20 classes, 255 void. A picture can show several classes, so there is no label to
classify (all have label 0); studies of masks use the label maps.

Source: Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge"; the archive is VOCtrainval_11-May-2012.tar.
"""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import from_paths, local_path, missing
from visionvitals.datasets.base.masks import MaskFiles, as_kinds
from visionvitals.errors import VitalsError, near, require
from visionvitals.files import read_text
from visionvitals.registry import Spec

KINDS = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""The meaning of the indices 1 to 20 in a label map."""
_SPLITS = ("train", "trainval", "val")


def open(spec: Spec) -> ImageSet:
    """List the pictures of a split, in the order of its file.

    Raises:
        VitalsError: no such folder, an unknown split, or a file of the devkit that is missing (it is named).
    """
    options = spec.only("split", "year", "exif")
    split, year = options.get("split", "val"), options.get("year", "2012")
    require(
        split in _SPLITS, f"`split` of `{spec.text}` must be one of {', '.join(_SPLITS)}", split, near(split, _SPLITS)
    )
    root = _root(spec, year)
    listing = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    for path in (listing, root / "JPEGImages", root / "SegmentationClass"):
        if not path.exists():
            raise VitalsError(
                f"`{spec.text}` needs {path}, which does not exist. Unpack VOCtrainval_11-May-2012.tar whole; it is not downloaded here."
            )
    ids = [word for line in read_text(listing).splitlines() for word in line.split()[:1]]
    require(bool(ids), f"{listing} must name pictures", 0)
    pictures = [root / "JPEGImages" / f"{id}.jpg" for id in ids]
    maps = [root / "SegmentationClass" / f"{id}.png" for id in ids]

    def mean(values: UInt8[np.ndarray, "h w"], id: str) -> UInt8[np.ndarray, "h w"]:
        return as_kinds(values, len(KINDS), id)

    masks = MaskFiles(maps, root / "SegmentationClass" / split, mean)
    notes = ["its pictures have no classes, only masks"]
    owner = root / "JPEGImages" / split
    labels = [0] * len(ids)
    return from_paths(spec, ["picture"], ids, labels, pictures, owner=owner, keyed=KINDS, masks=masks, notes=notes)


def _root(spec: Spec, year: str) -> Path:
    """The folder VOC<year>."""
    path = local_path(spec)
    if not path.is_dir():
        raise missing("The VOCdevkit", path)
    for found in (path, path / f"VOC{year}", path / "VOCdevkit" / f"VOC{year}"):
        if (found / "JPEGImages").is_dir() or (found / "ImageSets").is_dir():
            return found
    raise VitalsError(
        f"`{spec.text}` must be a VOCdevkit: it needs {path / f'VOC{year}' / 'JPEGImages'}, which does not exist. "
        "Name the folder that holds VOC2012."
    )
