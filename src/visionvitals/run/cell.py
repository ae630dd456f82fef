"""A finished cell as it lies in a store, see `run.store`: what its `cell.json` says, and its numbers and files, verified as they are read."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np

from visionvitals.core import Cell, Place
from visionvitals.errors import VitalsError
from visionvitals.plan.identity import order_of, plain
from visionvitals.run.shelf import Shelf


@dataclass(frozen=True)
class Stored:
    """A finished cell.

    Attributes:
        id: of the cell.
        facts: the content of `cell.json`: `schema`, `id`, `cell` (all fields of the `Cell`, cards included), `provenance`, `skipped`
            (list of [image id, reason]), `n`, `seconds`, `warnings`, `axes` (names), `parts` (list of {file, images, points}),
            `exhibits` (list of {item, caption, file, at, label, correct}; the caption is the predicted class in words, or what
            the study says of the picture, `at` the place on the axes or empty, the last two are absent where unknown), `sha256` and `bytes` (of every file,
            by name). A point of a part is {at, rows: [start, stop], items: digest of its items, metrics}.
    """

    id: str
    facts: Mapping[str, Any]
    _shelf: Shelf = field(repr=False)
    _base: str = field(repr=False)

    @property
    def cell(self) -> Mapping[str, Any]:
        """The cell as plain values; `["study"]`, `["condition"]`, `["backbone"]["spec"]`, `["images"]["spec"]`, ..."""
        found: Mapping[str, Any] = self.facts["cell"]
        return found

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(self.facts["axes"])

    @cached_property
    def points(self) -> Mapping[Place, tuple[str, ...]]:
        """place on the axes -> the metrics that have values there, in order of first appearance."""
        found: dict[Place, dict[str, None]] = {}
        for part in self.facts["parts"]:
            for point in part["points"]:
                found.setdefault(tuple(point["at"]), {}).update(dict.fromkeys(point["metrics"]))
        return {at: tuple(metrics) for at, metrics in found.items()}

    @cached_property
    def _places(self) -> Mapping[Place, tuple[list[slice], str]]:
        """place -> where its rows stand among those of all parts, and the key of its items."""
        found: dict[Place, tuple[list[slice], list[str]]] = {}
        before = 0
        for part in self.facts["parts"]:
            for point in part["points"]:
                rows, keys = found.setdefault(tuple(point["at"]), ([], []))
                start, stop = point["rows"]
                rows.append(slice(before + start, before + stop))
                keys.append(point["items"])
            before += max((point["rows"][1] for point in part["points"]), default=0)
        return {at: (rows, "+".join(keys)) for at, (rows, keys) in found.items()}

    def items_key(self, at: Place = ()) -> str:
        """Equal for two places, of any cells, only where their items are the same in the same order."""
        return self._places[at][1]

    def items(self, at: Place = ()) -> list[str]:
        """The items at a place, in the order of the image set."""
        columns = [self._table(part, ["item"])["item"] for part in self.facts["parts"]]
        whole = [chunk for column in columns for chunk in column.chunks]
        import pyarrow as pa

        column = pa.chunked_array(whole, pa.string())
        return [item for r in self._places[at][0] for item in column.slice(r.start, r.stop - r.start).to_pylist()]

    def columns(self, metrics: Sequence[str]) -> dict[str, np.ndarray]:
        """metric -> float64, all rows of all parts, see `place`; NaN where there is no value. Every file is opened once."""
        found: dict[str, list[np.ndarray]] = {metric: [] for metric in metrics}
        for part in self.facts["parts"]:
            there = {metric for point in part["points"] for metric in point["metrics"]}
            table = self._table(part, [m for m in metrics if m in there])
            for metric, column in zip(table.column_names, table.columns, strict=True):
                found[metric].append(column.to_numpy())
            for metric in found.keys() - there:
                found[metric].append(np.full(table.num_rows, np.nan))
        return {metric: parts[0] if len(parts) == 1 else np.concatenate(parts) for metric, parts in found.items()}

    def place(self, at: Place, column: np.ndarray) -> np.ndarray:
        """The rows of a place in one of `columns`, in the order of `items`; a view where the cell has one part."""
        rows = self._places[at][0] if at in self._places else [slice(0, 0)]
        return column[rows[0]] if len(rows) == 1 else np.concatenate([column[r] for r in rows])

    def values(self, metrics: Sequence[str], at: Place = ()) -> dict[str, np.ndarray]:
        """metric -> float64 (n,) in the order of `items`; NaN where an item has no such value."""
        return {metric: self.place(at, column) for metric, column in self.columns(metrics).items()}

    def read(self, name: str) -> bytes:
        """The bytes of a part, an exhibit or a file.

        Raises:
            DamagedCell: it is gone, or its checksum is not that of what was written.
        """
        digest = self.facts["sha256"].get(name, "")
        try:
            data = self._shelf.read(f"{self._base}/{place(name, digest)}", most=self.facts["bytes"].get(name, 0))
        except OSError as error:
            raise DamagedCell(self.id, f"{name}: {error}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedCell(self.id, f"{name} with another checksum")
        return data

    def verify(self, sizes: Mapping[str, int] = MappingProxyType({})) -> None:
        """Read every byte, but of files whose size is among these, by name on the shelf.

        Raises:
            DamagedCell: one is not what was written.
        """
        for name, digest in self.facts["sha256"].items():
            if sizes.get(f"{self._base}/{place(name, digest)}") != self.facts["bytes"][name]:
                self.read(name)

    def _table(self, part: Mapping[str, Any], columns: Sequence[str]) -> Any:
        """Some columns of a part as an Arrow table."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pa.BufferReader(self.read(part["file"]))  # its checksum is of all bytes: pages, headers, footer
            return pq.ParquetFile(file).read(list(columns), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise DamagedCell(self.id, f"{part['file']}: {error}") from error


class DamagedCell(VitalsError):
    """A cell whose files are not what was written, or are `old`: of another edition. It counts as missing and is measured again."""

    def __init__(self, identifier: str, what: str, *, old: bool = False) -> None:
        super().__init__(
            f"The cell {identifier} must be as it was written. Got {what}. `vitals run` measures it again."
        )
        self.id, self.what, self.old = identifier, what, old


def place(name: str, digest: str) -> str:
    """Where a file lies below its cell: by its content too, so that no writer changes what another one wrote. A part has that in its name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}/{digest[:12]}/{file}" if slash else name


def base_of(identifier: str) -> str:
    return f"{identifier.rpartition('-')[0]}/{identifier}"


def described(cell: Cell) -> dict[str, Any]:
    """All fields of a cell as plain values, with the digests of the class lists of its cards in place of the lists, which are long and the same
    in every cell."""
    content: dict[str, Any] = plain(cell)
    for name, card in (("backbone", cell.backbone), ("images", cell.images)):
        del content[name]["class_names"]
        content[name]["classes"] = order_of(card.classes)
    del content["backbone"]["answers"]  # they stand in the run's plan.json
    del content["images"]["per_class"], content["images"]["conflicts"]  # for planning only
    return content
