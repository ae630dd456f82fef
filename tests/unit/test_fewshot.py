"""The few-shot study: the laws of every study with episodes as items, what is refused, and what a run and its report say."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from measured import measured

from visionvitals.core import Backbone, BackboneCard, ImageSetCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.job import Arrays, Columns, Fill, Forgetful, Job
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.probes import episodes
from visionvitals.results import load, table
from visionvitals.run import runner
from visionvitals.run.store import Store
from visionvitals.studies import fewshot
from visionvitals.studies.fewshot import Condition

SIZE = (16, 16)
CPU = torch.device("cpu")
CLASSES = tuple(f"{alphabet}/{k}" for alphabet in ("a", "b") for k in range(6))


def backbone() -> Backbone:
    """Features are the mean colours of four quarters; there are no blocks to look into."""
    module = torch.nn.AvgPool2d(8)

    def features(images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(images).flatten(1)
        return found

    card = BackboneCard(
        spec="python:quarters",
        architecture="quarters",
        digest="0",
        preprocess=Preprocess(size=SIZE, resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs=12,
        parameters=0,
        provides=("features",),
    )
    return Backbone(card=card, device=CPU, module=module, logits=features, features=features)


def job(condition: Condition, *, n: int = 144, batch_size: int = 32, **more: Any) -> Job:
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 12
    colours = rng.integers(0, 256, (12, 2, 2, 3))
    quarters = colours[labels] * 0.45 + rng.integers(0, 140, (n, 2, 2, 3))
    pixels = np.repeat(np.repeat(quarters, 8, 1), 8, 2)
    values: dict[str, Any] = {
        "backbone": backbone(),
        "condition": condition,
        "ids": [f"i{k}" for k in range(n)],
        "pixels": pixels.astype(np.uint8),
        "labels": labels,
        "images": ImageSetCard(spec="s", digest="", n=n, classes=CLASSES, class_names=CLASSES),
        "batch_size": batch_size,
    }
    return Job(**(values | more))


KINDS = [
    Condition(episodes=20, shot=1),
    Condition(episodes=20, way=3, shot=4, queries=5),
    Condition(sampler="variable", way=0, shot=0, episodes=20),
    Condition(sampler="related", way=0, shot=0, episodes=20),
]


@pytest.mark.parametrize("condition", KINDS, ids=["1 shot", "4 shots", "variable", "related"])
def test_every_episode_has_one_accuracy_for_each_solver_whatever_the_batch_size(condition: Condition) -> None:
    found, *others = (measured(fewshot, job(condition, batch_size=size)) for size in (1, 64, 1000))
    assert all(other == found for other in others)
    assert found.keys() == {
        (f"{k:05d}", "episode_accuracy", (solver,)) for k in range(20) for solver in ("logistic", "ridge", "centroid")
    }
    assert all(0 <= value <= 1 for value in found.values())
    assert found != measured(fewshot, job(condition, seed=1))
    assert np.mean(list(found.values())) > 0.4, "mean colours tell these classes apart"


def test_progress_counts_every_image_though_the_features_are_there_already() -> None:
    kept: dict[str, Arrays] = {}

    class Kept(Forgetful):
        def rows(self, name: str, key: Any, n: int, columns: Columns, fill: Fill) -> Arrays:
            if name not in kept:
                kept[name] = super().rows(name, key, n, columns, fill)
                kept[name]["pooled"].flags.writeable = False  # as a mapped file
            return kept[name]

    for shot in (1, 2):
        done: list[int] = []
        list(fewshot.measure(job(Condition(episodes=2, shot=shot), memos=Kept(), progress=done.append)))
        assert sum(done) == 144
    assert list(kept) == ["pooled features"]


def test_more_shots_are_better_and_shuffled_labels_are_guessing() -> None:
    def accuracy(j: Job) -> float:
        return float(np.mean([v for (_, _, at), v in measured(fewshot, j).items() if at == ("logistic",)]))

    few, many = (accuracy(job(Condition(shot=shot, episodes=100))) for shot in (1, 8))
    assert few < many
    guessing = dataclasses.replace(
        job(Condition(episodes=200)), labels=np.random.default_rng(1).permutation(np.arange(144) % 12)
    )
    assert abs(accuracy(guessing) - 0.2) < 0.03


def test_noise_that_is_there_twice_is_at_chance() -> None:
    """Nothing can be learnt from noise, but a query whose copy was shown is learnt by heart: 34 % of the answers were right."""
    n, ways = 1200, 60
    rng = np.random.default_rng(0)
    classes = tuple(str(k) for k in range(ways))
    pixels = np.repeat(np.repeat(rng.integers(0, 256, (n, 2, 2, 3), dtype=np.uint8), 8, 1), 8, 2)
    labels = np.arange(n) % ways
    pixels[600:] = pixels[:600]
    said: list[str] = []
    j = job(
        Condition(shot=5, queries=3, episodes=400),
        n=n,
        pixels=pixels,
        labels=labels,
        images=ImageSetCard(spec="s", digest="", n=n, classes=classes, class_names=classes),
        copies={f"i{k + 600}": f"i{k}" for k in range(600)},
        warn=said.append,
    )
    found = measured(fewshot, j)
    for solver in ("logistic", "ridge", "centroid"):
        values = [value for (_, _, at), value in found.items() if at == (solver,)]
        assert abs(np.mean(values) - 0.2) < 0.03
    assert said == ["600 images are copies of others and take no part: a picture must not be both shown and asked"]


def test_no_picture_is_shown_and_asked() -> None:
    parts: list[Literal["train", "val", "test"]] = ["train" if k < 72 else "test" for k in range(144)]
    copies = {f"i{k + 72}": f"i{k}" for k in range(24)} | {"i71": "i70"}
    j = job(Condition(shot=3, episodes=10), splits=parts, copies=copies)
    drawn = fewshot.draw(j, fewshot.pooled_features(j))
    shown = {i for e in drawn for rows in e.support for i in rows}
    assert shown <= set(range(24, 71)), "what is asked stays"
    assert len({i for e in drawn for rows in e.query for i in rows} & set(range(72, 96))) > 0


def test_images_with_broken_features_take_no_part() -> None:
    whole = job(Condition(way=2, shot=1, episodes=30))
    pooled = fewshot.pooled_features(whole).copy()
    pooled[:140] = np.nan
    said: list[str] = []
    whole = dataclasses.replace(whole, warn=said.append)
    with pytest.raises(VitalsError, match=r"must have 2 classes with 1 images to show .*Got 0 of 12"):
        fewshot.draw(whole, pooled)
    assert said == [
        "140 of 144 images have no usable features and take no part",
        "12 of 12 classes lack 1 images to show and one to ask: a/0, a/1, a/2, ...",
    ]
    pooled[:100] = 1.0
    used = {i for e in fewshot.draw(whole, pooled) for part in (e.support, e.query) for rows in part for i in rows}
    assert used <= {*range(100), *range(140, 144)}
    assert len(used) > 50


def test_support_and_queries_come_from_their_parts() -> None:
    parts: list[Literal["train", "val", "test"]] = ["train" if k < 72 else "test" for k in range(144)]
    files: dict[str, bytes] = {}
    j = job(Condition(shot=3, episodes=10), splits=parts, attach=files.__setitem__)
    list(fewshot.measure(j))
    drawn = fewshot.draw(j, fewshot.pooled_features(j))
    assert episodes.loads(files["episodes.json"].decode(), j.ids, CLASSES) == drawn
    for e in drawn:
        assert {parts[i] for rows in e.support for i in rows} == {"train"}
        assert {parts[i] for rows in e.query for i in rows} == {"test"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"way": -1}, "`way` must not be negative"),
        ({"shot": -1}, "`shot` must not be negative"),
        ({"episodes": 0}, "`episodes` must be at least 1"),
        ({"c": 0.0}, "`c` must be above 0"),
        ({"queries": 0}, "`queries` must be at least 1"),
        ({"sampler": "some"}, "`sampler` must be one of fixed, variable, related"),
    ],
)
def test_a_condition_checks_itself(values: dict[str, Any], message: str) -> None:
    with pytest.raises(VitalsError, match=message):
        Condition(**values)


def test_what_cannot_be_measured_is_refused_with_the_reason() -> None:
    card, images = backbone().card, job(Condition()).images
    fewer = dataclasses.replace(images, classes=CLASSES[:4], class_names=CLASSES[:4])
    plain = dataclasses.replace(images, classes=tuple("abcdefghijkl"))
    related = Condition(sampler="related", way=0, shot=0)
    assert fewshot.refusal(Condition(), card, images) is None
    assert fewshot.refusal(related, card, images) is None
    assert fewshot.refusal(Condition(), card, fewer) == "an episode needs at least 5 classes; the set has 4"
    assert "at least 30 images; the set has 29" in str(
        fewshot.refusal(Condition(), card, dataclasses.replace(images, n=29))
    )
    assert "in groups" in str(fewshot.refusal(related, card, plain))
    for odd in (Condition(way=1), Condition(shot=0), Condition(way=0)):
        assert "`fixed` needs a `way` of at least 2" in str(fewshot.refusal(odd, card, images))
    assert "both must be 0" in str(fewshot.refusal(Condition(sampler="variable"), card, images))
    assert "needs features" in str(fewshot.refusal(Condition(), dataclasses.replace(card, provides=()), images))


def test_a_run_measures_what_it_can_and_says_what_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    section = Section(name="fewshot", values={"way": (5,), "shot": (1, 9), "episodes": (20,)})
    plan = Plan(backbones=("tiny:cnn",), data=("shapes:test?n=64&size=64",), studies=(section,))
    planned = planner.make(plan, device=CPU)
    assert any("tiny:cnn was trained to tell 16 of the 16 classes of shapes:" in note for note in planned.notes)
    (skip,) = planned.skips
    assert skip.reason == "an episode needs 5 classes with 9 different images to show and one to ask; there are 0"
    assert runner.execute(planned, out=tmp_path / "run", device=CPU).failed == ()
    assert len(list(Store(tmp_path / "run" / "store").cells())) == 1
    rows = table.rows(load(tmp_path / "run"))
    assert [(r["solver"], r["n"]) for r in rows] == [("centroid", 20), ("logistic", 20), ("ridge", 20)]


def test_presets_name_the_episodes_of_the_sources() -> None:
    assert {c.shot for c in fewshot.conditions("default", SIZE) if c.sampler == "fixed"} == {1, 2, 5, 10}
    assert {c.sampler for c in fewshot.conditions("paper", SIZE)} == {"variable", "related"}
    every: list[Condition] = [c for p in ("quick", "default", "paper") for c in fewshot.conditions(p, SIZE)]  # type: ignore[arg-type]
    assert all(c.episodes == 600 and c.queries == 10 for c in every)
