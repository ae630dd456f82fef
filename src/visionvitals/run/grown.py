"""A cell of more images than a finished one of the same work: where a study measures each image by itself (`Study.per_image`), the numbers of
the smaller cell are taken and the other images are measured. A smaller draw is part of a larger one, see `datasets.base.cache.draw`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionvitals.core import Cell
from visionvitals.plan.identity import cell_id
from visionvitals.remote import AnyPath
from visionvitals.run import parts, wide
from visionvitals.run.cell import DamagedCell, Stored
from visionvitals.run.store import Store
from visionvitals.study import Study


@dataclass(frozen=True)
class Earlier:
    """A cell of fewer images, and its numbers."""

    cell: Stored
    numbers: wide.Wide

    def rest(self, ids: Sequence[str], shown: frozenset[str]) -> np.ndarray:
        """The rows that are still to be measured, int64: images without a number, and the few whose pictures are kept."""
        return np.array([row for row, id in enumerate(ids) if id in shown or id not in self._known], dtype=np.int64)

    @cached_property
    def _known(self) -> set[str]:
        return {item for block in self.numbers.blocks.values() for item in block.items}


def find(store: Store, cell: Cell, study: Study, limits: Iterable[int]) -> Earlier | None:
    """The largest finished cell of one of these limits whose images are some of those of `cell`; None where there is none to take."""
    for identifier in _smaller(cell, limits) if parts.splits(study) else ():
        if store.has(identifier):
            try:
                return Earlier(found := store.cell(identifier), _read(found))
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


def _smaller(cell: Cell, limits: Iterable[int]) -> Iterator[str]:
    """The ids of the same work on fewer images, the most images first."""
    whole = cell.images.n if cell.limit is None else cell.limit
    for limit in sorted(set(limits), reverse=True):
        if limit < whole:
            yield cell_id(dataclasses.replace(cell, limit=limit))


def _read(stored: Stored) -> wide.Wide:
    """The numbers of a cell; each list of items is read once."""
    columns = stored.columns(list(dict.fromkeys(metric for metrics in stored.points.values() for metric in metrics)))
    lists: dict[str, list[str]] = {}
    blocks = {}
    for at, metrics in stored.points.items():
        key = stored.items_key(at)
        if key not in lists:
            lists[key] = stored.items(at)
        blocks[at] = wide.Block(lists[key], {metric: stored.place(at, columns[metric]) for metric in metrics})
    return wide.Wide(0, stored.facts["n"], blocks, stored.facts.get("broken", {}))


def look(images: int) -> str:
    """What a look at so many images is called beside those before and after it, see `folder.warn`."""
    return f"{images}-images"


def forget(out: AnyPath, looks: Iterable[int]) -> None:
    """Remove what was noticed at looks whose numbers are no longer there."""
    for images in looks:
        (out / f"warnings.{look(images)}.json").unlink(missing_ok=True)
