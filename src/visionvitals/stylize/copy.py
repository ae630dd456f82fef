"""A stylised copy of an image set: one PNG per picture in class folders, written atomically, in any order, by any number of processes.

    OUT/<class>/<picture>.png    readable as `folder:OUT` at any moment
    OUT/stylize.json             what decides the pictures; a folder that was begun otherwise is refused
    OUT/styles.json              the usable and the excluded styles
    OUT/part-<i>-of-<n>.json     how a part ended: how many were made, which pictures could not be read

A picture that is there already is not made again, so the same command resumes after a kill.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from visionvitals.core import ImageSet, Preprocess
from visionvitals.datasets.base.decode import decode
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.datasets.base.reading import read_json
from visionvitals.errors import UnreadableImage, VitalsError, require
from visionvitals.files import sweep, write_safely
from visionvitals.pixels import to_float, to_uint8
from visionvitals.stylize.draw import style_indices
from visionvitals.stylize.styles import Styles

Engine = Callable[[Tensor, Tensor], Tensor]
"""(content, style), both float (b, 3, s, s) in [0, 1] -> the stylised pictures, the same."""
_CACHED_STYLES = 256


@dataclass(frozen=True)
class Stylised:
    """The stylised form of an image set, made where it is asked for.

    Attributes:
        images: the natural pictures.
        styles: None where the pictures are copied as they are.
        engine: see `Engine`.
        size: side of the output in pixels. The content is resized to size * 256 / 224 on its shorter side and its centre is cropped.
        first: position of the first picture in the draw of styles.
        device: where the engine computes.
    """

    images: ImageSet
    styles: Styles | None
    engine: Engine
    size: int
    first: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def content(self, index: int) -> tuple[str, UInt8[np.ndarray, "s s 3"]]:
        """(path below the copy, the natural picture as it is cut). Raises UnreadableImage."""
        example = self.images[index]
        preprocess = Preprocess(
            size=(self.size, self.size),
            resize=None if self.styles is None else round(self.size * 256 / 224),
            interpolation="bilinear",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
        return target(self.images.card.classes[example.label], example.id), decode(example.image, preprocess)

    def place(self, index: int) -> str | None:
        """Where a picture goes in the copy, without decoding it; None where the set cannot tell before."""
        if not isinstance(self.images, EncodedImages):
            return None
        return target(self.images.card.classes[self.images.labels[index]], self.images.ids[index])

    def make(self, contents: Sequence[np.ndarray], styles: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The stylised pictures, uint8 (s, s, 3) each."""
        if self.styles is None:
            return list(contents)
        content, style = (to_float(np.stack(pictures), self.device) for pictures in (contents, styles))
        return list(to_uint8(self.engine(content, style)))

    def one(self, index: int) -> UInt8[np.ndarray, "s s 3"]:
        """One picture alone: the same as in the whole copy (to the last bit for `fourier`, to rounding for networks).

        Raises:
            UnreadableImage: the picture or its style cannot be read.
        """
        styles = [] if self.styles is None else [self.styles[self.style_of(index)]]
        found: np.ndarray = self.make([self.content(index)[1]], styles)[0]
        return found

    def style_of(self, index: int) -> int:
        """Which style a picture gets."""
        assert self.styles is not None
        return int(style_indices(self.first + index, 1, len(self.styles.names))[0])

    def require_apart(self) -> None:
        """Refuse classes or pictures that would get one place in the copy.

        Raises:
            VitalsError: there are such; some are named.
        """
        classes = self.images.card.classes
        folders = [target(key, "x").partition("/")[0] for key in classes]
        _require_distinct("classes", list(classes), folders)
        if isinstance(self.images, EncodedImages):
            places = [str(self.place(k)) for k in range(len(self.images.ids))]
            _require_distinct("pictures", self.images.ids, places)


class Outcome(NamedTuple):
    """How a copy ended: pictures made, found from before, and for each that could not be read its name and the reason."""

    made: int
    found: int
    unreadable: tuple[str, ...]


class _Ready(NamedTuple):
    """What the engine needs for one picture; no style where none is used."""

    path: Path
    content: np.ndarray
    style: np.ndarray | None


def target(key: str, id: str) -> str:
    """Where a picture goes: its class folder, then its own path, with `.png` behind any other ending, so that no two collide.

    Class and id are text of the user's (a csv file's label may be `..`), so no part of the path is empty, begins with a dot, or holds a
    separator of any system: it stays below the copy.
    """
    folder = _part(key.replace("/", "_"))
    name = "/".join(_part(part) for part in id.removeprefix(f"{key}/").lstrip("/").split("/"))
    return f"{folder}/{name}" if name.lower().endswith(".png") else f"{folder}/{name}.png"


def _part(text: str) -> str:
    text = text.replace("\\", "_").replace("\0", "_")
    return f"_{text.lstrip('.')}" if text.startswith(".") or not text else text


def _require_distinct(what: str, names: Sequence[str], places: Sequence[str]) -> None:
    doubled = {place for place, count in Counter(places).items() if count > 1}
    alike = [name for name, place in zip(names, places, strict=True) if place in doubled]
    must = f"All {what} of the copy must have different places in it"
    require(not alike, must, alike[:5], "Rename one of them: `/` and a leading `.` are written `_`.")


def claim(out: Path, facts: Mapping[str, Any]) -> None:
    """Make `out` the folder of this copy, or go on with it.

    Raises:
        VitalsError: it was begun with other settings (what differs is listed), holds other files, or cannot be written.
    """
    path = out / "stylize.json"
    if path.is_file():
        there = read_json(path)
        keys = dict.fromkeys([*there, *facts])
        differ = [
            f"{key}: {there.get(key)!r} there, {facts.get(key)!r} here"
            for key in keys
            if there.get(key) != facts.get(key)
        ]
        if differ:
            raise VitalsError(f"{out} holds another stylised copy:\n  " + "\n  ".join(differ) + "\nGive another --out.")
    else:
        foreign = out.exists() and (not out.is_dir() or any(out.iterdir()))
        require(not foreign, "`--out` must be a new or empty folder, or a copy that was begun", str(out))
        _write(path, facts)
    sweep(out)


def run(
    stylised: Stylised,
    out: Path,
    *,
    part: tuple[int, int],
    batch_size: int,
    workers: int,
    progress: Callable[[int], None],
) -> Outcome:
    """Write every picture of one part that is not there yet.

    Args:
        stylised: what to write.
        out: a claimed folder.
        part: (i, n): the pictures whose position is i modulo n.
        batch_size: pictures at a time in the engine.
        workers: threads that read and write.
        progress: called with the number of pictures done since the last call.

    Raises:
        VitalsError: the folder cannot be written (the disk is full); what is there is kept.
    """
    stylised.require_apart()
    read = _reader(stylised, out)
    made, found, unreadable = 0, 0, list[str]()
    writing: list[Future[None]] = []
    with ThreadPoolExecutor(workers) as pool:
        coming = _ahead(pool, read, range(part[0], len(stylised.images), part[1]), 3 * batch_size)
        try:
            while batch := list(islice(coming, batch_size)):
                ready = [one for one in batch if isinstance(one, _Ready)]
                found += batch.count(None)
                unreadable += [str(one) for one in batch if isinstance(one, UnreadableImage)]
                styles = [one.style for one in ready if one.style is not None]
                styled = stylised.make([one.content for one in ready], styles) if ready else []
                for written in writing:
                    written.result()
                writing = [pool.submit(_save, one.path, pixels) for one, pixels in zip(ready, styled, strict=True)]
                made += len(ready)
                progress(len(batch))
            for written in writing:
                written.result()
            outcome = Outcome(made, found, tuple(unreadable))
            _write(out / f"part-{part[0] + 1}-of-{part[1]}.json", outcome._asdict())
        except OSError as error:
            raise VitalsError(
                f"The copy must be written to {out}. Got: {error}. Free some space and give the same command again."
            ) from error
    return outcome


def _reader(stylised: Stylised, out: Path) -> Callable[[int], _Ready | UnreadableImage | None]:
    """What reads one picture for the engine: None where it is in the copy already, the error where it cannot be read."""
    chosen, style = None, None
    if stylised.styles is not None:
        chosen = style_indices(stylised.first, len(stylised.images), len(stylised.styles.names))
        style = lru_cache(_CACHED_STYLES)(stylised.styles.__getitem__)

    def read(index: int) -> _Ready | UnreadableImage | None:
        try:
            known = stylised.place(index)
            if known is not None and (out / known).is_file():
                return None
            name, pixels = stylised.content(index)
            if (out / name).is_file():
                return None
            return _Ready(out / name, pixels, None if chosen is None or style is None else style(int(chosen[index])))
        except UnreadableImage as error:
            return error

    return read


def _ahead(pool: ThreadPoolExecutor, function: Callable[[int], Any], items: Sequence[int], depth: int) -> Iterator[Any]:
    """`map` that keeps only so many results waiting: a million decoded pictures do not fit into memory."""
    waiting: list[Future[Any]] = []
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) >= depth:
            yield waiting.pop(0).result()
    yield from (future.result() for future in waiting)


def _save(path: Path, pixels: np.ndarray) -> None:
    write_safely(path, lambda file: Image.fromarray(pixels).save(file, format="PNG", compress_level=1))


def _write(path: Path, content: Any) -> None:
    try:
        write_safely(path, json.dumps(content, indent=1))
    except OSError as error:
        raise VitalsError(f"`--out` must be a folder that can be written. Got {path.parent}: {error}.") from error
