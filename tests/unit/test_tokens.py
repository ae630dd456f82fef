"""Tokens and maps between blocks: found in every family, equal to the network's own, and changed only where asked."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from visionvitals import core, registry
from visionvitals.errors import VitalsError
from visionvitals.probes import tokens

FAMILIES = registry.names("backbones")
RANDOM = "?pretrained=false"
VIT = f"timm:test_vit{RANDOM}&size=64"
DISTILLED = f"timm:deit_tiny_distilled_patch16_224{RANDOM}&size=48&model.depth=2&model.embed_dim=48"
REGISTERS = f"timm:vit_small_patch14_reg4_dinov2{RANDOM}&size=56&model.depth=2&model.embed_dim=48&model.num_classes=5"


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=FAMILIES)
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


def pictures(backbone: core.Backbone, n: int = 2) -> Tensor:
    return torch.rand(n, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(0))


def normalised(backbone: core.Backbone, images: Tensor) -> Tensor:
    p = backbone.card.preprocess
    return (images - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)


@pytest.mark.parametrize(("spelling", "prefix"), [(VIT, 1), (DISTILLED, 2), (REGISTERS, 5)])
def test_tokens_are_those_of_the_network_by_its_own_count(spelling: str, prefix: int) -> None:
    backbone = load(spelling)
    images = pictures(backbone)
    where = tokens.layout(backbone)
    assert (where.kind, where.prefix) == ("tokens", prefix)
    assert len(where.blocks) == backbone.card.blocks
    seen, logits = tokens.record(backbone, images, where)
    torch.testing.assert_close(logits, backbone.logits(images), rtol=0, atol=1e-5 * float(logits.abs().max()))
    module: Any = backbone.module
    x = normalised(backbone, images)
    torch.testing.assert_close(module.norm(seen[-1]), module.forward_features(x))
    for mine, pair in zip(
        seen, module.forward_intermediates(x, return_prefix_tokens=True, intermediates_only=True), strict=True
    ):
        torch.testing.assert_close(mine[:, where.prefix :].mT.reshape(pair[0].shape), pair[0])
        torch.testing.assert_close(mine[:, : where.prefix], pair[1])


@pytest.mark.parametrize(
    ("spelling", "kind", "blocks", "shape"),
    [
        (f"timm:resnet18{RANDOM}&size=64", "maps", 4, (512, 2, 2)),
        (f"torchvision:resnet18{RANDOM}&size=64", "maps", 4, (512, 2, 2)),
        (f"torchvision:squeezenet1_1{RANDOM}&size=64", "maps", 3, (512, 3, 3)),
        (f"timm:mobilenetv2_100{RANDOM}&size=64", "maps", 5, (1280, 2, 2)),
        (f"timm:convnext_atto{RANDOM}&size=64", "maps", 4, (320, 2, 2)),
        ("tiny:cnn", "maps", 4, (144, 2, 2)),
        ("tiny:vit", "tokens", 6, (65, 128)),
        (f"timm:tnt_s_legacy_patch16_224{RANDOM}&model.img_size=64&size=64&model.depth=2", "tokens", 2, (17, 384)),
        (f"timm:cait_xxs24_224{RANDOM}&model.img_size=64&size=64&model.depth=2", "tokens", 2, (16, 192)),
    ],
)
def test_blocks_are_found_by_watching(spelling: str, kind: str, blocks: int, shape: tuple[int, ...]) -> None:
    backbone = load(spelling)
    images = pictures(backbone)
    where = tokens.layout(backbone)
    seen, logits = tokens.record(backbone, images, where)
    assert (where.kind, len(where.blocks), tuple(seen[-1].shape[1:])) == (kind, blocks, shape)
    assert kind in backbone.card.provides
    assert backbone.card.late_prefix == ("cait" in spelling)
    torch.testing.assert_close(logits, backbone.logits(images), rtol=0, atol=1e-5 * float(logits.abs().max()))


def test_maps_are_channels_first_however_the_network_keeps_them() -> None:
    spelling = (
        f"timm:swin_tiny_patch4_window7_224{RANDOM}&model.img_size=64&size=64&model.window_size=4&model.embed_dim=24"
    )
    backbone = load(f"{spelling}&model.depths=[1,1]&model.num_heads=[2,2]&model.num_classes=5")
    where = tokens.layout(backbone)
    seen, _ = tokens.record(backbone, pictures(backbone), where)
    assert [tuple(x.shape) for x in seen] == [(2, 24, 16, 16), (2, 48, 8, 8)]
    given: list[tuple[int, ...]] = []

    def look(x: Tensor) -> Tensor:
        given.append(tuple(x.shape))
        return x

    with tokens.entering(where, 1, look):
        backbone.logits(pictures(backbone))
    assert given == [(2, 24, 16, 16)]


@pytest.mark.parametrize(
    "spelling", [VIT, DISTILLED, f"timm:resnet18{RANDOM}&size=64", f"timm:test_convnext{RANDOM}&size=64"]
)
def test_an_edit_reaches_one_block(spelling: str) -> None:
    """Blocks before the edited one give what they gave, and all from it on something else."""
    backbone = load(spelling)
    images = pictures(backbone)
    where = tokens.layout(backbone)
    plain, logits = tokens.record(backbone, images, where)
    for k in range(len(where.blocks) + 1):
        with tokens.entering(where, k, lambda x: x.clone()):
            assert torch.equal(backbone.logits(images), logits)
        with tokens.entering(where, k, lambda x: x.flip(1)):
            cut, changed = tokens.record(backbone, images, where)
        assert not torch.allclose(changed, logits, atol=1e-5)
        same = [torch.equal(a, b) for a, b in zip(plain, cut, strict=True)]
        assert same == [i < k for i in range(len(where.blocks))] or k == len(where.blocks)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in backbone.module.modules())


@pytest.mark.parametrize(
    ("spelling", "pool"),
    [(VIT, "class"), ("tiny:vit", "class"), (f"timm:vit_relpos_small_patch16_224{RANDOM}&size=64&model.depth=2", "mean"),
     (f"timm:eva02_tiny_patch14_224{RANDOM}&size=56&model.depth=2&model.embed_dim=48&model.num_classes=10", "mean")],
)  # fmt: skip
def test_the_readout_of_the_last_block_is_the_networks_answer(spelling: str, pool: str) -> None:
    backbone = load(spelling)
    images = pictures(backbone)
    where = tokens.layout(backbone)
    assert where.readout is not None
    assert where.readout.pool == pool
    seen, logits = tokens.record(backbone, images, where)
    torch.testing.assert_close(where.readout.logits(seen[-1], where.prefix), logits)
    assert backbone.features is not None
    torch.testing.assert_close(where.readout.features(seen[-1], where.prefix), backbone.features(images))


def test_the_readout_of_a_distilled_network_is_its_class_head() -> None:
    backbone = load(DISTILLED)
    images = pictures(backbone)
    where = tokens.layout(backbone)
    assert where.readout is not None
    seen, _ = tokens.record(backbone, images, where)
    module: Any = backbone.module
    expected = module.head(module.norm(seen[-1])[:, 0])
    torch.testing.assert_close(where.readout.logits(seen[-1], where.prefix), expected)


def test_a_network_without_blocks_is_named() -> None:
    bare = dataclasses.replace(load(VIT), inside=None)
    with pytest.raises(VitalsError, match=r"must have blocks of patch tokens or stages of feature maps. Got neither"):
        tokens.layout(bare)
