"""ObjectNet, objects from unusual sides in unusual places: `objectnet:FOLDER`, the 113 of its 313 classes that ImageNet has too.

FOLDER is the release (or holds it as `objectnet-1.0`): `images/<folder>/*.png` and in `mappings/` the files `folder_to_objectnet_label.json`,
`objectnet_to_imagenet_1k.json`, `imagenet_to_label_2012_v2` and `pytorch_to_imagenet_2012_id.json`. Nine classes are several of ImageNet's (a
helmet is a crash helmet or a football helmet), and an answer with any of them is right. The release marks every picture with a red border
against training on it: 2 pixels are cut at each side before the picture is resized; the files stay as they are.

Published numbers are `top1_present`, the highest of the 125 outputs that the 113 classes are.
Source: Barbu et al. 2019, "ObjectNet: a large-scale bias-controlled dataset for pushing the limits of object recognition models".
"""

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from visionvitals.core import ImageSet
from visionvitals.datasets.base.decode import open_image, to_rgb
from visionvitals.datasets.base.digest import contents
from visionvitals.datasets.base.files import encoded, find_images, listing_notes, printable
from visionvitals.datasets.base.labels import imagenet_wnids
from visionvitals.datasets.base.listed import Source, source
from visionvitals.errors import UnreadableImage, VitalsError, require
from visionvitals.files import read_regular, read_text
from visionvitals.registry import Spec

BORDER = 2
"""Pixels that are cut at each side: the border has one, which JPEG copies smear."""
_HOME = "Get the release at https://objectnet.dev/download.html."
_NAMES, _OVERLAP = "mappings/folder_to_objectnet_label.json", "mappings/objectnet_to_imagenet_1k.json"
_LABELS, _ORDER = "mappings/imagenet_to_label_2012_v2", "mappings/pytorch_to_imagenet_2012_id.json"


def open(spec: Spec) -> ImageSet:
    """List the pictures of the classes that ImageNet has, in the order of class, then path.

    Raises:
        VitalsError: a file of the release is missing or has another form, or no picture of these classes.
    """
    spec.only()
    found = source(spec, inner=("objectnet-1.0",), parts=(), home=_HOME)
    folder = found.need("images")
    ids_of = _imagenet(found)
    labels_of = _table(found, _NAMES)
    unknown = sorted(set(ids_of) - set(labels_of.values()))
    require(not unknown, f"{_OVERLAP} must use the classes of {_NAMES}", unknown[:3])
    listing = find_images(folder)
    place = {name: str(label) for name, label in labels_of.items() if label in ids_of}
    classes = tuple(sorted(ids_of))
    kept = [name for name in listing.pictures if name.partition("/")[0] in place]
    must = f"`{spec.text}` must hold pictures of classes that ImageNet has, in folders of {_NAMES}"
    require(bool(kept), must, f"{len(listing.pictures)} pictures of others")
    files = sorted((classes.index(place[name.partition("/")[0]]), name) for name in kept)
    paths = [os.path.join(folder, name) for _, name in files]
    ids = [printable(name) for _, name in files]
    several = tuple(ids_of[label] for label in classes)
    left, all_of = len(listing.pictures) - len(kept), len(listing.pictures)
    notes = [f"{left} of {all_of} pictures are of classes that ImageNet lacks, and were left out"] if left else []
    notes += [
        f"{BORDER} pixels are cut at each side (the red border), before the picture is resized",
        "published accuracies choose among the outputs of its classes alone, `top1_present`",
    ]
    images = encoded(
        spec,
        classes,
        ids,
        [label for label, _ in files],
        lambda index: _without_border(read_regular(paths[index]), ids[index]),
        contents(paths, owner=folder),
        names=classes,
        keyed=(f"border {BORDER}", *(f"{name}\0{' '.join(of)}" for name, of in zip(classes, several, strict=True))),
        notes=[*notes, *listing_notes([listing])],
    )
    return replace(images, card=replace(images.card, stands_for=several))


def _imagenet(found: Source) -> dict[str, tuple[str, ...]]:
    """class of ObjectNet -> the wnids that it is, by way of the names and the numbers of 2012 that the release uses."""
    wnids = imagenet_wnids()
    number = {line.strip(): k for k, line in enumerate(read_text(found.need(_LABELS)).splitlines())}
    position = {id: int(k) for k, id in _table(found, _ORDER).items() if k.isdecimal() and int(k) < len(wnids)}
    ids_of: dict[str, tuple[str, ...]] = {}
    for label, names in _table(found, _OVERLAP).items():
        try:
            ids_of[label] = tuple(wnids[position[number[name.strip()]]] for name in names.split(";"))
        except (KeyError, AttributeError):
            must = f"Each name in {_OVERLAP} must be a line of {_LABELS} that {_ORDER} gives a place"
            raise VitalsError(f"{must}. Got {names!r} for {label!r}. {_HOME}") from None
    every = [wnid for several in ids_of.values() for wnid in several]
    twice = sorted({wnid for wnid in every if every.count(wnid) > 1})
    require(not twice, f"{_OVERLAP} must give each class of ImageNet to one class", twice[:3])
    return ids_of


def _table(found: Source, name: str) -> dict[str, Any]:
    path: Path = found.need(name)
    try:
        table = json.loads(read_text(path))
    except ValueError as error:
        raise VitalsError(f"{path} must be JSON as it was released. Got: {error}. {_HOME}") from None
    good = isinstance(table, dict) and all(isinstance(value, str | int) for value in table.values())
    require(
        good, f"{path} must hold a JSON object of names or numbers, as it was released", type(table).__name__, _HOME
    )
    return dict(table)


def _without_border(data: bytes, id: str) -> bytes:
    """A picture without its border, encoded without loss."""
    image: Image.Image = open_image(data, id)
    if min(image.size) <= 2 * BORDER:
        raise UnreadableImage(f"{id}: {image.width} x {image.height} pixels are nothing but border")
    buffer = io.BytesIO()
    inside = to_rgb(image).crop((BORDER, BORDER, image.width - BORDER, image.height - BORDER))
    inside.save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()
