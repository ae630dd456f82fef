"""A person's decision stays with the run and is shown where the run is."""

import json
from pathlib import Path

import fake_run
import pytest

from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.report import build
from visionvitals.results import gate, load, rules, verdicts
from visionvitals.run import folder, noted

TEXT = "Ship it: <b>halves</b> are seen.\nAsk again in May."
LINE = "Ship it: <b>halves</b> are seen. Ask again in May."


def test_a_note_is_shown_by_status_the_report_and_the_gate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = fake_run.write(tmp_path / "run", n=20, pictures=0)
    build.build(load(out))
    monkeypatch.setattr(noted, "now", lambda: "2026-11-29T06:10:00+00:00")
    assert cli.main(["note", str(out)]) == 0
    assert capsys.readouterr().out.startswith("No note yet")
    assert folder.report_is_current(out)
    assert cli.main(["note", str(out), f"  {TEXT}\n"]) == 0
    assert not folder.report_is_current(out)
    assert cli.main(["note", str(out), "No: wait."]) == 0
    assert [note.text for note in noted.read(out)] == [TEXT, "No: wait."]
    capsys.readouterr()
    assert cli.main(["note", str(out)]) == 0
    assert capsys.readouterr().out == f"2026-11-29 06:10 UTC\n  {TEXT}\n2026-11-29 06:10 UTC\n  No: wait.\n"
    cli.main(["status", str(out)])
    assert f"Noted on 2026-11-29 06:10 UTC: {LINE}\n" in capsys.readouterr().out
    page = build.build(load(out)).read_text(encoding="utf-8")
    assert "Noted on 2026-11-29 06:10 UTC: Ship it: &lt;b&gt;halves&lt;/b&gt; are seen. Ask again in May." in page
    (tmp_path / "rules.toml").write_text('[[rule]]\nsign = "clean top-1"\nat_least = 0.5\n')
    run = load(out)
    verdict = gate.judge(run, rules.read(tmp_path / "rules.toml", rules.known(run)))
    kept = [{"time": "2026-11-29T06:10:00+00:00", "text": text} for text in (TEXT, "No: wait.")]
    assert json.loads(verdicts.as_json(verdict))["notes"] == kept
    assert f"\nNoted on 2026-11-29 06:10 UTC: {LINE}\n" in verdicts.as_markdown(verdict)


@pytest.mark.parametrize(
    "content", ["[", '{"a": 1}', '[{"time": "today", "text": "x"}]', '[{"time": "2026-11-29"}]', "[1]"]
)
def test_damaged_notes_cost_no_reader_its_work_and_are_not_written_over(tmp_path: Path, content: str) -> None:
    out = fake_run.write(tmp_path / "run", n=20, pictures=0, studies=("clean",))
    (out / "notes.json").write_text(content)
    with pytest.raises(VitalsError, match=r"notes.json must be JSON as visionvitals wrote it"):
        noted.add(out, "yes")
    assert (out / "notes.json").read_text() == content
    assert "Notes left out: " in build.build(load(out)).read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", " \n", "x" * 4001])
def test_a_note_says_something_and_is_no_book(tmp_path: Path, text: str) -> None:
    out = fake_run.write(tmp_path / "run", n=20, pictures=0, studies=("clean",))
    with pytest.raises(VitalsError, match="A note must have 1 to 4,000 characters"):
        noted.add(out, text)
    assert not (out / "notes.json").exists()


def test_a_note_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=r"must hold a `plan.json`"):
        noted.add(tmp_path, "yes")
