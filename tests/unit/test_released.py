"""The weights that Naseer et al. 2021 released or compared with, each by the spelling that docs/reproduce.md gives, on stand-ins of their
keys: they load, answer, and have the published number of parameters."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from visionvitals import core, registry
from visionvitals.backbones import _parts
from visionvitals.errors import VitalsError

CPU = torch.device("cpu")
TINY = "deit_tiny_patch16_224"


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


def state(arch: str, seed: int = 0, **kwargs: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = _parts.seeded(lambda: timm.create_model(arch, **kwargs), seed=seed).state_dict()
    return found


def deit(path: Path, weights: dict[str, Tensor], **more: Any) -> Path:
    """As DeiT's training saves it."""
    args = argparse.Namespace(model="deit", lr=5e-4)
    torch.save(
        {"model": weights, "optimizer": {"state": {}, "param_groups": []}, "epoch": 299, "args": args, **more}, path
    )
    return path


def answers(backbone: core.Backbone) -> Tensor:
    images = torch.rand(2, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(0))
    found = backbone.logits(images)
    assert found.shape == (2, 1000)
    assert bool(found.isfinite().all())
    return found


@pytest.mark.parametrize(
    ("file", "arch", "parameters"),
    [("deit_t_sin.pth", TINY, 5_717_416), ("deit_s_sin.pth", "deit_small_patch16_224", 22_050_664)],
)
def test_trained_on_stylised_pictures(file: str, arch: str, parameters: int, tmp_path: Path) -> None:
    backbone = load(f"checkpoint:{deit(tmp_path / file, state(arch))}?arch={arch}&size=64")
    assert backbone.card.parameters - backbone.module.pos_embed.numel() == parameters - 197 * backbone.module.embed_dim
    assert not torch.equal(*answers(backbone))


def test_distilled_with_a_shape_token(tmp_path: Path) -> None:
    file = deit(tmp_path / "deit_t_sin_dist.pth", state("deit_tiny_distilled_patch16_224"))
    base = f"checkpoint:{file}?arch=deit_tiny_distilled_patch16_224"
    assert sum(value.numel() for value in torch.load(file, weights_only=False)["model"].values()) == 5_910_800
    both, by_class, by_shape = (load(base + "&size=64" + more) for more in ("", "&token=class", "&token=shape"))
    torch.testing.assert_close(answers(both), (answers(by_class) + answers(by_shape)) / 2, atol=1e-5, rtol=1e-4)
    assert float((answers(by_class) - answers(by_shape)).abs().max()) > 0.01


@pytest.mark.parametrize("family", ["checkpoint:{}?arch=deit_tiny_patch16_224&", "timm:deit_tiny_patch16_224@{}?"])
def test_without_a_position_encoding(family: str, tmp_path: Path) -> None:
    """Its file has no table, since it had none when it was trained. Its answer does not change when the patches change places."""
    weights = state(TINY)
    table = weights.pop("pos_embed")
    file = deit(tmp_path / "no_pos_deit_t.pth", weights)
    backbone = load(family.format(file) + "position=none")
    assert backbone.card.parameters == 5_717_416 - table.numel() == 5_717_416 - 37_824
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    moved = image.unflatten(3, (14, 16)).flip(3).flatten(3)
    torch.testing.assert_close(backbone.logits(moved), backbone.logits(image), atol=1e-5, rtol=1e-4)
    with_table = deit(tmp_path / "with.pth", {**weights, "pos_embed": table})
    assert load(family.format(with_table) + "position=none").card.digest == backbone.card.digest
    with pytest.raises(VitalsError, match=r"1 missing: pos_embed.*say so: `position=none`"):
        load(family.format(file).rstrip("?&"))


def test_without_a_position_encoding_where_the_network_keeps_a_table_of_zeros(tmp_path: Path) -> None:
    arch = "deit_tiny_distilled_patch16_224"
    weights = {key: value for key, value in state(arch).items() if key != "pos_embed"}
    backbone = load(f"checkpoint:{deit(tmp_path / 'dist.pth', weights)}?arch={arch}&position=none")
    assert not bool(backbone.module.pos_embed.any())
    assert torch.equal(backbone.module.head_dist.weight, weights["head_dist.weight"])


@pytest.mark.parametrize(
    ("patch", "grid", "parameters"), [(22, 10, 5_830_312), (28, 8, 5_996_200), (32, 7, 6_131_560), (38, 5, 6_368_872)]
)
def test_larger_patches_are_read_off_the_weights(patch: int, grid: int, parameters: int, tmp_path: Path) -> None:
    file = deit(tmp_path / f"patch_{patch}_deit_t.pth", state(TINY, patch_size=patch))
    backbone = load(f"checkpoint:{file}?arch={TINY}")
    assert (backbone.card.parameters, backbone.card.patch_grid) == (parameters, (grid, grid))
    note = f"its patches are of {patch} x {patch} pixels, as its weights say; those of `{TINY}` are of 16 x 16"
    assert note in backbone.card.notes
    answers(backbone)
    if patch == 38:
        said = load(f"checkpoint:{file}?arch={TINY}&model.patch_size=38").card
        assert said.digest == backbone.card.digest
        assert note not in said.notes
        with pytest.raises(VitalsError, match="of another shape"):
            load(f"checkpoint:{file}?arch={TINY}&model.patch_size=32")
        with pytest.raises(VitalsError, match="of another shape"):
            load(f"checkpoint:{file}?arch=deit_small_patch16_224")


def test_of_a_file_with_an_average_raw_is_what_the_authors_load(tmp_path: Path) -> None:
    raw, average = state(TINY), state(TINY, seed=1)
    file = deit(tmp_path / "deit_t_sin.pth", raw, model_ema=average)
    taken = load(f"checkpoint:{file}?arch={TINY}&weights=raw&size=32").module
    assert torch.equal(taken.head.weight, raw["head.weight"])
    card = load(f"checkpoint:{file}?arch={TINY}&size=32").card
    assert any(note.startswith("the average of the weights, `model_ema`") for note in card.notes)


@pytest.mark.parametrize("more", [{"arch": "resnet50"}, {"model": "resnet50"}], ids=["sin", "augmix"])
def test_resnet50_trained_by_several_processes(more: dict[str, str], tmp_path: Path) -> None:
    """Weights under `state_dict`, each key behind `module.`, and none of the counts that BatchNorm keeps by now."""
    own = state("resnet50")
    old = {f"module.{key}": value for key, value in own.items() if not key.endswith("num_batches_tracked")}
    torch.save(
        {"epoch": 60, "state_dict": old, "optimizer": {"state": {}}, "best_prec1": 60.2, **more}, tmp_path / "r.tar"
    )
    backbone = load(f"checkpoint:{tmp_path}/r.tar?arch=resnet50.tv_in1k&size=64")
    look = backbone.card.preprocess
    assert backbone.card.parameters == 25_557_032
    assert (look.size, look.resize, look.interpolation) == ((64, 64), 64 * 256 // 224, "bilinear")
    assert torch.equal(backbone.module.layer4[2].conv3.weight, own["layer4.2.conv3.weight"])
    answers(backbone)
