"""Salient PatchDrop: how much is still recognised without the patches that matter most, or without those that matter least.

Each image's patches are ranked by a source of saliency. `salient` removes the fewest, largest first, that hold the share `mass` of it
(the patch that crosses the line is included); `non-salient` removes the most, smallest first, that hold at most that share.
So salient at Q and non-salient at 1 - Q split the image. Mass is not pixels: half of it can sit in a tenth of the patches, and
`information_loss` says in how many.

What it means for a product. A network that fails without a tenth of the patches hangs on one spot, and a sticker there turns it; one that is right
without the object goes by the background.

Pitfalls. Sources disagree on what is salient, so compare networks under one `model` or `mask`; under `self` or `gradient` each loses other patches.

Sources. `model`: the attention of another ViT, which ranks the patches for all networks alike; `self`: the network's own attention;
`gradient`: the absolute gradient of the predicted class's logit, for any network; `mask`: the true object of sets that know it, with
which salient at 1 removes the object and non-salient at 0 all patches without a part of it. The last block's attention of the class
token is taken; with `self` and `gradient` the networks of a plan lose different patches.

Nothing is random. An image without usable weights (no object, a gradient of zero) is left out and counted in a warning; one at which
the network gives NaN or Inf has no value. Saliency is
computed once for each image set and source, and kept in the cache.

Source: Naseer et al. 2021, section 3.1, with DINO ViT-S/16, head 1, as the `model`. Deviation from the authors' code: that network
gets the image with its own normalisation, not with that of the evaluated one.

Metrics: those of `clean`, `information_loss`, `mass_removed`.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING, Literal, get_args

from visionvitals.perturb.cells import PAPER_GRID, covers_whole_patches, default_grid, division_refusal
from visionvitals.studies._saliency import Source, weights
from visionvitals.study import (
    BackboneCard,
    BackboneSpec,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Published,
    Scores,
    Sign,
    require,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.perturb.saliency import Shares

TITLE = "Salient and non-salient occlusion"
METRICS = {
    "mass_removed": Metric(
        title="saliency removed",
        meaning="share of the saliency that lay in what was removed",
        unit="share",
        better=None,
        interval=False,
    )
}
Drop = Literal["salient", "non-salient"]
Fill = Literal["black", "mean", "gray", "noise", "blur"]
NO_MODEL = BackboneSpec("")
PAPER_MODEL = BackboneSpec("timm:vit_small_patch16_224.dino")
_READS = (
    "The patches that matter most removed, or those that matter least. A network that keeps its accuracy in the former does not hang on "
    "one part of the object; one that loses it in the latter needs what is around it."
)
_TITLES = {
    "model": "Ranked by another network, the same for all",
    "self": "Ranked by the network's own attention",
    "gradient": "Ranked by the network's own gradient",
    "mask": "Ranked by the true object",
}
CHARTS = (
    *(
        Chart(
            x="mass",
            x_title="saliency removed",
            x_unit="share",
            x_metric="mass_removed",
            facet=("model", "head", "drop", "fill"),
            where={"source": source},
            title=title,
            reads=_READS,
        )
        for source, title in _TITLES.items()
    ),
    Chart(
        x="mass",
        x_title="saliency removed",
        x_unit="share",
        x_metric="mass_removed",
        facet=("source", "model", "head"),
        where={"drop": "salient"},
        metric="information_loss",
        title="How many pixels the salient share is",
        reads="The lower, the fewer patches hold the saliency.",
    ),
)
_HALF = {"mass": 0.5, "fill": "black"}
SIGNS = (
    Sign(
        title="kept, salient half gone (gradient)",
        kind="kept",
        where={**_HALF, "drop": "salient", "source": "gradient"},
        at="without the salient half (gradient)",
    ),
    Sign(
        title="kept, salient half gone (own attention)",
        kind="kept",
        where={**_HALF, "drop": "salient", "source": "self"},
        at="without the salient half (own attention)",
    ),
)
_PAPER = {**_HALF, "source": "model", "model": PAPER_MODEL, "head": "1", "grid": PAPER_GRID}
PUBLISHED = (
    Published(
        model="DeiT-B", architectures=("deit_base_patch16_224",), where={**_PAPER, "drop": "non-salient"}, value=0.681
    ),
    Published(
        model="DeiT-B", architectures=("deit_base_patch16_224",), where={**_PAPER, "drop": "salient"}, value=0.713
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One point of the sweep.

    Attributes:
        mass: share of the saliency to remove, in [0, 1].
        drop: the patches that hold most of it, or least.
        source: what says which patches matter.
        model: another backbone, for `source = model` only.
        head: of attention: `mean`, an index from 0, or `best-foreground`, one head chosen with the masks of the set.
        grid: (rows, columns) of the cells that are removed.
        fill: what a removed cell shows. Tokens cannot be removed here: each image loses another number of them.
    """

    mass: float = 0.5
    drop: Drop = "salient"
    source: Source = "self"
    model: BackboneSpec = NO_MODEL
    head: str = "mean"
    grid: tuple[int, int] = PAPER_GRID
    fill: Fill = "black"

    def __post_init__(self) -> None:
        require(0 <= self.mass <= 1, "`mass` must be in [0, 1]", self.mass)
        for name, known in (("drop", get_args(Drop)), ("source", get_args(Source)), ("fill", get_args(Fill))):
            value = getattr(self, name)
            require(value in known, f"`{name}` must be one of {', '.join(known)}", value)
        index = self.head.isascii() and self.head.isdecimal()
        known_head = self.head in ("mean", "best-foreground") or index
        require(known_head, "`head` must be `mean`, `best-foreground` or an index from 0", self.head)
        require(len(self.grid) == 2 and min(self.grid) > 0, "`grid` must be two positive numbers", self.grid)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: own attention, gradient and mask at 25, 50 and 75 %. default: attention and gradient at 10 and 90 % too, and the mask at
    its ends: the whole object, all of the background. paper: tenths from 10 to 90 %, the attention of DINO ViT-S/16, head 1.
    """
    drops: tuple[Drop, ...] = get_args(Drop)
    if preset == "paper":
        tenths = tuple(d / 10 for d in range(1, 10))
        return [
            Condition(mass=mass, drop=drop, source="model", model=PAPER_MODEL, head="1")
            for drop in drops
            for mass in tenths
        ]
    grid = default_grid(size)
    quarters = (0.25, 0.5, 0.75)
    attended: tuple[Source, ...] = ("self", "gradient")
    found = [
        Condition(mass=mass, drop=drop, source=source, grid=grid)
        for source in attended
        for drop in drops
        for mass in (quarters if preset == "quick" else (0.1, *quarters, 0.9))
    ]
    ends = {"salient": (*quarters, 1.0), "non-salient": (0.0, *quarters)}
    return found + [
        Condition(mass=mass, drop=drop, source="mask", grid=grid)
        for drop in drops
        for mass in (quarters if preset == "quick" else ends[drop])
    ]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """Fields must go together; the grid must divide the input; `self` needs attention; `mask` and `best-foreground` need masks."""
    if (condition.source == "model") != bool(condition.model):
        return "`model` names the other backbone of `source = model`, and of no other source"
    if condition.source in ("mask", "gradient") and condition.head != "mean":
        return f"`source = {condition.source}` has no heads"
    if condition.source == "self" and "attention" not in backbone.provides:
        way = "" if backbone.inference_only else " (`gradient` works for any network)"
        return f"`source = self` needs attention over patches; {backbone.architecture} has none{way}"
    if condition.source == "gradient" and backbone.inference_only:
        return f"`source = gradient` needs gradients; {backbone.architecture} has none"
    asks = condition.source == "mask" or condition.head == "best-foreground"
    if asks and "mask" not in images.provides:
        what = "source = mask" if condition.source == "mask" else "head = best-foreground"
        return f"`{what}` needs an image set with masks"
    if condition.source == "self" and (missing := _missing_head(condition, backbone)):
        return missing
    return division_refusal(condition.grid, backbone.preprocess.size)


def unfit(condition: Condition, backbone: BackboneCard, other: BackboneCard) -> str | None:
    """The source of saliency is its attention, all heads or one."""
    if "attention" in other.provides:
        return _missing_head(condition, other)
    return f"`source = model` needs attention over patches; {other.architecture} has none"


def _missing_head(condition: Condition, attending: BackboneCard) -> str | None:
    heads = attending.attention_heads
    if not (heads and condition.head.isdecimal() and int(condition.head) >= heads):
        return None
    return f"`head` must be one of the {heads} of {attending.architecture}, 0 to {heads - 1}; it is {condition.head}"


def without(condition: Condition, batch: Batch, seed: int, ranked: "Tensor") -> "tuple[Tensor, Shares]":
    """The images without the cells that the condition takes from them, and what that was.

    Args:
        condition: its `source` and `head` are not looked at.
        batch: b images.
        seed: root of all randomness.
        ranked: the weights of the cells, float64 (b, rows * columns), usable ones only.
    """
    from visionvitals import randomness
    from visionvitals.perturb import patches, saliency

    c = condition
    rule = saliency.salient_drop if c.drop == "salient" else saliency.non_salient_drop
    dropped = rule(ranked, c.mass)
    gone = dropped.to(batch.images.device, non_blocking=True)
    keys = randomness.stream(seed, batch.ids, "salient/fill", device=batch.images.device)
    fill = patches.fill_pixels(c.fill, batch.images, keys, mean=batch.card.preprocess.mean)
    return patches.occlude_cells(batch.images, gone, c.grid, batch.shown(fill)), saliency.shares(ranked, dropped)


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.perturb import saliency

    c: Condition = job.condition
    weigh = weights(job, source=c.source, model=c.model, head=c.head, grid=c.grid)
    now: dict[str, Tensor] = {}  # of the batch
    fit: set[str] = set()  # of the images that are shown, those with usable saliency
    lost = 0

    def occluded(condition: Condition, batch: Batch, seed: int) -> "Tensor":
        ranked = weigh(batch.rows)
        now["good"] = good = saliency.usable(ranked)
        # no finite answer to the whole image, so no gradient
        now["silent"] = ~ranked.isfinite().all(dim=1) & (c.source == "gradient")
        ranked[~good] = 1.0  # these images are left out below; the batch keeps its shape
        images, taken = without(condition, batch, seed, ranked)
        now.update(mass_removed=taken.mass, information_loss=taken.pixels)
        fit.update(job.exhibits.intersection(compress(batch.ids, good.tolist())))
        return images

    def keep(item: str, image: "Tensor") -> None:
        if item in fit:
            job.keep(item, image)

    whole = c.fill in ("black", "mean", "gray") and covers_whole_patches(c.grid, job.backbone.card)
    for block in score(dataclasses.replace(job, keep=keep), occluded, whole_patches=whole):
        good, silent = now.pop("good"), now.pop("silent")
        rows = (good | silent).nonzero()[:, 0]
        lost += len(good) - len(rows)

        def kept(column: "Tensor", rows: "Tensor" = rows, silent: "Tensor" = silent[rows]) -> "Tensor":
            at = column.device
            chosen = column.index_select(0, rows.to(at, non_blocking=True)).double()
            return chosen.masked_fill(silent.to(at, non_blocking=True), torch.nan)

        columns = {metric: kept(torch.as_tensor(column)) for metric, column in {**block.values, **now}.items()}
        yield Scores([block.items[k] for k in rows.tolist()], columns)
    if lost:
        job.warn(f"{lost} of {len(job.ids)} images have no usable saliency (source {c.source}) and are left out")
