"""A process a device: the rows of one process, each once, whatever dies on the way."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_shards import planned, rows, whole

from visionvitals import api, cli
from visionvitals.errors import VitalsError
from visionvitals.run import dealing, fleet, requests
from visionvitals.run.store import Store

__all__ = ["whole"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (None, [None]),
        ("cpu", ["cpu"]),
        ("cpu:1", ["cpu"]),
        ("cpu:3", ["cpu"] * 3),
        ("cuda:0,cuda:2", ["cuda:0", "cuda:2"]),
        ("cuda:1,cpu:2", ["cuda:1", "cpu", "cpu"]),
        ("cpu:2,cpu:2", ["cpu"] * 4),
    ],
)
def test_the_devices_of_an_option(name: str | None, found: list[str | None]) -> None:
    assert fleet.devices_of(name) == found


def test_all_is_every_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert fleet.devices_of("all") == ["cuda:0", "cuda:1"]
    assert fleet.devices_of("all,cpu") == ["cuda:0", "cuda:1", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(VitalsError, match="`--device all` needs a GPU"):
        fleet.devices_of("all")


@pytest.mark.parametrize(
    "name",
    ["cpu:0", "cpu:-1", "cpu:x", "cpu:²", "cpu:99999", "cpu,nonsense", "cpu,", "", "cuda:0,cuda:99", "cuda:-1", "meta"],
)
def test_a_device_that_is_not_there_is_said_before_anything_begins(tmp_path: Path, name: str, capsys: Any) -> None:
    words = ["audit", "tiny:vit", "--data", "shapes:test?n=8", "--studies", "clean", "--out", str(tmp_path / "run")]
    assert cli.main([*words, "--device", name]) == 2
    assert "`--device" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_processes_measure_the_rows_of_one(tmp_path: Path, whole: Any, capsys: Any) -> None:
    out = tmp_path / "run"
    words = ["audit", "tiny:vit", "tiny:cnn", "--data", "shapes:test?n=24", "--preset", "quick"]
    words += ["--studies", "clean,occlusion,corner", "--out", str(out), "--batch-size", "8"]
    assert cli.main([*words, "--device", "cpu:2"]) == 0
    said = capsys.readouterr()
    assert rows(out) == whole
    assert "] Loading tiny:cnn\n" in said.err, "a process says what it does"
    assert f"{len(whole)} cells measured, 0 found from before, 0 failed" in said.err
    assert "Report: " in said.out
    assert cli.main([*words, "--device", "cpu:2"]) == 0
    assert "0 cells measured" in capsys.readouterr().err


def test_a_process_that_dies_is_started_again(tmp_path: Path, whole: Any, capsys: Any) -> None:
    out = tmp_path / "run"
    planned(out)
    killed: list[int] = []

    def kill() -> None:
        """The first process that has begun, once."""
        while not killed:
            mine = subprocess.run(
                ["pgrep", "-P", str(os.getpid()), "-f", "visionvitals.run.worker"], capture_output=True, text=True
            )
            if mine.stdout and any((out / "store").glob("*/*/cell.json")):
                killed.append(int(mine.stdout.split()[0]))
                os.kill(killed[0], signal.SIGKILL)
            time.sleep(0.02)

    threading.Thread(target=kill, daemon=True).start()
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 0
    assert killed
    assert "died (-9) and is started again" in capsys.readouterr().err
    assert rows(out) == whole


def test_a_process_that_dies_every_time_is_given_up_and_the_others_measure_all(
    tmp_path: Path, whole: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    planned(out)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'process 2' in ' '.join(sys.orig_argv): os._exit(9)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 0
    said = capsys.readouterr().err
    assert said.count("died (9) and is started again") == dealing.RESTARTS
    assert "died (9) and is given up" in said
    assert rows(out) == whole


def test_an_error_that_nobody_foresaw_fails_its_cells_and_the_others_are_measured(
    tmp_path: Path, whole: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    planned(out)
    (tmp_path / "sitecustomize.py").write_text(
        "from visionvitals.run import runner\n\nreal = runner.execute\n\n\ndef execute(planned, **given):\n"
        "    if 'tiny:cnn' in planned.backbones:\n        raise RuntimeError('nobody foresaw this')\n"
        "    return real(planned, **given)\n\n\nrunner.execute = execute\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 1
    said = capsys.readouterr().err
    assert "Failed: clean on tiny:cnn, shapes:test?n=24: RuntimeError: nobody foresaw this" in said
    assert "died" not in said
    assert "Traceback" not in said
    names = {cell["id"]: cell["backbone"] for cell in requests.content_of(out)["cells"]}
    records = Store(out / "store").failures()
    assert sorted(record["id"] for record in records) == sorted(n for n, net in names.items() if net == "tiny:cnn")
    assert all("Traceback" in record["traceback"] for record in records)
    assert rows(out) == {name: found for name, found in whole.items() if names[name] == "tiny:vit"}
    monkeypatch.undo()
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 0
    assert rows(out) == whole


def test_processes_import_what_their_driver_does_and_not_what_lies_where_it_was_called(
    tmp_path: Path, whole: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As in a clone of timm: a folder of this name must not be taken for the library that is installed."""
    out = tmp_path / "run"
    planned(out)
    for name in ("timm", "PIL"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('another library')\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 0
    assert "died" not in capsys.readouterr().err
    assert rows(out) == whole


def test_ctrl_c_ends_every_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visionvitals", "audit", "tiny:vit", "tiny:cnn", "--data", "shapes:test?n=256"]
    command += ["--studies", "occlusion,clean", "--out", str(tmp_path / "run"), "--device", "cpu:2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as started:
        while not any((tmp_path / "run" / "store").glob("*/*/cell.json")):
            assert started.poll() is None
            time.sleep(0.1)
        os.kill(started.pid, signal.SIGTERM)
        out, _ = started.communicate(timeout=120)
    assert started.returncode == 143
    assert "Report so far" in out
    left = subprocess.run(["pgrep", "-f", str(tmp_path / "run")], capture_output=True, text=True)
    assert left.stdout == ""


NEVER = """{head}

def perturb(condition, batch, seed):
    import time
    open({marker!r}, "w").close()
    while True:
        time.sleep(1)
"""


def test_processes_end_in_the_middle_of_a_task_when_their_driver_is_killed(tmp_path: Path) -> None:
    head = (Path(__file__).parent.parent / "plugins" / "stripes.py").read_text().partition("\ndef perturb")[0]
    (tmp_path / "never.py").write_text(NEVER.format(head=head, marker=str(tmp_path / "begun")))
    command = [sys.executable, "-m", "visionvitals", "audit", "tiny:vit", "--data", "shapes:test?n=8", "--studies"]
    command += ["./never.py", "--preset", "quick", "--out", "run", "--device", "cpu:2"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path) as started:
        while not (tmp_path / "begun").exists():
            assert started.poll() is None
            time.sleep(0.1)
        started.kill()
    there, end = ["x"], time.monotonic() + 20
    while there and time.monotonic() < end:
        time.sleep(0.1)
        found = subprocess.run(["pgrep", "-f", f"{tmp_path}/run"], capture_output=True, text=True)
        there = found.stdout.split()
    for each in there:
        os.kill(int(each), signal.SIGKILL)
    assert not there


def test_what_lives_in_one_process_is_refused(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 4))
    net = api.backbone(module, name="flat", size=16, classes=["circle", "square", "triangle", "star"])
    with pytest.raises(VitalsError, match="What lives in one process cannot be measured by several"):
        api.audit(net, data="shapes:test?n=8", studies="corner", out=tmp_path / "run", device="cpu:2")
    shutil.rmtree(tmp_path, ignore_errors=True)


def test_several_devices_measure_what_is_asked_and_no_older_request(tmp_path: Path, capsys: Any) -> None:
    """As one device does: what was only planned before stays open, until `vitals run DIR`."""
    out = tmp_path / "run"
    planned(out)
    open_before = {cell["id"] for cell in requests.asked_of(requests.content_of(out))["cells"]}
    words = ["audit", "tiny:vit", "--data", "shapes:test?n=24", "--preset", "quick", "--studies", "shuffle"]
    assert cli.main([*words, "--out", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 0
    asked = {cell["id"] for cell in requests.asked_of(requests.content_of(out))["cells"]} - open_before
    assert set(Store(out / "store").ids()) == asked
    said = capsys.readouterr().err
    assert "] Loading tiny:vit\n" in said
    assert "Loading tiny:cnn" not in said, "only what is asked for is dealt out"
    assert cli.main(["run", str(out), "--batch-size", "8", "--device", "cpu:2"]) == 0
    assert set(Store(out / "store").ids()) == asked | open_before


def test_code_of_a_folder_from_elsewhere_is_trusted_once_for_all_processes(
    tmp_path: Path, toy_backbone: str, toy_images: str, capsys: Any
) -> None:
    words = ["plan", toy_backbone, f"{toy_backbone}?seed=1", "--data", toy_images, "--studies", "clean,corner"]
    assert cli.main([*words, "--out", str(tmp_path / "begun")]) == 0
    shutil.copytree(tmp_path / "begun", tmp_path / "moved")
    assert cli.main(["run", str(tmp_path / "moved"), "--device", "cpu:2"]) == 2
    assert "--trust" in capsys.readouterr().err
    assert cli.main(["run", str(tmp_path / "moved"), "--device", "cpu:2", "--trust"]) == 0
    assert "10 cells measured, 0 found from before, 0 failed" in capsys.readouterr().err
