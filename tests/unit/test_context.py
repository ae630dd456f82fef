"""Object and background: the laws of noise on a region, what each fill shows, which pictures count, and the sensitivity as a formula."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from invented_cells import CELL, OTHER, keep
from visionvitals import randomness, results
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.figure import Record, Sign
from visionvitals.job import Job
from visionvitals.perturb import regions
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.results import signs
from visionvitals.run import runner
from visionvitals.studies import context
from visionvitals.study import Scores

SIZE = 32
MASKED = dataclasses.replace(NO_IMAGES, provides=("mask",), n=6)
IDS = [f"i{k}" for k in range(6)]
PRE = Preprocess(size=(SIZE, SIZE), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
CARD = BackboneCard(spec="red", architecture="red", digest="red", preprocess=PRE, outputs=3, parameters=0)


def red_net() -> Backbone:
    """Its first logit says how red the top-left quarter is, which is where the objects are."""

    def logits(images: Tensor) -> Tensor:
        red = images[:, :1, :16, :16].mean(dim=(2, 3)) - 0.6
        return torch.cat([red * 100, torch.zeros(len(images), 2)], dim=1)

    return Backbone(card=CARD, device=torch.device("cpu"), module=nn.Identity(), logits=logits)


def masks() -> np.ndarray:
    """Four with an object in the top-left quarter and a void band below, one all object, one all background."""
    found = np.zeros((6, SIZE, SIZE), dtype=np.uint8)
    found[:4, :16, :16] = np.array([1, 2, 1, 7], dtype=np.uint8)[:, None, None]
    found[:4, 16:18] = 255
    found[4] = 1
    return found


def pixels() -> np.ndarray:
    """Grey noise of another level in each picture, with a red object."""
    found = np.random.default_rng(0).integers(60, 100, (6, SIZE, SIZE, 3), dtype=np.uint8)
    found += np.arange(6, dtype=np.uint8)[:, None, None, None] * 20
    found[:, :16, :16, 0] = 250
    return found


def job(condition: context.Condition, **more: Any) -> Job:
    given: dict[str, Any] = {"backbone": red_net(), "ids": IDS, "pixels": pixels(), "masks": masks(), "batch_size": 4}
    return Job(condition=condition, labels=np.zeros(6, dtype=np.int64), **(given | more))


def shown(condition: context.Condition, **more: Any) -> dict[str, Tensor]:
    """What the network is shown of every picture that counts."""
    kept: dict[str, Tensor] = {}
    work = job(
        condition, exhibits=frozenset(IDS), keep=lambda item, image, at=(), says="": kept.update({item: image}), **more
    )
    for _ in context.measure(work):
        pass
    return kept


def columns(blocks: Iterator[Scores], metric: str) -> dict[str, float]:
    return {i: v for b in blocks for i, v in zip(b.items, torch.as_tensor(b.values[metric]).tolist(), strict=True)}


def noisy(where: Any, strength: float = 60.0, **more: Any) -> context.Condition:
    return context.Condition(where=where, fill="noise", strength=strength, **more)


BATCH = next(job(context.Condition(), batch_size=6).batches())
OBJECT = torch.from_numpy(masks() % 255 > 0)[:, None]
VOID = torch.from_numpy(masks() == 255)[:, None].expand(-1, 3, -1, -1)
WHOLE, NONE = torch.ones(6, SIZE, SIZE, dtype=torch.uint8), torch.zeros(6, SIZE, SIZE, dtype=torch.uint8)


def noise(seed: int = 0, run: int = 0) -> Tensor:
    return randomness.normal(randomness.stream(seed, IDS, f"context/noise/run={run}"), 3 * SIZE**2).view(
        6, 3, SIZE, SIZE
    )


@pytest.mark.parametrize("budget", ["pixel", "norm"])
def test_strength_0_is_the_clean_picture(budget: Any) -> None:
    for where in ("object", "background", "both"):
        seen = context.changed(noisy(where, 0.0, budget=budget), BATCH, 0, torch.from_numpy(masks()))
        assert torch.equal(seen, BATCH.images)


@pytest.mark.parametrize(("mask", "whole", "empty"), [(WHOLE, "object", "background"), (NONE, "background", "object")])
def test_a_mask_of_all_or_nothing_gives_plain_noise_and_the_clean_picture(mask: Tensor, whole: Any, empty: Any) -> None:
    plain = (BATCH.images + noise() * (60 / 255)).clamp(0, 1)
    assert torch.allclose(context.changed(noisy(whole), BATCH, 0, mask), plain, atol=1e-6)
    assert torch.equal(context.changed(noisy(empty), BATCH, 0, mask), BATCH.images)
    assert torch.equal(context.changed(noisy(empty, 50.0, budget="norm"), BATCH, 0, mask), BATCH.images)
    assert torch.allclose(context.changed(noisy("both"), BATCH, 0, mask), plain, atol=1e-6)


def test_the_noise_of_both_is_that_of_object_and_background_and_void_has_none() -> None:
    mask = torch.from_numpy(masks())
    on = {where: context.changed(noisy(where), BATCH, 0, mask) for where in ("object", "background", "both")}
    assert torch.equal(torch.where(OBJECT, on["object"], on["background"]), on["both"])
    assert torch.equal(on["background"].where(OBJECT, BATCH.images), BATCH.images)
    assert VOID.any()
    for seen in on.values():
        assert torch.equal(seen[VOID], BATCH.images[VOID])
    assert not torch.equal(context.changed(noisy("both", run=1), BATCH, 0, mask), on["both"])


def test_a_norm_is_the_same_for_a_small_and_a_large_region() -> None:
    middle = torch.full((6, 3, SIZE, SIZE), 0.5)  # nothing is clipped
    keys = randomness.stream(3, IDS, "norm")
    for region in (OBJECT, ~OBJECT):
        added = regions.add_noise(middle, region, keys, 2.0, norm=True) - middle
        norms = added.double().flatten(1).norm(dim=1)
        there = region.flatten(1).any(dim=1)
        assert norms[there].tolist() == pytest.approx([2.0] * int(there.sum()), rel=1e-4)
        assert norms[~there].tolist() == [0.0] * int((~there).sum())
        assert not added[~region.expand(-1, 3, -1, -1)].any()


def test_object_only_is_gray_around_and_background_only_gray_inside() -> None:
    alone, without = shown(context.Condition(where="background")), shown(context.Condition(where="object"))
    assert alone.keys() == without.keys() == {"i0", "i1", "i2", "i3"}
    for k in range(4):
        clean, values = BATCH.images[k], torch.from_numpy(masks()[k])
        there, around = (values > 0) & (values < 255), values == 0
        assert torch.equal(alone[f"i{k}"][:, ~around], clean[:, ~around])
        assert (alone[f"i{k}"][:, around] == 0.5).all()
        assert torch.equal(without[f"i{k}"][:, ~there], clean[:, ~there])
        assert (without[f"i{k}"][:, there] == 0.5).all()


def test_a_network_that_looks_at_the_object_alone_keeps_object_only() -> None:
    assert set(columns(context.measure(job(context.Condition(where="background"))), "top1").values()) == {1.0}
    assert set(columns(context.measure(job(context.Condition(where="object"))), "top1").values()) == {0.0}
    blurred = columns(context.measure(job(context.Condition(where="background", fill="blur"))), "top1")
    assert set(blurred.values()) == {1.0}


def test_pictures_without_one_of_the_regions_are_left_out_and_the_area_is_that_of_the_object() -> None:
    said: list[str] = []
    found = columns(context.measure(job(context.Condition(), warn=said.append)), "mask_area")
    assert found == {f"i{k}": pytest.approx(16 * 16 / SIZE**2) for k in range(4)}
    assert said == ["2 of 6 images show no object, or no background, and are left out"]
    with pytest.raises(VitalsError, match="must show an object and a background"):
        next(context.measure(job(context.Condition(), masks=np.zeros_like(masks()))))


def test_swap_shows_the_object_before_the_background_of_another_picture() -> None:
    seen = shown(context.Condition(fill="swap"))
    levels = {k: float(BATCH.images[k][:, 18:].mean()) for k in range(4)}
    partners = []
    for k in range(4):
        values = torch.from_numpy(masks()[k])
        assert torch.equal(seen[f"i{k}"][:, values > 0], BATCH.images[k][:, values > 0])
        level = float(seen[f"i{k}"][:, 18:].mean())
        partners.append(min(levels, key=lambda other: abs(levels[other] - level)))
        assert torch.equal(seen[f"i{k}"][:, 18:], BATCH.images[partners[-1]][:, 18:])
    assert sorted(partners) == [0, 1, 2, 3], "each gives its background to one other"
    assert all(partner != k for k, partner in enumerate(partners))
    runs = [shown(context.Condition(fill="swap", run=run)) for run in range(1, 5)]
    assert any(not torch.equal(other["i0"], seen["i0"]) for other in runs)


def test_a_copy_is_no_other_picture() -> None:
    same = {"i1": "i0", "i3": "i0"}
    twice = pixels()
    twice[[1, 3]] = twice[0]
    seen = shown(context.Condition(fill="swap"), copies=same, pixels=twice)
    for k in (0, 1, 3):
        assert torch.equal(seen[f"i{k}"][:, 18:], BATCH.images[2][:, 18:])
    with pytest.raises(VitalsError, match="two different pictures"):
        shown(context.Condition(fill="swap"), copies={f"i{k}": "i0" for k in range(1, 6)})


def test_the_object_of_the_other_picture_does_not_come_with_its_background() -> None:
    background = ~OBJECT[:4]
    filled = regions.without_object(BATCH.images[:4], background)
    everywhere = background.expand(-1, 3, -1, -1)
    assert torch.equal(filled[everywhere], BATCH.images[:4][everywhere])
    for k in range(4):
        around, inside = BATCH.images[k][0][background[k, 0]], filled[k, 0][~background[k, 0]]
        assert around.min() <= inside.min()
        assert inside.max() <= around.max() + 1e-6, "the object is red, the background is not"
        assert inside.mean() == pytest.approx(float(around.mean()), abs=0.01)
    flat = torch.full((1, 3, SIZE, SIZE), 0.25)
    assert torch.allclose(regions.without_object(flat, background[:1]), flat, atol=1e-6)


def points(*strengths: float) -> list[dict[str, Any]]:
    return [{"where": where, "strength": s} for s in strengths for where in ("object", "background")]


def rfs(f: Any, b: Any) -> Any:
    found = context.sensitivity(points(30.0), np.stack([np.asarray(f, float), np.asarray(b, float)], axis=-1))
    assert found is not None
    return found.tolist()


def test_the_laws_of_the_sensitivity() -> None:
    f, b = np.random.default_rng(0).random((2, 200))
    assert rfs(f, b) == pytest.approx([-x for x in rfs(b, f)])
    assert rfs(f, b) == pytest.approx(rfs(1 - b, 1 - f))
    assert max(map(abs, rfs(f, b))) <= 1
    assert rfs([0, 0.4, 0.5, 1], [0.3, 1, 0.5, 0.2]) == pytest.approx([1, 1, 0, -1])
    assert np.isnan(rfs([0, 1], [0, 1])).all(), "where nothing is right, or all is, there is no room"
    assert rfs(0.2, 0.6) == pytest.approx(0.4 / 0.8)


def test_accuracies_are_averaged_over_the_strengths_of_both_before_the_formula() -> None:
    means = np.array([0.8, 0.9, 0.0, 0.5])  # f, b at 30, f, b at 90
    found = context.sensitivity(points(30.0, 90.0), means)
    assert found == pytest.approx((0.7 - 0.4) / (2 * min(0.55, 0.45)))
    lonely = [*points(30.0, 90.0), {"where": "background", "strength": 150.0}, {"where": "both", "strength": 30.0}]
    assert context.sensitivity(lonely, np.append(means, [0.1, 0.0])) == found
    assert context.sensitivity([{"where": "object", "strength": 30.0}], np.array([0.5])) is None
    assert context._weakest(lonely[::-1]) == lonely[::-1].index({"where": "background", "strength": 30.0})


def test_the_default_is_eight_passes() -> None:
    found = context.conditions("default", (224, 224))
    assert len(found) == 8
    assert sum(c.fill == "noise" for c in found) == 6
    assert {(c.where, c.fill) for c in found if c.fill != "noise"} == {("object", "gray"), ("background", "gray")}
    assert {c.budget for c in context.conditions("paper", (224, 224)) if c.fill == "noise"} == {"pixel", "norm"}


def test_how_much_room_the_sensitivity_has_is_told() -> None:
    means = np.array([0.8, 0.9, 0.0, 0.5])
    assert context._room(points(30.0, 90.0), means) == pytest.approx(0.45)
    assert context._room(points(30.0, 90.0), means / 2) == pytest.approx(0.275)
    assert all(sign.room is context._room for sign in context.SIGNS if sign.kind == "index")


def test_a_sign_that_rests_on_fewer_than_five_images_has_no_value(tmp_path: Path) -> None:
    for backbone, right in ((CELL.backbone, 5), (OTHER, 4)):
        keep(tmp_path, {f"{k:04d}": float(k < right) for k in range(20)}, backbone=backbone)
    run = results.load(tmp_path)
    sign = Sign(
        title="s",
        kind="index",
        index=lambda _, means: means[..., 0],
        room=lambda _, means: float(means[0]),
        unit="none",
    )
    column = signs.column_of(run, Record(name="holes"), sign)
    images = CELL.images.spec
    told, silent = (column.readings[spec, images].estimate for spec in ("tiny:vit", "tiny:cnn"))
    assert (told.value, told.n) == (0.25, 20)
    assert np.isnan([silent.value, silent.low, silent.high]).all()
    assert silent.n == 20
    assert signs.compare(run, column, images, "tiny:vit", "tiny:cnn") is None
    assert signs.best(run, dataclasses.replace(column, sign=dataclasses.replace(sign, better="high")), images) is None


def test_an_audit_of_the_embedded_network_has_the_signs_of_its_columns(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    asked = Plan(
        backbones=("tiny:cnn",), data=("shapes:test?n=48",), studies=(Section(name="clean"), Section(name="context"))
    )
    runner.execute(planner.make(asked, device=cpu), out=tmp_path / "run", device=cpu, command=("vitals", "test"))
    run = results.load(tmp_path / "run")
    (row,) = signs.vital_signs(run)
    mean = {
        tuple(p.condition[k] for k in ("where", "fill", "strength")): run.estimate(p, "top1").value
        for p in run.of("context")
    }
    f, b = (np.mean([mean[where, "noise", s] for s in (10, 30, 90)]) for where in ("object", "background"))
    found = row["relative foreground sensitivity"]
    assert found.value == pytest.approx((b - f) / (2 * min((f + b) / 2, 1 - (f + b) / 2)))
    assert found.n == 48
    assert -1 <= found.low < found.value < found.high <= 1
    assert row["kept, object only"].value > row["kept, background only"].value, "its classes are shapes"
    areas = {run.estimate(p, "mask_area").value for p in run.of("context")}
    assert len(areas) == 1
    assert 0 < areas.pop() < 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"where": "sky"}, "`where` must be one of object"),
        ({"fill": "black"}, "`fill` must be one of noise"),
        ({"fill": "noise", "budget": "energy"}, "`budget` must be one of pixel"),
        ({"fill": "noise", "strength": -1.0}, "`strength` must be a number from 0"),
        ({"fill": "noise", "strength": float("nan")}, "`strength` must be a number from 0"),
        ({"fill": "noise", "strength": float("inf")}, "`strength` must be a number from 0"),
        ({"strength": 30.0}, "those of `fill = noise`"),
        ({"budget": "norm"}, "those of `fill = noise`"),
        ({"fill": "swap", "where": "object"}, "must have `where = background`"),
        ({"run": 1}, "nothing is drawn"),
        ({"fill": "swap", "run": -1}, "must not be negative"),
    ],
)
def test_a_condition_that_means_nothing_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(VitalsError, match=says):
        context.Condition(**wrong)


def test_sets_without_masks_and_swaps_of_one_picture_are_refused() -> None:
    assert "masks" in str(context.refusal(context.Condition(), CARD, NO_IMAGES))
    assert context.refusal(context.Condition(fill="swap"), CARD, MASKED) is None
    one = dataclasses.replace(MASKED, n=1)
    assert "two pictures" in str(context.refusal(context.Condition(fill="swap"), CARD, one))
    assert context.refusal(context.Condition(), CARD, one) is None
