"""The classes of a network's outputs: keys that labels are matched by (wnids, folder names) and readable names."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from visionvitals.errors import VitalsError, near, require
from visionvitals.files import read_text


class Names(NamedTuple):
    """Keys and readable names in output order, equally long."""

    keys: tuple[str, ...]
    readable: tuple[str, ...]


@cache
def imagenet(outputs: int) -> Names | None:
    """The ImageNet subset with that many classes in its usual order (1k, 12k, 21k and their kin), by timm's tables."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": outputs})
    if subset is None:
        return None
    info = ImageNetInfo(subset)
    keys = tuple(info.label_names())
    return Names(keys, tuple(info.label_descriptions())) if len(keys) == outputs else None


def named(readable: tuple[str, ...]) -> Names:
    """Classes of which only readable names are known. Names in the order of ImageNet get the wnids as their keys.

    Published label lists differ in a few names, so nine of ten must agree in their first word group.
    """
    usual = imagenet(len(readable))
    if usual is not None:
        agree = sum(_first(a) == _first(b) for a, b in zip(usual.readable, readable, strict=True))
        if agree >= 0.9 * len(readable):
            return Names(usual.keys, readable)
    return Names(readable, readable)


def keyed(keys: tuple[str, ...]) -> Names:
    """Classes of which the keys are known; wnids of ImageNet get their readable names."""
    usual = imagenet(1000)
    assert usual is not None
    readable = dict(zip(usual.keys, usual.readable, strict=True))
    return Names(keys, tuple(readable.get(key, key) for key in keys))


def from_file(path: Path) -> Names:
    """One class key a line, in output order.

    Raises:
        VitalsError: no such file, not UTF-8, an empty line, or a key that occurs twice.
    """
    must = "`classes` must name a text file with the key of one class a line, in the order of the outputs"
    require(not path.is_dir(), must, str(path), "This is a folder: give the file.")
    if not path.is_file():
        beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        raise VitalsError(f"{must}. There is no file {path}. {near(path.name, beside)}".strip())
    keys = tuple(line.strip() for line in read_text(path).rstrip().splitlines())
    require(all(keys), f"{path}: each line must be one class key", "an empty line")
    twice = sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
    require(not twice, f"{path}: each class key must occur once", twice[:5])
    return keyed(keys)


def _first(name: str) -> str:
    return name.partition(",")[0].strip().lower()
