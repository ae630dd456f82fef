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
    n = masks.shape[2]
    require(grid[0] * grid[1] == n, f"`grid` must have the {n} patches of the attention", grid)
    rows = torch.arange(size[0], device=masks.device) * grid[0] // size[0]
    columns = torch.arange(size[1], device=masks.device) * grid[1] // size[1]
    return masks.view(*masks.shape[:2], *grid)[:, :, rows[:, None], columns]


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
    labels = target.long()
    unlabelled = torch.zeros_like(labels, dtype=torch.bool) if void is None else labels == void
    unknown = sorted(set(labels[((labels < 0) | (labels >= n_classes)) & ~unlabelled].tolist()))
    require(
        not unknown,
        f"Labels must be in [0, {n_classes - 1}]{'' if void is None else f' or {void} for void'}",
        unknown[:10],
        "Resize labels by nearest, and read indices, not colours.",
    )
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
    wide = torch.promote_types(attention.dtype, torch.float32)  # float16 would round the mean to zero
    with_average = torch.cat([attention, attention.mean(dim=1, keepdim=True, dtype=wide)], dim=1)
    masks = upsample(mass_mask(with_average, keep), grid, (targets.shape[1], targets.shape[2]))
    best, each = [], []
    for mask, target in zip(masks, targets, strict=True):
        values = jaccard(mask, target, n_classes=n_classes, void=void, count_void=count_void).values
        best.append(values[:, :-1].amax(dim=1).mean())
        each.append(values.mean(dim=0))
    per_mask = torch.stack(each)
    fixed = per_mask[:, :-1]
    return Score(torch.stack(best), fixed, fixed.mean(dim=1), per_mask[:, -1])


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
    """`score` at each of several thresholds, in their order."""
    return tuple(
        score(attention, targets, grid=grid, keep=keep, n_classes=n_classes, void=void, count_void=count_void)
        for keep in keeps
    )


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
