"""Pictures that live in this Python process: `memory:NAME`, as `visionvitals.images(pictures, labels, name=NAME)` gives them."""

import hashlib
import itertools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from PIL import Image

from visionvitals.core import Example, ImageSet, ImageSetCard
from visionvitals.datasets.base.decode import PLAIN, to_rgb, traits_of
from visionvitals.datasets.base.digest import Content
from visionvitals.datasets.base.notes import picture_notes
from visionvitals.errors import UnreadableImage, VitalsError, blamed, near, require
from visionvitals.registry import Spec


@dataclass(frozen=True)
class Pictures:
    """Pictures in their order; `[i]` gives the one with the id `000i`."""

    card: ImageSetCard
    pictures: tuple[Image.Image, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the pictures."""
        return tuple(map(_id, range(len(self))))

    def __getitem__(self, index: int) -> Example:
        return Example(id=_id(index), image=self.pictures[index], label=self.labels[index])


_held: dict[str, Pictures] = {}
_MOST_CLASSES = 1_000_000  # a larger label is a mistake, and the card lists every index up to the largest


def _id(index: int) -> str:
    return f"{index:06d}"


def parted(pairs: Any) -> tuple[list[Any], list[Any]]:
    """The pictures and the labels of a torch data set, or of a list of pairs.

    Raises:
        VitalsError: it gives something else, or fails.
    """
    found = _listed("Pictures", pairs)
    odd = next((type(each).__name__ for each in found if not isinstance(each, tuple | list) or len(each) != 2), None)
    do = "Give both as lists: `visionvitals.images(pictures, labels, name=...)`."
    require(odd is None, "Without `labels`, each must be a pair of a picture and its label", odd, do)
    return [picture for picture, _ in found], [label for _, label in found]


def hold(name: str, pictures: Any, labels: Any, classes: tuple[str, ...] | None = None) -> str:
    """Make pictures openable as `memory:NAME` in this process, and return that spelling. A name that is given again means the new ones.

    Args:
        name: of the set.
        pictures: Pillow images; or arrays or tensors, uint8 (h, w, 3) or (3, h, w), or float in [0, 1] of the same shapes.
        labels: one each: whole numbers (of Python, numpy or torch), the indices of `classes` (without them, of the network's
            outputs); or names of classes.
        classes: names in the order of whole-number labels.

    Raises:
        VitalsError: another number of labels, a picture of another form, or a label that is no whole number or name, or no class.
    """
    pictures, labels = _listed("Pictures", pictures), _listed("Labels", labels)
    require(len(pictures) > 0, "An image set must have a picture", 0)
    require(len(pictures) == len(labels), "Each picture must have a label", (len(pictures), len(labels)))
    images = tuple(_picture(each, k) for k, each in enumerate(pictures))
    plain = [_label(each, k) for k, each in enumerate(labels)]
    named = isinstance(plain[0], str)
    alike = all(isinstance(each, str) == named for each in plain)
    require(alike, "Labels must be all whole numbers, or all names", sorted({type(each).__name__ for each in plain}))
    keys = classes if classes is not None else tuple(sorted(map(str, set(plain)))) if named else None
    kind = "indices" if keys is None else "names"
    if keys is None:
        largest = max(int(each) for each in plain)
        require(largest < _MOST_CLASSES, f"A label must be below {_MOST_CLASSES:,}", largest, "Give `classes`.")
        keys = tuple(str(k) for k in range(largest + 1))
    position = {key: k for k, key in enumerate(keys)}
    found = [position.get(each, -1) if isinstance(each, str) else each for each in plain]
    bad = next((each for each, k in zip(plain, found, strict=True) if not 0 <= k < len(keys)), None)
    require(bad is None, "Every label must be one of the classes", bad, "Give their names in order as `classes`.")
    made = hashlib.sha256(repr((keys, found)).encode())
    known = []
    for given, image in zip(pictures, images, strict=True):
        palette = image.palette.tobytes() if image.palette is not None else b""
        look = repr((image.mode, image.size, image.info.get("transparency"))).encode()
        content = b"".join((look, palette, image.tobytes()))
        made.update(content)
        seen = traits_of(given) if isinstance(given, Image.Image) else PLAIN
        known.append(Content(hashlib.sha256(content).hexdigest(), seen._replace(frames=False)))
    how = "are read as stored; `PIL.ImageOps.exif_transpose` turns them upright"
    _, notes = picture_notes([_id(k) for k in range(len(images))], found, known, None, (), exif=how)
    card = ImageSetCard(
        spec=f"memory:{name}",
        digest=made.hexdigest(),
        n=len(images),
        classes=keys,
        class_names=keys,
        kind=kind,  # type: ignore[arg-type]
        notes=tuple(notes),
    )
    _held[name] = Pictures(card, images, tuple(found))
    return card.spec


def open(spec: Spec) -> ImageSet:
    """The pictures that were given under this name.

    Raises:
        VitalsError: none were given in this process.
    """
    spec.only()
    do = "They live in the Python process that made them: go on there with `visionvitals.audit(...)`, or give them again with "
    do += f"`visionvitals.images(pictures, labels, name=...)`. {near(spec.name, _held)}"
    require(spec.name in _held, "A `memory:` image set must have been given in this process", spec.text, do.rstrip())
    return _held[spec.name]


def _listed(what: str, given: Any) -> list[Any]:
    """All that a list, an array or a torch data set holds."""
    sized = hasattr(given, "__len__") and hasattr(given, "__getitem__") and not isinstance(given, str | Mapping)
    do = "Of a DataLoader give its `dataset`, of an iterator a list."
    require(sized, f"{what} must be a list, an array, or a torch data set", type(given).__name__, do)
    with blamed(f"{what} must be a list, an array, or a torch data set, and can be read"):
        return list(itertools.islice(given, len(given)))


def _label(given: Any, k: int) -> int | str:
    """A label as it is meant: floats, truths, nothing and arrays are not taken as numbers."""
    if isinstance(given, str):
        return str(given)
    shape, kind = tuple(getattr(given, "shape", ())), str(getattr(given, "dtype", type(given).__name__))
    try:
        number = operator.index(given)
    except (TypeError, RuntimeError):
        number = None
    do = "Give one label a picture, such as `[int(label) for label in labels]` where that is what they mean."
    must = f"Label {k} must be a whole number or the name of a class"
    require(shape == () and "bool" not in kind, must, f"{kind} of shape {shape}", do)
    require(number is not None, must, given, do)
    return cast(int, number)


def _picture(given: Any, k: int) -> Image.Image:
    """A copy as a Pillow image, so that what is changed later changes no number."""
    if isinstance(given, Image.Image):
        require(min(given.size) > 0, f"Picture {k} must have pixels", given.size)
        try:
            copied = given.copy()
            to_rgb(copied)
        except (OSError, ValueError, UnreadableImage) as error:  # its file is read now
            raise VitalsError(f"Picture {k} must be readable as RGB. Got mode {given.mode}: {error}.") from error
        return copied
    try:
        given = given.detach().cpu() if hasattr(given, "detach") else given
        array = np.asarray(given.float() if str(getattr(given, "dtype", "")) == "torch.bfloat16" else given)
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a tensor without numbers, or sparse
        raise VitalsError(
            f"Picture {k} must be a Pillow image or an array. Got {type(given).__name__}: {error}."
        ) from error
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[2] != 3:
        array = array.transpose(1, 2, 0)
    must = f"Picture {k} must be a Pillow image, or an array (h, w, 3) or (3, h, w), uint8 or float in [0, 1]"
    fits = array.ndim == 3 and array.size > 0 and array.shape[2] == 3 and array.dtype.kind in "uf"
    require(fits and (array.dtype.kind == "f" or array.dtype == np.uint8), must, f"{array.dtype} {array.shape}")
    if array.dtype.kind == "f":
        ends = (float(array.min()), float(array.max()))
        require(ends[0] >= 0 and ends[1] <= 1, must, f"values from {ends[0]:g} to {ends[1]:g}")
        array = np.round(array * 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(array))
