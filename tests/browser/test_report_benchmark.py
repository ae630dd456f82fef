"""The benchmark of the report, at a small size: what it builds is a whole run, and its limits hold."""

import sys
from pathlib import Path

import chromium
import pytest

sys.path.append(str(Path(__file__).parents[1] / "unit"))
import benchmark_files

from visionvitals.report import build
from visionvitals.results import load

pytestmark = pytest.mark.skipif(not chromium.PROGRAM.is_file(), reason=f"needs {chromium.PROGRAM}")


def test_an_invented_run_becomes_a_page_within_the_limits(tmp_path: Path) -> None:
    results, report = benchmark_files.loaded("results"), benchmark_files.loaded("report")
    made = list(report.cells(3, 3, 200))
    results.build(tmp_path, made, report.records(3), shown=report.pictures(made))
    run = load(tmp_path)
    assert (len(run.backbones), len(run.studies), len(run.finished)) == (3, 3, 3 * (1 + 2 * 18))
    clean = run.of("clean")[0]
    assert run.estimate(clean, "top1").n == 200
    assert len(clean.cells[0].facts["exhibits"]) == report.PICTURES
    found = report.in_browser(build.build(run), 3)
    assert 300_000 < found.size < report.BYTES
    assert 0 < found.usable < found.drawn
    assert f"| first screen has answered | {found.usable:.2f} s | 2 s |" in report.table(found)
