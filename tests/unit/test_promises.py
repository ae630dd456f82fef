"""docs/promises.md, held: a run folder of an earlier version is read, with the same numbers, and its cells are those that are asked today."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

import visionvitals as vv
from visionvitals import backbones, cli, datasets, study
from visionvitals.plan import identity, planner, request
from visionvitals.run import requests, store

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "tests" / "golden" / "run_0_2"
"""`vitals audit tiny:vit --data "shapes:test?n=12" --studies clean,occlusion --preset quick`, as version 0.2.0 wrote it."""
THEN = ROOT / "tests" / "golden" / "run_0_2.csv"
"""`vitals table` of it, by the same version."""
BETTER = ("low", "high", "std_over_items", "std_over_runs")
PAGE = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return Path(shutil.copytree(KEPT, tmp_path / "run"))


def numbers(file: Path) -> list[tuple[dict[str, str], float]]:
    """What each row of a table is of, and its value; intervals may be computed by a better method."""
    with file.open(encoding="utf-8") as rows:
        return [
            ({k: v for k, v in row.items() if k not in (*BETTER, "value")}, float(row["value"]))
            for row in csv.DictReader(rows)
        ]


def test_a_run_folder_of_an_earlier_version_is_read_with_its_numbers(kept: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["status", str(kept)]) == 0
    assert "Complete" in capsys.readouterr().out
    assert cli.main(["table", str(kept), "--csv", str(kept / "now.csv")]) == 0
    (of_now, now), (of_then, then) = (zip(*numbers(file), strict=True) for file in (kept / "now.csv", THEN))
    assert of_now == of_then
    assert now == pytest.approx(then, rel=1e-12)


def test_it_is_reported_again(kept: Path) -> None:
    assert cli.main(["report", str(kept)]) == 0
    assert "tiny:vit" in (kept / "report.html").read_text(encoding="utf-8")


def test_its_cells_are_those_that_the_same_command_asks_for_today() -> None:
    """Else every stored result is orphaned. A study whose VERSION rose on purpose leaves this test."""
    asked = request.plan(["tiny:vit"], ["shapes:test?n=12"], request.sections("clean,occlusion"), preset="quick")
    planned = planner.make(asked, device=torch.device("cpu"))
    there = json.loads((KEPT / "plan.json").read_text(encoding="utf-8"))
    assert {cell["id"] for cell in there["cells"]} == planned.by_id.keys()


def test_the_page_names_what_is_public() -> None:
    for module in (vv, study, backbones, datasets):
        head = f"| `{module.__name__}` |"
        line = next(each for each in PAGE.splitlines() if each.startswith(head))
        assert set(re.findall(r"`(\w+)`", line.removeprefix(head))) == set(module.__all__)


def test_the_page_says_the_present_formats() -> None:
    found = re.findall(r"(plan\.json|cell\.json|identity) (\d+)", PAGE)
    assert dict(found) == {
        "plan.json": str(requests.SCHEMA),
        "cell.json": str(store.SCHEMA),
        "identity": str(identity.IDENTITY_VERSION),
    }
