"""ImageNet-V2, new photographs of ImageNet's classes: `imagenet_v2:FOLDER[?exif=apply]`, 10,000 pictures, ten of each of 1,000 classes.

FOLDER holds `0` to `999`; the name of a folder is the index of the output. Sorted as text, as loaders of class folders do, only 12 of the
1,000 keep their place, so that nearly every label is wrong: this reader goes by the number. The release has three such sets
(matched-frequency, threshold-0.7, top-images) that differ by points: say which one was measured.

Source: Recht et al. 2019, "Do ImageNet classifiers generalize to ImageNet?"
"""

from visionvitals.core import ImageSet
from visionvitals.datasets.base.files import find_images, from_paths, listing_notes, local_path, missing, printable
from visionvitals.datasets.base.labels import imagenet_wnids, readable_names
from visionvitals.errors import require
from visionvitals.registry import Spec

_CLASSES = 1000


def open(spec: Spec) -> ImageSet:
    """List the pictures, in the order of their class, then of their path.

    Raises:
        VitalsError: no such folder, a class folder that is no number from 0 to 999, or no pictures.
    """
    spec.only("exif")
    root = local_path(spec)
    if not root.is_dir():
        raise missing("The folder", root)
    listing = find_images(root)
    inside = [name for name in listing.pictures if "/" in name]
    folders = sorted({name.partition("/")[0] for name in inside})
    must = f"The pictures of `{spec.text}` must lie in folders called 0 to {_CLASSES - 1}"
    named = [f for f in folders if not (f.isascii() and f.isdecimal() and int(f) < _CLASSES)]
    do = "Name the folder that holds them, such as imagenetv2-matched-frequency-format-val; folders of wnids are read as `folder:`."
    require(bool(folders) and not named, must, [printable(f) for f in named[:3]] or "no folder with a picture", do)
    files = sorted((int(name.partition("/")[0]), name) for name in inside)
    found = len({label for label, _ in files})
    notes = [] if found == _CLASSES else [f"{found} of the {_CLASSES:,} class folders hold pictures"]
    if len(inside) < len(listing.pictures):
        notes.append(f"{len(listing.pictures) - len(inside)} pictures lie outside the class folders and were left out")
    return from_paths(
        spec,
        tuple(map(str, range(_CLASSES))),
        [printable(name) for _, name in files],
        [label for label, _ in files],
        [root / name for _, name in files],
        owner=root,
        names=readable_names(imagenet_wnids()),
        kind="indices",
        notes=[*notes, *listing_notes([listing])],
    )
