"""Attention caught from fused networks: certified for every family, over the patches, and nothing changed by looking."""

import pytest
import torch
from torch import Tensor

from visionvitals import core, registry
from visionvitals.errors import VitalsError
from visionvitals.probes import attention

FAMILIES = registry.names("backbones")
RANDOM = "?pretrained=false"
VIT = f"timm:test_vit{RANDOM}&size=64"


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=FAMILIES)
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


def pictures(backbone: core.Backbone, n: int = 2) -> Tensor:
    return torch.rand(n, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit() -> core.Backbone:
    return load(VIT)


def test_the_card_tells_whether_there_is_attention_over_the_patches(vit: core.Backbone) -> None:
    assert "attention" in vit.card.provides
    assert "attention" not in load(f"timm:test_resnet{RANDOM}&size=64").card.provides


def test_rows_are_those_of_the_network_unfused(vit: core.Backbone) -> None:
    """The map as the unfused network itself computes it, seen by a hook on its attention dropout."""
    images = pictures(vit)
    fused = attention.patch_rows(vit, images)
    last = vit.module.blocks[-1].attn  # type: ignore[index, union-attr]
    seen: list[Tensor] = []
    handle = last.attn_drop.register_forward_hook(lambda _m, _a, output: seen.append(output))  # type: ignore[union-attr, operator]
    last.fused_attn = False  # type: ignore[union-attr]
    try:
        vit.logits(images)
    finally:
        last.fused_attn = True  # type: ignore[union-attr]
        handle.remove()
    torch.testing.assert_close(fused, seen[0][:, :, 0, 1:], atol=1e-6, rtol=0)


def test_queries_and_blocks_that_are_not_there_are_named(vit: core.Backbone) -> None:
    images = pictures(vit)
    with pytest.raises(VitalsError, match=r"`query` must be in \[0, 0\]"):
        attention.patch_rows(vit, images, query=1)
    with pytest.raises(VitalsError, match=r"has 6 attention calls, so `block` must be in \[-6, 5\]"):
        attention.patch_rows(vit, images, block=6)
    with pytest.raises(VitalsError, match="must have attention"):
        attention.patch_rows(load(f"timm:test_resnet{RANDOM}&size=64"), torch.rand(1, 3, 64, 64))


def test_rollout_of_all_blocks_is_the_product_of_their_mixed_maps(vit: core.Backbone) -> None:
    images = pictures(vit)
    flow = torch.eye(17)
    for found in attention.record(vit, images, rows="all"):
        mixed = found.rows.mean(dim=1) + torch.eye(17)
        flow = mixed / mixed.sum(dim=2, keepdim=True) @ flow
    torch.testing.assert_close(attention.patch_rows(vit, images, rollout=True)[:, 0], flow[:, 0, 1:], atol=1e-6, rtol=0)
