"""A cell is in the store whole or not at all."""

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess, Row
from visionvitals.errors import VitalsError
from visionvitals.run.identity import cell_id
from visionvitals.run.rows import Rows
from visionvitals.run.store import Store


@dataclass(frozen=True, kw_only=True)
class Condition:
    fraction: float = 0.0
    run: int = 0


CELL = Cell(
    study="occlusion",
    version=1,
    condition=Condition(fraction=0.5),
    backbone=BackboneCard(
        spec="tiny:vit",
        architecture="vit",
        digest="aa",
        preprocess=Preprocess(size=(64, 64), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs=2,
        parameters=1,
        classes=("a", "b"),
    ),
    images=ImageSetCard(spec="shapes:test", digest="bb", n=2, classes=("a", "b"), class_names=("a", "b")),
)
ROWS = [Row("i/ä", "top1", 1.0), Row("i/ä", "cross_entropy", 0.1 + 0.2), Row("j", "top1", 0.0)]


def keep(store: Store, rows: Iterable[Row] = ROWS, **more: Any) -> None:
    store.write(CELL, rows, **({"facts": {"n": 2}, "exhibits": {}} | more))


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has(cell_id(CELL))
    keep(store)
    assert store.has(cell_id(CELL))
    (found,) = store.cells()
    assert found.values() == {"top1": {"i/ä": 1.0, "j": 0.0}, "cross_entropy": {"i/ä": 0.1 + 0.2}}
    assert found.facts["n"] == 2
    assert found.cell["condition"] == {"fraction": 0.5, "run": 0}
    assert "classes" not in found.cell["backbone"]


def test_an_empty_cell_is_a_cell(tmp_path: Path) -> None:
    keep(Store(tmp_path), [])
    assert Store(tmp_path).cells()[0].values() == {}


def test_rows_are_kept_in_columns_that_cost_little(tmp_path: Path) -> None:
    def measure(n: int) -> Iterator[Row]:
        for k in range(n):
            yield from (Row(f"image {k // 100}", metric, float(k), (k % 95, "x")) for metric in ("top1", "prediction"))

    tracemalloc.start()
    rows = Rows(measure(20_000))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(rows) < 30
    assert list(rows) == list(measure(20_000))
    keep(Store(tmp_path), rows, axes=("level", "kind"))
    (found,) = Store(tmp_path).cells()
    assert found.points == [(k, "x") for k in range(95)]
    assert found.values((2, "x"))["top1"]["image 0"] == 97.0, "the last of several"


def test_exhibits_carry_what_is_known_of_them(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    keep(
        Store(tmp_path),
        exhibits={("i/ä", "a", ()): picture, ("j", "b", ()): picture},
        marks={"j": {"label": "a", "correct": False}},
    )
    (found,) = Store(tmp_path).cells()
    first, second = found.facts["exhibits"]
    assert first == {"item": "i/ä", "caption": "a", "file": "exhibits/0.webp", "at": []}
    assert second == {"item": "j", "caption": "b", "file": "exhibits/1.webp", "at": [], "label": "a", "correct": False}
    with Image.open(found.path / first["file"]) as shown:
        assert shown.size == (8, 8)


def test_a_cell_is_immutable_and_the_first_writer_stays(tmp_path: Path) -> None:
    keep(Store(tmp_path))
    keep(Store(tmp_path), [Row("i", "top1", 0.5)])
    assert Store(tmp_path).cells()[0].values()["top1"] == {"i/ä": 1.0, "j": 0.0}
    assert [p.name for p in (tmp_path / "occlusion").iterdir()] == [cell_id(CELL)]


def test_a_disk_that_fills_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: object, path: Path, **more: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(VitalsError, match=r"must be writable.*No space left.*finished cells are kept"):
            keep(Store(tmp_path))
    assert list((tmp_path / "occlusion").iterdir()) == []
    keep(Store(tmp_path))
    assert Store(tmp_path).has(cell_id(CELL))


def test_a_store_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitalsError, match="must be writable"):
        keep(Store(tmp_path / "file"))


def test_what_a_killed_writer_left_is_no_cell_and_is_swept(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for pid in (dead.pid, os.getpid()):
        folder = tmp_path / "occlusion" / f".tmp-{pid}-{cell_id(CELL)}"
        folder.mkdir(parents=True)
        (folder / "cell.json").write_text("{}")
    store = Store(tmp_path)
    assert store.cells() == []
    store.sweep()
    assert [p.name.split("-")[1] for p in (tmp_path / "occlusion").iterdir()] == [str(os.getpid())]


def test_a_failure_is_recorded_until_the_cell_succeeds(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_failure(CELL, error="it broke", traceback="line 1")
    (record,) = store.failures()
    assert (record["id"], record["error"]) == (cell_id(CELL), "it broke")
    assert not store.has(cell_id(CELL))
    keep(store)
    assert store.failures() == []


def test_a_folder_that_lost_its_cell_json_is_written_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store)
    next(tmp_path.glob("*/*/cell.json")).unlink()
    keep(store)
    assert store.has(cell_id(CELL))


def test_half_a_record_of_a_failure_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Store(tmp_path).write_failure(CELL, error="it broke", traceback="line 1")
    assert Store(tmp_path).failures() == []


def test_cell_json_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its presence means complete: when it is written, everything else is there."""
    seen: list[set[str]] = []
    write = Path.write_text

    def spy(self: Path, *args: Any, **more: Any) -> int:
        if self.name == "cell.json":
            seen.append({str(p.relative_to(self.parent)) for p in self.parent.rglob("*") if p.is_file()})
        return write(self, *args, **more)

    monkeypatch.setattr(Path, "write_text", spy)
    keep(Store(tmp_path), exhibits={("j", "b", ()): Image.new("RGB", (8, 8))})
    assert seen == [{"rows.parquet", "exhibits/0.webp"}]
    assert json.loads((Store(tmp_path).cells()[0].path / "cell.json").read_text())["schema"] == 2
