"""Blocks are stages on the way from the picture to the logits, certified when a network is loaded; all else is not offered."""

from pathlib import Path

import pytest
import torch

from visionvitals import core, registry

RANDOM = "?pretrained=false"
HEAD = """
import torch
from torch import nn
from visionvitals.core import Preprocess

LOOK = Preprocess(size=(16, 16), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
"""
BRANCH = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.one, self.side = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 8, 2, 2), nn.Conv2d(8, 8, 2, 2)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.one(self.stem(x))
        side = self.side(x)
        return self.fc(x.mean((2, 3)) + WEIGHT * side.mean((2, 3)))


def make():
    return Net(), LOOK


def softmax():
    return nn.Sequential(Net(), nn.Softmax(1)), LOOK
"""


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


def names(backbone: core.Backbone) -> list[str]:
    return [b.name for b in backbone.inside.layout.blocks] if backbone.inside and backbone.inside.layout else []


@pytest.mark.parametrize("weight", ["0", "1"])
def test_a_branch_beside_the_way_is_no_stage(tmp_path: Path, weight: str) -> None:
    (tmp_path / "net.py").write_text(HEAD + BRANCH.replace("WEIGHT", weight))
    found = load(f"python:{tmp_path}/net.py:make")
    assert names(found) == ["one"]
    assert (found.card.blocks, "maps" in found.card.provides) == (1, True)
    assert any("1 of its 2 blocks are not offered: `side` is a side branch" in note for note in found.card.notes)


@pytest.mark.parametrize(
    ("spelling", "note"),
    [
        (f"timm:convit_tiny{RANDOM}&model.img_size=64&size=64", "gives the same for two different pictures"),
        (f"timm:xcit_nano_12_p16_224{RANDOM}&model.img_size=64&size=64", "of its weights lie outside"),
        (f"timm:levit_128s{RANDOM}", "88% of its weights lie outside"),
    ],
)
def test_relative_positions_and_stems_are_no_blocks(spelling: str, note: str) -> None:
    card = load(spelling).card
    assert card.blocks == 0
    assert not {"maps", "tokens", "readout"} & set(card.provides)
    assert any(note in said for said in card.notes)


def test_a_part_with_two_names_is_no_crash() -> None:
    assert load(f"timm:coat_lite_tiny{RANDOM}").card.blocks < 4, "its position encodings are side branches"


def test_outputs_that_are_probabilities_are_noted(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(HEAD + BRANCH.replace("WEIGHT", "0"))
    look = "its outputs look like probabilities"
    assert any(look in note for note in load(f"python:{tmp_path}/net.py:softmax").card.notes)
    assert not any(look in note for note in load(f"python:{tmp_path}/net.py:make").card.notes)
