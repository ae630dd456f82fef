"""The command line: light, exact in its exit codes, and every message says what to do next."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import visionvitals
from visionvitals import cli
from visionvitals.results import load, numbers
from visionvitals.run import devices, keeping
from visionvitals.run.progress import duration, meter
from visionvitals.run.provenance import checkout, versions

HEAVY = ("torch", "timm", "torchvision", "pyarrow", "altair", "pydantic", "jinja2", "transformers", "datasets")
Vitals = Callable[..., tuple[int, str, str]]


@pytest.fixture
def vitals(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Vitals:
    """Runs a command in this process, without the report, and gives its exit code, output and errors."""
    monkeypatch.setattr(cli, "_finish", lambda out: print(f"Report: {out / 'report.html'}"))

    def call(*words: object) -> tuple[int, str, str]:
        code = cli.main([str(word) for word in words])
        found = capsys.readouterr()
        return code, found.out, found.err

    return call


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, toy_backbone: str, toy_images: str, toy_study: str) -> Path:
    """A run folder of two backbones, with its report."""
    out = tmp_path_factory.mktemp("runs") / "two"
    words = ("audit", toy_backbone, f"{toy_backbone}?seed=1", "--data", toy_images, "--out", str(out))
    assert cli.main([*words, "--studies", f"clean,{toy_study}"]) == 0
    return out


def loaded(*words: str) -> set[str]:
    """What a command imports, of the heavy ones."""
    code = f"import sys; from visionvitals.cli import main; main({list(words)!r}); print('LOADED', *sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {name for name in out.rpartition("LOADED")[2].split() if name in HEAVY}


@pytest.mark.parametrize("words", [("--help",), ("audit", "--help"), ("--version",), ("list",)], ids=" ".join)
def test_looking_around_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    assert loaded(*words) == set()


def test_reading_a_run_loads_no_torch(finished: Path) -> None:
    assert loaded("status", str(finished)) == set()
    assert loaded("table", str(finished)) <= {"pyarrow"}
    assert not loaded("report", str(finished)) & {"torch", "timm", "torchvision", "transformers"}


def test_an_audit_ends_with_the_vital_signs_and_the_report(
    tmp_path: Path, toy_backbone: str, toy_images: str, toy_study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "audit",
        toy_backbone,
        "--data",
        toy_images,
        "--out",
        str(tmp_path / "run"),
        "--studies",
        f"clean,{toy_study}",
    ]
    assert cli.main(words) == 0
    found = capsys.readouterr()
    assert "clean top-1, %" in found.out
    assert "with noise, %" in found.out
    assert found.out.rstrip().endswith(f"Report: {tmp_path / 'run' / 'report.html'}")
    assert (tmp_path / "run" / "report.html").is_file()
    assert "5 cells measured, 0 found from before, 0 failed" in found.err
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["command"] == ["vitals", *words]


def test_the_same_command_again_and_run_with_the_folder_resume(
    tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str
) -> None:
    words = ("audit", toy_backbone, "--data", toy_images, "--out", tmp_path / "run", "--studies", "clean")
    assert vitals(*words)[0] == 0
    for again in (words, ("run", tmp_path / "run"), ("run", tmp_path / "run", "--batch-size", "3")):
        code, _, err = vitals(*again)
        assert code == 0
        assert "0 cells measured, 1 found from before" in err


def test_a_plan_file_runs(tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str) -> None:
    plan = tmp_path / "p.toml"
    plan.write_text(f'backbones = ["{toy_backbone}"]\ndata = ["{toy_images}"]\nstudies = ["clean"]\n')
    assert vitals("run", plan, "--out", tmp_path / "run")[0] == 0
    code, _, err = vitals("run", plan)
    assert code == 2
    assert "`--out` must name the run folder" in err
    code, _, err = vitals("plan", plan, "--seed", "1")
    assert code == 2
    assert "A plan file takes no further options. Got '--seed'" in err


@pytest.mark.parametrize("option", ["--engine", "--address", "--workers", "--reuse"])
def test_plan_takes_no_option_that_it_would_ignore(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "tiny:vit", "--data", "shapes:test?n=8", "--studies", "clean", option, "ray"]) == 2
    assert f"Unknown option: {option}" in "".join(capsys.readouterr())


def test_plan_takes_several_devices_as_audit_does(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["plan", "tiny:vit", "--data", "shapes:test?n=8", "--studies", "clean", "--device", "cpu:2"]
    assert cli.main(words) == 0
    assert "of forward passes on cpu (" in " ".join("".join(capsys.readouterr()).split())


def test_plan_shows_cells_skips_and_time_and_keeps_nothing(
    tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = vitals("plan", toy_backbone, "--data", toy_images, "--studies", "clean,occlusion,shuffle")
    assert code == 0
    assert "skipped: 5 of shuffle" not in out  # `default` asks for what divides the input
    assert "occlusion" in out
    assert "skipped: occlusion, 16 of linear: `fill = token` needs patch tokens" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert "forward passes on cpu" in out
    assert "images/s" in out
    assert list(tmp_path.iterdir()) == []


def test_a_failed_cell_makes_the_exit_code_one(
    tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str, toy_study: str
) -> None:
    plan = tmp_path / "p.toml"
    plan.write_text(
        f'backbones = ["{toy_backbone}"]\ndata = ["{toy_images}"]\n[[studies]]\nname = "{toy_study}"\nstrength = [0.5, 13]\n'
    )
    code, _, err = vitals("run", plan, "--out", tmp_path / "run")
    assert code == 1
    assert "1 cell measured, 0 found from before, 1 failed" in err
    assert f"To try these again: vitals run {tmp_path / 'run'}" in err
    code, out, _ = vitals("status", tmp_path / "run")
    assert code == 1
    assert "ValueError: the toy study fails on purpose" in out
    assert f"1 cell to do: vitals run {tmp_path / 'run'}" in out


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(
    tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str, toy_study: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = keeping.measured
    count = 0

    def interrupted(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return measure(*args)

    words = ("audit", toy_backbone, "--data", toy_images, "--out", tmp_path / "run", "--studies", f"clean,{toy_study}")
    with monkeypatch.context() as patched:
        patched.setattr(keeping, "measured", interrupted)
        code, _, err = vitals(*words)
    assert code == 130
    assert f"Stopped. 2 of 5 cells are kept. To go on: vitals run {tmp_path / 'run'}" in err
    code, out, _ = vitals("status", tmp_path / "run")
    assert code == 0
    assert "3 cells to do" in out
    code, _, err = vitals("run", tmp_path / "run")
    assert code == 0
    assert "3 cells measured, 2 found from before" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("audit", "tiny:vit", "--data", "shapes:test", "--out", "X", "--studies", "oclusion"),
            "Did you mean occlusion",
        ),
        (("audit", "tin:vit", "--data", "shapes:test", "--out", "X"), "Did you mean tiny"),
        (("audit", "--data", "shapes:test", "--out", "X"), "must name a backbone"),
        (("audit", "tiny:vit", "--out", "X"), "Try `--data folder:PATH`"),
        (("status", "X"), "must hold a `plan.json`. Got 'X'. Name the folder"),
        (("table", "X"), "must hold `plan.json` or `store/`"),
        (("table",), "A run folder must be named"),
        (("run", "X.toml", "--out", "Y"), "must be a file that can be read"),
        (("run", "X.toml"), "Try `vitals run X.toml --out runs/1`"),
        (("list", "bakbones"), "Did you mean backbones"),
        (("list", "checkpoint:*"), "cannot list its models"),
        (("train", "tiny_vit", "--out", "X", "--set", "epochs"), "`--set` must read key=value"),
        (("train", "tiny_vit", "--out", "X", "--set", "epoch=1"), "Did you mean epochs"),
        (("audit", "tiny:vit", "--data", "shapes:test", "--out", "X", "--preset", "quik"), "quick"),
        (("audi",), "audit"),
        (("audit", "tiny:vit", "--limt", "3", "--out", "X"), "--limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_the_user_can_mend_is_a_sentence_and_exit_code_two(
    words: tuple[str, ...], message: str, vitals: Vitals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = vitals(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_numbers_that_cannot_be_compared_are_refused_before_anything_is_loaded(
    finished: Path, vitals: Vitals, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda name: pytest.fail("too late"))
    words = ("audit", toy_backbone, "--data", toy_images, "--out", finished, "--studies", "clean", "--limit", "5")
    code, _, err = vitals(*words)
    assert code == 2
    assert "must stay comparable" in err
    assert "limit: null there, 5 here" in err


def test_a_run_grows(
    tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second day: one more network, then one more study; only what is new is measured, and everything is in one report."""
    out, second = tmp_path / "run", f"{toy_backbone}?seed=1"
    here = ("--data", toy_images, "--out", out, "--device", "cpu")
    assert vitals("audit", toy_backbone, *here, "--studies", "clean")[0] == 0
    code, _, err = vitals("audit", second, *here, "--studies", "clean")
    assert code == 0
    assert "1 cell measured, 0 found from before" in err
    code, _, err = vitals("plan", toy_backbone, second, *here, "--studies", "clean,shuffle", "--preset", "quick")
    assert code == 0
    status = vitals("status", out)[1]
    assert "shuffle" in status
    assert f"vitals run {out}" in status
    code, _, err = vitals("run", out, "--device", "cpu")
    assert code == 0
    assert "2 found from before" in err, "the third request, whose clean cells are there"
    assert "Complete" in vitals("status", out)[1]
    run = load(out)
    assert {(p.backbone, p.study) for p in run.points} == {(b, s) for b in run.backbones for s in ("clean", "shuffle")}
    assert [command[1] for command in run.plan["commands"]] == ["audit", "audit", "plan"]
    monkeypatch.setattr(devices, "choose_device", lambda name: pytest.fail("nothing is left to do"))
    assert vitals("run", out)[0] == 0
    assert vitals("audit", second, *here, "--studies", "clean")[0] == 0
    whole = load(out)
    assert [whole.estimate(p, "top1") for p in whole.points] == [run.estimate(p, "top1") for p in run.points]


def test_table_prints_and_writes(finished: Path, vitals: Vitals, tmp_path: Path) -> None:
    code, out, _ = vitals("table", finished, "--metric", "top1")
    assert code == 0
    assert "cross_entropy" not in out
    assert out.count("metric top1") == 2
    code, out, _ = vitals("table", finished, "--csv", tmp_path / "t.csv", "--parquet", tmp_path / "t.parquet")
    assert code == 0
    assert out == f"24 rows in {tmp_path / 't.csv'}\n24 rows in {tmp_path / 't.parquet'}\n"
    assert (tmp_path / "t.csv").read_text().splitlines()[0].replace('"', "").split(",")[:3] == [
        "study",
        "backbone",
        "data",
    ]
    code, _, err = vitals("table", finished, "--metric", "top2")
    assert code == 2
    assert "Did you mean top1" in err
    code, _, err = vitals("table", finished, "--csv", tmp_path / "t.csv" / "t.csv")
    assert code == 2
    assert "Name another file" in err


def test_compare_is_paired(finished: Path, vitals: Vitals, toy_backbone: str) -> None:
    code, out, err = vitals("compare", finished, toy_backbone, f"{toy_backbone}?seed=1", "--metric", "top1")
    assert code == 0
    assert "b minus a on the same images" in out
    assert out.count("top-1 %") == 2, "the baseline, and the study's two strengths"
    assert out.count("   24\n") == 3, "a row of each condition"
    code, _, err = vitals("compare", finished, toy_backbone, f"{toy_backbone}?seed=2")
    assert code == 2
    assert "Did you mean" in err


def test_list_names_what_there_is(vitals: Vitals) -> None:
    code, out, _ = vitals("list", "studies")
    assert code == 0
    assert out.startswith("studies\n")
    assert ["occlusion", "PatchDrop:"] in [line.split()[:2] for line in out.splitlines()]
    listed = vitals("list", "backbones")[1]
    assert "    seed           of random weights, 0 where nothing is said" in listed.splitlines()
    assert {"backbones", "datasets", "studies", "recipes"} <= set(vitals("list")[1].splitlines())


def test_cache_shows_and_clears(vitals: Vitals, finished: Path) -> None:
    code, out, _ = vitals("cache")
    assert code == 0
    assert "toy_images.py:noise?n=24: 24 pictures" in out
    assert "vitals cache --clear" in out
    assert "MB freed" in vitals("cache", "--clear")[1]
    assert "toy_images" not in vitals("cache")[1]


def test_a_stop_before_there_is_a_plan_says_so(
    tmp_path: Path, vitals: Vitals, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any, **more: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("visionvitals.plan.planner.make", interrupted)
    code, _, err = vitals("audit", toy_backbone, "--data", toy_images, "--out", tmp_path / "run", "--studies", "clean")
    assert (code, (tmp_path / "run").exists()) == (130, False)
    assert "Stopped before anything was planned, so nothing is kept. Give the same command again." in err


def test_a_closed_pipe_is_no_error(finished: Path) -> None:
    command = f"{sys.executable} -m visionvitals table {finished} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_stops_changes_nothing_but_what_it_reads(
    finished: Path, tmp_path: Path, toy_backbone: str, toy_images: str
) -> None:
    """`vitals gate ... | head` said that a breach passes, and files were not written."""

    def unread(*words: object) -> int:
        reading, writing = os.pipe()
        os.close(reading)
        command = [sys.executable, "-m", "visionvitals", *map(str, words)]
        code = subprocess.run(command, stdout=writing, stderr=writing).returncode
        os.close(writing)
        return code

    names = list(load(finished).backbones)
    rules = f'[[rule]]\nsign = "clean top-1"\nat_least = 1.0\nbackbone = {names[0]!r}\n'
    (tmp_path / "rules.toml").write_text(rules)
    assert unread("gate", finished, "--rules", tmp_path / "rules.toml", "--junit", tmp_path / "j.xml") == 1
    assert unread("compare", finished, *names[:2], "--csv", tmp_path / "c.csv", "--html", tmp_path / "c.html") == 0
    assert unread("table", finished) == 0
    assert unread("table", tmp_path / "none") == 2
    words = ("audit", toy_backbone, "--data", toy_images, "--studies", "clean", "--device", "cpu")
    assert unread(*words, "--out", tmp_path / "run") == 0
    assert all((tmp_path / name).stat().st_size for name in ("j.xml", "c.csv", "c.html", "run/report.html"))


def test_progress_in_a_log_is_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visionvitals.run.progress.PLAIN_SECONDS", 0.0)
    with meter(cells=2, images=20) as state:
        with state.measuring():
            state.advance(5)
        state.busy = 2.0
        state.finish_cell(unmeasured=5)
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("0/2 cells, 5/20 images, ")
    assert last == "1/2 cells, 5/15 images, 2.5 images/s, 4 s left"


def test_the_time_left_is_told_from_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Half of the images are done, and a tenth of the work: the other half is an attack of 9 passes an image."""
    with meter(cells=2, images=20, passes=100.0) as state:
        state.advance(10)
        state.busy = 10.0
        assert state.line().endswith("10/20 images, 1.0 images/s, 1 min 30 s left")
        state.advance(10, 9.0)
        assert state.line().endswith("20/20 images, 2.0 images/s, 0 s left")


def test_durations_are_readable() -> None:
    assert [duration(s) for s in (0.2, 59.4, 61, 3599, 3600, 90061)] == [
        *("0 s", "59 s", "1 min 1 s", "59 min 59 s", "1 h 0 min", "25 h 1 min")
    ]


def test_values_are_written_for_people() -> None:
    assert [numbers.written(v) for v in (0.123456, float("nan"), None, 12345678, "x")] == [
        "0.1235",
        "",
        "",
        "12345678",
        "x",
    ]


def test_a_commit_is_that_of_our_own_checkout_only(tmp_path: Path) -> None:
    git = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull} | {
        f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }

    def call(*words: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, capture_output=True, env=os.environ | git)

    ours = tmp_path / "venv" / "visionvitals"
    ours.mkdir(parents=True)
    (ours / "__init__.py").write_text("")
    (tmp_path / "other").write_text("")
    call("init")
    call("add", "other")
    call("commit", "-m", "of another project")
    assert checkout(ours) == (None, False)
    call("add", "venv")
    call("commit", "-m", "ours")
    commit, dirty = checkout(ours)
    assert commit is not None
    assert len(commit) == 40
    assert not dirty
    (ours / "__init__.py").write_text("changed")
    assert checkout(ours) == (commit, True)


def test_versions_name_what_computes() -> None:
    assert versions()["visionvitals"] == visionvitals.__version__
    assert "torch" in versions()
