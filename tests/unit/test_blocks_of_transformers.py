"""Classifiers whose tokens nothing declares: found by watching, equal to what the network itself says of its states."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from visionvitals import core, registry
from visionvitals.backbones import _parts
from visionvitals.inside import blocks
from visionvitals.probes import attention, tokens

SMALL = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 64}
TOWER = {"vision_config": {**SMALL, "patch_size": 16}}
HIERA = {"embed_dim": 16, "depths": [1, 1, 2, 2], "num_heads": [1, 2, 2, 4]}


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


def saved(folder: Path, model_type: str, arguments: dict[str, Any], side: int) -> core.Backbone:
    config = transformers.AutoConfig.for_model(model_type, **arguments)
    make = transformers.AutoModelForImageClassification.from_config
    _parts.seeded(lambda: make(config, attn_implementation="eager"), seed=0).save_pretrained(folder)
    return load(f"hf:{folder}?mean=0.5,0.5,0.5&std=0.5,0.5,0.5&size={side}")


def pictures(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("model_type", "prefix", "calls"), [("clip", 1, 3), ("metaclip_2", 1, 3), ("siglip", 0, 4)])
def test_towers_of_clip_and_siglip(tmp_path: Path, model_type: str, prefix: int, calls: int) -> None:
    found = saved(tmp_path, model_type, TOWER, 64)
    assert (found.card.patch_grid, found.card.prefix_tokens, found.card.blocks) == ((4, 4), prefix, 3)
    assert {"tokens", "attention"} <= set(found.card.provides)
    images, module = pictures(64), found.module
    said = module((images - 0.5) / 0.5, output_hidden_states=True, output_attentions=True)
    seen, logits = tokens.record(found, images, tokens.layout(found))
    torch.testing.assert_close(logits, said.logits)
    for mine, own in zip(seen, said.hidden_states[1:], strict=True):
        torch.testing.assert_close(mine, own)
    maps = attention.record(found, images, rows="all")
    assert len(maps) == calls
    for found_map, right in zip(maps, said.attentions, strict=False):
        torch.testing.assert_close(found_map.rows, right)


def test_hiera_has_stages_and_the_attention_of_its_last(tmp_path: Path) -> None:
    """Its sequences stand row by row in the last stage only; the others are maps at wrong places, said in a note."""
    found = saved(tmp_path, "hiera", HIERA, 224)
    assert (found.card.patch_grid, found.card.prefix_tokens, found.card.blocks) == ((7, 7), 0, 4)
    assert {"maps", "attention"} <= set(found.card.provides)
    assert "3 of its stages show no order row by row, so their maps are not drawn" in found.card.notes
    images = pictures(224)
    said = found.module((images - 0.5) / 0.5, output_hidden_states=True)
    where = tokens.layout(found)
    seen, _ = tokens.record(found, images, where)
    assert where.unordered == (0, 1, 2)
    torch.testing.assert_close(seen[3].flatten(2).mT, said.hidden_states[-1])
    assert attention.patch_rows(found, images).shape == (2, 4, 49)


def test_a_configuration_without_labels_loads(tmp_path: Path) -> None:
    arguments = {
        "image_size": 64,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 32, 64],
        "num_attention_heads": [1, 2, 2, 4],
    }
    found = saved(tmp_path, "pvt", {**arguments, "id2label": None}, 64)
    assert found.card.outputs == 1000
    assert any("1000 outputs are taken as ImageNet's classes" in note for note in found.card.notes)
    images = pictures(64)
    torch.testing.assert_close(found.logits(images), found.module((images - 0.5) / 0.5).logits)
    where = tokens.layout(found)
    assert [x.shape[1:] for x in tokens.record(found, images, where)[0]] == [
        (8, 16, 16),
        (16, 8, 8),
        (32, 4, 4),
        (64, 2, 2),
    ]


def test_naflexvit_has_tokens() -> None:
    found = load(
        "timm:naflexvit_base_patch16_gap?pretrained=false&size=64&model.depth=2&model.embed_dim=48&model.num_heads=2"
    )
    assert (found.card.patch_grid, found.card.prefix_tokens, found.card.blocks) == ((4, 4), 4, 2)
    assert {"tokens", "attention", "readout"} <= set(found.card.provides)
    images, p, net = pictures(64), found.card.preprocess, found.module
    x = (images - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    where = tokens.layout(found)
    seen, logits = tokens.record(found, images, where)
    own: Any = net
    torch.testing.assert_close(own.norm(seen[-1]), own.forward_features(x))
    assert where.readout is not None
    torch.testing.assert_close(where.readout.logits(seen[-1], where.prefix), logits)


@pytest.mark.parametrize(
    ("tokens_", "size", "grid", "prefix"),
    [(197, (224, 224), (14, 14), 1), (20, (64, 64), (4, 4), 4), (50, (224, 224), (7, 7), 1), (99, (224, 112), (14, 7), 1),
     (261, (224, 224), (16, 16), 5), (33, (32, 64), (4, 8), 1)],
)  # fmt: skip
def test_the_grid_of_a_sequence(tokens_: int, size: tuple[int, int], grid: tuple[int, int], prefix: int) -> None:
    assert blocks.grid_of(tokens_, size, most=16) == (grid, prefix)
    assert blocks.grid_of(tokens_, size, most=prefix - 1) is None
