"""Artefacts: do patch tokens of very high norm stand among the others, in which blocks, and where in the image?

Large transformers give a few patch tokens a norm many times that of the others and use them as a store of their own: such a token says
little of its place. Maps of attention and dense features (segmentation, correspondence, saliency) have holes there. Register tokens,
learnt or added afterwards, take that role over.

Protocol. One pass; the Euclidean norm of each patch token as it leaves each block, before the final norm (which hides it), in float32. Prefix tokens
(class, distillation, registers) are never counted. `mixture`: two Gaussians are fitted to the norms of all images, block by block. There
are no outliers where one Gaussian does as well, the two share more than 2 % of area or a quarter of the upper one's, or the upper one
holds more than 10 % of the tokens; else a token is an outlier above the place where the two cross. It is fitted once and counted in each
image; so it depends on the image set, and its cells are measured whole. `fixed`: above a norm that the user gives, such as a
published one. `median`: above three times the image's own median; rough, and without a check that there are two kinds of tokens.

Conventions. Blocks are counted from 1. The border is the outer ring of the patch grid: on 14 x 14 patches it is 27 % of the places, on 16 x 16
it is 23 %; a `border_share` above that says that outliers prefer it. `class_cosine` is asked for where there is a class token. The norm of a
token says nothing across networks: compare ratios and shares.

The gates are cliffs: norms with one long tail and no gap can lie on either side of 2 %. `norm_overlap` says how near; a threshold at .019 in one
block and none at .021 in the next is one and the same finding, a tail. `norm_ratio` has no gate; look at the pictures, and count with a `fixed`
threshold where they show two kinds. Intervals are over images and take the threshold as known.

What it means. With outliers in the block that a product reads, take an earlier block, registers, or a network without them
before dense use; a classifier on the class token need not mind. A share of zero in the last block alone is no clearance: look at all of them.

Pitfalls. Shares depend on the pictures (even areas give more), so say which set; norms in half precision are distorted, and these are in
float32. A percentile as the threshold would give its share by construction. Feature maps of convolutions and of windows have norms too, but
the phenomenon is not defined there: refused.

In the literature. Darcet et al. 2024 (arXiv 2309.16588): norms above 150 in DINOv2-g, 2.37 % of tokens, from block 15 of 40, in
large models only, in even areas of the image; none with registers. OpenCLIP ViT-B, SigLIP-B and DeiT-III-B have them too (vit-xray), so size is no
condition. DINOv2-B and -L are clean at the last block but not inside; DeiT-III-B has four border tokens from block 3 on that the growth of the
others hides at the end. That outliers lie in even areas is not so in every network (arXiv 2603.25803, abstract).

Metrics: `outlier_share`, `norm_ratio`, `median_norm`; for `mixture` `norm_threshold` and `norm_overlap`; of images with outliers
`border_share` and `class_cosine`. Pictures: the norms of an image, and the share of images that have an outlier at each place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from visionvitals.studies._maps import picture
from visionvitals.study import BackboneCard, Chart, ImageSetCard, Job, Metric, Preset, Scores, Sign, require

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "High-norm tokens"
AXES = ("block",)
LABELS = "none"
PER_IMAGE = True
METRICS = {
    "outlier_share": Metric(
        title="high-norm tokens",
        meaning="share of an image's patch tokens whose norm is above the threshold",
        unit="share",
        better="low",
    ),
    "norm_ratio": Metric(
        title="largest norm over the median",
        meaning="largest norm of an image's patch tokens over their median norm",
        unit="none",
        better="low",
    ),
    "median_norm": Metric(
        title="median norm", meaning="median norm of an image's patch tokens", unit="none", better=None
    ),
    "norm_threshold": Metric(
        title="threshold of the norm",
        meaning="norm above which a token counts, where the mixture has one; of the set, the same for every image",
        unit="none",
        better=None,
        interval=False,
    ),
    "norm_overlap": Metric(
        title="overlap of the two Gaussians",
        meaning="area that the two Gaussians of the mixture share, in [0, 0.5]; of the set, the same for every image. Above 0.02 there are no outliers",
        unit="share",
        better=None,
        interval=False,
    ),
    "border_share": Metric(
        title="outliers on the border",
        meaning="share of an image's high-norm tokens that lie on the outer ring of the patch grid",
        unit="share",
        better=None,
    ),
    "class_cosine": Metric(
        title="cosine of outliers with the class token",
        meaning="mean cosine of an image's high-norm tokens with its class token, as they leave the block",
        unit="cosine",
        better=None,
    ),
}
CHARTS = (
    Chart(
        x="block",
        x_title="block",
        metric="norm_ratio",
        where={"rule": "mixture"},
        reads="Some tokens always are the longest; where a few are many times as long as the others, dense features have holes.",
    ),
    Chart(
        x="block",
        x_title="block",
        facet=("rule", "threshold"),
        metric="outlier_share",
        title="Share of high-norm tokens",
        reads="Lower is better for dense use. No outliers in the last block is no clearance for those before it.",
    ),
    Chart(
        x="block",
        x_title="block",
        facet=("rule", "threshold"),
        metric="border_share",
        title="Where outliers lie",
        reads="Of images with outliers only. On a grid of 14 x 14 patches, 27 % of the places are on the border.",
    ),
)
SIGNS = (
    Sign(
        title="most high-norm tokens of a block",
        kind="highest",
        metric="outlier_share",
        x="block",
        where={"rule": "mixture"},
    ),
    Sign(
        title="largest norm over the median",
        kind="highest",
        metric="norm_ratio",
        x="block",
        where={"rule": "mixture"},
    ),
)
MEDIANS = 3.0
"""So many medians of the image are the threshold of the rule `median`."""

Rule = Literal["mixture", "fixed", "median"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What counts as a token of high norm.

    Attributes:
        rule: `mixture`, above the threshold between two Gaussians of all norms of the block; `fixed`, above `threshold`; `median`,
            above three times the image's own median.
        threshold: of `fixed`, in the units of the norm; 0 for the other rules.
    """

    rule: Rule = "mixture"
    threshold: float = 0.0

    def __post_init__(self) -> None:
        require(self.rule in get_args(Rule), f"`rule` must be one of {', '.join(get_args(Rule))}", self.rule)
        require(0 <= self.threshold < np.inf, "`threshold` must be a norm, not negative", self.threshold)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """The mixture. paper: also above 150, which Darcet et al. saw to part DINOv2-g's tokens; it fits no other network."""
    return [Condition(), *([Condition(rule="fixed", threshold=150.0)] if preset == "paper" else [])]


def needs_all(condition: Condition) -> bool:
    """The mixture is fitted to all images."""
    return condition.rule == "mixture"


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs patch tokens, and a threshold for the rule that takes one."""
    if "tokens" not in backbone.provides:
        kind = (
            "stages of feature maps, for which they are"
            if "maps" in backbone.provides
            else "no patch tokens, so they are"
        )
        return f"high-norm tokens are defined for patch tokens that keep one grid; {backbone.architecture} has {kind} not defined"
    if condition.rule == "fixed" and not condition.threshold:
        return "`rule = fixed` needs a `threshold` above 0"
    if condition.rule != "fixed" and condition.threshold:
        return f"`rule = {condition.rule}` finds its threshold itself; `threshold` must be 0"
    return None


def measure(job: Job) -> Iterator[Scores]:
    c: Condition = job.condition
    grid = job.backbone.card.patch_grid
    assert grid is not None
    border = np.ones(grid, dtype=bool)
    border[1:-1, 1:-1] = False
    kept = _norms(job)
    for k in range(kept["norm"].shape[1]):
        at, norms = (k + 1,), kept["norm"][:, k].astype(np.float64)
        fine = np.asarray(np.isfinite(norms).all(axis=1))
        median = np.median(norms, axis=1)
        threshold, of_set = _threshold(c, norms[fine], median)
        high = (norms > threshold[:, None]) & fine[:, None]
        with np.errstate(all="ignore"):  # what is not finite has no value
            columns = {"outlier_share": high.mean(axis=1), "norm_ratio": norms.max(axis=1) / median}
        columns |= {"median_norm": median, **{name: np.full(len(norms), value) for name, value in of_set.items()}}
        yield Scores(job.ids, {name: np.where(fine, values, np.nan) for name, values in columns.items()}, at)
        yield from _of_outliers(job, high, border.ravel(), kept.get("cosine"), k)
        _show(job, norms, high, fine, at)


def _threshold(c: Condition, norms: np.ndarray, median: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The norm above which a token of each image counts, (all,), infinity where none does; what is said of the whole set.

    Args:
        c: the rule.
        norms: of all images whose norms are finite, (n, places).
        median: of each image, (all,).
    """
    from visionvitals.probes import norms as mixtures

    if c.rule == "median":
        return MEDIANS * median, {}
    if c.rule == "fixed":
        return np.full(len(median), c.threshold), {}
    found = mixtures.fit(norms.ravel())
    if found is None:
        return np.full(len(median), np.inf), {}
    threshold = found.threshold()
    said = {"norm_threshold": threshold} if threshold < np.inf else {}
    return np.full(len(median), threshold), {"norm_overlap": found.overlap(), **said}


def _of_outliers(
    job: Job, high: np.ndarray, border: np.ndarray, cosine: np.ndarray | None, block: int
) -> Iterator[Scores]:
    """What is said of the outliers themselves, of the images that have some."""
    some = np.flatnonzero(high.any(axis=1))
    if not len(some):
        return
    high, count = high[some], high[some].sum(axis=1)
    columns = {"border_share": (high & border).sum(axis=1) / count}
    if cosine is not None:
        columns["class_cosine"] = np.where(high, cosine[some, block], 0).sum(axis=1, dtype=np.float64) / count
    yield Scores([job.ids[row] for row in some.tolist()], columns, (block + 1,))


def _show(job: Job, norms: np.ndarray, high: np.ndarray, fine: np.ndarray, at: tuple[int]) -> None:
    """The norms of the images that are shown; where the rule is of the set, also how often each place is an outlier."""
    import torch

    grid = job.backbone.card.patch_grid
    assert grid is not None
    for row in sorted(map(list(job.ids).index, job.exhibits.intersection(job.ids))):
        if fine[row] and norms[row].max() > 0:
            says = f"{high[row].sum()} of {high.shape[1]} high"
            job.keep(job.ids[row], picture(torch.from_numpy(norms[row].reshape(grid))), at, says)
    if job.exhibits and job.condition.rule == "mixture" and high.any():
        rate = high.mean(axis=0)
        says = f"at most {rate.max():.0%} of images"
        job.keep("share of images with an outlier", picture(torch.from_numpy(rate.reshape(grid))), at, says)


def _norms(job: Job) -> Mapping[str, np.ndarray]:
    """`norm` of each patch token as it leaves each block and, where there is a class token, its `cosine` with it: float32 (n, blocks, places),
    computed once for all rules."""
    import torch

    from visionvitals.probes import tokens

    where, card = tokens.layout(job.backbone), job.backbone.card
    classed = where.prefix > card.registers
    shape = (len(where.blocks), where.patches)
    computed = 0

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        nonlocal computed
        for batch in job.batches(start):

            def take(block: int, x: "Tensor", rows: slice = batch.rows) -> None:
                x = x.float()
                patches = x[:, where.prefix :]
                arrays["norm"][rows, block] = patches.norm(dim=2).cpu().numpy()
                if classed:
                    alike = torch.nn.functional.cosine_similarity(patches, x[:, :1], dim=2)
                    arrays["cosine"][rows, block] = alike.cpu().numpy()

            with torch.inference_mode(), tokens.watch(where, take):
                job.backbone.logits(batch.images)
            computed += len(batch.ids)
            job.progress(len(batch.ids))
            yield batch.rows.stop

    columns = dict.fromkeys(("norm", *(["cosine"] if classed else [])), (shape, "float32"))
    found = job.memo_rows("norms of patch tokens", {"class": classed}, columns, fill)
    job.progress(len(job.ids) - computed)
    return found
