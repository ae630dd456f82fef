"""The section for a model card: read by the hub's own parser, with the numbers of the run, and only those of its backbone."""

import math
from pathlib import Path

import fake_run
import pytest
from fake_run import backbone
from huggingface_hub import ModelCard

from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.report.card import card
from visionvitals.results import load, signs
from visionvitals.run import noted

DEIT = "timm:deit_tiny_patch16_224"


def written(root: Path, **how: object) -> Path:
    return fake_run.write(root / "run", n=120, pictures=0, limit=100, **how)  # type: ignore[arg-type]


def test_the_hub_reads_the_values_of_the_run(tmp_path: Path) -> None:
    out = written(tmp_path, data=("folder:imagenet/val", "hf:timm/mini-imagenet?split=test"))
    run = load(out)
    found = ModelCard(card(run, DEIT))
    assert found.data.model_name == DEIT
    results = found.data.eval_results or []
    expected = {
        (pair[1], column.sign.title): reading
        for column in signs.columns(run)
        for pair, reading in column.readings.items()
        if pair[0] == DEIT and not reading.at_chance and not math.isnan(reading.estimate.value)
    }
    assert {(r.dataset_name, r.metric_name) for r in results} == expected.keys()
    assert {r.dataset_type for r in results} == {"folder-imagenet-val", "timm/mini-imagenet"}
    for r in results:
        e = expected[r.dataset_name, str(r.metric_name)].estimate
        assert r.metric_value == pytest.approx(e.value, rel=1e-5)
        args = r.metric_args or {}
        assert (args["low"], args["high"], args["n"]) == (
            pytest.approx(e.low, rel=1e-5),
            pytest.approx(e.high, rel=1e-5),
            e.n,
        )
        assert r.task_type == "image-classification"
    assert {r.metric_type for r in results if r.metric_name == "clean top-1"} == {"accuracy"}
    assert len({(r.dataset_name, r.metric_type, r.metric_name) for r in results}) == len(results)


def test_the_section_says_what_limits_it_and_nothing_of_other_backbones(tmp_path: Path) -> None:
    out = written(
        tmp_path, warnings=("clean on timm:resnet50.tv_in1k: odd", "clean on timm:deit_tiny_patch16_224: mind")
    )
    noted.add(out, "Ship *it*.")
    text = ModelCard(card(load(out), "timm:deit_tiny_patch16_224")).text
    for said in (
        "| clean top-1, % | folder:imagenet/val |",
        "100 images, drawn by the seed",
        "seed 0",
        "preset default",
        "all 10 classes match outputs by name",
        "clean on timm:deit_tiny_patch16_224: mind",
        "vitals audit timm:deit_tiny_patch16_224 timm:resnet50.tv_in1k --data folder:imagenet/val --out 'runs/first one'",
        "Ship \\*it\\*.",
        "visionvitals 0.1.0",
        "shorter side resized to 256 px",
    ):
        assert said in text, said
    body = text.partition("### Command")[0]
    assert "resnet50" not in body


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    names = ("timm:vit|a`<b>\x1b[2J: *x*", 'timm:"quoted"\n- list #1')
    out = written(
        tmp_path, backbones=[backbone(name) for name in names], data=("folder:Bäume 🌲/: {a}",), studies=("clean",)
    )
    run = load(out)
    for name in run.backbones:
        found = ModelCard(card(run, name))
        assert found.data.model_name == name
        assert "<b>" not in found.text.replace("\\<b>", "").partition("### Command")[0]
        assert "\x1b" not in found.content


def test_what_means_nothing_is_no_result(tmp_path: Path) -> None:
    """A network of 2 outputs, whose clean accuracy is not above that of guessing."""
    card_of = backbone("timm:vit_chance", outputs=1)
    out = written(tmp_path, backbones=[card_of], studies=("clean", "occlusion"))
    found = ModelCard(card(load(out), "timm:vit_chance"))
    assert (
        "| kept at half, % | folder:imagenet/val | fraction 0.5, fill black, offset 0, grid 14x14 | – (no better than guessing"
        in found.text
    )
    assert not [r for r in found.data.eval_results or [] if r.metric_name == "kept at half"]


def test_the_command_prints_the_card_or_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = written(tmp_path, studies=("clean",))
    assert cli.main(["card", str(out), DEIT]) == 0
    printed = capsys.readouterr().out
    assert printed == card(load(out), DEIT)
    assert cli.main(["card", str(out), DEIT, "--out", str(tmp_path / "README.md")]) == 0
    assert ModelCard.load(tmp_path / "README.md").content == printed
    capsys.readouterr()
    assert cli.main(["card", str(out), "timm:deit_tiny_patch16_22"]) == 2
    assert f"Did you mean {DEIT}" in capsys.readouterr().err


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    out = written(tmp_path, measured=3)
    text = card(load(out), DEIT)
    assert "of the plan not measured yet" in text
    with pytest.raises(VitalsError, match="None of its cells is measured yet"):
        card(load(out), "resnet50.tv_in1k")
