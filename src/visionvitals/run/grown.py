"""A cell of more or fewer images than a finished one of the same work: where a study measures each image by itself (`Study.per_image`), the
numbers of that one are taken and the other images are measured. A smaller draw is part of a larger one, see `datasets.base.cache.draw`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionvitals.core import Cell
from visionvitals.plan.identity import work_id
from visionvitals.remote import AnyPath
from visionvitals.run import requests, wide
from visionvitals.run.cell import DamagedCell, Stored
from visionvitals.run.store import Store
from visionvitals.study import Study


@dataclass(frozen=True)
class Earlier:
    """A cell of other images, and its numbers."""

    cell: Stored
    numbers: wide.Wide

    def rest(self, ids: Sequence[str], shown: frozenset[str]) -> np.ndarray:
        """The rows that are still to be measured, int64: images without a number, and the few whose pictures are kept."""
        return np.array([row for row, id in enumerate(ids) if id in shown or id not in self._known], dtype=np.int64)

    @cached_property
    def _known(self) -> set[str]:
        return {item for block in self.numbers.blocks.values() for item in block.items}


def by_work(store: Store, identifiers: Collection[str]) -> dict[str, list[Stored]]:
    """`work_id` -> those of some finished cells that are whole, the most images first."""
    found: dict[str, list[Stored]] = {}
    for stored in store.tried(sorted(identifiers)):
        if isinstance(stored, Stored):
            found.setdefault(stored.facts.get("work", ""), []).append(stored)
    return {work: sorted(several, key=lambda each: -each.facts.get("n", 0)) for work, several in found.items()}


def find(others: Mapping[str, Sequence[Stored]], cell: Cell, study: Study) -> Earlier | None:
    """The largest of the `others` that is the same work as `cell` on more or fewer images; None where there is none to take."""
    for stored in others.get(work_id(cell), ()) if study.splits(cell.condition) else ():
        try:
            return Earlier(stored, numbers_of(stored))
        except DamagedCell:
            continue
    return None


def drop(out: AnyPath, store: Store, cells: Mapping[str, Cell]) -> None:
    """Remove what was superseded by cells (by id) that are finished with as many images, or more.

    Raises:
        OSError: the disk refuses it.
    """
    superseded = store.held(requests.content_of(out).get("superseded", ()))
    known = by_work(store, superseded)
    for identifier, cell in cells.items() if known else ():
        for stored in known.get(work_id(cell), ()) if store.has(identifier) else ():
            if stored.facts["n"] <= store.cell(identifier).facts["n"]:
                store.remove(stored.id)


def numbers_of(stored: Stored) -> wide.Wide:
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


def forget(out: AnyPath, stands: str) -> None:
    """Remove what was noticed at other `look`s than the one at which a run stands: their numbers are no longer there."""
    for path in out.glob("warnings.*-images.json"):
        if path.name != f"warnings.{stands}.json":
            path.unlink(missing_ok=True)
