"""The contract of a study, run over every file in studies/."""

import dataclasses
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from visionvitals import registry
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Job, Preprocess, Preset, Row
from visionvitals.metrics import METRICS
from visionvitals.run.identity import changed

SIZE = (32, 32)
STUDIES = registry.names("studies")
LEARN = ("adversarial_patch",)
"""Studies that learn from some of the images and score the others: a training image gets no row."""


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest) -> ModuleType:
    return registry.load("studies", request.param)


def backbone(size: tuple[int, int] = SIZE, outputs: int = 7) -> Backbone:
    """A linear network with 8 x 8-px patch tokens: the logits are the mean of the visible patches' projections."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        embed = nn.Conv2d(3, outputs, 8, stride=8)

    def tokens(images: Tensor) -> Tensor:
        return embed(images - 0.5).flatten(2)

    def visible(images: Tensor, keep: Tensor) -> Tensor:
        weight = keep[:, None].float()
        return (tokens(images) * weight).sum(2) / weight.sum(2)

    card = BackboneCard(
        spec="python:test",
        architecture="linear",
        digest="0",
        preprocess=Preprocess(size=size, resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs=outputs,
        parameters=1,
        provides=("token_removal",),
        patch_grid=(size[0] // 8, size[1] // 8),
    )
    return Backbone(
        card=card,
        device=torch.device("cpu"),
        module=embed,
        logits=lambda images: tokens(images).mean(2),
        visible_logits=visible,
    )


def job(condition: Any, *, batch_size: int = 4, seed: int = 0, **more: Any) -> Job:
    pixels = np.random.default_rng(0).integers(0, 256, (9, *SIZE, 3), dtype=np.uint8)
    return Job(
        backbone=backbone(),
        condition=condition,
        ids=[f"i{k}" for k in range(9)],
        pixels=pixels,
        labels=np.arange(9) % 7,
        batch_size=batch_size,
        seed=seed,
        companion=lambda spec: backbone(),
        **more,
    )


def measurable(study: ModuleType) -> list[Any]:
    """The conditions that the linear network allows, over all presets, each once."""
    every = [c for preset in get_args(Preset) for c in study.conditions(preset, SIZE)]
    return [c for c in dict.fromkeys(every) if study.refusal(c, backbone().card, NO_IMAGES) is None]


def test_the_list_of_studies_is_frozen() -> None:
    """A file name is part of a result's identity: renaming one orphans results."""
    assert {"clean", "occlusion", "shuffle", "corner"} <= set(STUDIES)


def test_it_says_what_it_is(study: ModuleType) -> None:
    assert study.__doc__
    assert study.VERSION >= 1
    assert study.TITLE
    fields = {f.name for f in dataclasses.fields(study.Condition)}
    assert study.LABELS in ("outputs", "own", "none")
    assert not fields & set(study.AXES)
    fields |= set(study.AXES)
    assert study.CHARTS
    for chart in study.CHARTS:
        assert chart.metric in METRICS
        assert {chart.x, chart.y, *chart.facet, *chart.where} - {""} <= fields
    for known in (*study.SIGNS, *study.PUBLISHED):
        assert set(known.where) <= fields
        assert known.metric in METRICS


def test_conditions_are_frozen_values_with_defaults(study: ModuleType) -> None:
    assert study.Condition() is not None
    assert changed(study.Condition()) == {}
    for preset in get_args(Preset):
        found = study.conditions(preset, SIZE)
        assert found
        assert len(set(found)) == len(found), "a preset plans a condition twice"
        for condition in found:
            assert (
                study.Condition(**{f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)})
                == condition
            )


def test_every_image_gets_every_metric_once(study: ModuleType) -> None:
    for condition in measurable(study)[:40]:
        rows = list(study.measure(job(condition)))
        keys = [(r.item, r.metric, r.at) for r in rows]
        assert len(set(keys)) == len(keys)
        assert {r.metric for r in rows} <= set(METRICS)
        everyone = {f"i{k}" for k in range(9)}
        scored = {r.item for r in rows}
        assert scored == everyone or (study.__name__.rpartition(".")[2] in LEARN and set() < scored < everyone)
        for metric in {r.metric for r in rows}:
            assert {r.item for r in rows if r.metric == metric} == scored
        assert all(np.isfinite(r.value) for r in rows)


def test_rows_do_not_depend_on_the_batch_size(study: ModuleType) -> None:
    for condition in measurable(study)[:40]:
        results = [sorted(study.measure(job(condition, batch_size=size))) for size in (1, 7, 64)]
        assert [r[:2] for r in results[0]] == [r[:2] for r in results[1]] == [r[:2] for r in results[2]]
        for other in results[1:]:
            np.testing.assert_allclose([r.value for r in other], [r.value for r in results[0]], atol=1e-6)


def test_the_network_sees_the_same_bits_for_any_batch_size(study: ModuleType) -> None:
    for condition in measurable(study)[:40]:
        seen: dict[int, dict[str, Tensor]] = {}
        for size in (1, 7, 64):
            kept: dict[str, Tensor] = {}
            everything = frozenset(f"i{k}" for k in range(9))
            list(study.measure(job(condition, batch_size=size, exhibits=everything, keep=kept.__setitem__)))
            seen[size] = kept
        for item, image in seen[1].items():
            assert torch.equal(image, seen[7][item])
            assert torch.equal(image, seen[64][item])
            assert image.min() >= 0
            assert image.max() <= 1


def test_progress_counts_every_image(study: ModuleType) -> None:
    done: list[int] = []
    list(study.measure(job(measurable(study)[0], progress=done.append)))
    assert sum(done) == 9


def test_a_repeated_cell_is_equal_and_another_run_is_not(study: ModuleType) -> None:
    fields = {f.name for f in dataclasses.fields(study.Condition)}
    condition = measurable(study)[-1]
    first: list[Row] = list(study.measure(job(condition)))
    assert first == list(study.measure(job(condition)))
    if "run" in fields:
        assert first != list(study.measure(job(dataclasses.replace(condition, run=condition.run + 1))))
        assert first != list(study.measure(job(condition, seed=1)))
