"""The style pictures of a folder: which can be used, and how one is cut. What cannot be used is named and left out of the draw.

As published for Stylized-ImageNet: sorted by name; pictures that cannot be read or have a side below the output's are excluded; the
largest centre square, reduced with the Lanczos filter. Deviation: there the reduced paintings were stored in their own format, most
as JPEG, and read again.
"""

import json
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from visionvitals.datasets.base.decode import MAX_PIXELS, open_image, to_rgb
from visionvitals.datasets.base.files import find_images, missing
from visionvitals.datasets.base.reading import read_json
from visionvitals.errors import UnreadableImage, VitalsError, blamed, require
from visionvitals.files import read_regular, write_safely


@dataclass(frozen=True)
class Styles:
    """The usable style pictures of a folder.

    Attributes:
        folder: where they lie.
        names: POSIX paths below it, sorted; the draw's indices point here.
        excluded: (name, reason) of the others.
        size: side in pixels that they are cut to.
    """

    folder: Path
    names: tuple[str, ...]
    excluded: tuple[tuple[str, str], ...]
    size: int

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """A style picture, cut."""
        return cut(self.folder / self.names[index], self.size)


def cut(path: Path, size: int) -> UInt8[np.ndarray, "s s 3"]:
    """The largest centre square of a picture, reduced to `size` x `size`.

    Raises:
        UnreadableImage: it cannot be read, or a side is shorter than `size`.
    """
    try:
        with (
            warnings.catch_warnings()
        ):  # a large painting is no attack; beyond twice Pillow's limit it is refused anyway
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = to_rgb(open_image(read_regular(path), path.name, most=2 * MAX_PIXELS))
    except OSError as error:
        raise UnreadableImage(f"{path.name}: {error.strerror or error}") from error
    width, height = picture.size
    if min(width, height) < size:
        raise UnreadableImage(f"{path.name}: {width} x {height} pixels, smaller than {size}")
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = picture.crop((left, top, left + side, top + side))
    square.thumbnail((size, size), Image.Resampling.LANCZOS)
    return np.asarray(square)


def scan(folder: Path, size: int, *, kept: Path, workers: int, progress: Callable[[int], None]) -> Styles:
    """Find the usable styles. Every picture is decoded once; what was found is kept in `kept` and read from there the next time.

    Args:
        folder: the style pictures, at any depth.
        size: side of the output in pixels.
        kept: the json file for what was found.
        workers: decoding threads.
        progress: called with the number of pictures seen since the last call.

    Raises:
        VitalsError: no such folder, no usable picture in it, or another content than the one that `kept` knows.
    """
    if not folder.is_dir():
        raise missing("The folder of styles", folder)
    names = find_images(folder)[0]
    require(bool(names), "The folder of styles must hold pictures", str(folder))
    listing = [[name, (folder / name).stat().st_size] for name in names]
    if kept.is_file():
        known = read_json(kept)
        if known.get("listing") != listing or known.get("size") != size:
            raise VitalsError(
                f"The styles must be those that {kept.parent} was begun with, or pictures would get others. Got other pictures or "
                f"another size than {len(names)} in {folder} of size {size}. Restore them, or give another --out."
            )
        with blamed(f"{kept} must be as it was written; delete it to look at the styles again"):
            excluded = dict(known["excluded"])
    else:
        excluded = _try_all(folder, names, size, workers, progress)
        content = json.dumps({"size": size, "listing": listing, "excluded": list(excluded.items())})
        write_safely(kept, content)
    usable = tuple(name for name in names if name not in excluded)
    some = "; ".join(list(excluded.values())[:3])
    require(bool(usable), f"Some picture in {folder} must be usable as a style ({some})", f"0 of {len(names)}")
    return Styles(folder, usable, tuple(excluded.items()), size)


def _try_all(
    folder: Path, names: list[str], size: int, workers: int, progress: Callable[[int], None]
) -> dict[str, str]:
    def reason(name: str) -> str | None:
        try:
            cut(folder / name, size)
        except UnreadableImage as error:
            return str(error)
        return None

    found: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for name, why in zip(names, pool.map(reason, names), strict=True):
            if why is not None:
                found[name] = why
            progress(1)
    return found
