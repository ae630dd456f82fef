"""Laws and known answers of the movements of a picture, and of the study that asks whether the answer stays."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measured import Values, measured
from torch import Tensor

from visionvitals import results
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.job import Forgetful, Job
from visionvitals.perturb import geometry as moves
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.report import charts
from visionvitals.results import signs
from visionvitals.run import runner
from visionvitals.studies import geometry
from visionvitals.studies.geometry import Condition

CPU = torch.device("cpu")
NOISE = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
COLOUR = (0.1, 0.2, 0.3)


def ramp(height: int, width: int) -> Tensor:
    """A picture whose value grows by 1/200 a pixel to the right and 1/300 down, from 0.5 in the middle; bilinear sampling is exact on it."""
    y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    return (0.5 + x / 200 + y[:, None] / 300).expand(1, 3, height, width).contiguous()


def test_four_quarter_turns_and_two_flips_change_nothing() -> None:
    out = NOISE
    for _ in range(4):
        out = moves.turn(out, 1)
    assert torch.equal(out, NOISE)
    assert torch.equal(moves.turn(moves.turn(NOISE, 3), 1), NOISE)
    assert torch.equal(moves.turn(torch.arange(4.0).view(1, 1, 2, 2), 1).flatten(), torch.tensor([1.0, 3.0, 0.0, 2.0]))
    with pytest.raises(VitalsError, match="Only a square image"):
        moves.turn(NOISE[:, :, :10], 1)


def test_a_movement_by_nothing_changes_nothing() -> None:
    assert torch.equal(moves.roll(NOISE, 0), NOISE)
    assert torch.equal(moves.push(NOISE, 0, COLOUR), NOISE)
    assert torch.equal(moves.scale(NOISE, 1.0, COLOUR), NOISE)
    assert torch.allclose(moves.window(NOISE, 1.0), NOISE, atol=1e-5)
    assert torch.equal(moves.roll(moves.roll(NOISE, 5), -5), NOISE)


@pytest.mark.parametrize("pixels", [3, -3])
def test_a_shift_goes_right_and_down(pixels: int) -> None:
    out = moves.push(NOISE, pixels, COLOUR)
    rolled = moves.roll(NOISE, pixels)
    inside = slice(3, None) if pixels > 0 else slice(None, -3)
    assert torch.equal(out[:, :, inside, inside], rolled[:, :, inside, inside])
    assert torch.equal(rolled[:, :, 10 + pixels, 12 + pixels], NOISE[:, :, 10, 12])
    corner = out[:, :, 0 if pixels > 0 else -1, 5]
    assert torch.allclose(corner, torch.tensor(COLOUR).expand(2, 3))
    with pytest.raises(VitalsError, match=r"The shift must be smaller than the image. Got 32"):
        moves.push(NOISE, 32, COLOUR)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40)])
@pytest.mark.parametrize("degrees", [0.0, 10.0, -30.0, 45.0, 90.0, 135.0, 180.0])
def test_a_rotation_is_exact_on_a_ramp_and_its_window_shows_no_corner(height: int, width: int, degrees: float) -> None:
    share = moves.inscribed(degrees, (height, width))
    out = moves.window(ramp(height, width), share, degrees=degrees)[0, 0]
    y, x = torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2
    c, s = share * math.cos(math.radians(degrees)), share * math.sin(math.radians(degrees))
    y = y[:, None]
    expected = (
        0.5 + (c * x - s * y) / 200 + (s * x + c * y) / 300
    )  # what turns against the clock shows where it came from, y down
    edge = slice(1, -1)  # half a pixel beyond the centres of the outermost pixels there is nothing to interpolate with
    assert torch.allclose(out[edge, edge], expected[edge, edge], atol=1e-4)
    larger = moves.window(torch.ones(1, 3, height, width), min(1.0, share), degrees=degrees)
    assert torch.allclose(larger, torch.ones_like(larger), atol=1e-6)


def test_the_window_is_the_largest() -> None:
    """A window a little larger would show a place beyond the picture."""
    for degrees in (10.0, 45.0, -70.0):
        for h, w in ((32.0, 32.0), (24.0, 40.0)):
            share = moves.inscribed(degrees, (int(h), int(w)))
            c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
            corners = [(x * w / 2 * share, y * h / 2 * share) for x in (-1, 1) for y in (-1, 1)]
            reach = max(max(abs(c * x - s * y) / (w / 2), abs(s * x + c * y) / (h / 2)) for x, y in corners)
            assert reach == pytest.approx(1)


def test_a_quarter_rotated_is_a_quarter_turned() -> None:
    for quarters in (1, 2, 3):
        rotated = moves.window(NOISE, moves.inscribed(90.0 * quarters, (32, 32)), degrees=90.0 * quarters)
        assert torch.allclose(rotated, moves.turn(NOISE, quarters), atol=1e-4)


def test_a_window_moves_over_the_picture() -> None:
    still, moved = moves.window(NOISE, 7 / 8), moves.window(NOISE, 7 / 8, pixels=2.0)
    assert torch.allclose(moved[:, :, 4:, 4:], still[:, :, 2:-2, 2:-2], atol=1e-5)
    assert not torch.allclose(moved[:, :, :2], still[:, :, :2], atol=1e-2), "what comes in is the picture"


def test_a_scaled_picture_stands_in_the_middle() -> None:
    white = torch.ones(1, 3, 32, 32)
    small = moves.scale(white, 0.5, COLOUR)
    assert torch.allclose(small[:, :, 8:24, 8:24], torch.ones(1, 3, 16, 16))
    assert torch.allclose(small.sum(dim=(2, 3)), 256 + 768 * torch.tensor([COLOUR]))
    large = moves.scale(ramp(32, 32), 2.0, COLOUR)
    assert torch.allclose(large[:, :, 2:-2, 2:-2], (0.5 + (ramp(32, 32) - 0.5) / 2)[:, :, 2:-2, 2:-2], atol=1e-5)


def card(height: int = 32, width: int = 32, outputs: int = 10) -> BackboneCard:
    pre = Preprocess(
        size=(height, width), resize=max(height, width) + 8, interpolation="bilinear", mean=COLOUR, std=(0.5,) * 3
    )
    return BackboneCard(spec="x:y", architecture="y", digest="0", preprocess=pre, outputs=outputs, parameters=1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"move": "jump"}, "`move` must be one of shift, turn"),
        ({"move": "shift", "amount": 4.0}, "`edge` of a shift must be roll, fill or margin"),
        ({"move": "shift", "amount": float("nan"), "edge": "roll"}, "`amount` must be a finite number"),
        ({"move": "shift", "amount": 0.5, "edge": "roll"}, "whole number of pixels"),
        ({"move": "turn", "amount": 45.0}, "must be 0, 90, 180 or 270 degrees.*See `rotate`"),
        ({"move": "rotate", "amount": 270.0}, "over -180 and up to 180"),
        ({"move": "scale", "amount": 0.0}, "over 0 and up to 4"),
        ({"move": "flip", "amount": 1.0}, "`amount` must be 0 for `flip`"),
        ({"move": "flip", "edge": "roll"}, "only a shift has one"),
    ],
)
def test_a_condition_refuses_what_has_no_meaning(values: dict[str, object], said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        Condition(**values)  # type: ignore[arg-type]


def test_what_cannot_be_measured_is_refused_with_the_reason() -> None:
    margin = Condition(move="shift", amount=17.0, edge="margin")
    assert "more than the 16 px that `margin` has in a 224x224 input" in str(
        geometry.refusal(margin, card(224, 224), NO_IMAGES)
    )
    assert geometry.refusal(dataclasses.replace(margin, amount=-16.0), card(224, 224), NO_IMAGES) is None
    far = Condition(move="shift", amount=-32.0, edge="fill")
    assert "more than the 31 px" in str(geometry.refusal(far, card(), NO_IMAGES))
    quarter = Condition(move="turn", amount=90.0)
    assert "the 24x32 input is not square" in str(geometry.refusal(quarter, card(24), NO_IMAGES))
    assert geometry.refusal(dataclasses.replace(quarter, amount=180.0), card(24), NO_IMAGES) is None
    assert "y has 0 outputs" in str(geometry.refusal(Condition(), card(outputs=0), NO_IMAGES))


def test_the_presets_grow() -> None:
    quick, default, paper = (set(geometry.conditions(preset, (224, 224))) for preset in ("quick", "default", "paper"))
    assert quick <= default <= paper
    assert (len(quick), len(default)) == (5, 21)
    small = {c.amount for c in geometry.conditions("paper", (64, 64)) if c.edge == "margin"}
    assert small == {1, 2, 4}, "those that the margin has"
    assert {c.amount for c in geometry.conditions("quick", (64, 64)) if c.edge == "margin"} == {4}
    for sign in geometry.SIGNS:
        assert any(all(getattr(c, k) == v for k, v in sign.where.items()) for c in quick), sign.title


def test_a_margin_is_decoded_with_more_of_the_picture() -> None:
    usual = card().preprocess
    assert geometry.cut(Condition(), usual) == usual
    wide = geometry.cut(Condition(move="shift", amount=1.0, edge="margin"), usual)
    assert (wide.size, wide.resize) == ((32, 32), 32)


def job(network: Backbone, condition: Condition, n: int = 24, **more: Any) -> Job:
    h, w = network.card.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (n, h, w, 3), dtype=np.uint8)
    ids = [f"i{k}" for k in range(n)]
    given: dict[str, Any] = {"labels": np.zeros(n, dtype=np.int64), "batch_size": 7, **more}
    return Job(backbone=network, condition=condition, ids=ids, pixels=pixels, **given)


def column(found: Values, metric: str) -> list[float]:
    return [v for (_, name, _), v in found.items() if name == metric]


def linear(seed: int = 0) -> Backbone:
    """A random linear network with ten outputs, that hardly looks at more than a few pixels."""
    weights = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(seed))
    return Backbone(card=card(), logits=lambda x: x.flatten(1) @ weights, module=torch.nn.Identity(), device=CPU)


def test_a_movement_by_nothing_keeps_every_answer_and_others_do_not() -> None:
    network = linear()
    for nothing in (
        Condition(move="turn"), Condition(move="rotate"), Condition(move="scale", amount=1.0),
        *(Condition(move="shift", edge=edge) for edge in ("roll", "fill", "margin")),
    ):  # fmt: skip
        assert column(measured(geometry, job(network, nothing)), "same_answer") == [1.0] * 24, nothing
    moved = column(measured(geometry, job(network, Condition())), "same_answer")
    assert 0 <= sum(moved) < 24


def test_without_labels_there_is_consistency_and_no_accuracy() -> None:
    found = measured(geometry, job(linear(), Condition()))
    free = {"same_answer", "prediction", "confidence"}
    assert {metric for _, metric, _ in found} == free
    with_labels = measured(geometry, job(linear(), Condition(), targets=np.arange(24) % 10))
    assert {metric for _, metric, _ in with_labels} == free | {"top1", "top5", "cross_entropy", "brier"}
    several = np.stack([np.arange(24) % 10, (np.arange(24) + 1) % 10], axis=1)
    either = column(measured(geometry, job(linear(), Condition(), targets=several)), "top1")
    both = [column(measured(geometry, job(linear(), Condition(), targets=several[:, k])), "top1") for k in (0, 1)]
    assert either == [a + b for a, b in zip(*both, strict=True)], "any of several right outputs is right"
    assert column(with_labels, "same_answer") == column(found, "same_answer")


def test_where_both_are_right_the_answer_is_the_same() -> None:
    """Same answers are at least the two accuracies less 1, and all where both are always right."""
    network = linear()
    pixels = torch.from_numpy(job(network, Condition()).pixels).permute(0, 3, 1, 2) / 255
    before = network.logits(pixels).argmax(dim=1).numpy()
    for condition in (
        Condition(),
        Condition(move="shift", amount=1.0, edge="roll"),
        Condition(move="turn", amount=180.0),
    ):
        found = measured(geometry, job(network, condition, targets=before))
        assert column(found, "top1") == column(found, "same_answer"), (
            "the labels are the answers to the pictures unmoved"
        )
    truth = np.where(np.arange(24) % 3 == 0, (before + 1) % 10, before)
    found = measured(geometry, job(network, Condition(), targets=truth))
    same, right = np.mean(column(found, "same_answer")), np.mean(column(found, "top1"))
    assert same >= 16 / 24 + right - 1


def test_a_transformer_without_positions_does_not_see_a_roll_by_whole_patches() -> None:
    network = planner.load_backbone(
        "timm:deit_tiny_patch16_224?pretrained=false&size=32&model.patch_size=8&model.depth=2&model.embed_dim=24"
        "&model.num_heads=2&position=none",
        device=CPU,
    )
    plain = job(network, Condition(move="shift", amount=16.0, edge="roll"))
    images = torch.from_numpy(plain.pixels).permute(0, 3, 1, 2) / 255
    whole, part = (network.logits(moves.roll(images, pixels)) for pixels in (16, 3))
    assert torch.allclose(whole, network.logits(images), atol=1e-5)
    assert not torch.allclose(part, network.logits(images), atol=1e-3)
    assert column(measured(geometry, plain), "same_answer") == [1.0] * 24


class Kept(Forgetful):
    """Memos in memory, by their settings."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def rows(self, name: str, key: Any, n: int, columns: Any, fill: Any) -> Any:
        text = repr((name, key["settings"], key["network"]))
        if text not in self.found:
            self.found[text] = super().rows(name, key, n, columns, fill)
        return self.found[text]


def test_answers_to_pictures_unmoved_are_asked_once_and_never_mixed_with_those_of_other_numerics() -> None:
    network, memos = linear(), Kept()
    asked: list[int] = []

    def counted(images: Tensor) -> Tensor:
        asked.append(len(images))
        return network.logits(images)

    counting = dataclasses.replace(network, logits=counted)
    for condition in (Condition(), Condition(move="turn", amount=180.0), Condition(move="scale", amount=0.5)):
        measured(geometry, job(counting, condition, memos=memos))
    assert sum(asked) == 4 * 24
    other = job(network, Condition(move="turn"), memos=memos, scorer=linear(seed=1))
    assert column(measured(geometry, other), "same_answer") == [1.0] * 24
    margin, plain = Condition(move="shift", edge="margin"), Condition(move="shift", edge="roll")
    assert column(measured(geometry, job(network, margin, memos=memos)), "same_answer") == [1.0] * 24
    assert column(measured(geometry, job(network, plain, memos=memos)), "same_answer") == [1.0] * 24


def test_an_answer_that_is_not_finite_is_none() -> None:
    def logits(images: Tensor) -> Tensor:
        out = linear().logits(images)
        return out.masked_fill(
            (images[:, :1, 0, 0] > images[:, :1, 0, -1]), math.nan
        )  # one of a picture and its mirror image

    broken = dataclasses.replace(linear(), logits=logits)
    found = column(measured(geometry, job(broken, Condition())), "same_answer")
    assert all(math.isnan(v) for v in found)


def test_from_the_plan_to_the_vital_signs_on_pictures_whose_classes_fit_and_do_not(tmp_path: Path) -> None:
    """An ImageNet network without training has no outputs for the shapes: only the sameness of its answers is measured."""
    stranger = "timm:deit_tiny_patch16_224?pretrained=false&size=128&model.depth=1&model.embed_dim=24&model.num_heads=2"
    sections = (Section(name="clean"), Section(name="geometry", preset="quick"))
    plan = Plan(backbones=("tiny:cnn", stranger), data=("shapes:test",), studies=sections, limit=16)
    planned = planner.make(plan, device=CPU)
    assert {skip.study for skip in planned.skips} == {"clean"}, "there are no labels for it"
    runner.execute(planned, out=tmp_path, device=CPU)
    run = results.load(tmp_path)
    known = {
        name: {m for p in run.of("geometry") if ("cnn" in p.backbone) == name for m in p.metrics}
        for name in (True, False)
    }
    assert known[True] - known[False] == {"top1", "top5", "cross_entropy", "brier"}
    assert "same_answer" in known[False]
    for p in run.of("geometry"):
        (cell,) = p.cells
        right = (
            dict(zip(cell.items(()), cell.values(["top1"], ())["top1"].tolist(), strict=True))
            if "cnn" in p.backbone
            else {}
        )
        shown = cell.facts["exhibits"]
        assert shown
        assert {e["item"]: e["correct"] for e in shown if "correct" in e} == {
            e["item"]: right[e["item"]] == 1 for e in shown if right
        }
    row = next(r for r in signs.vital_signs(run) if "cnn" in r["backbone"])
    same = [row[sign.title] for sign in geometry.SIGNS if sign.where["move"] != "shift"]  # 8 px are too much for 64
    assert all(e.n == 16 and 0 <= e.value <= 1 for e in same)
    titles = [plot.chart.title for plot in charts.plots(run, "geometry")]
    assert "rotate: same answer" in titles
    assert "flip: accuracy" in titles
