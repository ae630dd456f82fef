"""What a run folder from elsewhere may do: nothing, unless the user says so."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.plan import stamp
from visionvitals.plan.request import Plan, Section
from visionvitals.run import requests, trust

TRAP = """
from pathlib import Path
Path({marker!r}).touch()
"""


def begun(root: Path, toy_study: str) -> Path:
    """A run that this user began, of a study by path."""
    (root / "plan.toml").write_text(
        f'backbones = ["tiny:cnn"]\ndata = ["shapes:test?n=4"]\nstudies = [{{name = "{toy_study}", strength = 0.5, run = 0}}]\n'
    )
    assert cli.main(["run", str(root / "plan.toml"), "--out", str(root / "run"), "--device", "cpu"]) == 0
    return root / "run"


def foreign(run: Path, **changes: Any) -> None:
    """Another plan in a run folder."""
    content = json.loads((run / "plan.json").read_text())
    content["plan"] |= changes
    (run / "plan.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"backbones": ["timm:resnet50", "tiny:vit?classes=a.txt"], "data": ["folder:/a"], "studies": [{"name": "clean"}]}, []),
        ({"backbones": ["python:a.b:make?size=64"]}, ["python:a.b:make?size=64"]),
        ({"backbones": ["./x.py:net@w.pth"], "data": ["/a/y.py:noise?n=2"]}, ["./x.py:net@w.pth", "/a/y.py:noise?n=2"]),
        ({"studies": [{"name": "~/mine.py"}, {"name": "salient", "model": ["", "python:m:f"]}]}, ["~/mine.py", "python:m:f"]),
    ],
)  # fmt: skip
def test_what_counts_as_code(asked: dict[str, Any], code: list[str]) -> None:
    assert trust.code_of(asked) == code


def test_a_run_that_was_begun_here_goes_on_and_one_from_elsewhere_needs_trust(
    tmp_path: Path, toy_study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = begun(tmp_path, toy_study)
    assert cli.main(["run", str(run), "--device", "cpu"]) == 0
    shutil.copytree(run, tmp_path / "sent")
    capsys.readouterr()
    assert cli.main(["run", str(tmp_path / "sent"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert f"would execute:\n  {toy_study}\n" in said
    assert "`--trust`" in said
    assert cli.main(["run", str(tmp_path / "sent"), "--device", "cpu", "--trust"]) == 0
    assert cli.main(["run", str(tmp_path / "sent"), "--device", "cpu"]) == 2  # to trust once is not to have begun it


@pytest.mark.parametrize("kind", ["study", "backbone", "images", "factory", "module"])
def test_a_plan_that_was_changed_is_not_executed(
    tmp_path: Path, toy_study: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of the run does not help: it stands for the plan that was given here."""
    run = begun(tmp_path, toy_study)
    trap, marker = tmp_path / "trap.py", tmp_path / "executed"
    trap.write_text(TRAP.format(marker=str(marker)))
    monkeypatch.syspath_prepend(str(tmp_path))
    changes = {
        "study": {"studies": [{"name": str(trap)}]},
        "backbone": {"backbones": [f"{trap}:x"]},
        "images": {"data": [f"{trap}:x"]},
        "factory": {"backbones": [f"python:{trap}:make"]},
        "module": {"backbones": ["python:trap:make"]},
    }
    foreign(run, **changes[kind])
    with pytest.raises(VitalsError, match="was not begun here by you"):
        requests.read_plans(run, trusted=False)
    for words in (["run", "--device", "cpu"], ["status"], ["table"], ["report"]):
        cli.main([words[0], str(run), *words[1:]])
    assert not marker.exists()


def test_a_run_without_code_needs_no_trust(tmp_path: Path) -> None:
    plan = Plan(backbones=("tiny:vit",), data=("shapes:test?n=4",), studies=(Section(name="clean"),))
    assert trust.code_of(json.loads(json.dumps({"b": plan.backbones, "d": plan.data}))) == []
    words = ["tiny:vit", "--data", "shapes:test?n=4", "--studies", "clean", "--device", "cpu"]
    assert cli.main(["audit", *words, "--out", str(tmp_path / "run")]) == 0
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert cli.main(["run", str(tmp_path / "moved"), "--device", "cpu"]) == 0


def test_a_state_that_cannot_be_written_only_asks_for_trust(
    tmp_path: Path, toy_study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    run = begun(tmp_path, toy_study)
    assert cli.main(["run", str(run), "--device", "cpu"]) == 2


def test_a_stamp_executes_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "trap_package"
    package.mkdir()
    (package / "__init__.py").write_text(TRAP.format(marker=str(tmp_path / "executed")))
    (package / "inner.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    asked = Plan(backbones=("python:trap_package.inner:make",), data=("shapes:test",), studies=(Section(name="clean"),))
    before = stamp.stamp(asked)
    (package / "inner.py").write_text("a = 12\n")
    assert stamp.stamp(asked) != before
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "name",
    ["python:", "python::f", "python:a..b:f", "python:no_such.thing:f", f"folder:{'x' * 5000}", "folder:~nobody/x"],
)
def test_a_stamp_of_what_is_nowhere(name: str) -> None:
    asked = Plan(backbones=("tiny:vit",), data=(name,), studies=(Section(name="clean"),))
    assert len(stamp.stamp(asked)) == 64
