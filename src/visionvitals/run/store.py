"""The store: one folder per finished cell, immutable, `cell.json` written last.

    store/<study>/<cell id>/rows.parquet     item, metric, value: one row per image and metric
    store/<study>/<cell id>/exhibits/*.webp  what the network saw, for a few images
    store/<study>/<cell id>/files/*          what else the study keeps, e.g. a patch
    store/<study>/<cell id>/cell.json        the cell, its provenance, what was skipped; its presence means complete
    store/<study>/<cell id>.failed.json      why the last try failed; removed when a later one succeeds

A cell is written under a temporary name and renamed, so a killed writer leaves at most a folder that starts with `.tmp-`, which
`sweep` removes once its process is gone. Two workers that finish the same cell write the same rows; the first one stays.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.core import Cell, Row
from visionvitals.errors import VitalsError
from visionvitals.run.identity import cell_id, plain
from visionvitals.run.rows import Place, Rows

if TYPE_CHECKING:
    from PIL.Image import Image

SCHEMA = 2


@dataclass(frozen=True)
class Stored:
    """A finished cell on disk.

    Attributes:
        path: its folder.
        facts: the content of `cell.json`: `id`, `cell` (all fields of the `Cell`, cards included), `provenance`, `skipped`
            (list of [image id, reason]), `n`, `seconds`, `axes` (names), `points` (the places on them that have rows), `exhibits`
            (list of {item, caption, file, at, label, correct}; the caption is the predicted class in words, `at` the place on the
            axes or empty, the last two are absent where unknown).
    """

    path: Path
    facts: Mapping[str, Any]

    @property
    def cell(self) -> Mapping[str, Any]:
        """The cell as plain values; `["study"]`, `["condition"]`, `["backbone"]["spec"]`, `["images"]["spec"]`, ..."""
        found: Mapping[str, Any] = self.facts["cell"]
        return found

    @property
    def axes(self) -> tuple[str, ...]:
        return tuple(self.facts.get("axes", ()))

    @property
    def points(self) -> list[Place]:
        """The places on the axes that have rows; the empty place alone where there are no axes."""
        return [tuple(place) for place in self.facts.get("points", ((),))]

    def values(self, at: Place = ()) -> dict[str, dict[str, float]]:
        """metric -> {item: value} at one place on the axes."""
        return self._parts.get(at, {})

    @cached_property
    def _parts(self) -> dict[Place, dict[str, dict[str, float]]]:
        import pyarrow.parquet as pq

        table = pq.read_table(self.path / "rows.parquet")
        items, metrics, values, *places = (
            table[c].to_pylist() for c in ("item", "metric", "value", *(f"at_{axis}" for axis in self.axes))
        )
        result: dict[Place, dict[str, dict[str, float]]] = {}
        for item, metric, value, *at in zip(items, metrics, values, *places, strict=True):
            result.setdefault(tuple(at), {}).setdefault(metric, {})[item] = value
        return result


class Store:
    """The cells under one folder. Reading needs no lock; writing needs none either."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, identifier: str) -> bool:
        return (self._folder(identifier) / "cell.json").is_file()

    def cells(self) -> list[Stored]:
        """Every finished cell, in order of its path."""
        return [
            Stored(path.parent, json.loads(path.read_text(encoding="utf-8")))
            for path in sorted(self.root.glob("*/[!.]*/cell.json"))
        ]

    def failures(self) -> list[dict[str, Any]]:
        """The record of every cell whose last try failed: `id`, `cell`, `error`, `traceback`."""
        return [json.loads(p.read_text(encoding="utf-8")) for p in sorted(self.root.glob("*/*.failed.json"))]

    def write(
        self,
        cell: Cell,
        rows: Iterable[Row],
        *,
        facts: Mapping[str, Any],
        exhibits: "Mapping[tuple[str, str, Place], Image]",
        axes: Sequence[str] = (),
        marks: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> None:
        """Keep a finished cell.

        Args:
            cell: what was measured.
            rows: its numbers.
            facts: goes into `cell.json` beside the cell: provenance, n, skipped, seconds.
            exhibits: (image id, caption, place on the axes or empty) -> picture of what the network saw.
            axes: the study's `AXES`; every row's `at` has as many values.
            marks: image id -> what else is known of an exhibit: `label`, its class in words, and `correct`.
            files: name -> bytes of what else the study keeps.

        Raises:
            VitalsError: the disk is full or not writable; nothing half-written stays under the final name.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        identifier = cell_id(cell)
        final = self._folder(identifier)
        temporary = final.parent / f".tmp-{os.getpid()}-{identifier}"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            (temporary / "exhibits").mkdir(parents=True)
            found = rows if isinstance(rows, Rows) else Rows(rows)
            item, metric, place = (pa.array(np.asarray(codes)) for codes in (found.item, found.metric, found.place))
            columns = {
                "item": pa.DictionaryArray.from_arrays(item, pa.array(found.items, pa.string())),
                "metric": pa.DictionaryArray.from_arrays(metric, pa.array(found.metrics, pa.string())),
                "value": pa.array(np.asarray(found.value)),
            } | {f"at_{axis}": pa.array([at[k] for at in found.places]).take(place) for k, axis in enumerate(axes)}
            pq.write_table(pa.table(columns), temporary / "rows.parquet", compression="zstd")
            shown = []
            for number, ((item, caption, at), picture) in enumerate(exhibits.items()):
                name = f"exhibits/{number}.webp"
                picture.save(temporary / name, quality=88)
                shown.append({"item": item, "caption": caption, "file": name, "at": list(at), **marks.get(item, {})})
            for name, data in files.items():
                (temporary / "files").mkdir(exist_ok=True)
                (temporary / "files" / name).write_bytes(data)
            points = {"axes": list(axes), "points": [list(at) for at in found.places]} if axes else {}
            content = {"schema": SCHEMA, "id": identifier, "cell": described(cell)}
            content |= {**facts, **points, "exhibits": shown}
            (temporary / "cell.json").write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")
            if final.is_dir() and not self.has(identifier):  # it lost its cell.json, and would be in the way for ever
                shutil.rmtree(final)
            if not final.exists():
                temporary.rename(final)
        except OSError as error:
            if self.has(identifier):  # another worker was faster in between
                return
            raise VitalsError(
                f"Results must be writable under {self.root}. Got: {error}. Free some space or rights and give the same "
                "command again: finished cells are kept and only the rest is computed."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        self._failure(identifier).unlink(missing_ok=True)

    def write_failure(self, cell: Cell, *, error: str, traceback: str) -> None:
        """Record why a cell failed, so that the rest can go on and `status` can tell."""
        path = self._failure(cell_id(cell))
        content = {"id": cell_id(cell), "cell": described(cell), "error": error, "traceback": traceback}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")  # half a record would make every later reader fail
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        temporary.replace(path)

    def sweep(self) -> None:
        """Remove what killed writers left behind; a folder of a living process stays."""
        for folder in self.root.glob("*/.tmp-*"):
            if not alive(int(folder.name.split("-")[1])):
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, identifier: str) -> Path:
        return self.root / identifier.rpartition("-")[0] / identifier

    def _failure(self, identifier: str) -> Path:
        folder = self._folder(identifier)
        return folder.with_name(folder.name + ".failed.json")


def described(cell: Cell) -> dict[str, Any]:
    """All fields of a cell as plain values, less the class lists of its cards: long, the same in every cell, and their part in
    the identity is already in the id."""
    content: dict[str, Any] = plain(cell)
    for card in (content["backbone"], content["images"]):
        del card["classes"], card["class_names"]
    return content


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
