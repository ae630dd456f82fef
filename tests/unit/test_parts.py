"""A cell over many images in parts: the rows, pictures and files of one measured at once, whoever measured them and whatever died."""

import errno
import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_shards import rows

from visionvitals import cli, files, study
from visionvitals.errors import VitalsError
from visionvitals.plan import plan_file
from visionvitals.run import parts, requests, shards
from visionvitals.run.cell import Stored
from visionvitals.run.shards import Shard
from visionvitals.run.store import Store

SIZE = 8


def planned(out: Path) -> None:
    words = ["plan", "tiny:cnn", "--data", "shapes:test?n=24", "--preset", "quick", "--studies", "clean,occlusion"]
    assert cli.main([*words, "--limit", "22", "--out", str(out)]) == 0


def go_on(out: Path, *more: str) -> None:
    assert cli.main(["run", str(out), "--batch-size", "4", "--device", "cpu", *more]) == 0


def cells(out: Path) -> dict[str, Stored]:
    return {cell.id: cell for cell in Store(out / "store").cells()}


def left(out: Path) -> set[str]:
    """Files of cells that no `cell.json` names."""
    store, found = out / "store", {f"{p.parent.name}/{p.name}" for p in (out / "store").glob("*/*/*.*")}
    named = {f"{cell.id}/{part['file']}" for cell in Store(store).cells() for part in cell.facts["parts"]}
    return {name for name in found - named if not name.endswith("/cell.json")}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SIZE", SIZE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stored]:
    """Cells of 22 images, each measured at once."""
    out = tmp_path_factory.mktemp("whole") / "run"
    planned(out)
    go_on(out)
    return cells(out)


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The files of the same cells, measured in parts by one process."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(parts, "SIZE", SIZE)
        out = tmp_path_factory.mktemp("divided") / "run"
        planned(out)
        go_on(out)
    return rows(out)


def test_the_boundaries_follow_from_the_number_of_images_alone() -> None:
    occlusion, correlation = study.load("occlusion"), study.load("correlation")
    assert parts.SIZE == 4096
    assert parts.of(occlusion, occlusion.Condition(), 10_000) == [range(4096), range(4096, 8192), range(8192, 10_000)]
    assert parts.of(occlusion, occlusion.Condition(), 8192) == [range(4096), range(4096, 8192)]
    assert parts.of(occlusion, occlusion.Condition(), 4096) == [range(4096)]
    assert parts.of(correlation, correlation.Condition(), 10_000) == [range(10_000)], (
        "its numbers are of several images"
    )
    assert parts.of(occlusion, occlusion.Condition(), 0) == [range(0)]


@pytest.mark.usefixtures("small")
def test_in_parts_it_equals_what_is_measured_at_once(tmp_path: Path, whole: dict[str, Stored]) -> None:
    planned(tmp_path / "run")
    go_on(tmp_path / "run")
    found = cells(tmp_path / "run")
    assert found.keys() == whole.keys()
    for identifier, cell in found.items():
        once = whole[identifier]
        assert [part["images"] for part in cell.facts["parts"]] == [[0, 8], [8, 16], [16, 22]]
        assert cell.points == once.points
        for at, metrics in cell.points.items():
            assert cell.items(at) == once.items(at)
            one, two = cell.values(metrics, at), once.values(metrics, at)
            assert all(np.array_equal(one[metric], two[metric], equal_nan=True) for metric in metrics)
        shown = [[{**e, "file": c.read(e["file"])} for e in c.facts["exhibits"]] for c in (cell, once)]
        assert shown[0] == shown[1]
        assert len(shown[0]) == 4
        for key in ("n", "skipped", "warnings", "axes", "cell"):
            assert cell.facts[key] == once.facts[key]
    assert not left(tmp_path / "run")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("count", [2, 5, 50])
def test_shares_divide_cells_into_parts(tmp_path: Path, divided: Any, count: int) -> None:
    out = tmp_path / "run"
    planned(out)
    for index in random.Random(count).sample(range(count), min(count, 5)):
        go_on(out, "--shard", f"{index}/{count}")
    if count > 5:
        assert rows(out) != divided, "the shares of most are still missing"
        go_on(out)
    assert rows(out) == divided
    assert (out / "report.html").is_file()
    assert not left(out)


@pytest.mark.usefixtures("small")
def test_shares_are_disjoint_of_equal_cost_and_all_of_it(tmp_path: Path) -> None:
    planned(tmp_path / "run")
    content = requests.content_of(tmp_path / "run")
    (plan,) = [plan_file.from_dict(each["plan"], source="x") for each in requests.each(content)]
    every = {(cell["id"], part): cell["cost"] / 3 for cell in content["cells"] for part in range(cell["parts"])}
    assert len(every) == 3 * len(content["cells"])
    for count in (1, 3, 7, 99):
        found = [shards.share_of(content, plan, Shard(index, count)) for index in range(count)]
        units = [[(i, part) for i, share in each.items() for part in share.parts] for each in found]
        assert sorted(unit for each in units for unit in each) == sorted(every)
        costs = [sum(every[unit] for unit in each) for each in units]
        assert max(costs) - min(costs) <= 2 * max(every.values())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("at", [1, 3, 4])
def test_a_process_that_dies_loses_no_more_than_its_part(
    tmp_path: Path, divided: Any, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after so many parts are laid; those that were kept are not measured again."""
    out, lay, laid = tmp_path / "run", Store.lay, [0]
    planned(out)

    def counting(self: Store, *given: Any, **more: Any) -> Stored:
        laid[0] += 1
        if child == 0 and laid[0] == at + 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return lay(self, *given, **more)

    monkeypatch.setattr(Store, "lay", counting)
    if (child := os.fork()) == 0:
        cli.main(["run", str(out), "--batch-size", "4", "--device", "cpu"])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    kept = len(list(out.glob("store/*/*/*-*.json"))) + 3 * len(cells(out))
    assert kept == at
    go_on(out)
    assert laid[0] == 3 * len(divided) - kept
    assert rows(out) == divided
    assert not left(out)


@pytest.mark.usefixtures("small")
def test_a_damaged_part_is_measured_again(tmp_path: Path, divided: Any) -> None:
    out = tmp_path / "run"
    planned(out)
    go_on(out, "--shard", "1/4")
    documents = sorted(out.glob("store/*/*/*-*.json"))
    assert documents, "the share ends within a cell"
    for document in documents[:1]:
        document.write_bytes(document.read_bytes()[:-9])
    for document in documents[1:]:
        part = json.loads(document.read_bytes())["parts"][0]["file"]
        (document.parent / part).write_bytes(b"damaged")
    go_on(out)
    assert rows(out) == divided
    assert not left(out)


@pytest.mark.usefixtures("small")
def test_what_a_killed_writer_left_of_a_complete_cell_is_removed(tmp_path: Path, divided: Any) -> None:
    """Killed between the last `cell.json` and the removal of the documents of its parts."""
    out = tmp_path / "run"
    planned(out)
    go_on(out)
    last = cells(out)[next(iter(divided))]
    Store(out / "store").keep_part(last, range(8))
    assert left(out)
    go_on(out)
    assert rows(out) == divided
    assert not left(out)


@pytest.mark.usefixtures("small")
def test_values_that_some_parts_lack(tmp_path: Path, toy_backbone: str, toy_images: str) -> None:
    """No value in two parts of three; broken ones are counted over all of them, and where they are too many the cell fails."""
    (tmp_path / "few.py").write_text(FEW)
    words = ["audit", toy_backbone, "--data", toy_images, "--batch-size", "4", "--device", "cpu"]
    assert cli.main([*words, "--studies", str(tmp_path / "few.py"), "--out", str(tmp_path / "run")]) == 1
    found = {cell.cell["condition"]["of"]: cell for cell in cells(tmp_path / "run").values()}
    assert found.keys() == {1}
    (one,) = found.values()
    assert len(one.facts["parts"]) == 3
    assert (len(one.items()), one.facts["n"]) == (1, 24)
    errors = {r["cell"]["condition"]["of"]: r["error"] for r in Store(tmp_path / "run" / "store").failures()}
    assert "must yield at least one value" in errors[0]
    assert errors[24].startswith("At most 1% of the images may have no finite answer. Got '24 of 24'")
    assert not list((tmp_path / "run").glob("store/*/*/*-*.json")), "another try measures them again"


FEW = '''"""Is there a value?"""

from dataclasses import dataclass

from visionvitals.study import Scores

PER_IMAGE = True


@dataclass(frozen=True, kw_only=True)
class Condition:
    of: int = 0


def conditions(preset, size):
    return [Condition(of=0), Condition(of=1), Condition(of=24)]


def measure(job):
    c = job.condition
    for batch in job.batches():
        some = [item for item in batch.ids if c.of == 24 or (c.of == 1 and item.endswith("13"))]
        yield Scores(some, {"top1": [float("nan") if c.of == 24 else 1.0] * len(some)})
'''


@pytest.mark.usefixtures("small")
def test_the_provenance_of_every_part_is_kept_where_they_differ(tmp_path: Path, divided: Any) -> None:
    out = tmp_path / "run"
    planned(out)
    go_on(out, "--shard", "0/4")
    assert list(out.glob("store/*/*/*-*.json"))
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu"]) == 0
    batches = [
        {part["provenance"]["batch_size"] for part in cell.facts["parts"] if "provenance" in part}
        for cell in cells(out).values()
        if cell.facts["provenance"]["batch_size"] == 4
    ]
    assert {8} in batches
    assert "4, 8 images at a time" in (out / "report.html").read_text()


def test_a_plan_says_how_many_parts_and_a_mad_number_is_refused(tmp_path: Path) -> None:
    planned(tmp_path / "run")
    content = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert {cell["parts"] for cell in content["cells"]} == {1}
    content["cells"][0]["parts"] = 10**18
    (tmp_path / "run" / "plan.json").write_text(json.dumps(content))
    with pytest.raises(VitalsError, match="must be JSON as visionvitals wrote it"):
        requests.content_of(tmp_path / "run")


@pytest.mark.usefixtures("small")
def test_two_processes_with_one_share_at_once_keep_each_row_once(tmp_path: Path, divided: Any) -> None:
    out, children = tmp_path / "run", []
    planned(out)
    for _ in range(2):
        if (child := os.fork()) == 0:
            os._exit(cli.main(["run", str(out), "--batch-size", "4", "--device", "cpu", "--shard", "0/1"]))
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    assert rows(out) == divided
    assert not left(out)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_store_that_is_full_or_read_only_ends_in_one_line_and_keeps_the_parts(
    tmp_path: Path, divided: Any, error: int, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    out, write, written = tmp_path / "run", files.write_safely, [0]
    planned(out)

    def full(path: Path, content: files.Content, **more: Any) -> None:
        if path.parent.parent.parent == out / "store":
            written[0] += 1
            if written[0] > 5:  # of two parts: rows and document; then the rows of the third
                raise OSError(error, os.strerror(error), str(path))
        write(path, content, **more)

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_safely", full)
        assert cli.main(["run", str(out), "--batch-size", "4", "--device", "cpu", "--shard", "0/1"]) == 2
    said = capsys.readouterr().err
    assert f"Results must be writable under {out / 'store'}. Got: [Errno {error}] {os.strerror(error)}" in said
    assert "give the same command again: finished cells are kept" in said
    assert "Traceback" not in said
    assert len(list(out.glob("store/*/*/*-*.json"))) == 2
    go_on(out)
    assert rows(out) == divided
    assert not left(out)
