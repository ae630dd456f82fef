"""The store: one folder per finished cell, immutable, `cell.json` written last.

    store/<study>/<cell id>/<rows>-<hash>.parquet  a part of the cell: a row per (item, place), a column per metric
    store/<study>/<cell id>/exhibits/<hash>/*      what the network saw, for a few images, as webp
    store/<study>/<cell id>/files/<hash>/*         what else the study keeps, e.g. a patch
    store/<study>/<cell id>/<rows>.json            of a cell that is not complete, and is measured in several parts (`run.parts`): what `cell.json`
                                                   would hold if this part were all of it; removed when `cell.json` is there
    store/<study>/<cell id>/cell.json              checksums of itself and of its files, the cell, provenance; its presence means complete
    store/<study>/<cell id>.failed.json            why the last try failed; removed when a later one succeeds

A part covers a range of the images. The place of every file holds the hash of its content, so that two writers of one cell or part never
disturb each other: both write the same bytes, or files of two names, and the first document stays. All access goes through `run.shelf`, which knows
names and bytes only, so that an object store needs no other schema. No file is written in place, so a killed writer leaves at most
files that no document names.
"""

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from visionvitals.core import Cell, Place
from visionvitals.plan.identity import cell_id, work_id
from visionvitals.remote import AnyPath
from visionvitals.run import documents
from visionvitals.run.cell import DamagedCell, Stored, base_of, described, place
from visionvitals.run.shelf import Shelf, Unwritable
from visionvitals.run.wide import Wide

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = 3


class Store:
    """The cells on a shelf. Reading needs no lock; writing needs none either."""

    def __init__(self, root: AnyPath) -> None:
        self.shelf = Shelf(root)

    def has(self, identifier: str) -> bool:
        return self.shelf.exists(f"{base_of(identifier)}/cell.json")

    def held(self, identifiers: Iterable[str]) -> set[str]:
        """Those of some cells that are finished."""
        names = {f"{base_of(identifier)}/cell.json": identifier for identifier in identifiers}
        return {names[name] for name in self.shelf.present(names.keys())}

    def ids(self) -> list[str]:
        """The ids of all finished cells, sorted."""
        return self._ids("*/*/cell.json", "/cell.json")

    def _ids(self, pattern: str, ending: str) -> list[str]:
        """Whose files these are, sorted; a name that no cell would give its file is foreign."""
        names = [name.removesuffix(ending) for name in self.shelf.names(pattern)]
        return sorted(parts[1] for name in names if (parts := name.split("/"))[0] and name == base_of(parts[1]))

    def cell(self, identifier: str) -> Stored:
        """A finished cell.

        Raises:
            DamagedCell: its `cell.json` is not what was written.
        """
        return self._read(identifier, "cell.json")

    def _read(self, identifier: str, name: str) -> Stored:
        """A document in the form of `cell.json`, checked."""
        base = base_of(identifier)
        try:
            facts, whole = documents.unsealed(self.shelf.read(f"{base}/{name}"))
        except (OSError, ValueError) as error:
            raise DamagedCell(identifier, f"{name}: {error}") from error
        if facts.get("id") != identifier or "cell" not in facts or "schema" not in facts:
            raise DamagedCell(identifier, f"a {name} of another form")
        if facts["schema"] != SCHEMA:
            raise DamagedCell(identifier, f"a cell of schema {facts['schema']!r:.20}, not {SCHEMA}", old=True)
        if not whole:
            raise DamagedCell(identifier, f"{name} with another checksum")
        if not documents.is_cell(facts):
            raise DamagedCell(identifier, f"a {name} of another form")
        return Stored(identifier, facts, self.shelf, base)

    def has_part(self, identifier: str, rows: range) -> bool:
        """Whether these rows of a cell that is not complete are measured."""
        return self.shelf.exists(f"{base_of(identifier)}/{_part(rows)}")

    def part(self, identifier: str, rows: range) -> Stored | None:
        """The finished part of a cell that is not complete, every byte verified; None where there is none. A damaged one is removed.

        Raises:
            OSError: the disk refuses that.
        """
        if not self.has_part(identifier, rows):
            return None
        try:
            found = self._read(identifier, _part(rows))
            found.verify()
        except DamagedCell:
            self.shelf.remove(f"{base_of(identifier)}/{_part(rows)}")
            return None
        return found

    def keep_part(self, measured: Stored, rows: range) -> None:
        """Let a part that was `laid` count as measured.

        Raises:
            VitalsError: the disk is full or not writable.
        """
        try:
            name = f"{base_of(measured.id)}/{_part(rows)}"
            self.shelf.write(name, documents.sealed(dict(measured.facts)), replace=False)
        except OSError as error:
            raise Unwritable(self.shelf, error) from error

    def drop_parts(self, identifier: str) -> None:
        """Let no part of a cell count as measured.

        Raises:
            VitalsError: the disk refuses it.
        """
        try:
            self._removed(list(self.shelf.names(f"{base_of(identifier)}/*-*.json")))
        except OSError as error:
            raise Unwritable(self.shelf, error) from error

    def left_over(self) -> list[str]:
        """The ids of the cells that are complete and of which documents of parts are left: their writer was killed, or came second."""
        return sorted(self.held({name.split("/")[1] for name in self.shelf.names("*/*/*-*.json")}))

    def clear(self) -> None:
        """Remove the documents of parts that are `left_over`."""
        for identifier in self.left_over():
            self.drop_parts(identifier)

    def cells(self) -> list[Stored]:
        """Every finished cell that is whole, in order of study and id."""
        return [found for found in self.tried(self.ids()) if isinstance(found, Stored)]

    def tried(
        self, identifiers: Iterable[str], sizes: Mapping[str, int] | None = None
    ) -> Iterable[Stored | DamagedCell]:
        """Finished cells in their order, or what is wrong with them; with `sizes` they are verified, see `Stored.verify`."""

        def read(identifier: str) -> Stored | DamagedCell:
            try:
                found = self.cell(identifier)
                if sizes is not None:
                    found.verify(sizes)
                return found
            except DamagedCell as error:
                return error

        return self.shelf.each(read, identifiers)

    def survey(
        self, identifiers: Collection[str] | None = None, *, every_byte: bool = True
    ) -> tuple[set[str], dict[str, str]]:
        """(the ids of the finished cells that are as they were written, id -> what is wrong with the others).

        Args:
            identifiers: the cells that are looked at; None for all.
            every_byte: read all. Else what an object store lists with its size counts as whole; on a disk all is read.
        """
        finished = set(self.ids()) if identifiers is None else self.held(identifiers)
        found = self.tried(sorted(finished), {} if every_byte else self.shelf.sizes())
        damaged = {error.id: error.what for error in found if isinstance(error, DamagedCell)}
        return finished - damaged.keys(), damaged

    def set_aside(self, identifier: str) -> None:
        """Let a damaged cell count as missing; what is left of its `cell.json` stays as `cell.*.damaged`."""
        self.shelf.set_aside(f"{base_of(identifier)}/cell.json", "damaged")

    def remove(self, identifier: str) -> int:
        """Remove a cell and the record of its failure, its `cell.json` first; how many bytes that frees.

        Raises:
            OSError: the disk refuses it.
        """
        base = base_of(identifier)
        names = [
            f"{base}/cell.json",
            *(n for depth in ("*", "*/*/*", "*/*/*/*") for n in self.shelf.names(f"{base}/{depth}")),
        ]
        return self._removed([*names, f"{base}.failed.json"])

    def remove_damaged(self) -> int:
        """Remove what was set aside as damaged; how many bytes that frees."""
        return self._removed([*self.shelf.names("*/*/*.damaged"), *self.shelf.names("*/*.damaged")])

    def _removed(self, names: Sequence[str]) -> int:
        return sum(map(self.shelf.remove, names))

    def take(self, found: "Stored", cell: Cell) -> None:
        """Copy a cell of another store as one of this one, spelled as here; every file is verified, `cell.json` is written last.

        Raises:
            DamagedCell: it is not as it was written.
            VitalsError: this store cannot be written.
        """
        try:
            base = base_of(found.id)
            for name, digest in found.facts["sha256"].items():
                self.shelf.write(f"{base}/{place(name, digest)}", found.read(name))
            content = {key: value for key, value in found.facts.items() if key != "digest"} | {"cell": described(cell)}
            self.shelf.write(f"{base}/cell.json", documents.sealed(content), replace=False)
            self.shelf.remove(f"{base}.failed.json")
        except OSError as error:
            raise Unwritable(self.shelf, error) from error

    def failures(self) -> list[dict[str, Any]]:
        """The record of every cell whose last try failed: `id`, `cell`, `error`, `traceback`; of a damaged record, that it is damaged."""
        return [self._failure(identifier) for identifier in self._ids("*/*.failed.json", ".failed.json")]

    def _failure(self, identifier: str) -> dict[str, Any]:
        base = base_of(identifier)
        try:
            return {**documents.parsed(self.shelf.read(f"{base}.failed.json"), documents.FAILURE), "id": identifier}
        except (OSError, ValueError) as error:
            said = f"the record of the failure of {identifier} is damaged ({error}); `vitals run` tries the cell again"
        cell = {"study": base.partition("/")[0], "condition": {}, "backbone": {"spec": "?"}}
        return {"id": identifier, "cell": cell, "error": said, "traceback": ""}

    def write(self, cell: Cell, numbers: Wide, **about: Any) -> str:
        """Keep a cell that was measured at once, and return its id; the arguments are those of `lay`.

        Raises:
            VitalsError: the disk is full or not writable; the cell does not count as finished then.
        """
        measured = self.lay(cell, numbers, **about)
        self.finish(measured)
        return measured.id

    def lay(
        self,
        cell: Cell,
        numbers: Wide,
        *,
        axes: Sequence[str] = (),
        facts: Mapping[str, Any] = MappingProxyType({}),
        exhibits: "Mapping[tuple[str, str, Place], Image]" = MappingProxyType({}),
        marks: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> Stored:
        """Write the files of a measured part. They count as measured when `keep_part` or `finish` has written the document that names them.

        Args:
            cell: what was measured.
            numbers: those of the part.
            axes: the study's `AXES`; every place has as many values.
            facts: goes into the document beside the cell: provenance, n, skipped, seconds.
            exhibits: (image id, caption, place on the axes or empty) -> picture of what the network saw.
            marks: image id -> what else is known of an exhibit: `label`, its class in words, and `correct`.
            files: name -> bytes of what else the study keeps.

        Raises:
            VitalsError: the disk is full or not writable.
        """
        identifier = cell_id(cell)
        base = base_of(identifier)
        try:
            kept: dict[str, tuple[str, int]] = {}
            content = {
                "schema": SCHEMA,
                "id": identifier,
                "cell": described(cell),
                "work": work_id(cell),
                **facts,
                "axes": list(axes),
                "parts": [self._rows(base, numbers, axes, kept)],
                "exhibits": [],
            }
            for number, ((item, caption, at), picture) in enumerate(exhibits.items()):
                name = f"exhibits/{numbers.start}-{number}.webp"
                self._file(base, name, _webp(picture), kept)
                known = {"item": item, "caption": caption, "file": name, "at": list(at), **marks.get(item, {})}
                content["exhibits"].append(known)
            for name, data in files.items():
                self._file(base, f"files/{name}", data, kept)
            content["sha256"] = {name: digest for name, (digest, _) in kept.items()}
            content["bytes"] = {name: size for name, (_, size) in kept.items()}
        except OSError as error:
            raise Unwritable(self.shelf, error) from error
        return Stored(identifier, content, self.shelf, base)

    def finish(self, whole: Stored) -> None:
        """Let a cell whose files were all `laid` count as complete.

        Raises:
            VitalsError: the disk is full or not writable.
        """
        base = base_of(whole.id)
        try:
            self.shelf.write(f"{base}/cell.json", documents.sealed(dict(whole.facts)), replace=False)
            self.shelf.remove(f"{base}.failed.json")
        except OSError as error:
            raise Unwritable(self.shelf, error) from error
        self.drop_parts(whole.id)

    def _rows(self, base: str, wide: Wide, axes: Sequence[str], kept: dict[str, tuple[str, int]]) -> dict[str, Any]:
        import pyarrow.parquet as pq

        held = io.BytesIO()
        pq.write_table(wide.table(axes), held, compression="zstd", write_page_checksum=True, store_schema=False)
        data = held.getbuffer()
        name = f"{wide.start}-{wide.stop}-{hashlib.sha256(data).hexdigest()[:12]}.parquet"
        self._file(base, name, data, kept)
        return {"file": name, "images": [wide.start, wide.stop], "points": wide.points()}

    def _file(self, base: str, name: str, data: bytes | memoryview, kept: dict[str, tuple[str, int]]) -> None:
        digest = hashlib.sha256(data).hexdigest()
        self.shelf.write(f"{base}/{place(name, digest)}", data)
        kept[name] = digest, len(data)

    def write_failure(self, cell: Cell, *, error: str, traceback: str) -> None:
        """Record why a cell failed, so that the rest can go on and `status` can tell."""
        content = {"id": cell_id(cell), "cell": described(cell), "error": error, "traceback": traceback}
        try:
            self.shelf.write(f"{base_of(cell_id(cell))}.failed.json", json.dumps(content, indent=1).encode())
        except OSError as full:
            raise Unwritable(self.shelf, full) from full


def _part(rows: range) -> str:
    return f"{rows.start}-{rows.stop}.json"


def _webp(picture: "Image") -> bytes:
    held = io.BytesIO()
    picture.save(held, "webp", quality=88, method=2)  # half the time of the default for 1.5 % more bytes
    return held.getvalue()
