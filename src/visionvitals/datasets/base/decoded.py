"""Decoded pictures as a job reads them: from one entry of the cache, or from an entry for each shard of a set.

A set in shards is never there as a whole: `DecodedShards` opens the entry of a shard when rows of it are asked for, which decodes the shard
where the cache does not hold it (any more), and keeps few of them open.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from visionvitals.core import ImageSet, Split
from visionvitals.datasets.base.copies import copies
from visionvitals.datasets.base.sharded import OPEN, Shards
from visionvitals.errors import VitalsError, shortened


@dataclass(frozen=True)
class Decoded:
    """An image set as network inputs.

    Attributes:
        ids: one per picture, in the order of the set.
        labels: int64 (n,), indices into the set's own classes.
        pixels: uint8 (n, h, w, 3), mapped from the disk; writing to it changes only this process's copy.
        skipped: (id, reason) of every picture that cannot be decoded.
        textures, masks, splits: as in `core.Job`; None where the set's card does not provide them.
        copies: id -> id of the first of `ids` that shows the same picture, of each that is not that first one: equal in every pixel
            as RGB before the resize, whatever the file. Both must lie on the same side of every split.
        checksums: one per picture, of its pixels and mask.
    """

    ids: Sequence[str]
    labels: np.ndarray
    pixels: np.ndarray
    skipped: tuple[tuple[str, str], ...]
    textures: np.ndarray | None = None
    masks: np.ndarray | None = None
    splits: tuple[Split, ...] | None = None
    copies: Mapping[str, str] = field(default_factory=dict)
    checksums: Sequence[int] = ()

    def some(self, rows: "range | np.ndarray") -> "Decoded":
        """Those at some positions, ascending, that can be read; their pixels are read when they are asked for."""
        if len(rows) == len(self.ids):
            return self
        at: Any = slice(rows.start, rows.stop) if isinstance(rows, range) else rows

        def picked(whole: Any) -> Any:
            if whole is None or (isinstance(at, slice) and isinstance(whole, np.ndarray)):
                return whole if whole is None else whole[at]
            return _Rows(whole, np.asarray(rows))

        ids = tuple(self.ids[row] for row in rows)
        inside = set(ids)
        return dataclasses.replace(
            self,
            ids=ids,
            labels=self.labels[at],
            pixels=picked(self.pixels),
            textures=None if self.textures is None else self.textures[at],
            masks=picked(self.masks),
            splits=None if self.splits is None else tuple(self.splits[row] for row in rows),
            copies={item: first for item, first in self.copies.items() if {item, first} <= inside},
            checksums=(),
        )


@dataclass(frozen=True)
class DecodedShards(Decoded):
    """A set in shards. Its `ids` and `labels` are those of all pictures; which of them can be read is known of what `some` gives.

    Attributes:
        images: the set.
        starts: int64 (shards + 1,), where each shard begins, and how many pictures there are.
        entry: number of a shard -> (int64, the rows of it that can be read, ascending; the same decoded, whose ids are these rows).
    """

    images: ImageSet = field(kw_only=True)
    starts: np.ndarray = field(kw_only=True)
    entry: Callable[[int], tuple[np.ndarray, Decoded]] = field(kw_only=True)

    def some(self, rows: "range | np.ndarray") -> Decoded:
        wanted = np.asarray(rows, dtype=np.int64)
        kept, looks, skipped = [wanted[:0]], list[int](), list[tuple[str, str]]()
        for shard in np.unique(np.searchsorted(self.starts, wanted, "right") - 1).tolist():
            first, stop = self.starts[shard : shard + 2].tolist()
            part = wanted[slice(*np.searchsorted(wanted, (first, stop)))]
            readable, entry = self.entry(shard)
            at = np.flatnonzero(np.isin(readable, part - first))
            kept.append(readable[at] + first)
            looks += [entry.checksums[row] for row in at.tolist()]
            lost = {first + int(row): why for row, why in entry.skipped}
            skipped += [(self.ids[row], lost[row]) for row in part.tolist() if row in lost]
        found = np.concatenate(kept)
        ids = tuple(self.ids[row] for row in found.tolist())
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            same = copies(self.images, found.tolist(), looks, pool)
        return Decoded(
            ids=ids,
            labels=self.labels[found],
            pixels=_Rows(self, found),  # type: ignore[arg-type]  # an array that is read when it is indexed
            skipped=tuple(skipped),
            copies={ids[row]: ids[original] for row, original in same},
        )

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """The pixels at positions that can be read, uint8 (*rows.shape, h, w, 3)."""
        flat = np.atleast_1d(rows)
        shards = np.searchsorted(self.starts, flat, "right") - 1
        found = np.empty((len(flat), *self.pixels.shape[1:]), dtype=np.uint8)
        for shard in np.unique(shards).tolist():
            readable, entry = self.entry(shard)
            here = shards == shard
            found[here] = entry.pixels[np.searchsorted(readable, flat[here] - self.starts[shard])]
        return found.reshape(*np.shape(rows), *found.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.ids), *self.pixels.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.pixels.dtype


def by_shard(
    images: ImageSet, labels: np.ndarray, shards: Shards, size: tuple[int, int], whole: Callable[[ImageSet], Decoded]
) -> DecodedShards:
    """A set in shards; `whole` decodes one of them, or finds it decoded."""
    nothing = np.empty((0, *size, 3), dtype=np.uint8)

    @lru_cache(maxsize=OPEN)
    def entry(number: int) -> tuple[np.ndarray, Decoded]:
        try:
            found = whole(shards.open(number))
        except NoneReadable as error:
            found = Decoded((), labels[:0], nothing, error.skipped)
        return np.array(found.ids, dtype=np.int64), found

    return DecodedShards(shards.ids, labels, nothing, (), images=images, starts=shards.starts, entry=entry)


class NoneReadable(VitalsError):
    """None of the pictures of `spec` can be decoded; `skipped` are their ids with the reasons."""

    def __init__(self, spec: str, skipped: Sequence[tuple[str, str]]) -> None:
        got = shortened(repr("; ".join(f"{id}: {reason}" for id, reason in skipped[:3])))
        super().__init__(f"At least one picture of `{spec}` must be readable. Got {got}.")
        self.skipped = tuple(skipped)


class _Rows:
    """Some rows of a mapped array, as an array that is read when it is indexed."""

    def __init__(self, whole: Any, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows
        self.shape, self.dtype = (len(rows), *whole.shape[1:]), whole.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self.whole[self.rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole[self.rows], dtype=dtype)
