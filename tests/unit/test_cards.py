"""A card is remembered by all that it depends on: what changed is loaded, and the state of the cache changes no number."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visionvitals import source
from visionvitals.core import Backbone
from visionvitals.datasets.base.cache_folder import clear
from visionvitals.errors import VitalsError
from visionvitals.plan import cards, planner
from visionvitals.plan.request import Plan, Section
from visionvitals.run import runner

CPU = torch.device("cpu")
WEIGHTS = Path(source.PACKAGE) / "backbones" / "weights" / "tiny_vit.safetensors"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The spellings that were loaded, in order."""
    found: list[str] = []
    load = planner.load_backbone

    def noted(text: str, *, device: torch.device) -> Backbone:
        found.append(text)
        return load(text, device=device)

    monkeypatch.setattr(planner, "load_backbone", noted)
    return found


def copied(path: Path) -> Path:
    """Weights of our own, with an old time of writing."""
    shutil.copyfile(WEIGHTS, path)
    os.utime(path, (1e9, 1e9))
    return path


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written just now counts as settled, so that tests need not wait."""
    monkeypatch.setattr(cards, "SETTLED", -60.0)


def planned(*backbones: str, **how: Any) -> planner.Planned:
    plan = Plan(backbones=backbones, data=("shapes:test?n=8",), studies=(Section(name="clean"),))
    return planner.make(plan, device=CPU, **how)


@pytest.mark.parametrize(
    "text", ["tiny:vit", "tiny:cnn?crop=0.9", "timm:test_resnet?pretrained=false&size=64&model.num_classes=16"]
)
def test_a_network_is_loaded_once(text: str, loaded: list[str]) -> None:
    first, second = planned(text), planned(text)
    assert loaded == [text]
    assert (first.cells, first.skips, first.backbones, first.notes) == (
        second.cells, second.skips, second.backbones, second.notes,
    )  # fmt: skip
    assert first.backbones[text].answers == second.backbones[text].answers


def test_checkpoints_are_remembered(tmp_path: Path, loaded: list[str]) -> None:
    texts = [f"tiny:vit@{copied(tmp_path / 'a.safetensors')}", f"checkpoint:{copied(tmp_path / 'b@2.safetensors')}"]
    assert planned(*texts).backbones == planned(*texts).backbones
    assert loaded == texts


def test_code_of_the_user_is_loaded_each_time(toy_backbone: str, toy_images: str, loaded: list[str]) -> None:
    texts = (toy_backbone, "python:torchvision.models:shufflenet_v2_x0_5?size=64")
    assert [cards.depends(text, "cpu") for text in texts] == [None, None]
    plan = Plan(backbones=(toy_backbone,), data=(toy_images,), studies=(Section(name="clean"),))
    planner.make(plan, device=CPU)
    planner.make(plan, device=CPU)
    assert loaded == [toy_backbone] * 2


@pytest.mark.parametrize("text", [
    "timm:local-dir:/x", "timm:test_vit", "timm:test_vit?pretrained=false&model.pretrained_cfg=x", "hf:a/b", "memory:x",
    "torchvision:resnet18", "timm:test_vit?nope=1", "timm:no_such_network",
])  # fmt: skip
def test_what_cannot_be_known_is_not_remembered(text: str) -> None:
    assert cards.depends(text, "cpu") is None


def test_what_was_just_written_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within the tick of the disk's clock would go unseen."""
    text = f"tiny:vit@{copied(tmp_path / 'w.safetensors')}"
    assert cards.depends(text, "cpu") is not None
    monkeypatch.setattr(cards, "SETTLED", 60.0)
    assert cards.depends(text, "cpu") is None


def test_a_change_of_what_a_card_depends_on_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = copied(tmp_path / "w.safetensors")
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(map(str, range(16))))
    text = f"tiny:vit@{weights}?classes={classes}"
    keys = [cards.depends(text, "cpu"), cards.depends(text, "cuda:0")]
    os.utime(classes, (1e9, 1e9))
    keys.append(cards.depends(text, "cpu"))
    weights.touch()
    keys.append(cards.depends(text, "cpu"))
    monkeypatch.setattr(source, "computing", lambda: {"package": "another", "versions": {}})
    keys.append(cards.depends(text, "cpu"))
    assert None not in keys
    assert len({json.dumps(key, sort_keys=True) for key in keys}) == len(keys)


def test_a_speed_is_remembered_for_batches_that_are_not_larger(loaded: list[str]) -> None:
    assert planned("tiny:vit", rate=lambda _: 10.0, batch_size=4).rates == {"tiny:vit": 10.0}
    assert planned("tiny:vit", rate=lambda _: 99.0).rates == {"tiny:vit": 10.0}
    assert len(loaded) == 1
    assert planned("tiny:vit", rate=lambda _: 40.0, batch_size=32).rates == {"tiny:vit": 40.0}
    assert len(loaded) == 2
    assert planned("tiny:vit", rate=lambda _: 99.0, batch_size=4).rates == {"tiny:vit": 10.0}
    assert planned("tiny:vit").rates == {"tiny:vit": 10.0}


@pytest.mark.parametrize("damage", ["gone", "torn", "flipped", "a card of another", "folder", "deep"])
def test_the_state_of_the_cache_changes_no_plan(damage: str, cache: Path) -> None:
    first = planned("tiny:vit")
    [note] = (cache / "cards").iterdir()
    if damage == "gone":
        assert clear() > 0
    elif damage == "torn":
        note.write_bytes(note.read_bytes()[:-40])
    elif damage == "flipped":
        note.write_text(note.read_text().replace(first.backbones["tiny:vit"].digest, "0" * 64))
    elif damage == "deep":
        note.write_text("[" * 100_000)
    elif damage == "folder":
        note.unlink()
        note.mkdir()
    else:
        planned("tiny:cnn")
        other = next(path for path in (cache / "cards").iterdir() if path != note)
        note.write_bytes(other.read_bytes())
    again = planned("tiny:vit")
    assert (again.cells, again.backbones) == (first.cells, first.backbones)


def exchanged(path: Path) -> None:
    """Other weights in place: the same size, the same times of writing, the same inode."""
    before = path.stat()
    last = np.frombuffer(path.read_bytes()[-400:], dtype="<f4")
    with path.open("r+b") as file:
        file.seek(-400, os.SEEK_END)
        file.write(last[::-1].tobytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    same = [(s.st_size, s.st_mtime_ns, s.st_ino) for s in (before, after)]
    assert same[0] == same[1]


def test_weights_that_change_in_place_are_planned_anew(tmp_path: Path, loaded: list[str]) -> None:
    weights = copied(tmp_path / "w.safetensors")
    text = f"tiny:vit@{weights}"
    before = planned(text).backbones[text]
    exchanged(weights)
    after = planned(text).backbones[text]
    assert before.digest != after.digest
    assert after == planner.load_backbone(text, device=CPU).card


def test_a_change_that_no_time_shows_is_refused_when_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk without such times: nothing is kept under the card of other weights, and the next plan is right."""
    line = cards._line
    monkeypatch.setattr(cards, "_line", lambda path: [*line(path)[:2], 0, 0])
    weights = copied(tmp_path / "w.safetensors")
    text = f"tiny:vit@{weights}"
    before = planned(text)
    exchanged(weights)
    stale = planned(text)
    assert stale.backbones == before.backbones
    outcome = runner.execute(stale, out=tmp_path / "run", device=CPU)
    assert outcome.measured == 0
    assert len(outcome.failed) == 1
    assert "must stay what it was when planned" in outcome.failed[0]
    assert not list((tmp_path / "run").rglob("cell.json"))
    again = planned(text)
    assert again.backbones[text].digest != before.backbones[text].digest
    assert runner.execute(again, out=tmp_path / "new", device=CPU).measured == 1


def test_a_cache_that_cannot_be_written_costs_a_load_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loaded: list[str]
) -> None:
    (tmp_path / "file").touch()
    key = cards.depends("tiny:vit", "cpu")
    card = planner.load_backbone("tiny:vit", device=CPU).card
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "file"))
    cards.remember(key, cards.Remembered(card, {}))
    assert cards.recall(key) is None


def test_a_spelling_with_an_error_says_it_as_before(loaded: list[str]) -> None:
    with pytest.raises(VitalsError, match="no option `nope`"):
        planned("tiny:vit?nope=1")
