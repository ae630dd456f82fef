"""kill -9 at any moment loses at most the running cell; the resumed run equals the uninterrupted one, row for row."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from visionvitals.plan import plan_file, planner
from visionvitals.run import requests, runner, status
from visionvitals.run.store import Store

CPU = torch.device("cpu")
PLAN = """
backbones = ["{backbone}", "{backbone}?seed=1"]
data = ["{images}"]

[[studies]]
name = "{study}"
strength = [0.1, 0.2, 0.3, 0.4, 0.5]
run = [0, 1]

[[studies]]
name = "clean"
"""
CELLS = 2 * (5 * 2 + 1)


def start(*words: str) -> subprocess.Popen[bytes]:
    """A run in a process of its own that sleeps after every batch."""
    return subprocess.Popen(
        [sys.executable, "-m", "visionvitals", "run", *words, "--batch-size", "6", "--device", "cpu"],
        env=os.environ | {"VISIONVITALS_TOY_SLEEP": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(out: Path) -> int:
    return len(list(out.glob("store/*/*/cell.json")))


def rows(out: Path) -> dict[str, tuple[str, ...]]:
    """The names of every cell's parts, which hold the hash of what was written, order included."""
    return {cell.id: tuple(part["file"] for part in cell.facts["parts"]) for cell in Store(out / "store").cells()}


def written(out: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("store/*/*/cell.json")}


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is a posix signal")
def test_a_killed_run_resumes_to_the_same_rows(
    tmp_path: Path, toy_backbone: str, toy_images: str, toy_study: str
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN.format(backbone=toy_backbone, images=toy_images, study=toy_study))
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    process = start(str(plan), "--out", str(killed))
    deadline = time.monotonic() + 120
    while finished(killed) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output.decode()
    kept = written(killed)
    assert 3 <= len(kept) < CELLS
    (progress, _, _) = status.of(killed)
    assert sum(p.done for p in progress) == len(kept)
    assert sum(p.missing for p in progress) == CELLS - len(kept)

    for out, asked in ((killed, requests.read_plans(killed, trusted=True)[0]), (whole, plan_file.read(plan))):
        planned = planner.make(asked, device=CPU)
        outcome = runner.execute(planned, out=out, device=CPU, batch_size=6)
        assert outcome.failed == ()
        assert outcome.found == (len(kept) if out == killed else 0)

    assert len(rows(whole)) == CELLS
    assert rows(killed) == rows(whole)
    assert written(killed).items() >= kept.items(), "a finished cell was measured again"
