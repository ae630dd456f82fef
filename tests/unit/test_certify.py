"""Blocks are stages on the way from the picture to the logits, certified when a network is loaded; all else is not offered."""

from pathlib import Path
from typing import Any

import pytest
import torch

from visionvitals import core, registry
from visionvitals.errors import VitalsError
from visionvitals.probes import tokens

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


SMALL = f"{RANDOM}&model.img_size=64&size=64"


@pytest.mark.parametrize(
    ("spelling", "kind", "blocks", "shapes"),
    [
        (f"timm:convit_tiny{SMALL}", "tokens", [f"blocks.{k}" for k in range(10)], [(16, 192)] * 10),
        (f"timm:xcit_nano_12_p16_224{SMALL}&model.depth=4", "tokens", [f"blocks.{k}" for k in range(4)], [(16, 128)] * 4),
        (f"timm:levit_128s{RANDOM}", "maps", [f"stages.{k}" for k in range(3)], [(128, 14, 14), (256, 7, 7), (384, 4, 4)]),
        (f"timm:pit_ti_224{RANDOM}", "maps", [f"transformers.{k}" for k in range(3)],
         [(64, 27, 27), (128, 14, 14), (256, 7, 7)]),
        (f"timm:twins_svt_small{SMALL}", "maps", ["blocks.0.1", "blocks.1.1", "blocks.2.9", "blocks.3.3"],
         [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]),
        (f"timm:coat_lite_tiny{SMALL}", "maps", [f"serial_blocks{k}.1" for k in range(1, 5)],
         [(64, 16, 16), (128, 8, 8), (256, 4, 4), (320, 2, 2)]),
    ],
)  # fmt: skip
def test_sequences_of_any_transformer_are_blocks_and_stems_are_none(
    spelling: str, kind: str, blocks: list[str], shapes: list[tuple[int, ...]]
) -> None:
    """Neither the projection of relative positions (ConViT) nor stem convolutions (LeViT) nor a part with two names (CoaT)."""
    found = load(spelling)
    assert kind in found.card.provides
    assert names(found) == blocks
    images = torch.rand(2, 3, *found.card.preprocess.size, generator=torch.Generator().manual_seed(0))
    where = tokens.layout(found)
    seen, logits = tokens.record(found, images, where)
    assert [tuple(x.shape[1:]) for x in seen] == shapes
    assert all(not torch.allclose(x[0], x[1]) for x in seen)
    for k in range(len(seen)):
        with tokens.entering(where, k, lambda x: x.flip(0)):
            assert not torch.allclose(found.logits(images), logits, atol=1e-5)


def test_a_map_kept_as_a_sequence_stands_row_by_row() -> None:
    """What is seen of the first stage at a place is what the network keeps there, without its class token."""
    found = load(f"timm:coat_lite_tiny{SMALL}")
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    kept: list[torch.Tensor] = []
    handle = found.module.get_submodule("serial_blocks1.1").register_forward_hook(lambda _m, _a, out: kept.append(out))
    seen, logits = tokens.record(found, images, tokens.layout(found))
    handle.remove()
    assert torch.equal(seen[0][0, :, 3, 5], kept[0][0, 1 + 3 * 16 + 5])
    with tokens.entering(tokens.layout(found), 1, lambda x: x.clone()):
        assert torch.equal(found.logits(images), logits)


SHARED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, 4)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        for _ in range(3):
            x = self.block(x)
        return self.fc(x.mean(1))


def make():
    return Net(), LOOK
"""


def test_each_call_of_one_module_is_a_block_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(HEAD + SHARED)
    found = load(f"python:{tmp_path}/net.py:make")
    assert names(found) == ["block, call 1", "block, call 2", "block, call 3"]
    assert (found.card.blocks, found.card.patch_grid, found.card.prefix_tokens) == (3, (4, 4), 0)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net: Any = found.module
    x = net.embed((images - 0.5) / 0.5).flatten(2).mT
    right = [x := net.block(x) for _ in range(3)]
    where = tokens.layout(found)
    for _ in range(2):  # in the second pass the calls are counted anew
        seen, _ = tokens.record(found, images, where)
        assert [torch.equal(a, b) for a, b in zip(seen, right, strict=True)] == [True] * 3
    with tokens.entering(where, 1, torch.zeros_like):
        cut, _ = tokens.record(found, images, where)
    assert torch.equal(cut[0], right[0])
    torch.testing.assert_close(cut[1], net.block(torch.zeros_like(x)))
    with tokens.entering(where, 3, torch.zeros_like):
        torch.testing.assert_close(found.logits(images), net.fc.bias.expand(2, 3))


def test_a_block_that_larger_batches_call_more_often_is_no_number(tmp_path: Path) -> None:
    """It is called three times for up to 16 pictures and six times for more: half of the calls would be taken for other blocks."""
    halves = "self.halves(x) if len(x) > 16 else self.loop(x)"
    source = SHARED.replace("        for _ in range(3):\n            x = self.block(x)\n", f"        x = {halves}\n").replace(
        "\n\ndef make", "\n    def loop(self, x):\n        for _ in range(3):\n            x = self.block(x)\n        return x\n"
        "\n    def halves(self, x):\n        return torch.cat([self.loop(part) for part in x.chunk(2)])\n\n\ndef make"
    )  # fmt: skip
    (tmp_path / "net.py").write_text("import torch\n" + HEAD + source)
    found = load(f"python:{tmp_path}/net.py:make")
    where, images = tokens.layout(found), torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert len(tokens.record(found, images[:16], where)[0]) == 3
    with pytest.raises(
        VitalsError, match=r"must be called as often in each pass as in that of one picture. Got '6 calls"
    ):
        tokens.record(found, images, where)
    with pytest.raises(VitalsError, match="6 calls, not 3"), tokens.entering(where, 1, torch.zeros_like):
        found.logits(images)
    with tokens.entering(where, 1, torch.zeros_like):
        found.logits(images[:2])


INPLACE = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        START
        return END


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.blocks = nn.Conv2d(3, 8, 4, 4), nn.ModuleList(Block() for _ in range(3))
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 3)

    @torch.MODE()
    def forward(self, x):
        x = self.embed(x).flatten(2).mT.contiguous()
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).mean(1)
        y = self.fc(x)
        x.zero_()
        return y


def make():
    torch.manual_seed(0)
    return Net(), LOOK
"""


@pytest.mark.parametrize(
    ("start", "end"), [("x += self.one(x)", "x + self.two(x)"), ("x += self.one(x)", "x.add_(self.two(x))")]
)
@pytest.mark.parametrize("mode", ["enable_grad", "inference_mode"])
def test_blocks_that_work_in_place_are_those_of_a_network_that_does_not(
    tmp_path: Path, start: str, end: str, mode: str
) -> None:
    code = INPLACE.replace("START", start).replace("END", end).replace("MODE", mode)
    (tmp_path / "net.py").write_text(HEAD + code)
    found = load(f"python:{tmp_path}/net.py:make")
    assert names(found) == ["blocks.0", "blocks.1", "blocks.2"]
    assert {"tokens", "readout"} <= set(found.card.provides)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net: Any = found.module
    x = net.embed((images - 0.5) / 0.5).flatten(2).mT
    right = []
    for block in net.blocks:
        x = x + block.one(x)
        right.append(x := x + block.two(x))
    seen, _ = tokens.record(found, images, tokens.layout(found))
    torch.testing.assert_close(seen, right)
    assert found.features is not None
    torch.testing.assert_close(found.features(images), net.norm(x).mean(1))


def test_blocks_beside_each_other_are_no_row(tmp_path: Path) -> None:
    code = INPLACE.replace("START", "y = self.one(x)").replace("END", "self.two(y)").replace("MODE", "no_grad")
    beside = code.replace("x = block(x)", "pass").replace("self.norm(x)", "self.norm(sum(b(x) for b in self.blocks))")
    (tmp_path / "net.py").write_text(HEAD + beside)
    assert not {"blocks.0", "blocks.1", "blocks.2"} & set(names(load(f"python:{tmp_path}/net.py:make")))


@pytest.mark.parametrize(
    ("answer", "refused"),
    [("{'logits': y}", False), ("Answer(y)", False), ("{'scores': y}", True)],
    ids=["a dict", "an object", "another name"],
)
def test_logits_in_an_output_are_taken(tmp_path: Path, answer: str, refused: bool) -> None:
    code = BRANCH.replace(
        "return self.fc(x.mean((2, 3)) + WEIGHT * side.mean((2, 3)))",
        f"y = self.fc(x.mean((2, 3)))\n        return {answer}",
    )
    answered = "\n\nclass Answer:\n    def __init__(self, y):\n        self.logits = y\n"
    (tmp_path / "net.py").write_text(HEAD + code + answered)
    if refused:
        with pytest.raises(VitalsError, match=r"must give logits of shape \(b, k\). Got dict for 1 image"):
            load(f"python:{tmp_path}/net.py:make")
        return
    found = load(f"python:{tmp_path}/net.py:make")
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    net: Any = found.module
    right = net.fc(net.one(net.stem((images - 0.5) / 0.5)).mean((2, 3)))
    torch.testing.assert_close(found.logits(images), right)
    assert found.card.outputs == 3


def test_outputs_that_are_probabilities_are_noted(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(HEAD + BRANCH.replace("WEIGHT", "0"))
    look = "its outputs look like probabilities"
    assert any(look in note for note in load(f"python:{tmp_path}/net.py:softmax").card.notes)
    assert not any(look in note for note in load(f"python:{tmp_path}/net.py:make").card.notes)
