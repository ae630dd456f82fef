"""The notebook in docs runs, and a run shows its progress and itself in a kernel."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_the_notebook_is_small_and_keeps_what_it_showed() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    for cell in CELLS:
        if cell["cell_type"] == "code":
            assert cell["outputs"], "every cell shows something"
            assert not [out for out in cell["outputs"] if out["output_type"] == "error"]
    assert str(Path.home()) not in NOTEBOOK.read_text(encoding="utf-8")


def test_its_cells_run_and_print_what_stands_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To write it again: run all cells and save. Digits may differ from machine to machine."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for cell in (cell for cell in CELLS if cell["cell_type"] == "code"):
        exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
        printed = capsys.readouterr().out
        shown = "".join(line for out in cell["outputs"] if out.get("name") == "stdout" for line in out["text"])
        assert "Loading" in shown or re.sub(r"[\d.,]+", "#", printed) == re.sub(r"[\d.,]+", "#", shown)
    assert names["own"].signs()[0]["clean top-1"].value == 1.0
    assert [outcome.status for outcome in names["verdict"].outcomes] == ["undecided", "pass", "undecided", "breach"]
    assert (tmp_path / "runs" / "notebook" / "report.html").is_file()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_kernel_shows_progress_and_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="needs the packages of the group dev")
    nbformat = pytest.importorskip("nbformat")
    source = 'import visionvitals as vv\nrun = vv.audit("tiny:cnn", data="shapes:test?n=16", studies="clean,occlusion", preset="quick", out="run")\nrun'
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    nbclient.NotebookClient(book, timeout=250, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out.data for out in book.cells[0].outputs if "data" in out]
    assert len(shown) == 2, "one bar that is drawn anew, and the run"
    assert shown[0]["text/html"].startswith('<progress max="1" value="1.000"></progress> 5/5 cells, 80/80 images')
    assert "<th>tiny:cnn</th>" in shown[1]["text/html"]
    assert "<svg" in shown[1]["text/html"]
    printed = "".join(out.text for out in book.cells[0].outputs if out.get("name") == "stdout")
    assert "Loading tiny:cnn" in printed
