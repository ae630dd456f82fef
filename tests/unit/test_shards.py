"""Processes that share a run folder and nothing else: together they measure what one would, each row once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from test_grow import pictures

from visionvitals import cli, files, results
from visionvitals.errors import VitalsError
from visionvitals.plan import plan_file, planner, request
from visionvitals.report import build
from visionvitals.run import folder, requests, shards, status
from visionvitals.run.shards import Shard
from visionvitals.run.store import Store


def planned(out: Path, *more: str) -> None:
    words = ["plan", "tiny:vit", "tiny:cnn", "--data", "shapes:test?n=24", "--preset", "quick"]
    assert cli.main([*words, "--studies", "clean,occlusion,corner", "--out", str(out), *more]) == 0


def rows(out: Path) -> dict[str, dict[str, str]]:
    """cell -> file -> checksum."""
    return {cell.id: dict(cell.facts["sha256"]) for cell in Store(out / "store").cells()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The rows that one process measures."""
    out = tmp_path_factory.mktemp("whole") / "run"
    planned(out)
    assert cli.main(["run", str(out), "--batch-size", "8"]) == 0
    return rows(out)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_shares_in_any_order_gives_the_rows_of_one(tmp_path: Path, whole: Any, count: int) -> None:
    out = tmp_path / "run"
    planned(out)
    order = random.Random(count).sample(range(count), count)
    for index in order:
        assert cli.main(["run", str(out), "--shard", f"{index}/{count}", "--batch-size", "8"]) == 0
    assert rows(out) == whole
    assert (out / "report.html").is_file(), "the last one writes the report"


def test_a_share_says_what_is_left_to_others_and_the_whole_takes_it(tmp_path: Path, whole: Any, capsys: Any) -> None:
    out = tmp_path / "run"
    planned(out)
    for index in (1, 1):  # a process that is started twice measures nothing twice
        assert cli.main(["run", str(out), "--shard", f"{index}/3", "--batch-size", "8"]) == 0
        said = capsys.readouterr().err
        assert "Left to other shares: " in said
    assert "0 cells measured" in said
    assert not (out / "report.html").exists()
    assert 0 < len(rows(out)) < len(whole)
    assert cli.main(["run", str(out), "--batch-size", "8"]) == 0
    assert rows(out) == whole


def test_shares_are_of_equal_cost_disjoint_and_all_of_it(tmp_path: Path) -> None:
    planned(tmp_path / "run", "--limit", "20")
    content = requests.content_of(tmp_path / "run")
    (plan,) = [plan_file.from_dict(each["plan"], source="x") for each in requests.each(content)]
    cost = {cell["id"]: cell["cost"] for cell in content["cells"]}
    for count in (1, 2, 3, 7):
        found = [shards.share_of(content, plan, Shard(index, count)) for index in range(count)]
        assert sum(map(len, found)) == len(cost)
        assert {key for each in found for key in each} == cost.keys()
        shares = [sum(cost[key] for key in each) for each in found]
        assert max(shares) - min(shares) <= 2 * max(cost.values())
    two = [{s.backbone for s in shards.share_of(content, plan, Shard(index, 2)).values()} for index in range(2)]
    assert two == [{"tiny:vit"}, {"tiny:cnn"}], "a share loads as few backbones as may be"
    many = [shards.share_of(content, plan, Shard(index, 99)) for index in range(99)]
    assert sum(map(len, many)) == len(cost)


def test_more_processes_than_cells_is_no_error(tmp_path: Path, toy_backbone: str) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    assert cli.main(["plan", toy_backbone, "--data", data, "--studies", "clean", "--out", str(out)]) == 0
    for index in range(3):
        assert cli.main(["run", str(out), "--shard", f"{index}/3", "--trust"]) == 0
    assert len(rows(out)) == 1


def test_several_requests_are_shared_as_one(tmp_path: Path, toy_backbone: str) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    for study, net in (("clean", toy_backbone), ("corner", toy_backbone), ("corner", f"{toy_backbone}?seed=1")):
        assert cli.main(["plan", net, "--data", data, "--studies", study, "--out", str(out)]) == 0
    for index in (1, 0):
        assert cli.main(["run", str(out), "--shard", f"{index}/2", "--trust"]) == 0
    assert len(rows(out)) == 1 + 4 + 4
    assert len(results.load(out).points) == 9


def test_a_share_of_other_contents_is_refused(tmp_path: Path, toy_backbone: str, capsys: Any) -> None:
    out, data = tmp_path / "run", pictures(tmp_path / "a")
    assert cli.main(["plan", toy_backbone, "--data", data, "--studies", "clean", "--out", str(out)]) == 0
    before = (out / "plan.json").read_bytes()
    pictures(tmp_path / "a", grey=100)
    assert cli.main(["run", str(out), "--shard", "0/1", "--trust"]) == 2
    said = capsys.readouterr().err
    assert "1 cells of this share are other work here than where the run in" in said
    assert f"images of {data}" in said
    assert (out / "plan.json").read_bytes() == before


def test_warnings_of_every_process_are_kept(tmp_path: Path, toy_backbone: str) -> None:
    out = tmp_path / "run"
    data = [pictures(tmp_path / "a"), pictures(tmp_path / "b", grey=9)]
    for k, text in enumerate(data):
        Path(text.removeprefix("csv:")).parent.joinpath(f"{k}.png").write_bytes(b"broken")
    words = ["plan", toy_backbone, "--data", data[0], "--data", data[1], "--studies", "clean", "--out", str(out)]
    assert cli.main(words) == 0
    for index in (0, 1):
        assert cli.main(["run", str(out), "--shard", f"{index}/2", "--trust"]) == 0
    assert sorted(path.name for path in out.glob("warnings*")) == ["warnings.0-of-2.json", "warnings.1-of-2.json"]
    warned = results.load(out).warned
    assert [sum(f"{text}: 1 of 6 images cannot be read" in each for each in warned) for text in data] == [1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3/2", "with I from 0 to N - 1 and N at most 999,999, or auto. Got '3/2'. The first of four is 0/4"),
        ("0/1000000", "N at most 999,999"),
        ("٠/٢", "must read I/N"),
        ("0/2 ", "must read I/N"),
        ("2/2", "must read I/N"),
        ("0/0", "must read I/N"),
        ("-1/2", "must read I/N"),
        ("1", "must read I/N"),
        ("1/2/3", "must read I/N"),
        ("", "must read I/N"),
        ("0/99999999999999999999", "must read I/N"),
    ],
)
def test_what_is_no_share(text: str, message: str) -> None:
    with pytest.raises(VitalsError, match=message):
        shards.read(text)


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4"}, Shard(3, 4)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"}, Shard(3, 4)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, Shard(1, 2)),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "8"}, Shard(0, 8)),
        ({"RANK": "5", "WORLD_SIZE": "8"}, Shard(5, 8)),
        ({"SLURM_ARRAY_TASK_ID": "3", "RANK": "1", "WORLD_SIZE": "2"}, Shard(1, 2)),
    ],
)
def test_a_scheduler_says_which_share(
    environment: dict[str, str], found: Shard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", environment)
    assert shards.read("auto") == found


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"JOB_COMPLETION_INDEX": "0"},
        {"JOB_COMPLETION_INDEX": "", "JOB_COMPLETIONS": "4"},
        {"JOB_COMPLETION_INDEX": "-1", "JOB_COMPLETIONS": "4"},
        {"JOB_COMPLETION_INDEX": "9" * 7, "JOB_COMPLETIONS": "9" * 8},
        {"JOB_COMPLETION_INDEX": "9" * 5000, "JOB_COMPLETIONS": "9" * 5001},
        {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "0"},
    ],
)
def test_a_scheduler_that_does_not_say_it(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", environment)
    with pytest.raises(VitalsError, match=r"`--shard auto` needs .* in the environment. Got .* Or give --shard I/N"):
        shards.read("auto")


def test_a_plan_file_has_no_shares_before_it_is_planned(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "plan.toml").write_text('backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n')
    assert cli.main(["run", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "run"), "--shard", "0/2"]) == 2
    assert "then `vitals run DIR --shard 0/2` in every process" in capsys.readouterr().err
    asked = request.plan(["tiny:cnn"], ["shapes:test"], request.sections("clean"))
    planned(tmp_path / "other")
    with pytest.raises(VitalsError, match="A share is one of a request that was planned"):
        shards.share_of(requests.content_of(tmp_path / "other"), asked, Shard(0, 2))


def test_killed_shares_leave_the_rows_of_one_process(tmp_path: Path, whole: Any) -> None:
    """Three processes at once, one of them killed at a random moment; then the whole run goes on."""
    out = tmp_path / "run"
    planned(out)
    shutil.rmtree(out / "report.html", ignore_errors=True)
    command = [sys.executable, "-m", "visionvitals", "run", str(out), "--batch-size", "8", "--shard"]
    started = [subprocess.Popen([*command, f"{k}/3"], stderr=subprocess.DEVNULL) for k in range(3)]
    while not any((out / "store").glob("*/*/cell.json")) and started[1].poll() is None:
        time.sleep(0.05)
    started[1].send_signal(signal.SIGKILL)
    assert {process.wait() for process in started} <= {0, -signal.SIGKILL}
    assert cli.main(["run", str(out), "--batch-size", "8"]) == 0
    assert rows(out) == whole
    assert len(json.loads((out / "plan.json").read_text())["cells"]) == len(whole)


def test_the_clock_of_another_machine_decides_nothing(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report from a fast clock is written anew for a cell from a slow one; what is written now is not swept as of yesterday."""
    out = tmp_path / "run"
    planned(out)
    assert cli.main(["run", str(out), "--batch-size", "8"]) == 0
    assert folder.report_is_current(out)
    cell = next((out / "store").glob("clean/*/cell.json")).parent
    cell.rename(tmp_path / "cell")
    report = out / "report.html"
    report.unlink()
    build.build(results.load(out))
    os.utime(report, (2e9, 2e9))
    (tmp_path / "cell").rename(cell)
    for path in (cell / "cell.json", cell, cell.parent):
        os.utime(path, (1e9, 1e9))
    assert not folder.report_is_current(out)
    before = report.read_bytes()
    assert cli.main(["run", str(out), "--batch-size", "8"]) == 0
    assert report.read_bytes() != before
    assert folder.report_is_current(out)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    being_written = files.temporary_beside(out / "store" / "x.parquet")
    being_written.write_bytes(b"half")
    Store(out / "store").shelf.sweep()
    assert being_written.exists()


def test_requests_that_are_added_while_shares_run_are_shared_too(tmp_path: Path, whole: Any) -> None:
    """The second share sees a longer list than the first one did; what lies between them is measured by `vitals run DIR`."""
    one, out = tmp_path / "one", tmp_path / "run"
    more = ["plan", "tiny:cnn", "--data", "shapes:test?n=24", "--preset", "quick", "--studies", "shuffle"]
    for where, command in ((one, []), (out, ["--shard", "0/2"])):
        planned(where)
        assert cli.main(["run", str(where), "--batch-size", "8", *command]) == 0
        assert cli.main([*more, "--out", str(where)]) == 0
    assert cli.main(["run", str(out), "--batch-size", "8", "--shard", "1/2"]) == 0
    for where in (one, out):
        assert cli.main(["run", str(where), "--batch-size", "8"]) == 0
    assert rows(out) == rows(one)
    assert rows(out).keys() > whole.keys()


def test_requests_that_are_planned_at_the_same_moment_are_all_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reads what was asked before, waits long enough for all others to read it too, and writes: as calls from one script may."""
    names, out, real = ["clean", "corner", "shuffle"], tmp_path / "run", folder.refuse_another
    plans = [request.plan(["tiny:vit"], ["shapes:test?n=24"], request.sections(name)) for name in names]
    planned = [planner.make(plan, device=torch.device("cpu")) for plan in plans]

    def slow(*given: Any) -> Any:
        found = real(*given)
        time.sleep(0.2)
        return found

    monkeypatch.setattr(folder, "refuse_another", slow)
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda each: folder.claim(out, each, command=("vitals",)), planned))
    asked = [each["plan"]["studies"][0]["name"] for each in requests.each(requests.content_of(out))]
    assert sorted(asked) == names


def test_a_request_that_comes_while_a_run_is_cleaned_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real = tmp_path / "run", Store.remove_damaged
    planned(out)
    asked = request.plan(["tiny:vit"], ["shapes:test?n=24"], request.sections("shuffle"), preset="quick")
    more = planner.make(asked, device=torch.device("cpu"))
    coming = threading.Thread(target=lambda: folder.claim(out, more, command=("vitals",)))

    def meanwhile(store: Store) -> int:
        coming.start()
        coming.join(1.0)
        return real(store)

    monkeypatch.setattr(Store, "remove_damaged", meanwhile)
    status.clean(out)
    coming.join()
    names = [each["plan"]["studies"][0]["name"] for each in requests.each(requests.content_of(out))]
    assert "shuffle" in names


def test_a_plan_of_another_seed_does_not_come_under_the_folder(tmp_path: Path, capsys: Any) -> None:
    planned(tmp_path / "run")
    words = ["plan", "tiny:vit", "--data", "shapes:test?n=24", "--studies", "clean", "--out", str(tmp_path / "run")]
    assert cli.main([*words, "--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert "must stay comparable with each other. It has another:\n  seed: 0 there, 1 here" in said
    assert "Ask with the same, or give another --out" in said


def test_a_plan_that_was_cut_in_the_middle_is_said_and_nothing_of_it_is_lost(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "run"
    planned(out)
    assert cli.main(["run", str(out), "--shard", "0/2", "--batch-size", "8"]) == 0
    before, plan = rows(out), (out / "plan.json").read_bytes()
    (out / "plan.json").write_bytes(plan[:700])
    capsys.readouterr()
    more = ["plan", "tiny:vit", "--data", "shapes:test?n=24", "--studies", "clean", "--out"]
    for words in (["run", str(out)], ["run", str(out), "--shard", "1/2"], [*more, str(out)]):
        assert cli.main(words) == 2
        assert "plan.json must be JSON as visionvitals wrote it. Got: Unterminated string" in capsys.readouterr().err
    (out / "plan.json").write_bytes(plan)
    assert rows(out) == before


def test_a_share_that_does_not_exist_is_refused_before_anything_is_read(tmp_path: Path, capsys: Any) -> None:
    planned(tmp_path / "run")
    assert cli.main(["run", str(tmp_path / "run"), "--shard", "3/2"]) == 2
    assert (
        "`--shard` must read I/N with I from 0 to N - 1 and N at most 999,999, or auto. Got '3/2'."
        in capsys.readouterr().err
    )
    assert cli.main(["run", str(tmp_path / "run"), "--shard", "0/2", "--device", "cuda:77"]) == 2
    assert "`--device` must be one of this machine's (cpu, cuda, cuda:N, mps). Got 'cuda:77'" in capsys.readouterr().err
    assert cli.main(["run", str(tmp_path / "run"), "--shard", "0/2", "--device", "cpu:2"]) == 2
    assert "A share runs on one device. Got 'cpu:2'. Give each of its processes its own." in capsys.readouterr().err
    assert not Store(tmp_path / "run" / "store").ids()
