"""The transfer study: what it measures on known features, bad input, and that the test images decide nothing."""

import dataclasses
import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import opened_page
import pytest
import torch
from measured import Values, measured

from visionvitals import registry
from visionvitals.core import NO_IMAGES, Backbone
from visionvitals.errors import VitalsError
from visionvitals.job import Arrays, Columns, Fill, Forgetful, Job
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.probes.features import columns, features
from visionvitals.report import build, by_class, charts, vega
from visionvitals.results import load as read
from visionvitals.run import runner
from visionvitals.studies import transfer
from visionvitals.studies._partition import partition

TEXTS = {
    "vit": "timm:deit_tiny_distilled_patch16_224?pretrained=false&model.img_size=32&model.patch_size=8&model.depth=5"
    "&model.embed_dim=24&model.num_heads=2&model.num_classes=7",
    "cnn": "timm:test_resnet?pretrained=false&size=64",
}


@pytest.fixture(scope="module", params=TEXTS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return load(request.param)


def load(name: str) -> Backbone:
    spec = registry.parse(TEXTS[name], families=["timm"])
    found = registry.load("backbones", "timm").load(spec, device=torch.device("cpu"))
    assert isinstance(found, Backbone)
    return found


@pytest.fixture(scope="module")
def vit() -> Backbone:
    return load("vit")


def job(backbone: Backbone, n: int = 48, classes: int = 4, **more: Any) -> Job:
    """Stripes, another direction and width for each class, in noise."""
    rng = np.random.default_rng(0)
    h, w = backbone.card.preprocess.size
    labels = np.arange(n) % classes
    across, down = np.meshgrid(np.arange(w), np.arange(h))
    stripes = [np.where((across * (c % 2) + down * (1 - c % 2)) // (2 + c) % 2, 60, 190) for c in range(classes)]
    pixels = np.stack([stripes[c] for c in labels])[..., None] + rng.integers(-50, 50, (n, h, w, 3))
    names = tuple(f"class {c}" for c in range(classes))
    given: dict[str, Any] = {
        "backbone": backbone,
        "condition": transfer.Condition(last=2),
        "ids": [f"i{k}" for k in range(n)],
        "pixels": pixels.clip(0, 255).astype(np.uint8),
        "labels": labels,
        "images": dataclasses.replace(NO_IMAGES, classes=names, class_names=names),
    }
    return Job(**{**given, **more})


def means(values: Values) -> dict[tuple[str, tuple[Any, ...]], float]:
    found: dict[Any, list[float]] = defaultdict(list)
    for (_, metric, at), value in values.items():
        found[metric, at].append(value)
    return {key: float(np.mean(column)) for key, column in found.items()}


class Told(Forgetful):
    """Writes down the keys that it is asked for."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []

    def rows(self, name: str, key: Any, n: int, columns: Columns, fill: Fill) -> Arrays:
        self.keys.append(key)
        return super().rows(name, key, n, columns, fill)


def test_every_block_set_is_measured_on_every_test_image(backbone: Backbone) -> None:
    values = measured(transfer, job(backbone))
    kinds = {"class", "class + mean"} if backbone.card.prefix_tokens else {"mean"}
    places = {at for _, metric, at in values if metric == "top1"}
    for probe in ("logistic", "ridge", "neighbours"):
        assert {(probe, s, t, 0) for s in ("last", "ensemble", "all") for t in kinds} | {
            (probe, "pooled", "pooled", 0)
        } == {at for at in places if at[0] == probe and at[1] != "single"}
    assert {at[3] for at in places if at[1] == "single"} == set(range(1, backbone.card.blocks + 1))
    test = {item for item, metric, _ in values if metric == "top1"}
    assert len(test) == 12
    for at in places:
        assert {item for item, metric, place in values if metric == "top1" and place == at} == test
    assert not test & {item for item, metric, _ in values if metric == "validation_top1"}
    found = means(values)
    assert found["top1", transfer.CHOSEN] > 0.8, "stripes are easy"
    held = {at: v for (metric, at), v in found.items() if metric == "validation_top1" and at[1] != "single"}
    assert held[transfer.CHOSEN] == max(held.values())


def test_the_projection_is_one_point_for_each_test_image(vit: Backbone) -> None:
    found = {key: value for key, value in measured(transfer, job(vit)).items() if key[2][0] == "projection"}
    first = {item: value for (item, metric, _), value in found.items() if metric == "component_1"}
    second = {item: value for (item, metric, _), value in found.items() if metric == "component_2"}
    assert len(first) == len(second) == 12
    for values in (first, second):
        assert np.mean(list(values.values())) == pytest.approx(0, abs=1e-6)
        assert np.std(list(values.values())) == pytest.approx(1, abs=1e-6)
    a, b = np.array([(first[i], second[i]) for i in first]).T
    assert a @ b == pytest.approx(0, abs=1e-5)
    assert {at[2] for _, _, at in found} == {f"class {c}" for c in range(4)}


def test_batches_change_nothing(vit: Backbone) -> None:
    found = [measured(transfer, job(vit, batch_size=size)) for size in (1, 13, 48)]
    assert found[0] == found[1] == found[2]


def test_labels_of_test_images_decide_nothing(vit: Backbone) -> None:
    """Other labels of the test images leave every prediction as it is."""
    splits = ["test" if k % 5 == 0 else "train" for k in range(48)]
    plain = job(vit, splits=splits)
    turned = np.where(np.array(splits) == "test", (plain.labels + 1) % 4, plain.labels)
    first, second = (
        {key: value for key, value in measured(transfer, j).items() if key[1] == "prediction"}
        for j in (plain, dataclasses.replace(plain, labels=turned))
    )
    assert first == second
    assert len(first) == 10


def test_shuffled_labels_are_not_learnt(vit: Backbone) -> None:
    plain = job(vit, n=120)
    shuffled = dataclasses.replace(plain, labels=np.random.default_rng(0).permutation(plain.labels))
    assert means(measured(transfer, shuffled))["top1", transfer.CHOSEN] < 0.6


def test_the_paper_protocol_is_named_and_takes_the_best_epoch(vit: Backbone) -> None:
    values = measured(transfer, job(vit, condition=transfer.Condition(protocol="paper", last=2)))
    assert {metric for _, metric, _ in values} == {"top1"}
    assert {at[0] for _, _, at in values} == {"adamw, best epoch on test"}
    assert values == measured(transfer, job(vit, condition=transfer.Condition(protocol="paper", last=2)))


def test_progress_counts_every_image(vit: Backbone) -> None:
    done: list[int] = []
    features(job(vit, progress=done.append))
    assert sum(done) == 48


def test_the_last_block_is_what_the_classifier_reads(vit: Backbone) -> None:
    found = features(job(vit))
    pooled = found["prefix"][:, -1].mean(axis=1)  # a distilled DeiT reads two tokens
    np.testing.assert_allclose(found["pooled"], pooled, atol=1e-5)
    assert found["prefix"].shape == (48, 5, 2, 24)
    assert columns(np.array([[1.0, 0, 0], [0, 2, 0]])).shape == (2, 2)


def test_features_go_on_after_a_kill(vit: Backbone) -> None:
    whole = features(job(vit))
    asked: list[int] = []

    class HalfDone(Forgetful):
        def rows(self, name: str, key: Any, n: int, columns: Columns, fill: Fill) -> Arrays:
            arrays = {column: np.zeros((n, *shape), dtype) for column, (shape, dtype) in columns.items()}
            for column in arrays:
                arrays[column][:20] = whole[column][:20]
            asked.extend(fill(arrays, 20))
            return arrays

    again = features(job(vit, memos=HalfDone(), batch_size=7))
    assert asked[-1] == 48
    for key in whole:
        np.testing.assert_allclose(again[key], whole[key], atol=1e-5)


def test_another_normalisation_has_other_features(vit: Backbone) -> None:
    """The same weights with `?mean=` see other inputs: what is kept for one must not be found by the other."""
    spec = registry.parse(TEXTS["vit"] + "&mean=0.1&std=0.9", families=["timm"])
    other = registry.load("backbones", "timm").load(spec, device=torch.device("cpu"))
    assert other.card.digest == vit.card.digest
    memos = Told()
    pooled = [features(job(backbone, memos=memos))["pooled"] for backbone in (vit, other)]
    assert not np.allclose(*pooled, atol=1e-3)
    assert memos.keys[0] != memos.keys[1]


def parts(vit: Backbone, usable: np.ndarray | None = None, *, keep: bool = False, **more: Any) -> Any:
    j = job(vit, **more)
    return partition(j, np.ones(len(j.ids), dtype=bool) if usable is None else usable, keep_duplicates=keep)


def test_a_split_of_our_own_is_stratified_seeded_and_named(vit: Backbone) -> None:
    first, again, other = parts(vit), parts(vit), parts(vit, seed=1)
    assert [a.tolist() for a in first[:3]] == [a.tolist() for a in again[:3]]
    assert first.test.tolist() != other.test.tolist()
    assert np.bincount(first.test % 4).tolist() == [3] * 4
    assert sorted(np.concatenate(first[:3])) == list(range(48))
    assert "no parts in the set" in first.notes[0]


def test_a_set_with_train_and_val_is_tested_on_val(vit: Backbone) -> None:
    found = parts(vit, splits=["val" if k < 12 else "train" for k in range(48)])
    assert found.test.tolist() == list(range(12))
    assert len(found.validation) == 8
    three = parts(vit, splits=["test"] * 8 + ["val"] * 8 + ["train"] * 32)
    assert (three.test.max(), three.validation.tolist()) == (7, list(range(8, 16)))


def test_bad_input_is_left_out_and_named(vit: Backbone) -> None:
    labels = np.arange(48) % 4
    labels[47] = 4
    named = tuple(f"class {c}" for c in range(5))
    card = dataclasses.replace(NO_IMAGES, classes=named, class_names=named)
    lonely = parts(vit, labels=labels, images=card)
    assert 47 in lonely.fit
    assert any("1 classes have one training image: class 4" in note for note in lonely.notes)
    unseen = parts(vit, labels=labels, images=card, splits=["train"] * 40 + ["test"] * 8)
    assert unseen.test.tolist() == list(range(40, 47))
    assert any("no training image; their 1 test images are left out: class 4" in note for note in unseen.notes)
    usable = np.ones(48, dtype=bool)
    usable[[3, 5]] = False
    broken = parts(vit, usable)
    assert not {3, 5} & set(np.concatenate(broken[:3]))
    assert "2 images have features that are not finite" in broken.notes[0]


def test_copies_of_a_picture_are_on_one_side_of_every_split(vit: Backbone) -> None:
    copies = {"i47": "i0", "i20": "i1", "i41": "i40"}
    splits = ["train"] * 36 + ["test"] * 12
    found = parts(vit, copies=copies, splits=splits)
    assert sorted(np.concatenate(found[:2])) == [k for k in range(1, 36) if k != 20], "the test image stays"
    assert found.test.tolist() == list(range(36, 48)), "a published test part is not cut"
    said = "2 training images are copies of test images or of other training images; they are left out: i0, i20"
    assert said in found.notes
    kept = parts(vit, copies=copies, splits=splits, keep=True)
    assert sorted(np.concatenate(kept[:2])) == list(range(36))
    three = parts(vit, copies={"i47": "i3", "i30": "i20"}, splits=["val"] * 12 + ["train"] * 24 + ["test"] * 12)
    assert (3 in three.validation, 30 in three.fit, 20 in three.fit) == (False, False, True)


@pytest.mark.parametrize("keep", [False, True])
def test_a_split_of_our_own_has_each_picture_once(vit: Backbone, keep: bool) -> None:
    """Half of the pictures are there twice, under two labels; the paper's own parts have no say in parts that we draw."""
    found = parts(vit, copies={f"i{k + 24}": f"i{k}" for k in range(12)}, keep=keep)
    assert sorted(np.concatenate(found[:3])) == [k for k in range(48) if not 24 <= k < 36]
    assert "12 images are copies of others and are left out" in found.notes


def test_what_cannot_be_measured_says_why(vit: Backbone) -> None:
    card = job(vit).images
    assert "at most the number of blocks" in str(transfer.refusal(transfer.Condition(last=6), vit.card, card))
    assert "at least two classes" in str(transfer.refusal(transfer.Condition(last=2), vit.card, NO_IMAGES))
    neither = dataclasses.replace(vit.card, provides=())
    assert "neither blocks of tokens" in str(transfer.refusal(transfer.Condition(), neither, card))
    with pytest.raises(VitalsError, match="three images a class"):
        parts(vit, n=4)
    twice = dataclasses.replace(NO_IMAGES, classes=("Black Cat", "black_cat", "dog"), class_names=("a", "b", "c"))
    labels = np.array([0] * 10 + [2] * 10 + [1] * 10 + [2] * 10)
    with pytest.raises(VitalsError, match="spelled alike"):
        parts(vit, n=40, labels=labels, images=twice, splits=["train"] * 20 + ["test"] * 20)


def test_features_that_are_not_finite_yield_no_value(vit: Backbone) -> None:
    class Broken(Forgetful):
        def rows(self, name: str, key: Any, n: int, columns: Columns, fill: Fill) -> Arrays:
            arrays = super().rows(name, key, n, columns, fill)
            arrays["prefix"][7, 0, 0, 0] = np.nan
            return arrays

    notes: list[str] = []
    values = measured(transfer, job(vit, memos=Broken(), warn=notes.append))
    assert "i7" not in {item for item, _, _ in values}
    assert np.isfinite(list(values.values())).all()
    assert any("not finite" in note for note in notes)


def test_a_run_is_shown_with_its_scatter_and_its_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    both = ("tiny:cnn", "tiny:vit")
    plan = Plan(backbones=both, data=("shapes:test?n=80&size=32",), studies=(Section(name="transfer"),))
    planned = planner.make(plan, device=torch.device("cpu"))
    assert runner.execute(planned, out=tmp_path / "run", device=torch.device("cpu")).failed == ()
    run = read(tmp_path / "run")
    (found,) = by_class.by_class(run, "transfer")
    assert found.pair == both
    chosen = {p.backbone: run.estimate(p, "top1") for p in run.of("transfer") if p.condition["probe"] == "chosen"}
    for backbone in both:
        cell = next(p.cells[0] for p in run.of("transfer") if p.backbone == backbone)
        entries = json.loads(cell.read("files/classes.json"))
        total = sum(e["n"] for e in entries)
        assert (total, sum(e["right"] for e in entries) / total) == (chosen[backbone].n, chosen[backbone].value)
        assert all(sum(count for _, count in e["taken_for"]) <= e["n"] - e["right"] for e in entries)
        shares = [w.right for w in found.worst[backbone]]
        assert shares == sorted(shares)
        assert all(share < 1 for share in shares)
    assert all(abs(a.second - a.first) >= abs(b.second - b.first) for a, b in itertools.pairwise(found.changes))
    bars, curve, points = charts.plots(run, "transfer")
    assert (bars.kind, curve.kind, points.kind) == ("bars", "line", "scatter")
    assert bars.chance is None, "the outputs of the network are not the classes of the set"
    multiple, _ = points.multiples
    assert len(points.x_order) == 8
    drawn = vega.interactive(points)[0]["data"]["values"]
    assert len(drawn) == len(multiple.records) == len({r["item"] for r in drawn})
    assert {r["at"] for r in drawn} == set(points.x_order)
    assert any("chosen on" in warning for warning in run.warned)
    page = opened_page.opened(build.build(run).read_text(encoding="utf-8"))
    assert "Where the classes lie" in page
    assert "The worst classes of tiny:cnn" in page.replace("<wbr>", "")
