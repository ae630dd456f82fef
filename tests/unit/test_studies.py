"""What single studies promise beyond the contract."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.job import Job
from visionvitals.perturb.cells import covers_whole_patches, default_grid
from visionvitals.studies import clean, corner, imagenet_c, occlusion, shuffle


def card(
    *, size: int = 224, patches: tuple[int, int] | None = (14, 14), provides: tuple[str, ...] = ()
) -> BackboneCard:
    pre = Preprocess(size=(size, size), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return BackboneCard(
        spec="x:y",
        architecture="y",
        digest="0",
        preprocess=pre,
        outputs=10,
        parameters=1,
        provides=provides,
        patch_grid=patches,
    )


@pytest.mark.parametrize(("side", "cells"), [(224, 14), (448, 14), (256, 16), (384, 24), (64, 8), (299, 13), (518, 14)])
def test_the_default_grid_divides_the_input(side: int, cells: int) -> None:
    assert default_grid((side, side)) == (cells, cells)


def test_alignment_means_whole_patches() -> None:
    assert covers_whole_patches((7, 14), card())
    assert not covers_whole_patches((16, 16), card())
    assert not covers_whole_patches((14, 14), card(patches=(7, 7)))
    assert not covers_whole_patches((14, 14), card(patches=None))


def test_token_removal_is_refused_with_the_reason() -> None:
    half = occlusion.Condition(fraction=0.5, fill="token")
    able = card(provides=("token_removal",))
    assert occlusion.refusal(half, able, NO_IMAGES) is None
    assert "y has none" in str(occlusion.refusal(half, card(), NO_IMAGES))
    assert "whole patches" in str(
        occlusion.refusal(occlusion.Condition(fraction=0.5, fill="token", offset=8), able, NO_IMAGES)
    )
    assert "at least one token" in str(
        occlusion.refusal(occlusion.Condition(fraction=1, fill="token"), able, NO_IMAGES)
    )


def test_a_grid_that_does_not_divide_is_refused_before_anything_runs() -> None:
    assert "5x5 does not divide the 224x224" in str(
        occlusion.refusal(occlusion.Condition(grid=(5, 5)), card(), NO_IMAGES)
    )
    assert "14x14 does not divide the 64x64" in str(
        shuffle.refusal(shuffle.Condition(grid=(14, 14)), card(size=64), NO_IMAGES)
    )
    assert "does not fit" in str(corner.refusal(corner.Condition(), card(size=64), NO_IMAGES))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: occlusion.Condition(fraction=1.5), r"`fraction` must be in \[0, 1\]. Got 1.5"),
        (lambda: occlusion.Condition(fill="blakc"), "`fill` must be one of black, mean"),
        (lambda: occlusion.Condition(grid=(0, 3)), "`grid` must be two positive numbers"),
        (lambda: shuffle.Condition(run=-1), "`run` must not be negative"),
        (lambda: corner.Condition(corner="middle"), "`corner` must be one of top-left"),
    ],
)
def test_a_condition_refuses_what_has_no_meaning(make: object, said: str) -> None:
    assert callable(make)
    with pytest.raises(VitalsError, match=said):
        make()


def test_the_paper_preset_is_the_papers_protocol() -> None:
    main = [c for c in occlusion.conditions("paper", (224, 224)) if c.grid == (14, 14) and not c.offset]
    assert sorted({c.fraction for c in main}) == pytest.approx([d / 10 for d in range(10)])
    assert {c.run for c in main} == set(range(5))
    assert {c.grid for c in occlusion.conditions("paper", (224, 224))} >= {
        (4, 4),
        (4, 8),
        (7, 7),
        (8, 8),
        (16, 16),
        (224, 224),
    }
    grids = {c.grid for c in shuffle.conditions("paper", (224, 224))} - {(1, 1)}
    assert grids == {(2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (14, 14), (16, 16)}
    assert {c.inner for c in corner.conditions("paper", (224, 224))} == {(128, 128)}
    assert len(corner.conditions("paper", (224, 224))) == 4
    assert len(clean.conditions("paper", (224, 224))) == 1


def work(condition: object, **more: Any) -> Job:
    """Four images of noise, 48 px, before a network that answers with the mean of each colour."""
    shown = Backbone(
        card=dataclasses.replace(card(size=48), outputs=3),
        device=torch.device("cpu"),
        module=torch.nn.Identity(),
        logits=lambda images: images.mean(dim=(2, 3)),
    )
    given: dict[str, Any] = {
        "ids": tuple("abcd"),
        "pixels": np.random.default_rng(0).integers(1, 256, (4, 48, 48, 3), dtype=np.uint8),
        "labels": np.zeros(4, dtype=np.int64),
    }
    return Job(backbone=shown, condition=condition, batch_size=3, **(given | more))


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("grid", [(4, 6), (48, 48), (1, 1)])
def test_the_information_loss_is_the_share_of_the_pixels_that_are_black(grid: tuple[int, int], offset: int) -> None:
    condition = occlusion.Condition(fraction=0.7, grid=grid, offset=offset)
    kept: dict[str, torch.Tensor] = {}
    blocks = list(occlusion.measure(work(condition, exhibits=frozenset("abcd"), keep=kept.__setitem__)))
    found = {i: float(v) for b in blocks for i, v in zip(b.items, b.values["information_loss"], strict=True)}
    assert found == {i: float((image == 0).all(dim=0).float().mean()) for i, image in kept.items()}


def test_a_picture_of_imagenet_c_is_one_item_in_all_its_forms() -> None:
    ids = ("fog/3/n01/a.JPEG", "n01/a.JPEG", "snow/1/n01/a.JPEG", "snow/1/n01/b.JPEG")
    blocks = list(imagenet_c.measure(work(imagenet_c.Condition(), ids=ids)))
    common = "15 of ImageNet-C"
    assert [(list(b.items), b.at) for b in blocks] == [
        (["n01/a.JPEG"], (common, "fog", 3)),
        (["n01/a.JPEG"], ("clean", "none", 0)),
        (["n01/a.JPEG"], (common, "snow", 1)),
        (["n01/b.JPEG"], (common, "snow", 1)),
    ]
