"""Object masks from attention, and how well they fit: the Jaccard index per class and head.

Conventions: attention is (b, heads, n): the row of one query token (class, shape, any prefix token) over the n patches, row by row.
Label maps are integers (h, w): 0 is background, 1..n_classes-1 are classes, `void` marks pixels nobody labelled. A class is present
if at least one pixel has it.

Source: Caron et al. 2021, "Emerging Properties in Self-Supervised Vision Transformers", Figure 4 and its authors' answer in
issue 54 of facebookresearch/dino (keep 0.6); Naseer et al. 2021, "Intriguing Properties of Vision Transformers", section 3.2
(keep 0.9). The two thresholds give incomparable numbers: print the threshold with the number. Known defect of both: void counts as
background, which `count_void` repeats; under it a perfect mask that covers the unlabelled rim stays below 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64, Integer
from torch import Tensor

from visionvitals.errors import require
from visionvitals.perturb.patches import Grid
from visionvitals.perturb.saliency import salient_drop


class Overlaps(NamedTuple):
    """The classes present in one label map, ascending, and the Jaccard index of each mask with each of them."""

    classes: Int64[Tensor, " c"]
    values: Float64[Tensor, "c masks"]


class Score(NamedTuple):
    """Four ways to say how well an image is segmented, each averaged over the classes present; NaN where there is none.

    Attributes:
        best: the best head for each class, chosen with the truth known: an oracle, higher with more heads by construction. It is
            what both papers publish.
        fixed: each head on its own; averaged over images, the honest value of that head.
        expected: the mean of `fixed`: a head drawn at random.
        averaged: the mask made from the attention averaged over heads.
    """

    best: Float64[Tensor, " b"]
    fixed: Float64[Tensor, "b heads"]
    expected: Float64[Tensor, " b"]
    averaged: Float64[Tensor, " b"]


def mass_mask(attention: Float[Tensor, "b heads n"], keep: float) -> Bool[Tensor, "b heads n"]:
    """True on the patches that hold the top `keep` of each head's attention, by the rule of `saliency.salient_drop`.

    Args:
        attention: need not sum to 1.
        keep: in [0, 1].
    """
    b, heads, n = attention.shape
    return salient_drop(attention.reshape(b * heads, n), keep).view(b, heads, n)


def upsample(masks: Bool[Tensor, "b heads n"], grid: Grid, size: tuple[int, int]) -> Bool[Tensor, "b heads h w"]:
    """Masks over patches as masks over pixels; pixel (y, x) takes patch (floor(y * rows / h), floor(x * columns / w)).

    Args:
        masks: n = rows * columns.
        grid: (rows, columns); need not divide the size.
        size: (h, w).
    """
    return masks[:, :, _patch_of_pixels(grid, size, masks.shape[2]).to(masks.device)]


def jaccard(
    masks: Bool[Tensor, "masks h w"],
    target: Integer[Tensor, "target_h target_w"],
    *,
    n_classes: int,
    void: int | None = 255,
    count_void: bool = False,
) -> Overlaps:
    """|mask and class| / |mask or class| in pixels, for each mask and each class present.

    Args:
        masks: True on what is claimed to be object.
        target: the label map of the same size.
        n_classes: number of classes, background included: 21 for VOC, 2 for plain object masks.
        void: the label of unlabelled pixels, which are left out; None if every pixel is labelled.
        count_void: count unlabelled pixels as background, as the published numbers do.

    Convention: the union is never empty, since a class without a pixel is not present. An empty mask scores 0 for every class that
    is; a label map of background and void alone gives no classes.

    Raises:
        VitalsError: another size, or a label that is neither a class nor void.
    """
    size, got = tuple(masks.shape[1:]), tuple(target.shape)
    require(got == size, f"The label map must have the size of the mask, {size}", got, "Resize labels by nearest.")
    labels, unlabelled = _checked(target, n_classes, void)
    classes = labels[(labels > 0) & ~unlabelled].bincount().nonzero().flatten()
    truth = classes[:, None, None] == labels
    claimed = masks if count_void else masks & ~unlabelled
    both = (truth[:, None] & claimed).sum(dim=(2, 3))
    either = (truth[:, None] | claimed).sum(dim=(2, 3))
    return Overlaps(classes.cpu(), both.cpu().double() / either.cpu())


def score(
    attention: Float[Tensor, "b heads n"],
    targets: Integer[Tensor, "b h w"],
    *,
    grid: Grid,
    keep: float,
    n_classes: int,
    void: int | None = 255,
    count_void: bool = False,
) -> Score:
    """Masks from attention against label maps: mean over the classes present in each image, per image.

    Args:
        attention: patch weights of one query token; n = rows * columns.
        targets: label maps, on the device of the attention.
        grid: (rows, columns) of the patches.
        keep: share of the attention mass a mask holds.
        n_classes: as `jaccard`.
        void: as `jaccard`.
        count_void: as `jaccard`.
    """
    return curve(attention, targets, grid=grid, keeps=(keep,), n_classes=n_classes, void=void, count_void=count_void)[0]


def curve(
    attention: Float[Tensor, "b heads n"],
    targets: Integer[Tensor, "b h w"],
    *,
    grid: Grid,
    keeps: Sequence[float],
    n_classes: int,
    void: int | None = 255,
    count_void: bool = False,
) -> tuple[Score, ...]:
    """`score` at each of several thresholds, in their order.

    A mask is constant on the pixels of a patch, so the pixels of each class are counted once per patch, and the overlaps of all
    masks, exactly those of `jaccard`, are sums of counts: more thresholds and heads cost next to nothing.
    """
    wide = torch.promote_types(attention.dtype, torch.float32)  # float16 would round the mean to zero
    with_average = torch.cat([attention, attention.mean(dim=1, keepdim=True, dtype=wide)], dim=1)
    masks = torch.stack([mass_mask(with_average, keep) for keep in keeps], dim=1).cpu().double()
    size = (targets.shape[1], targets.shape[2])
    n = masks.shape[3]
    patch = _patch_of_pixels(grid, size, n)
    best, each = [], []
    for mask, target in zip(masks, targets.cpu(), strict=True):
        counts, area = _counts(target, patch, n, n_classes, void=void, count_void=count_void)
        both = mask @ counts.mT
        values = both / ((mask @ area)[..., None] + counts.sum(dim=1) - both)  # (keeps, heads + 1, classes)
        best.append(values[:, :-1].amax(dim=1).mean(dim=1))
        each.append(values.mean(dim=2))
    found = []
    for at_best, per_mask in zip(torch.stack(best, dim=1), torch.stack(each, dim=1), strict=True):
        fixed = per_mask[:, :-1]
        found.append(Score(at_best, fixed, fixed.mean(dim=1), per_mask[:, -1]))
    return tuple(found)


def overlay(
    image: Float[Tensor, "3 h w"], mask: Bool[Tensor, "h w"], target: Integer[Tensor, "h w"] | None = None
) -> Float[Tensor, "3 h w"]:
    """A picture of a mask: the image in dark grey, tinted orange where the mask is, and the outline of the truth in white.

    Args:
        image: in [0, 1].
        mask: True on what is claimed.
        target: a label map, 0 background and `void` 255; every border between two labels is drawn, 2 pixels wide.
    """
    grey = image.mean(dim=0, keepdim=True).expand_as(image)
    tint = image.new_tensor([1.0, 0.55, 0.1])[:, None, None]
    shown = torch.where(mask, 0.6 * image + 0.4 * tint, 0.5 * grey)
    if target is None:
        return shown
    inside = torch.where(target == 255, 0, target).long()
    rim = torch.zeros_like(mask)
    for axis in (0, 1):
        step = inside.diff(dim=axis) != 0
        ends = step.narrow(axis, 0, 1) & False
        rim |= torch.cat([step, ends], dim=axis) | torch.cat([ends, step], dim=axis)
    return torch.where(rim, torch.ones_like(image), shown)


def _patch_of_pixels(grid: Grid, size: tuple[int, int], n: int) -> Int64[Tensor, "h w"]:
    require(grid[0] * grid[1] == n, f"`grid` must have the {n} patches of the attention", grid)
    rows = torch.arange(size[0]) * grid[0] // size[0]
    columns = torch.arange(size[1]) * grid[1] // size[1]
    return rows[:, None] * grid[1] + columns


def _checked(
    target: Integer[Tensor, "h w"], n_classes: int, void: int | None
) -> tuple[Int64[Tensor, "h w"], Bool[Tensor, "h w"]]:
    """The labels, and where nobody labelled; labels that are neither a class nor void are refused."""
    labels = target.long()
    unlabelled = torch.zeros_like(labels, dtype=torch.bool) if void is None else labels == void
    unknown = sorted(set(labels[((labels < 0) | (labels >= n_classes)) & ~unlabelled].tolist()))
    require(
        not unknown,
        f"Labels must be in [0, {n_classes - 1}]{'' if void is None else f' or {void} for void'}",
        unknown[:10],
        "Resize labels by nearest, and read indices, not colours.",
    )
    return labels, unlabelled


def _counts(
    target: Integer[Tensor, "h w"],
    patch: Int64[Tensor, "h w"],
    n: int,
    n_classes: int,
    *,
    void: int | None,
    count_void: bool,
) -> tuple[Float64[Tensor, "c n"], Float64[Tensor, " n"]]:
    """Of each patch, the pixels of each class present (ascending), and the pixels that count."""
    labels, unlabelled = _checked(target, n_classes, void)
    counted = torch.ones_like(unlabelled) if count_void else ~unlabelled
    area = patch[counted].bincount(minlength=n).double()
    known = ~unlabelled
    table = (labels[known] * n + patch[known]).bincount(minlength=n_classes * n).view(n_classes, n)
    present = table[1:].sum(dim=1).nonzero().flatten() + 1
    return table[present].double(), area
