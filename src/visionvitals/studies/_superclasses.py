"""Coarse groups of classes: the user's own from a file, or ImageNet's from the numbers of its classes.

A wnid is the place of a noun in WordNet 3.0's noun file, which goes through the hierarchy branch by branch, so that the branches of
animals, things, food and so on are ranges of it. No copy of the hierarchy itself comes with this package or with timm: the ranges
below were read off the 1,000 class names, and a test holds them against timm's definitions. WordNet lists artefacts by alphabet, so
they stay one group of 525 classes, signs and the toilet tissue included; a file of your own splits them.
"""

import csv
import hashlib
import re
from collections import Counter
from pathlib import Path

from visionvitals.study import BackboneCard, ImageSetCard, VitalsError, near, require

RANGES = (
    (1440764, "fish"), (1514668, "birds"), (1629819, "amphibians"), (1664065, "reptiles"),
    (1768244, "other invertebrates"), (1795545, "birds"), (1871265, "other mammals"), (1910747, "other invertebrates"),
    (2002556, "birds"), (2066245, "other mammals"), (2085620, "dogs"), (2114367, "other mammals"), (2165105, "insects"),
    (2317335, "other invertebrates"), (2325366, "other mammals"), (2514041, "fish"), (2666196, "artefacts"),
    (7248320, "artefacts"), (7565083, "food"), (9193705, "landscapes"), (9835506, "people"),
    (11879895, "plants and fungi"), (15075141, "artefacts"),
)  # fmt: skip
"""(the wnid's number from which on, group); valid for the 1,000 classes of ImageNet-1k."""
_MARK = re.compile(r"#[0-9a-f]{12}$")


def by_class(images: ImageSetCard, backbone: BackboneCard, file: str) -> tuple[str | None, ...] | None:
    """The group of each class of an image set, None for a class in no group; None where there are no groups at all.

    Args:
        images: its classes are wnids, names, or the backbone's output indices.
        backbone: says which class an output index is.
        file: a csv with the head `class,group`, classes as the image set or the backbone spells them; empty for ImageNet's own.

    Raises:
        VitalsError: what `read` raises, or a file that names none of the set's classes.
    """
    keys, names = images.classes, images.class_names
    if images.kind == "indices" and backbone.classes is not None:
        known = [(backbone.classes[int(k)], (backbone.class_names or backbone.classes)[int(k)]) for k in keys]
        keys, names = tuple(k for k, _ in known), tuple(n for _, n in known)
    if file:
        table = read(file)
        found = tuple(table.get(key, table.get(name)) for key, name in zip(keys, names, strict=True))
        must = f"{file} must name classes of `{images.spec}`"
        require(any(found), must, f"{len(table)} others. {near(next(iter(table)), keys)}")
        return found
    from timm.data import ImageNetInfo

    ours = set(ImageNetInfo().label_names())
    found = tuple(superclass(key) if key in ours else None for key in keys)
    return found if any(found) else None


def superclass(wnid: str) -> str:
    """The group of one of ImageNet's 1,000 classes.

    Example:
        >>> superclass("n02165105"), superclass("n07873807")
        ('insects', 'food')
    """
    number = int(wnid[1:])
    return next(group for start, group in reversed(RANGES) if start <= number)


def marked(file: str) -> str:
    """`groups.csv` as `groups.csv#1f0c96ab52d3`: with the beginning of its sha256, so that a changed file has another name.

    A name that has its mark already stays; so does one of no file, which `read` refuses.
    """
    path = Path(file)
    if not file or _MARK.search(file) or not path.is_file():
        return file
    return f"{file}#{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def read(file: str) -> dict[str, str]:
    """class -> group.

    Args:
        file: with or without the mark of `marked`.

    Raises:
        VitalsError: no such file, one whose content is not that of its mark, not UTF-8, another head, or a class that occurs twice.
    """
    mark = _MARK.search(file)
    path = Path(file[: mark.start()] if mark else file)
    require(path.is_file(), "`groups` must be a csv file with the head `class,group`", file)
    must = f"{path} must have the content that its results were measured with"
    require(
        mark is None or marked(str(path)) == file, must, marked(str(path)), "Restore it, or name the file without `#`."
    )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VitalsError(f"{path} must be a csv in UTF-8. Got: {error}.") from None
    rows = [[part.strip() for part in row] for row in csv.reader(text.splitlines()) if row]
    if not rows or rows[0] != ["class", "group"] or any(len(row) != 2 or not all(row) for row in rows):
        raise VitalsError(f"{file} must have the head `class,group` and two words a line. Got {rows[:2]}.")
    twice = sorted(name for name, count in Counter(row[0] for row in rows).items() if count > 1)
    require(not twice, f"{file}: each class must occur once", twice[:5])
    require(len(rows) > 1, f"{file} must name classes", "none")
    return {row[0]: row[1] for row in rows[1:]}
