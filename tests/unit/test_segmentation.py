"""Jaccard on hand-made masks, void included and excluded, and the laws of the masks."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from visionvitals.errors import VitalsError
from visionvitals.perturb.saliency import salient_drop
from visionvitals.probes import segmentation

ATTENTION = torch.rand(3, 4, 16, generator=torch.Generator().manual_seed(0)) ** 3
TARGETS = torch.randint(0, 3, (3, 8, 8), generator=torch.Generator().manual_seed(1))
TARGETS[:, 0] = 255


def block(size: int, top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(1, size, size, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def slow_jaccard(mask: torch.Tensor, target: torch.Tensor, label: int, *, count_void: bool) -> float:
    """Pixel by pixel, as the words say it."""
    both = either = 0
    for claimed, found in zip(mask.flatten().tolist(), target.flatten().tolist(), strict=True):
        if found == 255 and not count_void:
            continue
        both += claimed and found == label
        either += claimed or found == label
    return both / either


def test_a_perfect_mask_with_a_void_rim_is_one_and_below_one_the_papers_way() -> None:
    target = torch.zeros(8, 8, dtype=torch.uint8)
    target[1:7, 1:7] = 255
    target[2:6, 2:6] = 15
    mask = block(8, 1, 1, 7, 7)  # the object and its unlabelled rim
    right = segmentation.jaccard(mask, target, n_classes=21)
    paper = segmentation.jaccard(mask, target, n_classes=21, count_void=True)
    assert right.classes.tolist() == paper.classes.tolist() == [15]
    assert right.values.tolist() == [[1.0]]
    assert paper.values.tolist() == [[16 / 36]]


def test_jaccard_of_two_classes_by_hand() -> None:
    target = torch.tensor([[1, 1, 0, 0], [1, 1, 2, 255]])
    masks = torch.tensor([[[1, 1, 1, 1], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 1, 1]]]).bool()
    found = segmentation.jaccard(masks, target, n_classes=3)
    assert found.classes.tolist() == [1, 2]
    assert found.values.tolist() == [[2 / 6, 0], [0, 1]]
    assert segmentation.jaccard(masks, target, n_classes=3, count_void=True).values.tolist() == [[2 / 6, 0], [0, 0.5]]


@pytest.mark.parametrize("count_void", [False, True])
def test_jaccard_equals_counting_pixel_by_pixel(count_void: bool) -> None:
    masks = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(2)) < 0.5
    found = segmentation.jaccard(masks, TARGETS[0], n_classes=3, count_void=count_void)
    assert found.classes.tolist() == [1, 2]
    for label, values in zip(found.classes.tolist(), found.values.tolist(), strict=True):
        assert values == [slow_jaccard(mask, TARGETS[0], label, count_void=count_void) for mask in masks]


def test_an_empty_mask_scores_zero_and_no_class_gives_nothing() -> None:
    assert segmentation.jaccard(block(8, 0, 0, 0, 0), TARGETS[0], n_classes=3).values.tolist() == [[0], [0]]
    only_void = torch.full((8, 8), 255)
    only_void[0] = 0
    assert segmentation.jaccard(block(8, 0, 0, 8, 8), only_void, n_classes=3).values.shape == (0, 1)


def test_label_maps_that_do_not_fit_are_refused() -> None:
    mask = block(8, 0, 0, 4, 4)
    with pytest.raises(VitalsError, match=r"size of the mask, \(8, 8\). Got \(4, 4\). Resize labels by nearest"):
        segmentation.jaccard(mask, torch.zeros(4, 4, dtype=torch.long), n_classes=3)
    with pytest.raises(VitalsError, match=r"in \[0, 2\] or 255 for void. Got -1, 7. .* indices, not colours"):
        segmentation.jaccard(mask, torch.tensor([[7, -1], [1, 255]]).repeat(4, 4), n_classes=3)
    with pytest.raises(VitalsError, match=r"in \[0, 2\]. Got 255"):
        segmentation.jaccard(mask, TARGETS[0], n_classes=3, void=None)


def test_mass_masks_follow_the_saliency_rule_and_grow_with_keep() -> None:
    masks = [segmentation.mass_mask(ATTENTION, keep) for keep in (0.0, 0.3, 0.6, 0.9, 1.0)]
    assert not masks[0].any()
    assert masks[-1].all()
    assert all((more | ~less).all() for less, more in pairwise(masks))
    for head in range(4):
        assert torch.equal(masks[2][:, head], salient_drop(ATTENTION[:, head], 0.6))


@pytest.mark.parametrize("keep", [0.1, 0.6, 0.9])
def test_mass_masks_are_those_of_the_published_code(keep: float) -> None:
    """Sort upwards, cumulate, keep what lies above 1 - keep, undo the sort."""
    attention = ATTENTION.double()
    values, order = attention.sort(dim=2)
    above = (values / values.sum(dim=2, keepdim=True)).cumsum(dim=2) > 1 - keep
    assert torch.equal(segmentation.mass_mask(attention, keep), above.gather(2, order.argsort(dim=2)))


@pytest.mark.parametrize("size", [(8, 8), (12, 20), (9, 7), (3, 2)])
def test_upsampling_is_nearest(size: tuple[int, int]) -> None:
    masks = segmentation.mass_mask(ATTENTION, 0.5)
    expected = functional.interpolate(masks.view(3, 4, 2, 8).double(), size=size, mode="nearest").bool()
    assert torch.equal(segmentation.upsample(masks, (2, 8), size), expected)
    with pytest.raises(VitalsError, match="`grid` must have the 16 patches"):
        segmentation.upsample(masks, (3, 5), size)


@pytest.mark.parametrize("count_void", [False, True])
def test_the_score_is_the_published_loop_with_every_head_beside_it(count_void: bool) -> None:
    found = segmentation.score(ATTENTION, TARGETS, grid=(4, 4), keep=0.6, n_classes=3, count_void=count_void)
    masks = segmentation.upsample(segmentation.mass_mask(ATTENTION, 0.6), (4, 4), (8, 8))
    mean_map = segmentation.mass_mask(ATTENTION.double().mean(dim=1, keepdim=True), 0.6)
    mean_masks = segmentation.upsample(mean_map, (4, 4), (8, 8))
    for i in range(3):
        table = [[slow_jaccard(m, TARGETS[i], k, count_void=count_void) for m in masks[i]] for k in (1, 2)]
        fixed = [sum(column) / 2 for column in zip(*table, strict=True)]
        assert float(found.best[i]) == pytest.approx(sum(max(row) for row in table) / 2, abs=1e-15)
        assert found.fixed[i].tolist() == pytest.approx(fixed, abs=1e-15)
        assert float(found.expected[i]) == pytest.approx(sum(fixed) / 4, abs=1e-15)
        by_hand = [slow_jaccard(mean_masks[i, 0], TARGETS[i], k, count_void=count_void) for k in (1, 2)]
        assert float(found.averaged[i]) == pytest.approx(sum(by_hand) / 2, abs=1e-15)
    assert (found.best >= found.fixed.amax(dim=1)).all()


def test_a_head_on_the_object_is_perfect_and_the_oracle_finds_it() -> None:
    target = torch.zeros(1, 8, 8, dtype=torch.long)
    target[0, 2:4, 2:4] = 1  # patch 5 of a 4 x 4 grid
    attention = torch.full((1, 2, 16), 1e-6, dtype=torch.float16)
    attention[0, 1, 5] = 0.5
    found = segmentation.score(attention, target, grid=(4, 4), keep=0.9, n_classes=2)
    assert found.best.tolist() == [1.0]
    assert found.fixed[0, 1] == 1.0
    assert found.fixed[0, 0] < 0.1


def test_an_image_without_a_class_scores_nan_and_the_others_do_not() -> None:
    targets = TARGETS.clone()
    targets[1] = 0
    found = segmentation.score(ATTENTION, targets, grid=(4, 4), keep=0.6, n_classes=3)
    assert [bool(x) for x in found.best.isnan()] == [False, True, False]
    assert found.fixed.isnan().all(dim=1).tolist() == [False, True, False]


def test_the_curve_is_the_score_at_each_threshold() -> None:
    curve = segmentation.curve(ATTENTION, TARGETS, grid=(4, 4), keeps=(0.6, 0.9), n_classes=3)
    for keep, found in zip((0.6, 0.9), curve, strict=True):
        alone = segmentation.score(ATTENTION, TARGETS, grid=(4, 4), keep=keep, n_classes=3)
        assert all(torch.equal(x, y) for x, y in zip(found, alone, strict=True))
