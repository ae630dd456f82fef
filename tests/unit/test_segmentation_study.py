"""Segmentation as a study: who asks, which head, how much is kept, what counts, and what is left out."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from measured import measured
from torch import Tensor, nn

from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.job import Job
from visionvitals.probes import attention as probe
from visionvitals.probes import segmentation as jaccard
from visionvitals.studies import segmentation

GRID = (4, 4)
OBJECT = [0, 1, 4, 5]
"""The patches of the top-left quarter."""


def card(provides: tuple[str, ...] = ("attention",)) -> BackboneCard:
    pre = Preprocess(size=(32, 32), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return BackboneCard(
        spec="x",
        architecture="vit",
        digest="x",
        preprocess=pre,
        outputs=3,
        parameters=0,
        provides=provides,
        patch_grid=GRID,
        prefix_tokens=2,
    )


def maps(queries: int = 2) -> Tensor:
    """(1, 2 heads, queries, 2 + 16): the class token's head 1 is on the object, the second token's head 0."""
    rows = torch.full((1, 2, queries, 18), 1e-6)
    for query in range(queries):
        on = 1 - query % 2
        rows[0, on, query, [2 + k for k in OBJECT]] = 0.25
        rows[0, 1 - on, query, 2 + 15] = 1.0
    return rows


@pytest.fixture(autouse=True)
def _attention(monkeypatch: pytest.MonkeyPatch) -> None:
    def record(backbone: Backbone, images: Tensor, *, rows: str = "prefix") -> list[probe.Map]:
        found = maps().repeat(len(images), 1, 1, 1)
        found[images[:, 0, 0, 0] == 1] = float("nan")
        return [probe.Map(0, "first", "window", found[:0], 0.0, 2), probe.Map(1, "last", "global", found, 0.0, 2)]

    monkeypatch.setattr(probe, "record", record)


def job(*, count_void: bool = False, rim: bool = False, **more: Any) -> Job:
    """Four images: an object, the same with a rim nobody labelled, no object, and one whose attention overflows."""
    masks = np.zeros((4, 32, 32), dtype=np.uint8)
    masks[[0, 1, 3], :16, :16] = 7
    masks[1, :16, 8:16] = 255
    pixels = np.full((4, 32, 32, 3), 100, dtype=np.uint8)
    pixels[3] = 255
    backbone = Backbone(card=card(), device=torch.device("cpu"), module=nn.Identity(), logits=lambda images: images)
    return Job(
        backbone=backbone,
        condition=segmentation.Condition(count_void=count_void),
        ids=["whole", "rim", "empty", "overflow"],
        pixels=pixels,
        labels=np.zeros(4, dtype=np.int64),
        masks=masks,
        batch_size=3,
        **more,
    )


def table(**more: Any) -> dict[tuple[Any, ...], float]:
    return {(item, *at): value for (item, _, at), value in measured(segmentation, job(**more)).items()}


def test_the_head_on_the_object_is_perfect_and_the_oracle_finds_it_for_each_asking_token() -> None:
    found = table()
    for query, head in ((0, "1"), (1, "0")):
        other = "0" if head == "1" else "1"
        assert found["whole", head, 0.9, query] == 1
        assert found["whole", "best", 0.9, query] == 1
        assert found["whole", other, 0.9, query] == 0
        assert found["whole", "expected", 0.9, query] == 0.5
    assert found["whole", "mean", 0.3, 0] == 0, "the other head's one patch holds half of the mean"
    assert found["whole", "mean", 0.9, 0] == 4 / 5


def test_the_floor_is_the_share_of_the_object() -> None:
    found = table()
    assert {found["whole", "everything", keep, 1] for keep in segmentation.KEEPS} == {0.25}
    assert found["rim", "everything", 0.1, 0] == pytest.approx(1 / 7)
    assert table(count_void=True)["rim", "everything", 0.1, 0] == 1 / 8


def test_void_is_left_out_unless_it_counts() -> None:
    assert table()["rim", "1", 0.9, 0] == 1
    assert table(count_void=True)["rim", "1", 0.9, 0] == 0.5


def test_images_without_an_object_or_with_an_overflow_have_no_value() -> None:
    said: list[str] = []
    assert {key[0] for key in table(warn=said.append)} == {"whole", "rim"}
    assert said == [
        "1 of 4 images show no object and are left out",
        "1 of 4 images have attention that cannot be ranked and are left out",
    ]


def test_every_point_is_measured_in_one_pass() -> None:
    done: list[int] = []
    found = measured(segmentation, job(progress=done.append))
    assert sum(done) == 4
    assert {at for _, _, at in found} == {
        (head, keep, query)
        for head in ("0", "1", "best", "mean", "expected", "everything")
        for keep in segmentation.KEEPS
        for query in (0, 1)
    }


def test_pictures_show_the_mask_and_the_true_outline_at_three_thresholds() -> None:
    kept: dict[Any, Tensor] = {}

    def keep(item: str, image: Tensor, at: Any) -> None:
        kept[item, at] = image

    list(segmentation.measure(job(exhibits=frozenset({"whole", "empty", "overflow"}), keep=keep)))
    assert set(kept) == {("whole", ("mean", k, 0)) for k in (0.3, 0.6, 0.9)}
    shown = kept["whole", ("mean", 0.9, 0)]
    assert torch.equal(shown[:, 15, 4], torch.ones(3)), "the border of the object"
    assert torch.equal(shown[:, 16, 4], torch.ones(3))
    grey = 100 / 255
    torch.testing.assert_close(shown[:, 4, 4], 0.6 * grey + 0.4 * torch.tensor([1.0, 0.55, 0.1]))
    torch.testing.assert_close(shown[:, 24, 4], torch.full((3,), 0.5 * grey))


def test_an_overlay_without_a_truth_has_no_outline() -> None:
    image = torch.full((3, 8, 8), 0.5)
    shown = jaccard.overlay(image, torch.zeros(8, 8, dtype=torch.bool))
    assert torch.equal(shown, torch.full((3, 8, 8), 0.25))


def test_what_cannot_be_measured_is_refused_with_the_reason() -> None:
    masked = dataclasses.replace(NO_IMAGES, provides=("mask",))
    assert "needs an image set with masks" in str(segmentation.refusal(segmentation.Condition(), card(), NO_IMAGES))
    assert "vit has none" in str(segmentation.refusal(segmentation.Condition(), card(()), masked))
    assert segmentation.refusal(segmentation.Condition(), card(), masked) is None


def test_only_the_paper_counts_void_and_its_numbers_are_points_of_the_study() -> None:
    assert segmentation.conditions("default", (224, 224)) == [segmentation.Condition()]
    assert segmentation.conditions("paper", (512, 512)) == [segmentation.Condition(count_void=True)]
    for published in segmentation.PUBLISHED:
        assert published.where["count_void"]
        assert published.where["keep"] in segmentation.KEEPS
        assert published.where["head"] == "best"
