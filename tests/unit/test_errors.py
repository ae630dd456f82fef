"""Bad input ends in one clear line: what is printed, what a user's file raises, what options, plans and recipes take."""

import csv
import dataclasses
import signal
from pathlib import Path

import pytest
import torch

from visionvitals import cli, registry, study
from visionvitals.datasets.base import reading
from visionvitals.errors import Terminated, VitalsError, as_text, blamed, escaped, near, require
from visionvitals.plan import plan_file, planner, request
from visionvitals.responses import csv_files
from visionvitals.training import checkpoints, recipe
from visionvitals.training.recipe import Recipe

RECIPE = Recipe(name="x", model="tiny:cnn", train="shapes:train", test="shapes:test")
STUDY = '''"""Asks nothing."""
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True)
class Condition:
    x: int = 0

def conditions(preset, size): return [Condition()]
def perturb(condition, batch, seed): return batch.images
'''


def said(*words: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(words) == 2
    return capsys.readouterr().err


def test_control_characters_are_spelled_out() -> None:
    assert escaped("a\x1b]0;t\x07\x9b\u202e\u2066\udcff\r") == r"a\x1b]0;t\x07\x9b\u202e\u2066\udcff\r"
    assert escaped("žluť 猫 🐎\n\t") == "žluť 猫 🐎\n\t"


def test_what_was_got_is_short_and_so_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(VitalsError, match=rf"^It must\. Got '{'x' * 199}\.\.\. \(5002 characters\)\.$"):
        require(False, "It must", "x" * 5_000)
    assert len(said("x\x1b[31m" * 5_000, capsys=capsys)) < 12_100  # each ESC is four characters when spelled out
    assert "\x1b" not in said("list", "\x1b[2J", capsys=capsys)


@pytest.mark.parametrize(
    ("words", "must"),
    [
        (("demo", "--batch-size", "1.5"), "`--batch-size` must be a whole number from 1 to 2147483647. Got '1.5'."),
        (("demo", "--workers", "0"), "`--workers` must be a whole number from 1 to 4096. Got '0'."),
        (("demo", "--workers", "9" * 5_000), "`--workers` must be a whole number from 1 to 4096."),
        (("audit", "x", "--out", "y", "--limit", "2.0"), "`--limit` must be a whole number from 1"),
        (("train", "x", "--out", "y", "--workers=-1"), "`--workers` must be a whole number from 0 to 4096. Got '-1'."),
        (("train", "x", "--out", "y", "--micro-batch", "0"), "`--micro-batch` must be a whole number from 1"),
        (("demo", "--workers", "1", "--workers", "1"), "--workers specified multiple times"),
        (("status", "n" * 300), "A run folder must hold a `plan.json`"),
        (("audit", "tiny:vit", "--data", "garbage", "--out", "y"), "Did you mean `folder:garbage`?"),
    ],
)
def test_a_bad_option_is_one_line(
    words: tuple[str, ...],
    must: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = said(*words, capsys=capsys)
    assert must in text
    assert text.splitlines()[-1].startswith("vitals: ")


def test_a_near_beginning_is_suggested_first() -> None:
    known = ["rdnet_tiny", "davit_tiny", "deit_tiny_patch16_224", *(f"other_{k}" for k in range(50))]
    assert near("deit_tinny", known).startswith("Did you mean deit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("code", "got"),
    [
        (b"x = 1\ndef (:\n", r"SyntaxError in .*mine\.py, line 2: invalid syntax"),
        (b"\nraise SystemExit(0)\n", r"SystemExit in .*mine\.py, line 2: 0"),
        (b"raise KeyboardInterrupt\n", r"KeyboardInterrupt in .*mine\.py, line 1\."),
        (b"class E(BaseException): pass\nraise E('x')\n", r"E in .*mine\.py, line 2: x"),
        (b"def f(): return f()\n\nf()\n", r"RecursionError in .*mine\.py, line 1"),
        (b"x = bytearray(1 << 60)\n", r"(MemoryError|OverflowError) in .*mine\.py, line 1"),
        (b"x = 1\0\n", "SyntaxError|ValueError"),
        (b"x = '\xff'\n", "SyntaxError"),
    ],
)
def test_whatever_a_file_raises_names_its_line(code: bytes, got: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(code)
    with pytest.raises(VitalsError, match=rf"must be importable\. Got ({got})"):
        registry.load("recipes", str(tmp_path / "mine.py"))


def test_a_stop_inside_of_a_plug_in_ends_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM became a failed cell, and the run went on."""
    (tmp_path / "stops.py").write_text(
        STUDY.replace("): return batch", "):\n  import signal; signal.raise_signal(signal.SIGTERM); return batch")
    )
    words = [
        "audit",
        "tiny:cnn",
        "--data",
        "shapes:test?n=4",
        "--studies",
        str(tmp_path / "stops.py"),
        "--device",
        "cpu",
    ]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 143
    assert "Stopped. 0 of 1 cells are kept." in capsys.readouterr().err
    assert not list((tmp_path / "run").rglob("*.failed.json"))
    with pytest.raises(Terminated), blamed("It must work"):
        signal.raise_signal(signal.SIGTERM)


def test_a_ctrl_c_goes_on_as_it_is() -> None:
    """Python raises it between two instructions, where there is no `raise`."""
    with pytest.raises(KeyboardInterrupt), blamed("It must work"):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ("def conditions(preset, size): raise SystemExit(3)", r"`conditions` of .* SystemExit in .*line \d+: 3"),
        ("def conditions(preset, size): return [1]", r"return a list of its `Condition`\. Got 1"),
        ("def conditions(preset, size): return None", r"must return a list\. Got none"),
        ("def conditions(preset, size):\n  while True: yield Condition()", r"must be at most 100,000"),
    ],
)
def test_the_conditions_of_a_study_file_are_checked(more: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(STUDY + more)
    with pytest.raises(VitalsError, match=match):
        study.load(tmp_path / "mine.py").conditions("quick", (8, 8))


@pytest.mark.parametrize(
    ("value", "match"),
    [("raise IndexError('x')", r"IndexError in .*line \d+: x"), ("return 5", r"sentence or None\. Got 5")],
)
def test_the_refusal_of_a_study_file_is_checked(value: str, match: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{STUDY}def refusal(condition, backbone, images): {value}")
    with pytest.raises(VitalsError, match=match):
        study.load(tmp_path / "mine.py").refusal(None, None, None)  # type: ignore[arg-type]


def test_a_product_of_too_many_conditions_is_refused() -> None:
    section = request.Section(
        name="shuffle", values={"run": tuple(range(1000)), "grid": tuple((k, k) for k in range(1000))}
    )
    with pytest.raises(VitalsError, match=r"at most 100,000 conditions\. Got 1000000"):
        planner.conditions(section, study.load("shuffle"), preset="quick", size=(8, 8))


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("seed = 2020-01-01", r"line 3: `seed` must be a word, .*Got the date 2020-01-01"),
        ("studies = [2020-01-01]", "`studies` must be a word"),
        ('studies = [{name = "attack", step = inf}]', r"`step` must be finite\. Got inf"),
        ("seed = " + "9" * 30, "at most 63 bits"),
        ("x = " + "[" * 40 + "]" * 40, "nested more than"),
        ("x = " + "[" * 5_000 + "]" * 5_000, "valid TOML"),
    ],
)
def test_what_toml_knows_and_a_plan_does_not(line: str, match: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(f'backbones = ["tiny:vit"]\ndata = ["shapes:test"]\n{line}\n')
    with pytest.raises(VitalsError, match=match):
        plan_file.read(path)


@pytest.mark.parametrize(
    ("key", "value", "must"),
    [
        ("size", "x", "whole number"), ("batch", True, "whole number"), ("epochs", 1.5, "whole number"), ("lr", "x", "finite number"),
        ("lr", float("nan"), "finite number"), ("mean", (0.5, "x", 0.5), "finite number"), ("model", 5, "a text"), ("flip", 1, "`True`"),
        ("precision", "int4", "one of float32, bfloat16, float16"), ("optimizer", "adam", "one of adamw, sgd"),
        ("interpolation", "x", "one of"), ("name", "\x1b[31m", "printable"),
    ],
)  # fmt: skip
def test_a_field_of_a_recipe_is_of_its_type(key: str, value: object, must: str) -> None:
    with pytest.raises(VitalsError, match=f"`{key}` must be .*{must}"):
        dataclasses.replace(RECIPE, **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [None, 5, [1], {}, {"identity": {}, "step": "x"}])
def test_a_checkpoint_of_something_else_is_refused(held: object, tmp_path: Path) -> None:
    torch.save(held, tmp_path / checkpoints.CHECKPOINT)
    with pytest.raises(VitalsError, match="must be the checkpoint of a training"):
        checkpoints.read(tmp_path, recipe.facts(RECIPE))


def test_names_in_a_csv_are_text_to_a_spreadsheet(tmp_path: Path) -> None:
    assert [as_text(name) for name in ("=1", "+x", "-x", "@x", "-0.5", "-inf", "+3", "a=b")] == [
        "'=1", "'+x", "'-x", "'@x", "-0.5", "-inf", "+3", "a=b",
    ]  # fmt: skip
    shown = csv_files.stimulus("cat1-boat2")
    assert shown is not None
    csv_files.write(tmp_path / "a.csv", "=cmd()", [(shown, "cat")])
    with (tmp_path / "a.csv").open() as file:
        assert next(csv.DictReader(file))["subj"] == "'=cmd()"


def test_json_of_another_type_is_refused(tmp_path: Path) -> None:
    for text in ("5", "[]", "{", "[" * 100_000):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(VitalsError, match=r"x\.json must"):
            reading.read_json(tmp_path / "x.json")
