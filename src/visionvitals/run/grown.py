"""A cell of more images than a finished one of the same work: where a study measures each image by itself (`Study.per_image`), the numbers of
the smaller cell are taken and the other images are measured. A smaller draw is part of a larger one, see `datasets.base.cache.draw`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.core import Cell
from visionvitals.plan.identity import cell_id
from visionvitals.run import wide
from visionvitals.run.cell import DamagedCell, Stored
from visionvitals.run.store import Store
from visionvitals.study import Study

if TYPE_CHECKING:
    from visionvitals.datasets.base.cache import Decoded


@dataclass(frozen=True)
class Earlier:
    """What a cell of fewer images has: its id, what its `cell.json` says, its numbers."""

    id: str
    facts: dict[str, Any]
    numbers: wide.Wide

    def rest(self, ids: Sequence[str], shown: frozenset[str]) -> np.ndarray:
        """The rows that are still to be measured, int64: images without a number, and the few whose pictures are kept."""
        known = {item for block in self.numbers.blocks.values() for item in block.items} - shown
        return np.array([row for row, item in enumerate(ids) if item not in known], dtype=np.int64)


def find(store: Store, cell: Cell, study: Study, limits: Iterable[int]) -> Earlier | None:
    """The largest finished cell of one of these limits whose images are some of those of `cell`; None where there is none to take."""
    for identifier in _smaller(cell, limits) if study.per_image and study.item is str else ():
        if store.has(identifier):
            try:
                return _read(store.cell(identifier))
            except DamagedCell:
                continue
    return None


def drop(store: Store, cells: Mapping[str, Cell], limits: Sequence[int]) -> None:
    """Remove the cells of these limits, of each cell (by id) that is finished with more images.

    Raises:
        OSError: the disk refuses it.
    """
    for identifier, cell in cells.items() if limits else ():
        if store.has(identifier):
            for smaller in filter(store.has, _smaller(cell, limits)):
                store.remove(smaller)


def some(data: "Decoded", rows: np.ndarray) -> "Decoded":
    """Some of the images of a set, in their order; their pixels are read when they are asked for."""
    ids = tuple(data.ids[row] for row in rows)
    pixels: Any = _Rows(data.pixels, rows)
    masks: Any = None if data.masks is None else _Rows(data.masks, rows)
    inside = set(ids)
    return dataclasses.replace(
        data,
        ids=ids,
        labels=data.labels[rows],
        pixels=pixels,
        textures=None if data.textures is None else data.textures[rows],
        masks=masks,
        splits=None if data.splits is None else tuple(data.splits[row] for row in rows),
        copies={item: first for item, first in data.copies.items() if {item, first} <= inside},
    )


class _Rows:
    """Some rows of a mapped array, as an array that is read when it is indexed."""

    def __init__(self, whole: np.ndarray, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows
        self.shape, self.dtype = (len(rows), *whole.shape[1:]), whole.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self.whole[self.rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole[self.rows], dtype=dtype)


def _smaller(cell: Cell, limits: Iterable[int]) -> Iterator[str]:
    """The ids of the same work on fewer images, the most images first."""
    whole = cell.images.n if cell.limit is None else cell.limit
    for limit in sorted(set(limits), reverse=True):
        if limit < whole:
            yield cell_id(dataclasses.replace(cell, limit=limit))


def _read(stored: Stored) -> Earlier:
    """The numbers of a cell; each list of items is read once."""
    columns = stored.columns(list(dict.fromkeys(metric for metrics in stored.points.values() for metric in metrics)))
    lists: dict[str, list[str]] = {}
    blocks = {}
    for at, metrics in stored.points.items():
        key = stored.items_key(at)
        if key not in lists:
            lists[key] = stored.items(at)
        blocks[at] = wide.Block(lists[key], {metric: stored.place(at, columns[metric]) for metric in metrics})
    stop = max((part["images"][1] for part in stored.facts["parts"]), default=0)
    return Earlier(stored.id, dict(stored.facts), wide.Wide(0, stop, blocks, stored.facts.get("broken", {})))
