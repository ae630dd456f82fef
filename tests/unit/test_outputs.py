"""What a network gives is looked at when it is loaded, on two fixed pictures, before a picture of the user is opened."""

from pathlib import Path

import pytest
import torch

from visionvitals import core, registry
from visionvitals.errors import VitalsError

FACTORY = """
import dataclasses
import torch
from torch import nn
from visionvitals import registry
from visionvitals.core import Preprocess

LOOK = Preprocess(size=(32, 32), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)

def channels(n):
    return nn.Sequential(nn.Conv2d(n, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)), LOOK

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 5)

    def forward(self, x):
        y = 10 * self.fc(x.mean((2, 3)))
        return OUT

class Pair(nn.Module):
    def forward(self, x, y):
        return x

def net():
    return Net(), LOOK

def one():
    return channels(1)

def four():
    return channels(4)

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 5)), LOOK

def pair():
    return Pair(), LOOK

def whole():
    spec = registry.parse("tiny:cnn", families=["tiny"])
    made = registry.load("backbones", "tiny").load(spec, device=torch.device("cpu"))
    return dataclasses.replace(made, card=dataclasses.replace(made.card, outputs=17, classes=None, class_names=None))
"""


def load(where: Path, function: str = "net", *, out: str = "y") -> core.Backbone:
    where.write_text(FACTORY.replace("OUT", out))
    spec = registry.parse(f"python:{where}:{function}", families=registry.names("backbones"))
    found = registry.load("backbones", "python").load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("y[:, 0]", r"logits of shape \(b, k\)\. Got \(1,\) for 1 image\."),
        ("y[:, :, None]", r"logits of shape \(b, k\)\. Got \(1, 5, 1\) for 1 image"),
        ("y[:, :0]", r"logits of shape \(b, k\)\. Got \(1, 0\) for 1 image"),
        ("y.mean(0, keepdim=True)", r"logits of shape \(b, k\)\. Got \(1, 5\) for 2 images"),
        ("y.t() if len(y) > 1 else y", r"logits of shape \(b, k\)\. Got \(5, 2\) for 2 images"),
        ("(y, y)", r"logits of shape \(b, k\)\. Got tuple"),
        ("{'out': y}", r"logits of shape \(b, k\)\. Got dict"),
        ("y.detach().numpy()", r"logits of shape \(b, k\)\. Got ndarray"),
        ("y * float('nan')", r"must be finite numbers\. Got NaN only, for 2 different pictures"),
        ("y.abs() / 0", r"must be finite numbers\. Got infinite ones only"),
        ("y + 0j", "must be real numbers"),
    ],
)
def test_what_are_no_logits_is_refused_when_it_is_loaded(out: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=said):
        load(tmp_path / "net.py", out=out)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("one", "pictures of 3 channels, red, green and blue. Got one that takes 1 "),
        ("four", "pictures of 3 channels, red, green and blue. Got one that takes 4 "),
        ("wide", r"cannot run on images of 32 x 32 pixels.*`\?size=`"),
        ("pair", r"must take one batch of images, \(b, 3, 32, 32\)\. Got TypeError"),
        ("whole", "card says 17 outputs, so it must give as many. Got 16"),
    ],
)
def test_what_a_network_takes_is_named(function: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(VitalsError, match=said) as refused:
        load(tmp_path / "net.py", function)
    assert ("size=" in str(refused.value)) == (function == "wide")


def test_logits_in_a_mapping_are_taken(tmp_path: Path) -> None:
    plain, named = load(tmp_path / "a.py"), load(tmp_path / "b.py", out="{'logits': y, 'loss': None}")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(named.logits(images), plain.logits(images))
    assert named.card.answers == plain.card.answers


@pytest.mark.parametrize(
    ("out", "note"),
    [
        ("y", ""),
        ("y.log_softmax(1)", ""),  # its cross-entropy is that of y
        ("y.softmax(1)", "sum to one; leave its softmax out"),
        ("(1000 * y).softmax(1)", "sum to one; leave its softmax out"),
        ("y.half().softmax(1)", "sum to one; leave its softmax out"),
        ("y.sigmoid()", "each lies between 0 and 1; leave its sigmoid out"),
    ],
)
def test_probabilities_are_noted(out: str, note: str, tmp_path: Path) -> None:
    found = [said for said in load(tmp_path / "net.py", out=out).card.notes if "probabilities" in said]
    assert len(found) == bool(note)
    assert all(said.endswith(note) for said in found)
