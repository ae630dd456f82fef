"""A cell is in the store whole or not at all."""

import dataclasses
import errno
import json
import os
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionvitals import files
from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess, Scores
from visionvitals.errors import VitalsError
from visionvitals.figure import COMMON
from visionvitals.files import write_safely
from visionvitals.plan.identity import cell_id
from visionvitals.run import documents, parts, shelf, wide
from visionvitals.run.cell import DamagedCell
from visionvitals.run.shelf import Shelf, Unwritable
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
IDS = ["i/ä", "j"]
SCORES = [Scores(IDS, {"top1": [1.0, 0.0], "cross_entropy": [0.1 + 0.2, 3.0]})]


def gather(blocks: Sequence[Scores] = SCORES, *, ids: Sequence[str] = IDS, start: int = 0, axes: Any = ()) -> wide.Wide:
    return wide.gather(blocks, study="occlusion", axes=axes, metrics=COMMON, ids=ids, start=start)


def keep(store: Store, numbers: wide.Wide | None = None, **more: Any) -> None:
    store.write(CELL, gather() if numbers is None else numbers, **({"facts": {"n": 2}} | more))


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert not store.has(cell_id(CELL))
    keep(store)
    assert store.has(cell_id(CELL))
    (found,) = store.cells()
    values = found.values(["cross_entropy", "top1", "top5"])
    assert found.items() == IDS
    assert (values["top1"].tolist(), values["cross_entropy"].tolist()) == ([1.0, 0.0], [0.1 + 0.2, 3.0])
    assert np.isnan(values["top5"]).all()
    assert found.facts["n"] == 2
    assert found.cell["condition"] == {"fraction": 0.5, "run": 0}
    assert len(found.cell["images"]["classes"]) == 64, "the digest of the list"


def test_parts_of_a_cell_are_read_as_one(tmp_path: Path) -> None:
    more = [Scores(["k"], {"top1": [1.0]})]
    store = Store(tmp_path)
    laid = [store.lay(CELL, numbers) for numbers in (gather(), gather(more, ids=["k"], start=2))]
    assert not store.cells()
    store.finish(parts.together(laid))
    (found,) = store.cells()
    assert found.items() == [*IDS, "k"]
    assert found.values(["top1"])["top1"].tolist() == [1, 0, 1]
    assert [part["images"] for part in found.facts["parts"]] == [[0, 2], [2, 3]]


def test_columns_cost_little_memory(tmp_path: Path) -> None:
    ids = [f"image {k}" for k in range(20_000)]

    def measure() -> Iterator[Scores]:
        for level in range(5):
            for start in range(0, len(ids), 100):
                yield Scores(ids[start : start + 100], {"top1": np.ones(100), "top5": np.ones(100)}, (level,))

    tracemalloc.start()
    found = wide.gather(measure(), study="s", axes=("level",), metrics=COMMON, ids=ids)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / (5 * len(ids)) < 30
    keep(Store(tmp_path), found, axes=("level",))
    (cell,) = Store(tmp_path).cells()
    assert list(cell.points) == [(k,) for k in range(5)]
    assert cell.items_key((0,)) == cell.items_key((4,))


def test_exhibits_carry_what_is_known_of_them(tmp_path: Path) -> None:
    picture = Image.new("RGB", (8, 8), "red")
    keep(
        Store(tmp_path),
        exhibits={("i/ä", "a", ()): picture, ("j", "b", ()): picture},
        marks={"j": {"label": "a", "correct": False}},
        files={"patch.png": b"123"},
    )
    (found,) = Store(tmp_path).cells()
    first, second = found.facts["exhibits"]
    assert first == {"item": "i/ä", "caption": "a", "file": "exhibits/0-0.webp", "at": []}
    assert second == {
        "item": "j",
        "caption": "b",
        "file": "exhibits/0-1.webp",
        "at": [],
        "label": "a",
        "correct": False,
    }
    with Image.open(BytesIO(found.read(first["file"]))) as shown:
        assert shown.size == (8, 8)
    assert found.read("files/patch.png") == b"123"


def test_a_cell_is_immutable_and_the_first_writer_stays(tmp_path: Path) -> None:
    keep(Store(tmp_path))
    keep(Store(tmp_path), gather([Scores(IDS, {"top1": [0.5, 0.5]})]))
    assert Store(tmp_path).cells()[0].values(["top1"])["top1"].tolist() == [1, 0]
    keep(Store(tmp_path))
    assert len(Store(tmp_path).cells()) == 1


@pytest.mark.parametrize("step", range(3))
def test_a_disk_that_fills_leaves_no_cell_and_no_half_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """The part, a file beside it, cell.json: whichever cannot be written."""
    sync, count = os.fsync, 0

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count > 2 * step:  # a file and its folder
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(Unwritable, match=r"must be writable.*No space left.*finished cells are kept"):
            keep(Store(tmp_path), files={"a": b"b"})
    assert Store(tmp_path).cells() == []
    assert len(names(tmp_path)) == step
    keep(Store(tmp_path), files={"a": b"b"})
    assert Store(tmp_path).has(cell_id(CELL))


def test_a_store_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VitalsError, match="must be writable"):
        keep(Store(tmp_path / "file"))


def test_leftovers_are_judged_by_age_not_by_process(tmp_path: Path) -> None:
    """The writers of two machines share a folder and know nothing of each other's process ids."""
    folder = tmp_path / "occlusion" / cell_id(CELL)
    folder.mkdir(parents=True)
    old, young = (files.temporary_beside(folder / "cell.json") for _ in range(2))
    for path in (old, young):
        path.write_text("{}")
    past = time.time() - files.ABANDONED - 1
    os.utime(old, (past, past))
    store = Store(tmp_path)
    assert store.cells() == []
    store.shelf.sweep()
    assert (old.exists(), young.exists()) == (False, True)


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
    written: list[str] = []
    write = shelf.Shelf.write

    def spy(self: shelf.Shelf, name: str, *args: Any, **more: Any) -> None:
        written.append(name.rpartition("/")[2])
        write(self, name, *args, **more)

    monkeypatch.setattr(shelf.Shelf, "write", spy)
    keep(Store(tmp_path), exhibits={("j", "b", ()): Image.new("RGB", (8, 8))}, files={"x": b"y"})
    assert written[-1] == "cell.json"
    assert {name.rpartition(".")[2] for name in written[:-1]} == {"parquet", "webp", "x"}


def test_every_flipped_bit_of_a_part_is_noticed(tmp_path: Path) -> None:
    """Of the columns that are read: Parquet's page checksums, and the checksum of what lies around the pages."""
    ids = [str(k) for k in range(200)]
    rng = np.random.default_rng(0)
    keep(
        Store(tmp_path),
        gather([Scores(ids, {"top1": rng.integers(0, 2, 200), "cross_entropy": rng.random(200)})], ids=ids),
    )
    (path,) = tmp_path.rglob("*.parquet")
    whole = path.read_bytes()
    (cell,) = Store(tmp_path).cells()
    right = cell.values(["top1", "cross_entropy"])
    for position in range(0, len(whole), 7):
        broken = bytearray(whole)
        broken[position] ^= 1 << (position % 8)
        path.write_bytes(broken)
        with pytest.raises(DamagedCell, match="must be as it was written"):
            cell.values(["top1", "cross_entropy"])
    path.write_bytes(whole)
    assert all(np.array_equal(cell.values([m])[m], right[m]) for m in right)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"schema": 1}', b"\xff\x00"])
def test_a_damaged_cell_json_is_no_finished_cell(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    keep(store)
    (path,) = tmp_path.rglob("cell.json")
    path.write_bytes(content)
    assert store.cells() == []
    with pytest.raises(DamagedCell, match=cell_id(CELL)):
        store.cell(cell_id(CELL))


def test_a_survey_tells_damaged_cells_and_setting_aside_makes_them_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, exhibits={("j", "b", ()): Image.new("RGB", (8, 8))}, files={"x": b"y"})
    assert store.survey() == ({cell_id(CELL)}, {})
    for path in [p for p in tmp_path.rglob("*") if p.is_file()]:
        before = path.read_bytes()
        for after in (before[:-1], before[:1] + b"?" + before[2:]):
            path.write_bytes(after)
            whole, damaged = store.survey()
            assert (whole, list(damaged)) == (set(), [cell_id(CELL)])
        path.write_bytes(before)
    next(tmp_path.rglob("*.webp")).unlink()
    store.set_aside(cell_id(CELL))
    assert (store.survey(), store.has(cell_id(CELL))) == ((set(), {}), False)
    keep(store)
    assert store.survey() == ({cell_id(CELL)}, {})


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a//b", "."])
def test_no_name_leaves_the_shelf(tmp_path: Path, name: str) -> None:
    with pytest.raises(PermissionError, match="must stay below its shelf"):
        Store(tmp_path).shelf.write(name, b"")
    keep(Store(tmp_path))
    (found,) = Store(tmp_path).cells()
    with pytest.raises(DamagedCell, match="must stay below its shelf"):
        found.read(name)


def test_another_axis_value_is_another_place(tmp_path: Path) -> None:
    blocks = [Scores(IDS, {"top1": [1, 1]}, (1,)), Scores(IDS, {"top1": [0, 0]}, (2,))]
    keep(Store(tmp_path), gather(blocks, axes=("block",)), axes=("block",))
    (found,) = Store(tmp_path).cells()
    assert found.values(["top1"], (2,))["top1"].tolist() == [0, 0]
    assert dataclasses.replace(CELL, seed=1) != CELL


def test_every_flipped_bit_of_a_cell_json_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store, exhibits={("j", "b", ()): Image.new("RGB", (8, 8))})
    (path,) = tmp_path.rglob("cell.json")
    whole = path.read_bytes()
    for position in range(len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 1 << (position % 7)
        path.write_bytes(broken)
        with pytest.raises(DamagedCell):
            store.cell(cell_id(CELL))
    path.write_bytes(whole)
    assert store.cell(cell_id(CELL)).facts["n"] == 2


@pytest.mark.parametrize(
    "name", ["../../../x.webp", "/x.webp", "exhibits/../../x.webp", "exhibits//0.webp", "none.webp"]
)
def test_a_cell_that_names_what_is_not_its_own_is_damaged(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path)
    keep(store, exhibits={("j", "b", ()): Image.new("RGB", (8, 8))})
    (path,) = tmp_path.rglob("cell.json")
    facts = json.loads(path.read_bytes())
    del facts["digest"]
    facts["exhibits"][0]["file"] = name
    for also in (False, True):
        if also:
            facts["sha256"][name], facts["bytes"][name] = facts["sha256"]["exhibits/0-0.webp"], 1
        path.write_bytes(documents.sealed(facts))
        assert list(store.survey()[1]) == [cell_id(CELL)]


@pytest.mark.parametrize(
    "change", [{"cell": 5}, {"axes": 5}, {"parts": [5]}, {"sha256": []}, {"seconds": "x"}, {"exhibits": None}]
)
def test_a_sealed_cell_of_other_types_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    store = Store(tmp_path)
    keep(store)
    (path,) = tmp_path.rglob("cell.json")
    facts = json.loads(path.read_bytes()) | change
    del facts["digest"]
    path.write_bytes(documents.sealed(facts))
    assert store.survey() == (set(), {cell_id(CELL): "a cell.json of another form"})


@pytest.mark.parametrize("kind", ["cell.json", "*.parquet", "*.webp"])
@pytest.mark.parametrize("what", ["a FIFO", "a folder", "8 GB", "deep", "a device"])
def test_what_is_no_file_of_its_size_is_not_read(tmp_path: Path, kind: str, what: str) -> None:
    store = Store(tmp_path)
    keep(store, exhibits={("j", "b", ()): Image.new("RGB", (8, 8))})
    (path,) = tmp_path.rglob(kind)
    path.unlink()
    if what == "8 GB":
        with path.open("wb") as file:
            file.truncate(8 << 30)
    elif what == "deep":
        path.write_bytes(b"[" * 100_000)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    else:
        (os.mkfifo if what == "a FIFO" else os.mkdir)(path)
    whole, damaged = store.survey()
    assert (whole, list(damaged)) == (set(), [cell_id(CELL)])
    store.set_aside(cell_id(CELL))
    assert store.survey() == (set(), {})
    if kind == "cell.json":
        keep(store)
        assert store.survey() == ({cell_id(CELL)}, {})


def test_foreign_files_are_no_cells(tmp_path: Path) -> None:
    for name in ("mine/x/cell.json", "x/-1/cell.json", "mine/other-1/cell.json", "mine/x.failed.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    store = Store(tmp_path)
    assert (store.ids(), store.failures(), store.survey()) == ([], [], (set(), {}))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe{}", b"[" * 100_000, b'{"cell": "x", "error": 5}'])
def test_a_damaged_record_of_a_failure_is_named(tmp_path: Path, content: bytes) -> None:
    store = Store(tmp_path)
    store.write_failure(CELL, error="it broke", traceback="line 1")
    next(tmp_path.rglob("*.failed.json")).write_bytes(content)
    (record,) = store.failures()
    assert (record["id"], record["cell"]["study"]) == (cell_id(CELL), "occlusion")
    assert "is damaged" in record["error"]


def test_nothing_is_written_through_a_link_that_leads_outside(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "occlusion").symlink_to(tmp_path / "outside")
    with pytest.raises(Unwritable, match="a link leads out of"):
        keep(Store(tmp_path / "store"))
    assert names(tmp_path / "outside") == set()


def test_a_folder_in_the_place_of_a_part_is_set_aside(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keep(store)
    (part,) = tmp_path.rglob("*.parquet")
    part.unlink()
    part.mkdir()
    assert list(store.survey()[1]) == [cell_id(CELL)]
    store.set_aside(cell_id(CELL))
    keep(store)
    assert store.survey() == ({cell_id(CELL)}, {})


def test_a_second_writer_of_a_cell_changes_nothing_of_the_first(tmp_path: Path) -> None:
    """The pictures of two machines may differ in a level, and have the same name."""
    store = Store(tmp_path)
    keep(store, exhibits={("j", "b", ()): Image.new("RGB", (8, 8), "red")}, files={"x": b"first"})
    keep(store, exhibits={("j", "b", ()): Image.new("RGB", (8, 8), "blue")}, files={"x": b"second"})
    assert store.survey() == ({cell_id(CELL)}, {})
    (cell,) = store.cells()
    assert cell.read("files/x") == b"first"


def test_a_file_that_another_process_removes_at_the_same_time_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    shelf.write("a/b/0-4.json", b"{}")

    def gone(path: Path) -> None:
        raise FileNotFoundError(str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "lstat", gone)
        assert shelf.remove("a/b/0-4.json") == 0
    assert shelf.remove("a/b/0-4.json") == 2


def test_a_link_to_a_folder_is_replaced_and_a_folder_is_refused_by_its_name(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    write_safely(link, "x")
    assert (link.read_text(), link.is_symlink(), list(folder.iterdir())) == ("x", False, [])
    with pytest.raises(IsADirectoryError) as error:
        write_safely(folder, "x")
    assert error.value.filename == str(folder)
