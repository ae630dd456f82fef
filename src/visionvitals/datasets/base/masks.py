"""Masks as files: from encoded bytes to the values that `Example.mask` holds, and what is said of those that cannot be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from visionvitals.datasets.base.decode import open_image, orientation, turned_array
from visionvitals.errors import UnreadableImage
from visionvitals.files import read_regular

VOID = 255
"""Where nobody labelled."""


@dataclass(frozen=True)
class MaskFiles:
    """The masks of a set of files.

    Attributes:
        paths: one per picture; None where there is none.
        owner: the folder they lie in.
        mean: (values of the file, id of the picture) -> `Example.mask`, turned as the file is stored; UnreadableImage for bad values.
        suffix: what decides the meaning of the values, for the digest.
        plain: masks of one object: of a palette in black and white the colours count, not the indices.
    """

    paths: Sequence[Path | None]
    owner: Path
    mean: Callable[[UInt8[np.ndarray, "h w"], str], np.ndarray]
    suffix: str = ""
    plain: bool = False

    def read(self, index: int, id: str, *, picture: tuple[int, int], turn: int, upright: bool) -> np.ndarray:
        """The mask of a picture, in the orientation in which the picture is read.

        A mask says how it is turned by its own EXIF orientation; else its size tells whether it was drawn on the stored or on the
        upright picture; where neither tells, it is laid on as it is stored.

        Args:
            index: of the picture.
            id: of the picture.
            picture: (height, width) as stored.
            turn: EXIF orientation of the picture, 0 where it has none.
            upright: the picture is read upright.

        Raises:
            UnreadableImage: no mask, or one that cannot be read.
        """
        path = self.paths[index]
        if path is None:
            raise UnreadableImage(f"{id}: there is no mask of that name in {self.owner}")
        values, own = _read(path, id, self.plain)
        values = self.mean(values, id)
        standing = picture[::-1] if turn >= 5 else picture
        if own and (raised := turned_array(values, own)).shape == standing:
            return raised if upright else turned_array(raised, turn, back=True)
        if picture == standing:
            return values
        if upright and values.shape == picture:
            return turned_array(values, turn)
        return turned_array(values, turn, back=True) if not upright and values.shape == standing else values


def read_object(path: Path, id: str) -> UInt8[np.ndarray, "h w"]:
    """A plain object mask from its file as stored: 0 (background) and 1 (object).

    Raises:
        UnreadableImage: no file, no picture, colours, more than 8 bits a pixel, a mask in alpha, or other values (see `as_object`).
    """
    return as_object(_read(path, id, plain=True)[0], id)


def _read(path: Path, id: str, plain: bool) -> tuple[UInt8[np.ndarray, "h w"], int]:
    """The values (grey levels, or the indices of a palette), and the EXIF orientation of the file, 0 where it says nothing."""
    try:
        image = open_image(read_regular(path), id)
        turn = orientation(image)
    except OSError as error:
        raise UnreadableImage(f"{id}: its mask {path.name} cannot be read: {error.strerror or error}") from error
    except UnreadableImage as error:
        raise UnreadableImage(f"{id}: its mask {path.name}: {str(error).removeprefix(f'{id}: ')}") from error
    if (plain or image.mode != "P") and _only_in_alpha(image):
        do = "save that channel as a grey picture"
        raise UnreadableImage(f"{id}: its mask {path.name} has one colour, and a shape only in its alpha channel; {do}")
    if plain and image.mode == "P":
        return _black_and_white(image, path.name, id), turn
    if image.mode in ("1", "L", "P"):
        return np.asarray(image, dtype=np.uint8) * (255 if image.mode == "1" else 1), turn
    pixels = np.asarray(image)
    if image.mode in ("RGB", "RGBA", "LA"):
        colours = pixels[:, :, : 3 if image.mode != "LA" else 1]
        if (colours == colours[:, :, :1]).all():
            return np.ascontiguousarray(colours[:, :, 0]), turn
        raise UnreadableImage(
            f"{id}: its mask {path.name} has colours; write indices (grey or palette) instead, or its alpha as grey"
        )
    raise UnreadableImage(f"{id}: its mask {path.name} has the mode {image.mode}; write 8-bit grey or a palette")


def _only_in_alpha(image: Image.Image) -> bool:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return False
    flat = np.asarray(image.convert("RGBA")).reshape(-1, 4)
    same = (flat == flat[0]).all(axis=0)
    return bool(same[:3].all() and not same[3])


def _black_and_white(image: Image.Image, name: str, id: str) -> UInt8[np.ndarray, "h w"]:
    """The grey levels of a palette in black and white; of another palette the indices, if its 0 is black, as background is."""
    indices = np.asarray(image, dtype=np.uint8)
    colours = np.zeros((256, 3), dtype=np.uint8)
    given = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
    colours[: len(given)] = given
    used = colours[np.unique(indices)]
    grey = (used == used[:, :1]).all() and np.isin(used, (0, 255)).all()
    if grey and (len(used) == 1 or (used != used[0]).any()):
        return np.ascontiguousarray(colours[indices, 0])
    if colours[0].any():
        why = "its palette has colours, and the first of them is not black, so what is background is not known"
        raise UnreadableImage(f"{id}: its mask {name}: {why}; write 0 for background and 255 for the object, in grey")
    return indices


def as_object(values: UInt8[np.ndarray, "h w"], id: str) -> UInt8[np.ndarray, "h w"]:
    """A plain object mask, whose values are 0 and 1, or 0 and 255, as 0 (background) and 1 (object).

    Raises:
        UnreadableImage: any other value.
    """
    found = np.unique(values)
    if found.max() <= 1:
        return values
    if set(found.tolist()) <= {0, 255}:
        return np.where(values == 255, np.uint8(1), np.uint8(0))
    unknown = [int(v) for v in found if v not in (0, 255)]
    raise UnreadableImage(
        f"{id}: a mask must hold 0 and 255 (or 0 and 1) only; it holds {_some(unknown)} too. For several kinds of objects give `kinds=N`"
    )


def as_kinds(values: UInt8[np.ndarray, "h w"], kinds: int, id: str) -> UInt8[np.ndarray, "h w"]:
    """A label map: 0 background, 1..`kinds` objects, 255 unlabelled.

    Raises:
        UnreadableImage: any other value.
    """
    unknown = [int(v) for v in np.unique(values) if kinds < v < VOID]
    if unknown:
        raise UnreadableImage(
            f"{id}: a mask must hold 0 to {kinds}, or {VOID} for unlabelled; it holds {_some(unknown)} too"
        )
    return values


def _some(values: list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (f" and {len(values) - 5} more" if len(values) > 5 else "")
