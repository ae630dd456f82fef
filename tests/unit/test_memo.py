"""What is computed once is the same as what is computed again, whatever lies in the cache."""

import json
import multiprocessing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionvitals import source
from visionvitals.run import memo
from visionvitals.run.memo import DiskMemos

COLUMNS = {"x": ((3,), "float32"), "n": ((), "int64"), "empty": ((0, 4), "float32")}
N = 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))
    return tmp_path


def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
    for k in range(start, N):
        arrays["x"][k], arrays["n"][k] = k + 0.5, k
        yield k + 1


def rows(key: Any = 1, function: Any = fill) -> Mapping[str, np.ndarray]:
    return DiskMemos().rows("features", {"key": key}, N, COLUMNS, function)


def is_right(found: Mapping[str, np.ndarray]) -> bool:
    return found["n"].tolist() == list(range(N)) and bool((found["x"] == np.arange(N)[:, None] + 0.5).all())


def never(*_: object) -> Any:
    raise AssertionError("it is kept already")


def test_rows_are_computed_once_for_one_key() -> None:
    assert is_right(rows())
    assert is_right(rows(function=never))
    with pytest.raises(AssertionError):
        rows(2, never)


def test_whole_arrays_text_and_nothing_at_all() -> None:
    made = {"patch": np.arange(6.0).reshape(2, 3), "text": np.frombuffer(b"abc", np.uint8), "none": np.zeros((0, 2))}
    for make in (lambda: made, never):
        found = DiskMemos().whole("patch", {"k": 1}, make)
        assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in made.items()}
        assert found["patch"].dtype == np.float64


def test_a_killed_computation_goes_on_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "EVERY", 0.0)
    started: list[int] = []

    def killed(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        for done in fill(arrays, start):
            yield done
            if done == 17:
                raise KeyboardInterrupt

    def again(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        started.append(start)
        yield from fill(arrays, start)

    with pytest.raises(KeyboardInterrupt):
        rows(function=killed)
    assert is_right(rows(function=again))
    assert started == [17]


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "meta", "other key", "empty meta"])
def test_a_damaged_entry_is_computed_again(cache: Path, damage: str) -> None:
    rows()
    (meta,) = cache.rglob("meta.json")
    column = meta.parent / "x"
    if damage == "flip":
        content = bytearray(column.read_bytes())
        content[100] ^= 1
        column.write_bytes(content)
    elif damage == "cut":
        column.write_bytes(column.read_bytes()[:-1])
    elif damage == "gone":
        column.unlink()
    elif damage == "other key":
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"key": {"key": 7}}))
    else:
        meta.write_text("" if damage == "empty meta" else "[]")
    assert is_right(rows())


def test_what_a_killed_one_left_is_verified(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo, "CHUNK", 16)

    def killed(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        for done in fill(arrays, start):
            yield done
            if done == 30:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rows(function=killed)
    (part,) = cache.rglob("*.part")
    content = bytearray((part / "x").read_bytes())
    content[5] ^= 1
    (part / "x").write_bytes(content)
    assert is_right(rows())


def test_a_computation_that_stops_early_is_a_defect_of_the_study() -> None:
    with pytest.raises(RuntimeError, match="stopped at 3 of 40 rows"):
        rows(function=lambda arrays, start: iter([3]))


def _process(path: str) -> bool:
    import os

    os.environ["VISIONVITALS_CACHE"] = path
    return is_right(rows())


def test_two_processes_make_the_same(cache: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        assert pool.map(_process, [str(cache)] * 6) == [True] * 6
    assert is_right(rows(function=never))


def test_the_code_and_the_versions_are_known() -> None:
    assert len(source.computing()["package"]) == 64
    assert "torch" in source.computing()["versions"]
