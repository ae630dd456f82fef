"""Published answers recounted, and three real networks on the 320 stimuli."""

import json
import os
from pathlib import Path

import pytest
import torch

from visionvitals import results
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.probes.shape_bias import ENTRY_CLASSES
from visionvitals.responses import csv_files, observers
from visionvitals.run import runner

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
CUES = DATA / "cue_conflict"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not CUES.is_dir(), reason="VISIONVITALS_REAL_DATA names no folder")]


def test_the_entry_classes_are_the_published_ones() -> None:
    published = json.loads((CUES / "entry_classes.json").read_text(encoding="utf-8"))
    assert {name: list(members) for name, members in ENTRY_CLASSES.items()} == published


def test_the_published_answers_recounted() -> None:
    found = observers.by_observer(csv_files.read(CUES / "responses"))
    biases = {name: round(observers.summary(trials).bias.value, 4) for name, trials in found.items()}
    assert biases == {
        "people": 0.9587,
        "alexnet": 0.2531,
        "resnet50": 0.2207,
        "resnet50-train-60-epochs": 0.8061,
        "vgg16": 0.0921,
    }
    people = observers.summary(found["people"])
    assert (round(people.bias.value * people.bias.n), people.bias.n, people.coverage.n) == (9236, 9634, 12000)
    assert round(people.class_mean.value, 4) == 0.9538
    assert round(observers.summary(found["resnet50"]).class_mean.value, 4) == 0.1951


@pytest.mark.slow
def test_a_real_network_on_the_stimuli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an independent script measured it, without a resize."""
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))
    squeezenet = f"torchvision:squeezenet1_1@{DATA}/weights/squeezenet1_1.pth?resize=224"
    section = Section(name="shape_bias", values={"token": ("output",)})
    asked = Plan(backbones=(squeezenet,), data=(f"cue_conflict:{CUES}",), studies=(section,))
    runner.execute(planner.make(asked, device=torch.device("cpu")), out=tmp_path / "run", device=torch.device("cpu"))
    run = results.load(tmp_path / "run")
    (pooled,) = [point for point in run.points if point.at == ("(all)",)]
    assert run.estimate(pooled, "shape_choice").value == pytest.approx(0.260, abs=0.006)
    assert run.estimate(pooled, "cue_coverage").n == 320
