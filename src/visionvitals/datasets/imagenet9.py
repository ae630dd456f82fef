"""ImageNet-9, the backgrounds challenge: `imagenet9:DIR[?variation=original]`, nine classes whose pictures have other backgrounds, or none.

DIR is the folder of the unpacked release, with `<variation>/val/<class>/` below it: `original`, `mixed_same` (the background of another picture of the
class), `mixed_rand` (of any class), `mixed_next` (of the next class), `only_fg`, `no_fg`, `only_bg_b`, `only_bg_t`. The sign of interest is the gap
between `clean` on `mixed_same` and on `mixed_rand`: what a background of the right class is worth. Measure both in one run,
`--data imagenet9:DIR?variation=mixed_same --data imagenet9:DIR?variation=mixed_rand`.

Each of the nine classes stands for several classes of ImageNet (370 in all), and any of these is right; an answer with one of the other 630 is wrong.
Which they are stands in `in_to_in9.json`, which is published beside the release's code (github.com/MadryLab/backgrounds_challenge); put it into
DIR or the folder above. A network needs the outputs of ImageNet; one of nine outputs reads `folder:DIR/<variation>/val`.

The published numbers show the pictures as they are stored, 224 x 224 pixels without a resize or a crop: give the backbone `?resize=224` (for an
input of 224), or it is shown the centre of an enlarged picture. An id is `class/file`, in every variation.

Source: Xiao et al. 2020, "Noise or Signal: The Role of Image Backgrounds in Object Recognition" (arXiv 2006.09994).
"""

import json
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import find_images, from_paths, listing_notes, local_path, missing, printable
from visionvitals.datasets.base.labels import imagenet_wnids
from visionvitals.errors import VitalsError, near, require
from visionvitals.files import read_text
from visionvitals.registry import Spec

VARIATIONS = ("original", "mixed_same", "mixed_rand", "mixed_next", "only_fg", "no_fg", "only_bg_b", "only_bg_t")
COUNTS = {
    "dog": 116,
    "bird": 52,
    "vehicle": 42,
    "reptile": 36,
    "carnivore": 35,
    "insect": 27,
    "instrument": 26,
    "primate": 20,
    "fish": 16,
}
"""The nine classes in the order of their numbers, each with how many classes of ImageNet it stands for. Names of folders hold these words."""
MAPPING = "in_to_in9.json"
_HOME = "It is published at https://github.com/MadryLab/backgrounds_challenge."


def open(spec: Spec) -> ImageSet:
    """List the pictures of a variation, in the order of class, then path.

    Raises:
        VitalsError: no such folder or variation, other than nine class folders, no pictures, or a mapping that is missing or has another form.
    """
    options = spec.only("variation", "exif")
    root, variation = local_path(spec), options.get("variation", "original")
    known = partial(near, variation, VARIATIONS)
    require(variation in VARIATIONS, "`variation` must be one of the release", variation, known)
    if not root.is_dir():
        raise missing("The folder", root)
    val = root / variation / "val"
    if not val.is_dir():
        do = "Name the folder that the release was unpacked to; each variation is a folder in it."
        raise VitalsError(f"{missing('The folder of a variation', val)} {do}")
    folders = _folders(val)
    stands_for = _mapping(root)
    listing = find_images(val)
    position = {name: index for index, name in enumerate(folders)}
    labelled = ((position.get(path.partition("/")[0]), path) for path in listing.pictures if "/" in path)
    pictures = sorted((label, path) for label, path in labelled if label is not None)
    require(bool(pictures), f"`{spec.text}` must hold pictures in class folders", dict(listing.others))
    counts, published = tuple(map(len, stands_for)), tuple(COUNTS.values())
    notes = [
        f"{variation} of ImageNet-9; published numbers show its 224 x 224 pixels as stored: `?resize=224` of a backbone"
    ]
    if counts != published:
        notes.append(f"`{MAPPING}` gives the nine classes {counts} classes of ImageNet, the published one {published}")
    found = from_paths(
        spec,
        [printable(name) for name in folders],
        [printable(path) for _, path in pictures],
        [label for label, _ in pictures],
        [os.path.join(val, path) for _, path in pictures],
        owner=val,
        names=tuple(COUNTS),
        keyed=[" ".join((name, *keys)) for name, keys in zip(folders, stands_for, strict=True)],
        notes=[*notes, *listing_notes([listing])],
    )
    return replace(found, card=replace(found.card, stands_for=stands_for))


def _folders(val: Path) -> list[str]:
    """The class folders in the order of the nine classes, whatever else their names hold (`02_wheeled vehicle`).

    Raises:
        VitalsError: a class has no folder, or several.
    """
    names = sorted(entry.name for entry in val.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    found = [[name for name in names if word in name] for word in COUNTS]
    single = all(len(each) == 1 for each in found) and len(names) == len(COUNTS)
    require(single, f"{val} must hold a folder for each of {', '.join(COUNTS)}, and no other", names)
    return [each[0] for each in found]


def _mapping(root: Path) -> tuple[tuple[str, ...], ...]:
    """For each of the nine classes the wnids that it stands for, from the file that maps indices of ImageNet's outputs to classes, or to -1.

    Raises:
        VitalsError: there is no such file, or it is none of 1,000 indices.
    """
    path = next((place / MAPPING for place in (root, root.absolute().parent) if (place / MAPPING).is_file()), None)
    if path is None:
        raise VitalsError(f"`{MAPPING}` must lie in {root} or in the folder above. Got no such file. {_HOME}")
    try:
        content = json.loads(read_text(path))
    except ValueError as error:
        raise VitalsError(f"{path} must be the JSON of the release. Got: {error}. {_HOME}") from None
    classes = _classes(content, path)
    wnids = imagenet_wnids()
    return tuple(
        tuple(wnid for wnid, found in zip(wnids, classes, strict=True) if found == k) for k in range(len(COUNTS))
    )


def _classes(content: object, path: Path) -> list[int]:
    """The class of each of the 1,000 indices, -1 for none."""
    must = f"{path} must map each index, 0 to 999, to a class from 0 to {len(COUNTS) - 1} or to -1"
    indices = [str(k) for k in range(1000)]
    if not isinstance(content, dict) or content.keys() != set(indices):
        raise VitalsError(f"{must}. Got other keys. {_HOME}")
    found = [content[k] for k in indices]
    bad = [v for v in found if type(v) is not int or not -1 <= v < len(COUNTS)]
    require(not bad, must, bad[:1], _HOME)
    empty = sorted(set(range(len(COUNTS))) - set(found))
    require(not empty, must, f"nothing for class {empty[:1]}", _HOME)
    return found
