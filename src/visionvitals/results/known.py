"""What a run knows of its pictures beside their numbers: the groups that each belongs to."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from visionvitals.core import Place
from visionvitals.errors import VitalsError
from visionvitals.remote import AnyPath
from visionvitals.results.frame import CAPACITY, Kept
from visionvitals.run.cell import Stored
from visionvitals.run.groups import Groups, read


class Known:
    """The groups of the image sets of some folders, read when they are asked for; the first folder that has a column says it."""

    def __init__(self, folders: Sequence[AnyPath] = ()) -> None:
        self.noticed: list[str] = []
        self._folders = folders
        self._found: dict[str, Groups | None] = {}
        self._columns = Kept(CAPACITY)

    def of(self, digest: str) -> Groups | None:
        """Of the image set of a digest; None where no folder has them."""
        if digest not in self._found:
            found: Groups | None = None
            for folder in self._folders:
                try:
                    here = read(folder, digest)
                except VitalsError as error:
                    self.noticed.append(str(error))
                    continue
                if here is not None and (found is None or here.items == found.items):
                    found = here if found is None else replace(found, columns={**here.columns, **found.columns})
            self._found[digest] = found
        return self._found[digest]

    def column(self, cell: Stored, metrics: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of a cell, which all parts share."""
        lacking = [m for m in metrics if self._columns.get((cell.id, m)) is None]
        fresh = Stored.columns(cell, lacking) if lacking else {}
        for metric, values in fresh.items():
            self._columns.put((cell.id, metric), values, values.nbytes)
        return {m: fresh[m] if m in fresh else self._columns.get((cell.id, m)) for m in metrics}

    def items(self, cell: Stored, at: Place) -> list[str]:
        """The items of a place of a cell, which all parts share."""
        key = "items", Stored.items_key(cell, at)
        found: list[str] | None = self._columns.get(key)
        if found is None:
            found = Stored.items(cell, at)
            self._columns.put(key, found, 80 * len(found))
        return found
