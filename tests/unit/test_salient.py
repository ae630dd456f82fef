"""Salient occlusion as a study: what is removed, with weights from where, and which images have no rows."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionvitals import registry
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.job import Forgetful, Job
from visionvitals.perturb import saliency
from visionvitals.probes import attention as probe
from visionvitals.probes import gradient
from visionvitals.studies import _saliency, salient

GRID = (4, 4)
MASKED = dataclasses.replace(NO_IMAGES, provides=("mask",))


def card(name: str, *, size: int = 32, provides: tuple[str, ...] = ()) -> BackboneCard:
    pre = Preprocess(size=(size, size), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return BackboneCard(
        spec=name,
        architecture=name,
        digest=name,
        preprocess=pre,
        outputs=3,
        parameters=0,
        provides=provides,
        patch_grid=GRID,
    )


def corner_net(name: str = "corner", *, size: int = 32) -> Backbone:
    """Its first logit is the red of the top-left quarter, times one hundred; the others are zero."""

    def logits(images: Tensor) -> Tensor:
        red = images[:, :1, : size // 2, : size // 2].mean(dim=(2, 3))
        return torch.cat([red * 100, torch.zeros(len(images), 2, device=images.device)], dim=1)

    return Backbone(card=card(name, size=size), device=torch.device("cpu"), module=nn.Identity(), logits=logits)


def job(condition: salient.Condition, **more: Any) -> Job:
    pixels = np.random.default_rng(0).integers(1, 256, (5, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((5, 32, 32), dtype=np.uint8)
    masks[:4, :16, :16] = 2
    masks[:, 16:] = 255
    defaults: dict[str, Any] = {"backbone": corner_net(), "masks": masks, "batch_size": 2}
    return Job(
        condition=condition,
        ids=[f"i{k}" for k in range(5)],
        pixels=pixels,
        labels=np.zeros(5, dtype=np.int64),
        **(defaults | more),
    )


def table(condition: salient.Condition, **more: Any) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for block in salient.measure(job(condition, **more)):
        for metric, column in block.values.items():
            for item, value in zip(block.items, torch.as_tensor(column).tolist(), strict=True):
                found.setdefault(item, {})[metric] = value
    return found


def test_with_masks_the_object_goes_or_everything_else_does() -> None:
    shown: dict[str, Tensor] = {}
    said: list[str] = []
    more = {"exhibits": frozenset({"i0", "i4"}), "keep": shown.__setitem__, "warn": said.append}
    without = table(salient.Condition(source="mask", mass=1.0, grid=GRID), **more)
    assert set(without) == {"i0", "i1", "i2", "i3"}, "an image without an object is no evidence, and void is no object"
    assert said == ["1 of 5 images have no usable saliency (source mask) and are left out"]
    assert set(shown) == {"i0"}
    assert shown["i0"][:, :16, :16].max() == 0
    assert shown["i0"][:, 16:].min() > 0
    assert without["i0"]["information_loss"] == 0.25
    assert without["i0"]["mass_removed"] == 1
    only = table(salient.Condition(source="mask", mass=0.0, drop="non-salient", grid=GRID))
    assert only["i0"]["information_loss"] == 0.75
    assert only["i0"]["mass_removed"] == 0
    assert all(values["top1"] == 1 for values in only.values())


def test_the_gradient_finds_what_the_prediction_hangs_on() -> None:
    gone = table(salient.Condition(source="gradient", mass=1.0, grid=GRID))
    assert all(values["information_loss"] == 0.25 for values in gone.values())
    assert all(values["cross_entropy"] == pytest.approx(np.log(3)) for values in gone.values())
    kept = table(salient.Condition(source="gradient", mass=0.0, drop="non-salient", grid=GRID))
    assert all(values["information_loss"] == 0.75 for values in kept.values())
    assert all(values["cross_entropy"] < 1e-3 for values in kept.values())


def test_an_image_has_the_same_gradient_alone_as_among_others() -> None:
    """A transformer whose inputs are contiguous patches: on a CPU, torch's gradient of a batch of one was another one."""
    spec = registry.parse("tiny:vit", families=["tiny"])
    vit: Backbone = registry.load("backbones", "tiny").load(spec, device=torch.device("cpu"))
    images = torch.rand(4, 3, *vit.card.preprocess.size, generator=torch.Generator().manual_seed(0))
    whole = gradient.predicted(vit, images)
    for size in (1, 2, 3):  # of threes one is left
        parts = torch.cat([gradient.predicted(vit, part) for part in images.split(size)])
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    moved = images + 1e-3 * whole.sign()
    with torch.no_grad():
        grown = vit.logits(moved).amax(dim=1) - vit.logits(images).amax(dim=1)
    assert (grown > 0).all()


@pytest.mark.parametrize("mass", [0.1, 0.25, 0.5, 0.75])
def test_salient_and_non_salient_split_the_picture(mass: float) -> None:
    condition = salient.Condition(source="gradient", mass=mass, grid=(8, 8))
    pixels = table(condition)
    others = table(dataclasses.replace(condition, drop="non-salient", mass=1 - mass))
    for item in pixels:
        assert pixels[item]["information_loss"] + others[item]["information_loss"] == 1
        assert pixels[item]["mass_removed"] + others[item]["mass_removed"] == pytest.approx(1)
        assert pixels[item]["mass_removed"] >= mass


def attend(monkeypatch: pytest.MonkeyPatch, rows: Tensor) -> list[tuple[int, ...]]:
    """Attention of three heads on a 4 x 4 grid, the same for every image, in place of a ViT's; what it was shown is listed."""
    seen: list[tuple[int, ...]] = []

    def patch_rows(backbone: Backbone, images: Tensor, *, block: int = -1, query: int = 0) -> Tensor:
        seen.append(tuple(images.shape))
        return rows.expand(len(images), -1, -1)

    monkeypatch.setattr(probe, "patch_rows", patch_rows)
    return seen


HEADS = torch.full((3, 16), 0.01)
HEADS[0, 15] = HEADS[1, [0, 1, 4, 5]] = HEADS[2, 8:] = 1.0


@pytest.mark.parametrize(
    ("head", "pixels"),
    [("0", 1 / 16), ("1", 3 / 16), ("2", 5 / 16), ("best-foreground", 3 / 16)],
)
def test_a_head_is_chosen_by_index_or_by_the_objects(monkeypatch: pytest.MonkeyPatch, head: str, pixels: float) -> None:
    attend(monkeypatch, HEADS)
    found = table(salient.Condition(source="self", head=head, mass=0.6, grid=GRID))
    assert {values["information_loss"] for values in found.values()} == {pixels}
    assert len(found) == 5, "weights of attention need no object"


def test_the_mean_head_is_the_mean_and_a_head_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    attend(monkeypatch, HEADS)
    by_hand = saliency.shares(HEADS.mean(0)[None], saliency.salient_drop(HEADS.mean(0)[None], 0.5))
    found = table(salient.Condition(source="self", mass=0.5, grid=GRID))
    assert found["i3"]["mass_removed"] == pytest.approx(float(by_hand.mass))
    assert found["i3"]["information_loss"] == float(by_hand.pixels)
    with pytest.raises(VitalsError, match="`head` must be one of the 3 of corner, 0 to 2"):
        table(salient.Condition(source="self", head="3", grid=GRID))


def test_overflown_attention_leaves_the_image_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def patch_rows(backbone: Backbone, images: Tensor, *, block: int = -1, query: int = 0) -> Tensor:
        rows = HEADS.repeat(len(images), 1, 1)
        rows[images[:, 0, 0, 0] == images[:, 0, 0, 0].max()] = float("nan")
        return rows

    monkeypatch.setattr(probe, "patch_rows", patch_rows)
    assert len(table(salient.Condition(source="self", grid=GRID), batch_size=5)) == 4


def test_another_network_sees_the_image_in_its_own_size_and_its_weights_are_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = attend(monkeypatch, HEADS)
    made: dict[str, Mapping[str, np.ndarray]] = {}

    class Kept(Forgetful):
        def rows(self, name: str, key: Any, n: int, columns: Any, fill: Any) -> Mapping[str, np.ndarray]:
            text = repr((name, key, n))
            if text not in made:
                made[text] = super().rows(name, key, n, columns, fill)
            return made[text]

    other = corner_net("other", size=64)
    condition = salient.Condition(source="model", model=salient.BackboneSpec("x:other"), head="1", grid=(8, 8))
    results = [
        table(dataclasses.replace(condition, head=head), companion=lambda spec: other, memos=Kept()) for head in "101"
    ]
    assert results[0] == results[2] != results[1]
    assert len(made) == 1
    assert {shape[2:] for shape in seen} == {(64, 64)}
    assert sum(shape[0] for shape in seen) == 5 + 3, "five images once, and one blank for the shape each time"


def test_regridding_keeps_the_mass_and_the_place() -> None:
    weights = torch.rand(2, 3, 6, generator=torch.Generator().manual_seed(0))
    finer = saliency.regrid(weights, (2, 3), (4, 6))
    assert torch.equal(finer.view(2, 3, 4, 6)[..., ::2, ::2].flatten(2), weights.double() / 4)
    odd = saliency.regrid(weights, (2, 3), (5, 4))
    torch.testing.assert_close(odd.sum(-1), weights.double().sum(-1))
    torch.testing.assert_close(saliency.regrid(finer, (4, 6), (2, 3)), weights.double())
    with pytest.raises(VitalsError, match="`grid` must have the 6 cells"):
        saliency.regrid(weights, (4, 4), (2, 2))


def test_the_best_head_of_a_set_needs_an_object() -> None:
    empty = np.zeros((5, 32, 32), dtype=np.uint8)
    with pytest.raises(VitalsError, match="`best-foreground` needs an image with an object"):
        _saliency.best_head(job(salient.Condition(), masks=empty), lambda rows: HEADS.expand(5, 3, 16).double(), GRID)


def test_what_cannot_be_measured_is_refused_with_the_reason() -> None:
    plain, able = card("cnn"), card("vit", provides=("attention",))
    own = salient.Condition(source="self", grid=GRID)
    assert "cnn has none" in str(salient.refusal(own, plain, NO_IMAGES))
    assert salient.refusal(own, able, NO_IMAGES) is None
    assert "needs an image set with masks" in str(
        salient.refusal(salient.Condition(source="mask", grid=GRID), able, NO_IMAGES)
    )
    best = salient.Condition(source="self", head="best-foreground", grid=GRID)
    assert "`head = best-foreground` needs" in str(salient.refusal(best, able, NO_IMAGES))
    assert salient.refusal(best, able, MASKED) is None
    assert "does not divide" in str(salient.refusal(salient.Condition(source="gradient"), plain, MASKED))
    pairs: list[tuple[salient.Source, str]] = [("model", ""), ("self", "tiny:vit")]
    for source, model in pairs:
        alone = salient.Condition(source=source, model=salient.BackboneSpec(model), grid=GRID)
        assert "`model` names the other backbone" in str(salient.refusal(alone, able, MASKED))
    headed = salient.Condition(source="gradient", head="1", grid=GRID)
    assert "`source = gradient` has no heads" in str(salient.refusal(headed, able, MASKED))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"mass": 1.5}, r"`mass` must be in \[0, 1\]"),
        ({"drop": "both"}, "`drop` must be one of salient, non-salient"),
        ({"source": "dino"}, "`source` must be one of self, gradient, mask, model"),
        ({"source": "self", "head": "-1"}, "`head` must be `mean`, `best-foreground` or an index"),
        ({"fill": "token"}, "`fill` must be one of black"),
    ],
)
def test_a_condition_refuses_what_has_no_meaning(values: Any, said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        salient.Condition(**values)


def test_the_paper_preset_is_the_published_protocol() -> None:
    found = salient.conditions("paper", (224, 224))
    assert {(c.source, c.model, c.head, c.grid, c.fill) for c in found} == {
        ("model", "timm:vit_small_patch16_224.dino", "1", (14, 14), "black")
    }
    for published in salient.PUBLISHED:
        assert any(all(getattr(c, k) == v for k, v in published.where.items()) for c in found)
