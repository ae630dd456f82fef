"""The store: one folder per finished cell, immutable, `cell.json` written last.

    store/<study>/<cell id>/<rows>-<hash>.parquet  a part of the cell: a row per (item, place), a column per metric
    store/<study>/<cell id>/exhibits/<hash>/*      what the network saw, for a few images, as webp
    store/<study>/<cell id>/files/<hash>/*         what else the study keeps, e.g. a patch
    store/<study>/<cell id>/cell.json              checksums of itself and of its files, the cell, provenance; its presence means complete
    store/<study>/<cell id>.failed.json            why the last try failed; removed when a later one succeeds

A part covers a range of the images. The place of every file holds the hash of its content, so that two writers of one cell never
disturb each other: both write the same bytes, or files of two names, and the first `cell.json` stays. All access goes through `run.shelf`, which knows
names and bytes only, so that an object store needs no other schema. No file is written in place, so a killed writer leaves at most
files that no `cell.json` names.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.core import Cell, Place
from visionvitals.errors import VitalsError
from visionvitals.plan.identity import cell_id, plain
from visionvitals.run import documents
from visionvitals.run.shelf import Shelf, Unwritable
from visionvitals.run.wide import Wide

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = 3


@dataclass(frozen=True)
class Stored:
    """A finished cell.

    Attributes:
        id: of the cell.
        facts: the content of `cell.json`: `schema`, `id`, `cell` (all fields of the `Cell`, cards included), `provenance`, `skipped`
            (list of [image id, reason]), `n`, `seconds`, `warnings`, `axes` (names), `parts` (list of {file, images, points}),
            `exhibits` (list of {item, caption, file, at, label, correct}; the caption is the predicted class in words, `at` the place
            on the axes or empty, the last two are absent where unknown), `sha256` and `bytes` (of every file, by name). A point of a
            part is {at, rows: [start, stop], items: digest of its items, metrics}.
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
            data = self._shelf.read(f"{self._base}/{_place(name, digest)}", most=self.facts["bytes"].get(name, 0))
        except OSError as error:
            raise DamagedCell(self.id, f"{name}: {error}") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise DamagedCell(self.id, f"{name} with another checksum")
        return data

    def verify(self) -> None:
        """Read every byte.

        Raises:
            DamagedCell: one is not what was written.
        """
        for name in self.facts["sha256"]:
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


class Store:
    """The cells on a shelf. Reading needs no lock; writing needs none either."""

    def __init__(self, shelf: Shelf | Path) -> None:
        self.shelf = Shelf(shelf) if isinstance(shelf, Path) else shelf

    def has(self, identifier: str) -> bool:
        return self.shelf.exists(f"{_base(identifier)}/cell.json")

    def ids(self) -> list[str]:
        """The ids of all finished cells, sorted."""
        return self._ids("*/*/cell.json", "/cell.json")

    def _ids(self, pattern: str, ending: str) -> list[str]:
        """Whose files these are, sorted; a name that no cell would give its file is foreign."""
        names = [name.removesuffix(ending) for name in self.shelf.names(pattern)]
        return sorted(parts[1] for name in names if (parts := name.split("/"))[0] and name == _base(parts[1]))

    def cell(self, identifier: str) -> Stored:
        """A finished cell.

        Raises:
            DamagedCell: its `cell.json` is not what was written.
        """
        base = _base(identifier)
        try:
            facts, whole = documents.unsealed(self.shelf.read(f"{base}/cell.json"))
        except (OSError, ValueError) as error:
            raise DamagedCell(identifier, f"cell.json: {error}") from error
        if facts.get("id") != identifier or "cell" not in facts or "schema" not in facts:
            raise DamagedCell(identifier, "a cell.json of another form")
        if facts["schema"] != SCHEMA:
            raise DamagedCell(identifier, f"a cell of schema {facts['schema']!r:.20}, not {SCHEMA}", old=True)
        if not whole:
            raise DamagedCell(identifier, "cell.json with another checksum")
        if not documents.is_cell(facts):
            raise DamagedCell(identifier, "a cell.json of another form")
        return Stored(identifier, facts, self.shelf, base)

    def cells(self) -> list[Stored]:
        """Every finished cell that is whole, in order of study and id."""
        found = []
        for identifier in self.ids():
            try:
                found.append(self.cell(identifier))
            except DamagedCell:
                continue
        return found

    def survey(self) -> tuple[set[str], dict[str, str]]:
        """(the ids of the finished cells that are as they were written, id -> what is wrong with the others); reads every byte."""
        whole, damaged = set(), {}
        for identifier in self.ids():
            try:
                self.cell(identifier).verify()
                whole.add(identifier)
            except DamagedCell as error:
                damaged[identifier] = error.what
        return whole, damaged

    def set_aside(self, identifier: str) -> None:
        """Let a damaged cell count as missing; what is left of its `cell.json` stays as `cell.*.damaged`."""
        self.shelf.set_aside(f"{_base(identifier)}/cell.json", "damaged")

    def failures(self) -> list[dict[str, Any]]:
        """The record of every cell whose last try failed: `id`, `cell`, `error`, `traceback`; of a damaged record, that it is damaged."""
        return [self._failure(identifier) for identifier in self._ids("*/*.failed.json", ".failed.json")]

    def _failure(self, identifier: str) -> dict[str, Any]:
        base = _base(identifier)
        try:
            return {**documents.parsed(self.shelf.read(f"{base}.failed.json"), documents.FAILURE), "id": identifier}
        except (OSError, ValueError) as error:
            said = f"the record of the failure of {identifier} is damaged ({error}); `vitals run` tries the cell again"
        cell = {"study": base.partition("/")[0], "condition": {}, "backbone": {"spec": "?"}}
        return {"id": identifier, "cell": cell, "error": said, "traceback": ""}

    def write(
        self,
        cell: Cell,
        parts: Sequence[Wide],
        *,
        axes: Sequence[str] = (),
        facts: Mapping[str, Any] = MappingProxyType({}),
        exhibits: "Mapping[tuple[str, str, Place], Image]" = MappingProxyType({}),
        marks: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> str:
        """Keep a finished cell, and return its id.

        Args:
            cell: what was measured.
            parts: its numbers, of ranges of the images in their order; usually one.
            axes: the study's `AXES`; every place has as many values.
            facts: goes into `cell.json` beside the cell: provenance, n, skipped, seconds.
            exhibits: (image id, caption, place on the axes or empty) -> picture of what the network saw.
            marks: image id -> what else is known of an exhibit: `label`, its class in words, and `correct`.
            files: name -> bytes of what else the study keeps.

        Raises:
            VitalsError: the disk is full or not writable; the cell does not count as finished then.
        """
        identifier = cell_id(cell)
        base = _base(identifier)
        try:
            kept: dict[str, tuple[str, int]] = {}
            content = {
                "schema": SCHEMA,
                "id": identifier,
                "cell": described(cell),
                **facts,
                "axes": list(axes),
                "parts": [self._part(base, wide, axes, kept) for wide in parts],
                "exhibits": [],
            }
            for number, ((item, caption, at), picture) in enumerate(exhibits.items()):
                name = f"exhibits/{number}.webp"
                self._file(base, name, _webp(picture), kept)
                known = {"item": item, "caption": caption, "file": name, "at": list(at), **marks.get(item, {})}
                content["exhibits"].append(known)
            for name, data in files.items():
                self._file(base, f"files/{name}", data, kept)
            content["sha256"] = {name: digest for name, (digest, _) in kept.items()}
            content["bytes"] = {name: size for name, (_, size) in kept.items()}
            self.shelf.write(f"{base}/cell.json", documents.sealed(content), replace=False)
            self.shelf.remove(f"{base}.failed.json")
        except OSError as error:
            raise Unwritable(self.shelf, error) from error
        return identifier

    def _part(self, base: str, wide: Wide, axes: Sequence[str], kept: dict[str, tuple[str, int]]) -> dict[str, Any]:
        import pyarrow.parquet as pq

        held = io.BytesIO()
        pq.write_table(wide.table(axes), held, compression="zstd", write_page_checksum=True, store_schema=False)
        data = held.getbuffer()
        name = f"{wide.start}-{wide.stop}-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
        self._file(base, name, data, kept)
        return {"file": name, "images": [wide.start, wide.stop], "points": wide.points()}

    def _file(self, base: str, name: str, data: bytes | memoryview, kept: dict[str, tuple[str, int]]) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.shelf.write(f"{base}/{_place(name, digest)}", data)
        kept[name] = digest, len(data)

    def write_failure(self, cell: Cell, *, error: str, traceback: str) -> None:
        """Record why a cell failed, so that the rest can go on and `status` can tell."""
        content = {"id": cell_id(cell), "cell": described(cell), "error": error, "traceback": traceback}
        try:
            self.shelf.write(f"{_base(cell_id(cell))}.failed.json", json.dumps(content, indent=1).encode())
        except OSError as full:
            raise Unwritable(self.shelf, full) from full


def described(cell: Cell) -> dict[str, Any]:
    """All fields of a cell as plain values, less the class lists of its cards: long, the same in every cell, and their part in
    the identity is already in the id."""
    content: dict[str, Any] = plain(cell)
    for card in (content["backbone"], content["images"]):
        del card["classes"], card["class_names"]
    del content["backbone"]["answers"]  # they stand in the run's plan.json
    del content["images"]["per_class"], content["images"]["conflicts"]  # for planning only
    return content


def _place(name: str, digest: str) -> str:
    """Where a file lies below its cell: by its content too, so that no writer changes what another one wrote. A part has that in its name."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}/{digest[:12]}/{file}" if slash else name


def _base(identifier: str) -> str:
    return f"{identifier.rpartition('-')[0]}/{identifier}"


def _webp(picture: "Image") -> bytes:
    held = io.BytesIO()
    picture.save(held, "webp", quality=88)
    return held.getvalue()
