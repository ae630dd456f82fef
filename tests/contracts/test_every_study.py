"""The contract of a study, run over every file in studies/."""

import dataclasses
import functools
import hashlib
import inspect
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from visionvitals import registry, study
from visionvitals.backbones import _answers
from visionvitals.core import NO_IMAGES, Backbone, ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.job import Arrays, Columns, Fill, Job
from visionvitals.run import wide

SIZE = (32, 32)
N = 21
STUDIES = study.names()
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
"""Studies that learn from some of the images and score the others: a training image gets no value."""
FOLLOW = ("attack",)
"""Studies whose inputs follow the network's own gradients, whose last bits depend on the batch shape as those of logits do: where a
gradient is next to zero its sign can turn, so that few pixels differ, by no more than the attack allows."""

MOST = int(os.environ.get("VISIONVITALS_LAWS", "16"))
"""Conditions of a study that a law is tried on, spread evenly over its presets; `make laws` tries all."""
SMALLER: Mapping[str, Mapping[str, Any]] = {"stability": {"masks": 24, "colours": 3}}
"""Values in place of those of the presets, of studies with thousands of passes an image."""

Values = dict[tuple[str, str, Any], float | None]
"""(item, metric, place) -> value."""


@pytest.fixture(scope="module", params=STUDIES)
def made(request: pytest.FixtureRequest) -> study.Study:
    return study.load(request.param)


@functools.cache
def backbone(options: str = "") -> Backbone:
    """A random transformer with all that a study can ask for: 8 x 8-px patches, two blocks, a class and a distillation token."""
    text = (
        "timm:deit_tiny_distilled_patch16_224?pretrained=false&model.patch_size=8&model.depth=2"
        "&model.embed_dim=24&model.num_heads=2&model.num_classes=7" + (options or "&model.img_size=32")
    )
    found = registry.load("backbones", "timm").load(registry.parse(text, families=["timm"]), device=torch.device("cpu"))
    assert isinstance(found, Backbone)
    return dataclasses.replace(found, card=dataclasses.replace(found.card, classes=CLASSES))


def job(
    condition: Any, *, order: Any = slice(None), of: Backbone | None = None, batch_size: int = 4, **more: Any
) -> Job:
    """21 images of noise; `order` takes some of them, in that order."""
    network = of or backbone()
    h, w = network.card.preprocess.size
    masks = np.zeros((N, h, w), dtype=np.uint8)
    masks[:, 4:20, 8:30] = 1
    masks[::2, 20:24] = 255
    given: dict[str, Any] = {
        "backbone": network,
        "ids": np.array([f"i{k}" for k in range(N)])[order].tolist(),
        "pixels": np.random.default_rng(0).integers(0, 256, (N, h, w, 3), dtype=np.uint8)[order],
        "masks": masks[order],
        "labels": (np.arange(N) % 7)[order],
        "textures": (np.arange(N) * 3 % 7)[order],
        "images": IMAGES,
        "companion": lambda spec: network,
    }
    given["facts"] = {"drawn": hashlib.sha256("\0".join(given["ids"]).encode()).hexdigest()}
    return Job(condition=condition, batch_size=batch_size, **(given | more))


def gathered(made: study.Study, work: Job) -> wide.Wide:
    blocks = made.measure(work)
    return wide.gather(blocks, study=made.name, axes=made.axes, metrics=made.metrics, ids=work.ids)


def measured(made: study.Study, work: Job) -> Values:
    """NaN, which equals nothing, as None."""
    found = gathered(made, work)
    return {
        (item, metric, at): None if value != value else value
        for at, block in found.blocks.items()
        for metric, column in block.values.items()
        for item, value in zip(block.items, column.tolist(), strict=True)
    }


def measurable(made: study.Study, most: int = MOST) -> list[Any]:
    """Of the conditions that the small network allows, over all presets, at most so many evenly spread ones."""
    smaller = SMALLER.get(made.name, {})
    every = [
        dataclasses.replace(c, **smaller) for preset in get_args(study.Preset) for c in made.conditions(preset, SIZE)
    ]
    allowed = [c for c in dict.fromkeys(every) if made.refusal(c, backbone().card, IMAGES) is None]
    return allowed[:: -(-len(allowed) // most) or 1]


def one_of(made: study.Study, index: int) -> Any:
    """One measurable condition; a study that none of this file's networks and sets allow states these laws in tests of its own."""
    found = measurable(made)
    if not found:
        pytest.skip("needs another network or image set; see its own tests")
    return found[index]


def assert_close(made: study.Study, found: Values, expected: Values) -> None:
    assert found.keys() == expected.keys()
    pairs = np.array([(found[key], expected[key]) for key in expected], dtype=np.float64)  # None is NaN here
    np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], atol=1e-2 if made.name in FOLLOW else 1e-6)


def test_the_list_of_studies_is_frozen() -> None:
    """A file name is part of a result's identity: renaming one orphans results."""
    assert {"clean", "occlusion", "shuffle", "corner"} <= set(STUDIES)
    assert STUDIES[0] == study.BASELINE


def test_it_says_what_it_is(made: study.Study) -> None:
    assert made.title
    assert made.asks
    assert made.version >= 1
    assert made.source == "", "the files of the package have no digest of their own"
    assert not made.defaults.keys() & set(made.axes)
    fields = {*made.defaults, *made.axes}
    assert made.charts
    for chart in made.charts:
        assert {chart.x, chart.y, *chart.facet, *chart.where} - {""} <= fields
        assert not chart.x_title.startswith("share of"), "a share is said by `x_unit`"
    for known in (*made.signs, *made.published):
        assert set(known.where) <= fields
    for sign in made.signs:
        assert sign.kind != "index" or sign.unit, f"{sign.title}: an index says its unit"
        assert sign.kind != "kept" or sign.at, f"{sign.title}: says in words where it was measured"
    assert len({metric.title for metric in made.metrics.values()}) == len(made.metrics)


def test_its_file_can_be_read(made: study.Study) -> None:
    lines = Path(made.file).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350
    assert max(map(len, lines)) <= 160
    private = [line for line in lines if "import" in line and "._" in line and "visionvitals.studies._" not in line]
    assert private == [], "a private module of another package"


def test_conditions_are_frozen_values_with_defaults(made: study.Study) -> None:
    assert dataclasses.asdict(made.Condition()) == dict(made.defaults)
    for preset in get_args(study.Preset):
        found = made.conditions(preset, SIZE)
        assert found
        assert len(set(found)) == len(found), "a preset plans a condition twice"
        for condition in found:
            values = {name: getattr(condition, name) for name in made.defaults}
            assert made.Condition(**values) == condition


def test_a_refusal_is_a_sentence(made: study.Study) -> None:
    bare = dataclasses.replace(backbone().card, provides=(), patch_grid=None, outputs=1, blocks=0, classes=None)
    pre = dataclasses.replace(bare.preprocess, size=(10, 14))
    cards = [backbone().card, bare, dataclasses.replace(bare, preprocess=pre)]
    for preset in get_args(study.Preset):
        found = made.conditions(preset, SIZE)
        for condition in found[:: -(-len(found) // 40)]:
            for card in cards:
                for images in (IMAGES, dataclasses.replace(NO_IMAGES, classes=CLASSES, n=1)):
                    why = made.refusal(condition, card, images)
                    assert why is None or (len(why.split()) > 4 and "\n" not in why and why == why.strip())
            assert made.passes(condition) > 0


def test_every_image_gets_every_metric(made: study.Study) -> None:
    for condition in measurable(made):
        found = gathered(made, job(condition))
        everyone = [f"i{k}" for k in range(N)]
        assert not found.broken
        if made.axes:  # where there are places, not every image has each, and items can be classes or episodes
            continue
        (block,) = found.blocks.values()
        assert block.items == everyone
        assert all(np.isfinite(column).all() for column in block.values.values())


def test_the_numbers_do_not_depend_on_the_batch_size(made: study.Study) -> None:
    for condition in measurable(made):
        whole = measured(made, job(condition, batch_size=64))
        for size in (1, 7):
            assert_close(made, measured(made, job(condition, batch_size=size)), whole)


def test_the_numbers_do_not_depend_on_the_order_of_the_images(made: study.Study) -> None:
    order = np.random.default_rng(1).permutation(N)
    for condition in measurable(made, 8):
        assert_close(made, measured(made, job(condition, order=order)), measured(made, job(condition)))


def test_of_more_images_only_the_new_ones_need_to_be_measured(made: study.Study) -> None:
    """Every third image first, then the others: together they are all of them, with the same pictures and no files."""
    if not made.per_image:
        pytest.skip("its numbers are of several images")
    first = np.arange(N) % 3 == 0
    for condition in (c for c in measurable(made, 12) if made.splits(c)):
        pictures: list[dict[Any, Tensor]] = []
        numbers: list[Values] = []
        for order in (slice(None), first, ~first):
            kept: dict[Any, Tensor] = {}
            work = job(
                condition,
                order=order,
                exhibits=frozenset(f"i{k}" for k in range(N)),
                keep=lambda item, image, at=(), says="", kept=kept: kept.update({(item, at): image}),
                attach=lambda name, data: pytest.fail(f"it attaches {name}"),
            )
            numbers.append(measured(made, work))
            pictures.append(kept)
        whole, *parts = numbers
        assert not parts[0].keys() & parts[1].keys()
        assert_close(made, parts[0] | parts[1], whole)
        assert pictures[0].keys() == pictures[1].keys() | pictures[2].keys()
        assert not pictures[1].keys() & pictures[2].keys()
        for key, image in (pictures[1] | pictures[2]).items():
            assert torch.equal(image, pictures[0][key]) or made.name in FOLLOW


def test_the_network_sees_the_same_bits_for_any_batch_size(made: study.Study) -> None:
    for condition in measurable(made):
        seen: dict[int, dict[Any, Tensor]] = {}
        for size in (1, 7, 64):
            kept: dict[Any, Tensor] = {}

            def keep(item: str, image: Tensor, at: Any = (), says: str = "", *, kept: dict[Any, Tensor] = kept) -> None:
                kept[item, at] = image

            everything = frozenset(f"i{k}" for k in range(N))
            list(made.measure(job(condition, batch_size=size, exhibits=everything, keep=keep)))
            seen[size] = kept
        for item, image in seen[1].items():
            for other in (seen[7][item], seen[64][item]):
                assert torch.equal(image, other) or made.name in FOLLOW
                assert ((image - other).abs() > 1e-5).double().mean() < 0.02
            assert image.min() >= 0
            assert image.max() <= 1


def test_what_perturb_gives_is_what_is_shown_and_the_batch_stays(made: study.Study) -> None:
    if made.perturb is None:
        pytest.skip("shows no images of its own")
    for condition in measurable(made):
        kept: dict[str, Tensor] = {}
        work = job(condition, exhibits=frozenset(("i0", "i5")), keep=lambda i, x, at=(), kept=kept: kept.update({i: x}))
        list(made.measure(work))
        for batch in work.batches():
            before = batch.images.clone()
            shown = made.perturb(condition, batch, work.seed)
            assert torch.equal(batch.images, before)
            assert shown.shape == before.shape
            for k, item in enumerate(batch.ids):
                if item in kept:
                    assert torch.equal(kept[item], shown[k])
        assert kept.keys() == work.exhibits


def test_progress_counts_every_image(made: study.Study) -> None:
    done: list[int] = []
    list(made.measure(job(one_of(made, 0), progress=done.append)))
    assert sum(done) == N


def test_a_repeated_cell_is_equal_and_another_run_is_not(made: study.Study) -> None:
    condition = one_of(made, -1)
    first = measured(made, job(condition))
    assert first == measured(made, job(condition))
    if "run" in made.defaults:
        assert first != measured(made, job(dataclasses.replace(condition, run=condition.run + 1)))
        assert first != measured(made, job(condition, seed=1))


class Kept:
    """Memos in memory, one for each key. With `kill`, the first `memo_rows` stops as a killed run does, after its first step."""

    def __init__(self, *, kill: bool = False) -> None:
        self.arrays: dict[str, dict[str, np.ndarray]] = {}
        self.done: dict[str, int] = {}
        self.kill = kill

    def rows(self, name: str, key: Mapping[str, Any], n: int, columns: Columns, fill: Fill) -> Arrays:
        text = json.dumps(
            [name, key, n, {k: [list(shape), dtype] for k, (shape, dtype) in columns.items()}], sort_keys=True
        )
        arrays = self.arrays.setdefault(text, {k: np.zeros((n, *s), dtype) for k, (s, dtype) in columns.items()})
        if self.done.get(text) != n:
            for done in fill(arrays, self.done.get(text, 0)):
                self.done[text] = done
                if self.kill:
                    raise KeyboardInterrupt
            assert self.done[text] == n
        for array in arrays.values():
            array.flags.writeable = False  # as a mapped file
        return arrays

    def whole(self, name: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        text = json.dumps([name, key], sort_keys=True)
        if text not in self.arrays:
            self.arrays[text] = {name: np.array(array) for name, array in make().items()}
        return self.arrays[text]


def permuted() -> Backbone:
    """The network with its classes in another order."""
    order = [3, 0, 6, 1, 5, 2, 4]
    plain = backbone()
    card = dataclasses.replace(plain.card, classes=tuple(CLASSES[k] for k in order))
    return dataclasses.replace(plain, card=card, logits=lambda images: plain.logits(images)[:, order])


def elsewhere() -> Backbone:
    """The network with the same digests, which answers otherwise: by a global of its code, a helper in another file, a library."""
    plain = backbone()
    assert plain.features is not None

    def swapped(run: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda images: run(images.flip(1))  # blue, green, red

    logits = swapped(plain.logits)
    answers = _answers.ask(logits, plain.card.preprocess.size, plain.device)
    card = dataclasses.replace(plain.card, answers=answers)
    return dataclasses.replace(plain, card=card, logits=logits, features=swapped(plain.features))


def others(condition: Any) -> Iterator[Job]:
    """Jobs of the same condition that differ from `job(condition)` in one thing each."""
    yield job(condition, of=backbone("&model.img_size=32&mean=0.2&std=0.25"))
    yield job(condition, of=elsewhere())
    yield job(
        condition, of=permuted(), labels=np.array([permuted().card.classes.index(CLASSES[k % 7]) for k in range(N)])
    )  # type: ignore[union-attr]
    yield job(condition, of=backbone("&model.img_size=64"))
    yield job(condition, order=slice(14))
    yield job(condition, seed=1)
    yield job(condition, images=dataclasses.replace(IMAGES, digest="1"), order=np.arange(N)[::-1])
    yield job(condition, labels=np.arange(N) * 2 % 7)


def test_the_state_of_the_memos_never_changes_a_number(made: study.Study) -> None:
    for condition in measurable(made, MOST // 5):
        empty = Kept()
        expected = measured(made, job(condition, memos=empty))
        assert measured(made, job(condition, memos=empty)) == expected, "found again"
        if not empty.arrays:
            continue
        assert measured(made, job(condition)) == expected, "kept nowhere"
        full = Kept()
        for other in others(condition):
            if made.refusal(condition, other.backbone.card, other.images) is None:
                try:
                    alone = measured(made, dataclasses.replace(other, memos=Kept()))
                except VitalsError:  # these images do not allow it, which no card can tell
                    continue
                assert measured(made, dataclasses.replace(other, memos=full)) == alone
        assert measured(made, job(condition, memos=full)) == expected, "beside those of others"
        half = Kept(kill=True)
        try:
            list(made.measure(job(condition, memos=half)))
        except KeyboardInterrupt:
            half.kill = False
            assert measured(made, job(condition, memos=half)) == expected, "after a kill"


def test_what_is_said_of_a_cell_does_not_depend_on_the_memos(made: study.Study) -> None:
    memos, said = Kept(), [list[str](), list[str]()]
    labels = None if made.name == "fewshot" else np.zeros(N, dtype=np.int64)  # of one class there are no episodes
    for texts in said:
        more = {} if labels is None else {"labels": labels}
        list(made.measure(job(one_of(made, 0), memos=memos, warn=texts.append, **more)))
    assert said[0] == said[1]


def test_a_study_is_read_from_its_file_once() -> None:
    assert all(study.load(name) is study.load(name) for name in STUDIES)
    assert inspect.signature(study.load("occlusion").measure).parameters.keys() == {"job"}
