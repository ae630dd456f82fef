"""Attention by layer: mean maps, and how much of the attention lies on what is visible when part of the image is not.

One mask is drawn and laid over every image, so that the mean over images of each head's attention map shows whether the head looks
at the covered cells. `visible_attention` says it in a number: of the attention that goes to patches, the share that goes to
visible ones. Without a preference it is the share of the cells that are visible, 1 - fraction.

Conventions. The query is a prefix token, 0 the class token; a network without one is asked by the mean over its patches. The
attention to prefix tokens is left out and the rest normalised. Blocks are attention calls in order, from 1; those whose map is not
one over the patch grid are left out, and an image whose map has negative entries (mixed heads) has no value there. Heads are numbered
from 1; `mean` is the mean of their attention, which is normalised after it, as everywhere: a head that looks at prefix tokens only
counts little. `view` is `masked`, or `plain`: the same sum over the same cells while nothing is covered. The maps
are recomputed in float32 and certified (`probes.attention`); one whose product is not the network's own fails the cell.

What it means for a product. A picture of where a network looks is worth showing to people only where it leaves covered places alone; heads that look
at them regardless follow the place and not the content.

Pitfalls. Attention is no proof of what an answer rests on: compare with `salient` and `stability`, which change the picture. Values of networks with
different prefix tokens compare, since these are left out; values of different grids do so only roughly.

Source: Naseer et al. 2021, Figures 4 and 26. Theirs are pictures; the number is ours.

Metrics: `visible_attention`; for the plain view of the mean head only. Pictures: the mean maps of both views; one is called
flat where no patch gets one and a half times the mean.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionvitals.perturb.cells import PAPER_GRID, covers_whole_patches, default_grid, division_refusal
from visionvitals.studies._maps import picture
from visionvitals.study import BackboneCard, Chart, ImageSetCard, Job, Metric, Preset, Scores, Sign, require

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

VERSION = 2  # the mean head is that of the other studies
TITLE = "Attention"
AXES = ("block", "head", "view")
LABELS = "none"
METRICS = {
    "visible_attention": Metric(
        title="attention on visible patches",
        meaning="share of the attention to patches that goes to those left visible",
        unit="share",
        better=None,
    )
}

FLAT = 1.5
"""A mean map whose largest value is below so many times its mean is called flat."""


def _deepest_gain(points: Sequence[Mapping[str, Any]], means: "np.ndarray") -> "np.ndarray":
    """The last block's share over the first one's."""
    order = sorted(range(len(points)), key=lambda k: int(points[k]["block"]))
    gain: np.ndarray = means[..., order[-1]] - means[..., order[0]]
    return gain


CHARTS = (
    Chart(
        x="block",
        x_title="block",
        facet=("fraction", "view"),
        metric="visible_attention",
        where={"head": "mean"},
        reads="Plain is the control: the same patches while nothing is covered. Bands are 95 % intervals over images.",
    ),
    Chart(
        x="block",
        y="head",
        x_title="block",
        facet=("fraction",),
        metric="visible_attention",
        where={"view": "masked"},
        title="By head",
    ),
)
SIGNS = (
    Sign(
        title="visible attention, last minus first block",
        kind="index",
        metric="visible_attention",
        where={"fraction": 0.5, "head": "mean", "view": "masked"},
        index=_deepest_gain,
        unit="none",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One fixed mask.

    Attributes:
        fraction: share of the cells that the mask covers, in (0, 1).
        grid: (rows, columns) of cells, each of whole patches.
        query: which prefix token is asked.
        run: repetition; each has its own mask.
    """

    fraction: float = 0.5
    grid: tuple[int, int] = PAPER_GRID
    query: int = 0
    run: int = 0

    def __post_init__(self) -> None:
        require(0 < self.fraction < 1, "`fraction` must be in (0, 1)", self.fraction)
        require(len(self.grid) == 2 and min(self.grid) > 0, "`grid` must be two positive numbers", self.grid)
        require(self.query >= 0, "`query` must not be negative", self.query)
        require(self.run >= 0, "`run` must not be negative", self.run)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """Half of the cells. paper: on a grid of 14 x 14."""
    return [Condition(grid=PAPER_GRID if preset == "paper" else default_grid(size))]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs attention over the patch grid, cells of whole patches, and the query."""
    from visionvitals.perturb.patches import drop_count

    if "attention" not in backbone.provides:
        return f"{backbone.architecture} has no attention map over a patch grid"
    if not covers_whole_patches(condition.grid, backbone):
        uneven = division_refusal(condition.grid, backbone.preprocess.size)
        return uneven or f"the mask needs cells of whole patches; the patch grid is {backbone.patch_grid}"
    cells = condition.grid[0] * condition.grid[1]
    if drop_count(condition.fraction, cells) == 0:
        return f"a fraction of {condition.fraction:g} covers none of the {cells} cells"
    if condition.query >= max(1, backbone.prefix_tokens):
        return f"{backbone.architecture} has {backbone.prefix_tokens} prefix tokens, so there is no query {condition.query}"
    return None


def passes(condition: Condition) -> float:
    return 2.5


def measure(job: Job) -> Iterator[Scores]:
    import torch

    c: Condition = job.condition
    grid = job.backbone.card.patch_grid
    assert grid is not None
    visible, covered = _mask(job)
    sums: dict[tuple[int, str], Tensor] = {}
    for batch in job.batches():
        with torch.inference_mode():
            views = {"plain": batch.images, "masked": covered(batch.images)}
            seen = [(view, *found) for view, images in views.items() for found in _rows(job, images, c.query)]
        for view, block, rows, scored in seen:
            heads = torch.cat([rows.mean(dim=1, keepdim=True), rows], dim=1).double()
            heads = heads / heads.sum(dim=2, keepdim=True)
            values = heads[:, :, visible].sum(dim=2)[scored].cpu()
            items = [i for i, has in zip(batch.ids, scored.tolist(), strict=True) if has]
            for h in range(values.shape[1] if view == "masked" else 1):
                yield Scores(items, {"visible_attention": values[:, h]}, (block, f"{h}" if h else "mean", view))
            if job.exhibits and items:
                maps = heads[scored].nan_to_num().cpu()
                before = [sums[block, view][None]] if (block, view) in sums else []
                # image by image, so that the order of the sum does not depend on batches
                sums[block, view] = torch.cat([*before, maps]).cumsum(dim=0)[-1]
        job.progress(len(batch.ids))
    for (block, view), total in sums.items():
        for h, map_ in enumerate(total):
            says = "flat: nearly even" if map_.max() < FLAT * map_.mean() else ""
            job.keep(f"mean map, {view}", picture(map_.view(grid)), (block, f"{h}" if h else "mean", "masked"), says)


def _mask(job: Job) -> "tuple[Tensor, Callable[[Tensor], Tensor]]":
    """Which patches stay visible, bool (n,), and what lays the mask over images."""
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import patches

    c: Condition = job.condition
    card = job.backbone.card
    assert card.patch_grid is not None
    n = c.grid[0] * c.grid[1]
    key = randomness.stream(job.seed, ["the one mask"], f"attention/run={c.run}", device=job.backbone.device)
    drop = patches.random_drop(key, n, patches.drop_count(c.fraction, n))
    pixels = patches.to_pixels(drop, c.grid, card.preprocess.size)
    black = torch.zeros(1, 3, 1, 1, device=job.backbone.device)

    def covered(images: "Tensor") -> "Tensor":
        return patches.occlude(images, pixels.expand(len(images), -1, -1, -1), black)

    return ~patches.to_pixels(drop, c.grid, card.patch_grid).flatten(), covered


def _rows(job: Job, images: "Tensor", query: int) -> "list[tuple[int, Tensor, Tensor]]":
    """(block, attention of the query to each patch (b, heads, n), whether none of it is negative (b,)) of one forward pass."""
    from visionvitals.probes import attention

    card = job.backbone.card
    found = []
    for each in attention.record(job.backbone, images):
        if attention.unusable(each, card.patch_grid) is not None:
            continue
        rows = attention.over_patches(each, card)[:, :, min(query, each.rows.shape[2] - 1)]
        negative = (rows < 0).flatten(1).any(dim=1)
        found.append((each.block + 1, rows, ~negative))
    return found
