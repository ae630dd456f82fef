"""The contract of a study, run over every file in studies/."""

import dataclasses
import functools
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from visionvitals import registry
from visionvitals.core import Backbone, ImageSetCard, Job, Preset, Row
from visionvitals.metrics import METRICS
from visionvitals.run.identity import changed

SIZE = (32, 32)
N = 21
STUDIES = registry.names("studies")
CLASSES = tuple("abcdefg")
IMAGES = ImageSetCard(
    spec="python:test",
    digest="0",
    n=N,
    classes=CLASSES,
    class_names=CLASSES,
    provides=("texture", "mask"),
)
LEARN = ("adversarial_patch",)
"""Studies that learn from some of the images and score the others: a training image gets no row."""
FOLLOW = ("attack",)
"""Studies whose inputs follow the network's own gradients, whose last bits depend on the batch shape as those of logits do: where a
gradient is next to zero its sign can turn, so that few pixels differ, by no more than the attack allows."""


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest) -> ModuleType:
    return registry.load("studies", request.param)


@functools.cache
def backbone() -> Backbone:
    """A random transformer with all that a study can ask for: 8 x 8-px patches, two blocks, a class and a distillation token."""
    text = (
        "timm:deit_tiny_distilled_patch16_224?pretrained=false&model.img_size=32&model.patch_size=8&model.depth=2"
        "&model.embed_dim=24&model.num_heads=2&model.num_classes=7"
    )
    found = registry.load("backbones", "timm").load(registry.parse(text, families=["timm"]), device=torch.device("cpu"))
    assert isinstance(found, Backbone)
    assert found.card.preprocess.size == SIZE
    return dataclasses.replace(found, card=dataclasses.replace(found.card, classes=CLASSES))


def job(condition: Any, *, batch_size: int = 4, seed: int = 0, **more: Any) -> Job:
    pixels = np.random.default_rng(0).integers(0, 256, (N, *SIZE, 3), dtype=np.uint8)
    masks = np.zeros((N, *SIZE), dtype=np.uint8)
    masks[:, 4:20, 8:30] = 1
    masks[::2, 20:24] = 255
    return Job(
        backbone=backbone(),
        masks=masks,
        condition=condition,
        ids=[f"i{k}" for k in range(N)],
        pixels=pixels,
        labels=np.arange(N) % 7,
        images=IMAGES,
        textures=np.arange(N) * 3 % 7,
        batch_size=batch_size,
        seed=seed,
        companion=lambda spec: backbone(),
        **more,
    )


def measurable(study: ModuleType) -> list[Any]:
    """Of the conditions that the small network allows, over all presets, at most forty evenly spread ones."""
    every = [c for preset in get_args(Preset) for c in study.conditions(preset, SIZE)]
    allowed = [c for c in dict.fromkeys(every) if study.refusal(c, backbone().card, IMAGES) is None]
    return allowed[:: -(-len(allowed) // 40) or 1]


def one_of(study: ModuleType, index: int) -> Any:
    """One measurable condition; a study that none of this file's networks and sets allow states these laws in tests of its own."""
    found = measurable(study)
    if not found:
        pytest.skip("needs another network or image set; see its own tests")
    return found[index]


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
    for condition in measurable(study):
        rows = list(study.measure(job(condition)))
        keys = [(r.item, r.metric, r.at) for r in rows]
        assert len(set(keys)) == len(keys)
        assert {r.metric for r in rows} <= set(METRICS)
        everyone = {f"i{k}" for k in range(N)}
        scored = {r.item for r in rows}
        if study.AXES:  # where there are places, not every image has each, and items can be classes or episodes
            assert scored
        else:
            learns = study.__name__.rpartition(".")[2] in LEARN
            assert scored == everyone or (learns and set() < scored < everyone)
            for metric in {r.metric for r in rows}:
                assert {r.item for r in rows if r.metric == metric} == scored
        assert all(np.isfinite(r.value) for r in rows)


def test_rows_do_not_depend_on_the_batch_size(study: ModuleType) -> None:
    for condition in measurable(study):
        results = [sorted(study.measure(job(condition, batch_size=size))) for size in (1, 7, 64)]
        assert [r[:2] for r in results[0]] == [r[:2] for r in results[1]] == [r[:2] for r in results[2]]
        follows = study.__name__.rpartition(".")[2] in FOLLOW
        for other in results[1:]:
            values = [r.value for r in other], [r.value for r in results[0]]
            np.testing.assert_allclose(*values, atol=1e-2 if follows else 1e-6)


def test_the_network_sees_the_same_bits_for_any_batch_size(study: ModuleType) -> None:
    for condition in measurable(study):
        seen: dict[int, dict[Any, Tensor]] = {}
        for size in (1, 7, 64):
            kept: dict[Any, Tensor] = {}

            def keep(item: str, image: Tensor, at: Any = (), kept: dict[Any, Tensor] = kept) -> None:
                kept[item, at] = image

            everything = frozenset(f"i{k}" for k in range(N))
            list(study.measure(job(condition, batch_size=size, exhibits=everything, keep=keep)))
            seen[size] = kept
        follows = study.__name__.rpartition(".")[2] in FOLLOW
        for item, image in seen[1].items():
            for other in (seen[7][item], seen[64][item]):
                assert torch.equal(image, other) or follows
                assert ((image - other).abs() > 1e-5).double().mean() < 0.02
            assert image.min() >= 0
            assert image.max() <= 1


def test_progress_counts_every_image(study: ModuleType) -> None:
    done: list[int] = []
    list(study.measure(job(one_of(study, 0), progress=done.append)))
    assert sum(done) == N


def test_a_repeated_cell_is_equal_and_another_run_is_not(study: ModuleType) -> None:
    fields = {f.name for f in dataclasses.fields(study.Condition)}
    condition = one_of(study, -1)
    first: list[Row] = list(study.measure(job(condition)))
    assert first == list(study.measure(job(condition)))
    if "run" in fields:
        assert first != list(study.measure(job(dataclasses.replace(condition, run=condition.run + 1))))
        assert first != list(study.measure(job(condition, seed=1)))
