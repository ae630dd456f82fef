"""Masks as files: from encoded bytes to the values that `Example.mask` holds, and what is said of those that cannot be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

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
    """

    paths: Sequence[Path | None]
    owner: Path
    mean: Callable[[UInt8[np.ndarray, "h w"], str], np.ndarray]
    suffix: str = ""

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
        values, own = _read(path, id)
        values = self.mean(values, id)
        standing = picture[::-1] if turn >= 5 else picture
        if own and (raised := turned_array(values, own)).shape == standing:
            return raised if upright else turned_array(raised, turn, back=True)
        if picture == standing:
            return values
        if upright and values.shape == picture:
            return turned_array(values, turn)
        return turned_array(values, turn, back=True) if not upright and values.shape == standing else values


def read_values(path: Path, id: str) -> UInt8[np.ndarray, "h w"]:
    """The values of a mask file as stored: grey levels, or the indices of a palette (never its colours).

    Raises:
        UnreadableImage: no file, no picture, colours, or more than 8 bits a pixel.
    """
    return _read(path, id)[0]


def _read(path: Path, id: str) -> tuple[UInt8[np.ndarray, "h w"], int]:
    """The values, and the EXIF orientation of the file, 0 where it says nothing."""
    try:
        image = open_image(read_regular(path), id)
        turn = orientation(image)
    except OSError as error:
        raise UnreadableImage(f"{id}: its mask {path.name} cannot be read: {error.strerror or error}") from error
    except UnreadableImage as error:
        raise UnreadableImage(f"{id}: its mask {path.name}: {str(error).removeprefix(f'{id}: ')}") from error
    if image.mode in ("1", "L", "P"):
        return np.asarray(image, dtype=np.uint8) * (255 if image.mode == "1" else 1), turn
    pixels = np.asarray(image)
    if image.mode in ("RGB", "RGBA", "LA"):
        colours = pixels[:, :, : 3 if image.mode != "LA" else 1]
        if (colours == colours[:, :, :1]).all():
            return np.ascontiguousarray(colours[:, :, 0]), turn
        raise UnreadableImage(f"{id}: its mask {path.name} has colours; write indices (grey or palette) instead")
    raise UnreadableImage(f"{id}: its mask {path.name} has the mode {image.mode}; write 8-bit grey or a palette")


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
        f"{id}: a mask must hold 0 and 255 (or 0 and 1) only; it holds {_some(unknown)} too. Several kinds of objects: `kinds=N`"
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
