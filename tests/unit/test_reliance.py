"""The study `reliance`: its points, what it refuses, and its numbers from the plan to the vital signs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from measured import measured
from torch import Tensor

from visionvitals import results
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.job import Batch, Job
from visionvitals.perturb import suppress
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.report import charts
from visionvitals.results import signs
from visionvitals.run import runner
from visionvitals.studies import _cues, reliance
from visionvitals.studies.reliance import Condition

CPU = torch.device("cpu")


def card(height: int = 224, width: int = 224, resize: int | None = None) -> BackboneCard:
    pre = Preprocess(size=(height, width), resize=resize, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return BackboneCard(spec="x:y", architecture="y", digest="0", preprocess=pre, outputs=10, parameters=1)


def test_the_presets() -> None:
    quick, default, paper = (reliance.conditions(preset, (224, 224)) for preset in ("quick", "default", "paper"))
    assert [c.suppress for c in quick] == ["none", "global_shape", "local_shape", "texture", "colour"]
    assert [_cues.grid(c) for c in quick] == [None, (4, 4), (8, 8), None, None]
    assert len(default) == 9
    assert set(quick) <= set(default), "what was measured in a hurry is not measured again"
    assert [(c.suppress, _cues.grid(c)) for c in paper[1:3]] == [("global_shape", (3, 3)), ("local_shape", (6, 6))]
    assert len(paper) == 5 + 35 + 27
    assert sum(c.then == "none" for c in paper[5:]) == 35
    assert all(c.protocol == "paper" for c in paper)
    assert all(reliance.refusal(c, card(), NO_IMAGES) is None for c in (*quick, *default, *paper))


@pytest.mark.parametrize(
    ("side", "grid"),
    [(224, 4), (384, 4), (256, 4), (288, 4), (336, 4), (240, 4), (380, 5), (518, 7), (300, 3), (299, 4)],
)
def test_the_usual_grid_divides_the_input_twice(side: int, grid: int) -> None:
    assert reliance.usual_cells((side, side)) == grid
    assert (side % (2 * grid) == 0) == (side != 299)


def test_what_cannot_be_measured_is_refused_with_the_reason() -> None:
    cases = [
        (Condition(suppress="local_shape"), card(299, 299), "a grid of 8x8 does not divide the 299x299 input into whole cells"),
        (Condition(suppress="global_shape", cells=3), card(), "a grid of 3x3 does not divide"),
        (Condition(suppress="shuffle", cells=16, protocol="paper"), card(8, 8), "more cells than the 8x8 input has pixels"),
        (Condition(suppress="rotate", cells=4), card(224, 256), "cells of 56x64 px are not square"),
        (Condition(suppress="texture"), card(6, 6), "a filter that reaches 6 px is larger than the 6x6 input"),
        (Condition(suppress="gaussian", amount=15.0), card(7, 32), "reaches 7 px"),
    ]  # fmt: skip
    for condition, backbone, said in cases:
        assert said in str(reliance.refusal(condition, backbone, NO_IMAGES))
    fits = Condition(suppress="global_shape", cells=3, protocol="paper")
    assert reliance.refusal(fits, card(), NO_IMAGES) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"suppress": "shape"}, "`suppress` must be one of none, global_shape"),
        ({"suppress": "texture", "amount": 5.0}, "`amount` must be 0 for `texture`"),
        ({"suppress": "bilateral", "amount": float("inf")}, "`amount` must be a finite number"),
        ({"suppress": "bilateral"}, "`amount` of `bilateral` must be a whole number of pixels"),
        ({"suppress": "gaussian", "amount": 4.0}, "must be an odd number of pixels from 3. Got 4"),
        ({"suppress": "grey", "amount": 20.0}, r"`amount` of `grey` must be in \[0, 1\]"),
        ({"suppress": "colour", "then": "shuffle"}, "`then` must be `none` after a cue"),
        ({"suppress": "grey", "amount": 1.0, "then": "grey"}, "another operation"),
        ({"cells": 0}, "`cells` must be a positive number"),
        ({"protocol": "published"}, "`protocol` must be one of own, paper"),
        ({"run": -1}, "`run` must not be negative"),
    ],
)
def test_a_condition_refuses_what_has_no_meaning(values: dict[str, object], said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        Condition(**values)  # type: ignore[arg-type]


def test_the_published_protocol_shows_whole_pictures() -> None:
    usual = card(resize=256).preprocess
    assert reliance.cut(Condition(suppress="texture"), usual) == usual
    assert reliance.cut(Condition(protocol="paper"), usual) == dataclasses.replace(usual, resize=None)
    assert all(p.where["protocol"] == "paper" for p in reliance.PUBLISHED)


def test_the_published_strengths() -> None:
    pairs = [_cues.bilateral(Condition(suppress="bilateral", amount=float(d)))[:2] for d in _cues.SWEPT["bilateral"]]
    assert pairs == [(4, 50), (6, 80), (8, 110), (10, 140), (12, 170), (14, 200)]
    assert _cues.bilateral(Condition(suppress="texture")) == (12, 170, 75)


def batch(side: int = 48) -> Batch:
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(3, dtype=torch.int64)
    return Batch(("a", "b", "c"), images, labels, labels, slice(0, 3), card(side, side))


def test_of_two_operations_the_first_is_done_first() -> None:
    b = batch()
    one = Condition(suppress="bilateral", amount=6.0)
    both = dataclasses.replace(one, then="shuffle")
    filtered = b._replace(images=reliance.perturb(one, b, 0))
    expected = reliance.perturb(Condition(suppress="shuffle"), filtered, 0)
    assert torch.equal(reliance.perturb(both, b, 0), expected)
    grey = reliance.perturb(dataclasses.replace(one, then="grey"), b, 0)
    assert torch.equal(grey, suppress.grey(filtered.images, 1.0))


def test_cues_are_the_operations_that_they_stand_for() -> None:
    b = batch()
    for cue, same in (
        ("global_shape", Condition(suppress="shuffle")),
        ("local_shape", Condition(suppress="shuffle", cells=8)),
        ("texture", Condition(suppress="bilateral", amount=12.0)),
        ("colour", Condition(suppress="grey", amount=1.0)),
    ):
        found = reliance.perturb(Condition(suppress=cue), b, 0)  # type: ignore[arg-type]
        assert torch.equal(found, reliance.perturb(same, b, 0)), cue
        assert not torch.equal(found, b.images)


def averaging() -> Backbone:
    """A network that averages what it sees in 4 x 4 cells, and cannot know where they are."""

    def logits(images: Tensor) -> Tensor:
        cells = images.unfold(2, 12, 12).unfold(3, 12, 12)  # (b, 3, 4, 4, 12, 12)
        seen = (cells * torch.linspace(-1, 1, 144).view(12, 12)).sum(dim=(4, 5)).tanh().mean(dim=(2, 3))  # (b, 3)
        return torch.cat([seen, -seen, 2 * seen.square(), seen.sum(dim=1, keepdim=True)], dim=1)

    return Backbone(card=card(48, 48), logits=logits, module=torch.nn.Identity(), device=CPU)


def test_a_network_without_positions_keeps_all_under_a_shuffle_at_its_grid_and_not_at_another() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 48, 3), dtype=np.uint8)
    ids = [f"i{k}" for k in range(40)]
    network = averaging()
    plain = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255

    def accuracy(condition: Condition) -> float:
        labels = network.logits(plain).argmax(dim=1).numpy()  # it is right on all unchanged pictures
        work = Job(backbone=network, condition=condition, ids=ids, pixels=pixels, labels=labels, batch_size=7)
        found = measured(reliance, work)
        return float(np.mean([v for (_, metric, _), v in found.items() if metric == "top1"]))

    assert accuracy(Condition()) == 1
    assert accuracy(Condition(suppress="global_shape")) == 1
    assert accuracy(Condition(suppress="local_shape")) < 0.8
    assert accuracy(Condition(suppress="shuffle", cells=2)) == 1, "whole cells of its own"


def test_cells_that_cut_through_patches_are_told() -> None:
    def told(condition: Condition, patches: tuple[int, int] | None) -> list[str]:
        said: list[str] = []
        network = dataclasses.replace(averaging(), card=dataclasses.replace(card(48, 48), patch_grid=patches))
        pixels = np.zeros((2, 48, 48, 3), dtype=np.uint8)
        labels = np.zeros(2, dtype=np.int64)
        list(
            reliance.measure(
                Job(
                    backbone=network,
                    condition=condition,
                    ids=["a", "b"],
                    pixels=pixels,
                    labels=labels,
                    warn=said.append,
                )
            )
        )
        return said

    assert told(Condition(suppress="global_shape"), (6, 6)) == [
        "4x4 cells cut through the 6x6 patches of y: it loses more than the shape"
    ]
    assert told(Condition(suppress="global_shape"), (8, 8)) == []
    assert told(Condition(suppress="global_shape"), None) == []
    assert told(Condition(suppress="texture"), (6, 6)) == []


def test_a_curve_counts_what_lies_above_chance() -> None:
    points = [dataclasses.asdict(Condition(protocol="paper"))]
    points += [dataclasses.asdict(Condition(protocol="paper", **values)) for values in _cues.curves()]
    means = np.full(len(points), 0.9)
    means[0] = 0.8
    for k, p in enumerate(points):
        if (p["suppress"], p["then"]) == ("grey", "none"):
            means[k] = 0.8 * p["amount"]
    assert _cues.left(points, means, op="grey") == pytest.approx(0.6)  # the mean of 0.2 .. 1
    assert _cues.left(points, means, op="shuffle") == pytest.approx(0.9 / 0.8)
    several = _cues.left(points, np.stack([means, means / 2]), op="grey")
    assert several is not None
    assert several.tolist() == pytest.approx([0.6, 0.6])
    assert _cues.left(points[1:], means[1:], op="grey") is None
    assert _cues.left(points[:30], means[:30], op="grey") is None
    means[0] = 0.0
    assert np.isnan(_cues.left(points, means, op="grey"))  # type: ignore[arg-type]


def test_from_the_plan_to_the_vital_signs(tmp_path: Path) -> None:
    """Of the embedded networks, which tell shapes by outline and texture."""
    sections = (
        Section(name="clean"),
        Section(name="reliance", preset="quick"),
        Section(name="reliance", values={"suppress": ("none",), "protocol": ("paper",)}),
        Section(name="reliance", values={"suppress": ("grey",), "amount": _cues.SWEPT["grey"], "protocol": ("paper",)}),
    )
    plan = Plan(backbones=("tiny:vit", "tiny:cnn"), data=("shapes:test",), studies=sections, limit=24)
    runner.execute(planner.make(plan, device=CPU), out=tmp_path, device=CPU)
    run = results.load(tmp_path)
    (row,) = [r for r in signs.vital_signs(run) if "cnn" in r["backbone"]]
    kept = [row[f"kept without {cue}"] for cue in ("global shape", "local shape", "texture", "colour")]
    assert all(e.n == 24 and 0 <= e.low <= e.value <= e.high for e in kept)
    accuracy = {
        p.condition["suppress"]: run.estimate(p, "top1").value
        for p in run.of("reliance")
        if "cnn" in p.backbone and p.condition["part"] == _cues.SINGLE and p.condition["protocol"] == "own"
    }
    for cue, e in zip(("global_shape", "local_shape", "texture", "colour"), kept, strict=True):
        assert e.value == pytest.approx(accuracy[cue] / accuracy["none"])
    assert accuracy["local_shape"] < accuracy["none"]
    assert row["score over the grey curve"].n == 24
    assert np.isfinite(row["score over the grey curve"][:3]).all()
    constant = run.metric("reliance", "above_chance")
    assert constant.bounds == (-1, 1), "so that a point at which all are wrong has an interval too"
    drawn = {plot.chart.title: plot for plot in charts.plots(run, "reliance")}
    assert set(drawn) == {"cue by cue", "texture and colour"}
    assert drawn["cue by cue"].x_order == ("none", "global_shape", "local_shape", "texture", "colour")
