"""Decode once: an image set at one size is decoded a single time into a file that is mapped into memory; every cell reads that.

An entry is a folder named by its key, with `pixels` (uint8, n x h x w x 3, in the order of the set, unreadable pictures left out),
`masks` (uint8, n x h x w) where the set has some, and `meta.json`. It is written under a temporary name and renamed at the end, so it
is either whole or not there; of two processes that make the same entry, the second to end uses the first one's. Pictures are written
in order as they are decoded (plain writes, because a full disk under a mapped file would kill the process), so memory does not grow
with their number.

`meta.json` holds a checksum of itself and one of every picture. When an entry is opened they are verified: all of them up to 64 MiB,
else 256 pictures evenly spread, others each time. A damaged entry is deleted and made again.
"""

import contextlib
import errno
import hashlib
import heapq
import json
import os
import shutil
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import PIL

from visionvitals.core import ImageSet, Preprocess, Split
from visionvitals.datasets.base.cache_folder import (
    Entry,
    cache_folder,
    clear,
    decoded_folder,
    delete,
    disk_full,
    entries,
    make_room,
    sweep,
    temporary_folder,
)
from visionvitals.datasets.base.copies import copies
from visionvitals.datasets.base.decode import decode, decode_fast, decode_mask, require_fast
from visionvitals.datasets.base.decoded import Decoded, NoneReadable, by_shard
from visionvitals.datasets.base.digest import hashes
from visionvitals.datasets.base.files import EncodedImages
from visionvitals.errors import UnreadableImage, VitalsError, require
from visionvitals.files import sync_folder, write_safely

__all__ = ["Decoded", "Entry", "cache_folder", "clear", "decoded", "draw", "entries", "opened"]

CACHE_VERSION = 3
"""Bumped when the same key would hold other pixels."""

_VERIFIED_WHOLE, _SAMPLED, _TRIES = 64 * 2**20, 256, 3  # bytes, pictures, attempts


class _Picture(NamedTuple):
    """A decoded picture, at a place of its set; `checksum` is over its pixels, then its mask, `look` over its pixels alone."""

    at: int
    id: str
    label: int
    pixels: np.ndarray
    checksum: int
    look: int
    texture: int | None = None
    mask: np.ndarray | None = None
    split: Split | None = None


class _Skip(NamedTuple):
    id: str
    reason: str


def _ignore_progress(images: int) -> None: ...


def decoded(images: ImageSet, preprocess: Preprocess, **how: Any) -> Decoded:
    """As `opened`, of all pictures that can be read: a set in shards is decoded now, as a whole."""
    found = opened(images, preprocess, **how)
    return found.some(range(len(found.ids)))


def opened(
    images: ImageSet,
    preprocess: Preprocess,
    *,
    decoder: Literal["pillow", "fast"] = "pillow",
    limit: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int], None] = _ignore_progress,
) -> Decoded:
    """The pictures of a set at the size of a network input, from the cache or decoded now and kept; of a set in shards, which are
    opened when they are needed, unless a limit draws from it.

    Args:
        images: the set; `[i]` is called from several threads.
        preprocess: size, resize and interpolation count; mean and std belong to the backbone.
        decoder: see `_decode`. `fast` is used for encoded sets; rendered ones are the same under both.
        limit: only this many pictures of a seeded draw, see `draw`; None for all.
        seed: of the draw.
        workers: decoding threads; None for one per core.
        progress: called with the number of pictures done since the last call.

    Raises:
        VitalsError: no picture can be read, no room in the cache or on the disk, or `fast` is not installed.
    """
    require(limit is None or limit >= 1, "`limit` must be at least 1", limit)
    if decoder == "fast":
        require_fast()
    if limit is not None and limit >= len(images):
        limit = None

    def whole(images: ImageSet) -> Decoded:
        """The entry of a set or of a shard."""
        key = _key(images.card.digest, preprocess, decoder, limit, seed)
        folder = decoded_folder() / key
        for _ in range(_TRIES):  # again where another process deletes the entry between its making and its opening
            try:
                found = _read(folder, preprocess.size, images.card.provides)
                if found is not None:
                    return found
                _make(folder, images, preprocess, decoder, draw(images, limit, seed), workers, progress)
            except OSError as error:
                raise VitalsError(
                    f"The cache {decoded_folder()} cannot be used: {error.strerror or error}. "
                    "Set VISIONVITALS_CACHE to a folder that can."
                ) from error
        raise VitalsError(
            f"The decoded pictures must stay in {folder} as they were written. They were deleted or damaged {_TRIES} times. "
            "Set VISIONVITALS_CACHE to a folder on another disk."
        )

    if limit is not None or not isinstance(images, EncodedImages) or images.shards is None:
        return whole(images)
    return by_shard(images, np.asarray(images.labels), images.shards, preprocess.size, whole)


def draw(images: ImageSet, limit: int | None, seed: int) -> Sequence[int]:
    """Which pictures a limited run takes: those with the `limit` smallest hashes of (seed, id), in the order of the set.

    It does not depend on the order of the set, and a smaller draw is part of a larger one. Sets that do not know their ids
    without rendering are drawn by index. Of all ids few are held at a time.
    """
    if limit is None:
        return range(len(images))
    ids: Iterable[str] = images.ids if isinstance(images, EncodedImages) else map(str, range(len(images)))
    return sorted(index for _, index in heapq.nsmallest(limit, zip(hashes(ids, seed), count())))


def _key(digest: str, preprocess: Preprocess, decoder: str, limit: int | None, seed: int) -> str:
    p, part = preprocess, None if limit is None else (limit, seed)
    how = (p.size, p.resize, p.interpolation, p.stretch, p.crop, decoder, PIL.__version__)
    return hashlib.sha256(json.dumps([CACHE_VERSION, digest, how, part]).encode()).hexdigest()[:32]


def _read(folder: Path, size: tuple[int, int], provides: Collection[str]) -> Decoded | None:
    """The entry, verified and marked as used now; None where it is missing. A damaged one is deleted."""
    try:
        meta = json.loads((folder / "meta.json").read_bytes())
        if meta.pop("checksum") != _checksum(meta):
            raise ValueError("meta.json was changed")
        n = len(meta["ids"])
        pixels = _mapped(folder / "pixels", (n, *size, 3))
        masks = _mapped(folder / "masks", (n, *size)) if "mask" in provides else None
        _verify(meta["checksums"], [pixels] if masks is None else [pixels, masks])
        with contextlib.suppress(OSError):  # a cache that others fill may be read-only here
            os.utime(folder / "meta.json")
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        if folder.is_dir():
            delete(folder)
        return None
    skipped = tuple((id, reason) for id, reason in meta["skipped"])
    return Decoded(
        ids=tuple(meta["ids"]),
        labels=np.asarray(meta["labels"], dtype=np.int64),
        pixels=pixels,
        skipped=skipped,
        textures=np.asarray(meta["textures"], dtype=np.int64) if "texture" in provides else None,
        masks=masks,
        splits=tuple(meta["splits"]) if "split" in provides else None,
        copies={meta["ids"][row]: meta["ids"][first] for row, first in meta["copies"]},
        checksums=meta["checksums"],
    )


def _checksum(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _verify(checksums: Sequence[int], arrays: Sequence[np.ndarray]) -> None:
    """Raise ValueError where a picture that is looked at is not as it was written."""
    whole = sum(array.nbytes for array in arrays) <= _VERIFIED_WHOLE
    step = 1 if whole else max(1, len(checksums) // _SAMPLED)
    looked = range(time.time_ns() % step, len(checksums), step)
    if any(_crc(*(array[index] for array in arrays)) != checksums[index] for index in looked):
        raise ValueError("a picture was changed")


def _crc(*arrays: np.ndarray | None) -> int:
    found = 0
    for array in arrays:
        if array is not None:
            found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found


def _mapped(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if path.stat().st_size != int(np.prod(shape)):
        raise ValueError(f"the file of {path.name} was cut")
    return np.memmap(path, np.uint8, "c", shape=shape)  # "c": torch warns of read-only arrays


def _make(
    folder: Path,
    images: ImageSet,
    preprocess: Preprocess,
    decoder: str,
    chosen: Sequence[int],
    workers: int | None,
    progress: Callable[[int], None],
) -> None:
    height, width = preprocess.size
    needed = len(chosen) * height * width * (3 + ("mask" in images.card.provides))
    decoded_folder().mkdir(parents=True, exist_ok=True)
    sweep()
    make_room(needed)
    temporary = temporary_folder(folder.name)
    temporary.mkdir()
    try:
        meta = _write(temporary, images, preprocess, decoder, chosen, workers, progress)
        if not meta["ids"]:
            raise NoneReadable(images.card.spec, meta["skipped"])
        resize = "stretched" if preprocess.resize is None else f"resize {preprocess.resize}"
        how = f"{height}x{width}, {resize}, {preprocess.interpolation}, {decoder}"
        meta["description"] = f"{images.card.spec}: {len(meta['ids'])} pictures, {how}"
        write_safely(temporary / "meta.json", json.dumps(meta | {"checksum": _checksum(meta)}))
        temporary.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        if folder.is_dir() or not temporary.is_dir():  # another process made the same entry first, or cleared this one
            return
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(needed, shutil.disk_usage(decoded_folder()).free) from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write(
    folder: Path,
    images: ImageSet,
    preprocess: Preprocess,
    decoder: str,
    chosen: Sequence[int],
    workers: int | None,
    progress: Callable[[int], None],
) -> dict[str, Any]:
    """Decode the chosen pictures into files of `folder`, and return what belongs into `meta.json`."""

    def one(index: int) -> _Picture | _Skip:
        return _decode_one(images, index, preprocess, decoder)

    ids: list[str] = []
    labels: list[int] = []
    textures: list[int] = []
    splits: list[str | None] = []
    checksums: list[int] = []
    looks, places = list[int](), list[int]()
    skipped: list[_Skip] = []
    threads = workers or os.cpu_count() or 1
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        files = [stack.enter_context((folder / "pixels").open("wb"))]
        if "mask" in images.card.provides:
            files.append(stack.enter_context((folder / "masks").open("wb")))
        for result in _in_order(pool, one, chosen, ahead=2 * threads):
            if isinstance(result, _Skip):
                skipped.append(result)
            else:
                for file, array in zip(files, (result.pixels, result.mask), strict=False):
                    assert array is not None, f"{images.card.spec} provides masks, and {result.id} has none"
                    file.write(np.ascontiguousarray(array).data)
                ids.append(result.id)
                labels.append(result.label)
                checksums.append(result.checksum)
                looks.append(result.look)
                places.append(result.at)
                textures.append(-1 if result.texture is None else result.texture)
                splits.append(result.split)
            progress(1)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
        same = copies(images, places, looks, pool)
    meta: dict[str, Any] = {"ids": ids, "labels": labels, "skipped": skipped, "checksums": checksums, "copies": same}
    optional = {"texture": ("textures", textures), "split": ("splits", splits)}
    return meta | dict(optional[key] for key in optional if key in images.card.provides)


def _decode_one(images: ImageSet, index: int, preprocess: Preprocess, decoder: str) -> _Picture | _Skip:
    id = images.ids[index] if isinstance(images, EncodedImages) else f"index {index}"
    try:
        fast = decoder == "fast" and isinstance(images, EncodedImages)
        if fast and isinstance(images, EncodedImages) and images.masks is None:
            split = images.splits[index] if images.splits else None
            texture = images.textures[index] if images.textures else None
            pixels = decode_fast(images.read(index), preprocess, id, upright=images.upright)
            look = _crc(pixels)
            return _Picture(index, id, int(images.labels[index]), pixels, look, look, texture, split=split)
        example = images[index]
        id = example.id
        if example.mask is not None and example.mask.shape != (example.image.height, example.image.width):
            size = f"{example.image.height} x {example.image.width}"
            return _Skip(id, f"the mask must be of the picture's size, {size}; it is {example.mask.shape}")
        mask = None if example.mask is None else decode_mask(example.mask, preprocess)
        if fast and isinstance(images, EncodedImages):  # decoded twice: only the reference knows the picture's size
            pixels = decode_fast(images.read(index), preprocess, id, upright=images.upright)
        else:
            pixels = decode(example.image, preprocess)
        look, whole = _crc(pixels), _crc(pixels, mask)
        return _Picture(index, id, example.label, pixels, whole, look, example.texture, mask, example.split)
    except UnreadableImage as error:
        return _Skip(id, str(error).removeprefix(f"{id}: "))


def _in_order(
    pool: ThreadPoolExecutor, one: Callable[[int], _Picture | _Skip], indices: Sequence[int], *, ahead: int
) -> Iterator[_Picture | _Skip]:
    """As `pool.map`, but with at most `ahead` results waiting, so that memory stays small."""
    waiting: deque[Future[_Picture | _Skip]] = deque()
    for index in indices:
        waiting.append(pool.submit(one, index))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
