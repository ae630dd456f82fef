"""A finished run says so at once, and what changed since then is noticed: files by their stamp, code by digests, the rest by answers."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from visionvitals.errors import VitalsError
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.plan.stamp import stamp
from visionvitals.run import folder, runner

CPU = torch.device("cpu")
NETWORK = """
import torch
import {helper}
class Few(torch.nn.Module):
    def forward(self, x):
        return x[:, :, ::8, ::8].flatten(1)[:, :4] * {helper}.scale()
def build():
    return Few()
"""
SAYS = "import sys; from visionvitals import cli; code = cli.main(sys.argv[1:]); sys.exit(code or 7 * ('torch' in sys.modules))"


def asked(backbone: str, images: str) -> Plan:
    return Plan(backbones=(backbone,), data=(images,), studies=(Section(name="clean"),))


def measure(plan: Plan, out: Path) -> runner.Outcome:
    return runner.execute(planner.make(plan, device=CPU), out=out, device=CPU)


def test_a_finished_run_says_so_without_torch(tmp_path: Path, toy_backbone: str, toy_images: str) -> None:
    words = ["audit", toy_backbone, "--data", toy_images, "--studies", "clean", "--out", str(tmp_path / "run")]
    subprocess.run([sys.executable, "-m", "visionvitals", *words], check=True, capture_output=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = subprocess.run([sys.executable, "-c", SAYS, *words], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (again.returncode, "0 cells measured, 1 found from before" in again.stderr) == (0, True), again.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2  # 0.5 alone on a machine
    report = tmp_path / "run" / "report.html"
    report.write_text("<html>an older one</html>")
    subprocess.run([sys.executable, "-c", SAYS, *words], capture_output=True, check=False)
    assert "an older one" not in report.read_text(), "an older report is made again"


def test_a_picture_behind_a_table_that_changes_is_seen(tmp_path: Path) -> None:
    for k in range(3):
        Image.new("RGB", (8, 8), (k, 0, 0)).save(tmp_path / f"{k}.png")
    (tmp_path / "list.csv").write_text("path,label\n0.png,0\n1.png,1\n2.png,0\n")
    plan = asked("tiny:vit", f"csv:{tmp_path / 'list.csv'}")
    before = stamp(plan)
    assert stamp(plan) == before
    os.utime(tmp_path / "1.png", (1, 1))
    changed = stamp(plan)
    assert changed != before
    (tmp_path / "list.csv").unlink()
    assert stamp(plan) not in (changed, before), "a table that cannot be read ends nothing here"


def test_any_file_of_a_plan_changes_its_stamp(tmp_path: Path, toy_images: str) -> None:
    (tmp_path / "helper_a.py").write_text("def scale(): return 1.0\n")
    (tmp_path / "net.py").write_text("def build(): pass\n")
    (tmp_path / "classes.txt").write_text("a\n")
    plan = asked(f"python:{tmp_path / 'net.py'}:build?classes={tmp_path / 'classes.txt'}", f"folder:{tmp_path}")
    seen = {folder.stamp(plan)}
    for name in ("net.py", "classes.txt", "helper_a.py", "new.png"):
        (tmp_path / name).write_text("changed\n")
        seen.add(folder.stamp(plan))
    assert len(seen) == 5


def test_an_edited_forward_and_an_edited_helper_do_not_mix_with_what_was_measured(
    tmp_path: Path, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is in the digest; the second, in a file that the factory imports, is caught by the answers."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "helper_b.py").write_text("def scale(): return 1.0\n")
    net = tmp_path / "net.py"
    net.write_text(NETWORK.format(helper="helper_b"))
    plan = asked(f"python:{net}:build?size=32&order=as-is", toy_images)
    assert measure(plan, tmp_path / "run").measured == 1
    assert measure(plan, tmp_path / "run").found == 1
    net.write_text("# a comment\n" + NETWORK.format(helper="helper_b"))
    assert measure(plan, tmp_path / "run").found == 1, "a comment changes nothing"
    net.write_text(NETWORK.format(helper="helper_b").replace("* helper_b", "* -helper_b"))
    assert measure(plan, tmp_path / "run").measured == 1, "the old cell is superseded"
    net.write_text(NETWORK.format(helper="helper_b"))
    sys.modules["helper_b"].scale = lambda: -1.0  # type: ignore[attr-defined]
    with pytest.raises(VitalsError, match=r"(?s)its answers differ by .* of the largest.*must not mix"):
        measure(plan, tmp_path / "run")


def test_a_run_of_the_first_edition_is_refused_with_what_to_do(
    tmp_path: Path, toy_backbone: str, toy_images: str
) -> None:
    (tmp_path / "plan.json").write_text(json.dumps({"schema": 1, "plan": {}, "cells": [], "skips": []}))
    with pytest.raises(VitalsError, match=r"(?s)another edition of visionvitals.*Give another --out.*measured again"):
        measure(asked(toy_backbone, toy_images), tmp_path)
