"""Segmentation from attention: how well what a token looks at covers the object, though nobody taught the network to segment.

The last block's attention of a prefix token over the patches is turned into a mask: the patches that hold the top `keep` of it, nearest
up to the size of the network's input. The mask is compared with the true one by the Jaccard index, per class in the image, averaged
over its classes. One pass over the images measures everything: each head on its own; `mean`, the attention averaged over heads;
`expected`, a head drawn at random; and `best`, the best head for each class, chosen with the truth known. `best` is what is usually
published; it is an oracle, and grows with the number of heads by construction. The others are what you would get. `everything` is a
mask of the whole picture: the floor, and high where objects are large.

Convention: both masks are cut as the network's input is; give `?size=512&resize=none` to a ViT for the published protocol (timm
then resamples its position embedding with antialiasing, the authors without). Pixels that nobody labelled (255) do not count, unless
`count_void`. An image without an object has no value.

What it means for a product. Says whether attention can be shown as a map of the object, or used to propose regions, without training for it.

Pitfalls. `best` is chosen with the truth known and grows with the number of heads: compare `mean`, `expected` and `everything`. Attention covers what
tells classes apart, which need not be the whole object.

Source: Naseer et al. 2021, section 3.2 (`keep` 0.9, VOC2012 val); Caron et al. 2021, Figure 4 (0.6). The thresholds are not comparable.
Deviation of `paper` from its text: none; its authors' code counts void as background, and so does the preset.

Metrics: `jaccard`, at each head, keep and query; query 0 is the class token, the next ones a distillation or shape token and registers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visionvitals.study import BackboneCard, Batch, Chart, ImageSetCard, Job, Metric, Preset, Published, Scores, Sign

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Segmentation from attention"
AXES = ("head", "keep", "query")
LABELS = "none"
PER_IMAGE = True
METRICS = {
    "jaccard": Metric(
        title="Jaccard index",
        meaning="pixels in both a mask and the truth over pixels in either, mean over the classes in the image",
        unit="share",
        better="high",
    )
}
KEEPS = tuple(d / 10 for d in range(1, 10))
_SHOWN = (0.3, 0.6, 0.9)  # of the pictures
_X = "attention kept"
CHARTS = (
    Chart(
        x="keep",
        x_title=_X,
        x_unit="share",
        metric="jaccard",
        where={"head": "mean", "query": 0},
        facet=("count_void",),
        title="Attention averaged over heads",
        reads="Higher: what the class token looks at is the object. Compare with a network of random weights, and with `everything` "
        "below: a mask of the whole picture scores the object's share of it. Pictures: the mask in colour, the true outline in white.",
    ),
    Chart(
        x="keep",
        x_title=_X,
        x_unit="share",
        metric="jaccard",
        where={"head": "best", "query": 0},
        facet=("count_void",),
        title="The best head for each object, chosen with the truth known",
        reads="What is usually published. It is an oracle: more heads score higher by construction.",
    ),
    Chart(
        x="keep",
        x_title=_X,
        x_unit="share",
        y="head",
        metric="jaccard",
        where={"query": 0},
        title="Each head, and the ways to choose one",
        reads="A bright row is a head that looks at objects; `expected` is a head drawn at random, `everything` a mask of the whole picture.",
    ),
    Chart(
        x="query",
        x_title="asking token (0 is the class token)",
        metric="jaccard",
        where={"head": "mean", "keep": 0.9},
        title="Who asks",
        reads="Distillation, shape and register tokens, where the network has some.",
    ),
)
SIGNS = (
    Sign(title="Jaccard, mean head", kind="mean", metric="jaccard", where={"head": "mean", "keep": 0.9, "query": 0}),
    Sign(title="Jaccard, best head", kind="mean", metric="jaccard", where={"head": "best", "keep": 0.9, "query": 0}),
)


def _published(
    model: str,
    architecture: str,
    value: float,
    *,
    query: int = 0,
    keep: float = 0.9,
    source: str = "Naseer et al. 2021",
) -> Published:
    where = {"head": "best", "keep": keep, "query": query, "count_void": True}
    return Published(
        model=model,
        architectures=(architecture,),
        where=where,
        value=value,
        metric="jaccard",
        size=(512, 512),
        families=("voc",),
        data="VOC2012 validation at 512 px",
        source=source,
    )


_TINY, _SMALL = "deit_tiny_patch16_224", "deit_small_patch16_224"
_TINY_2, _SMALL_2 = "deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224"
_CARON = "Caron et al. 2021"
PUBLISHED = (
    _published("DeiT-T, random weights", _TINY, 0.196),
    _published("DeiT-T", _TINY, 0.322),
    _published("DeiT-T-SIN", _TINY, 0.294),
    _published("DeiT-T-SIN distilled, class token", _TINY_2, 0.400),
    _published("DeiT-T-SIN distilled, shape token", _TINY_2, 0.422, query=1),
    _published("DeiT-S, random weights", _SMALL, 0.220),
    _published("DeiT-S", _SMALL, 0.292),
    _published("DeiT-S-SIN", _SMALL, 0.375),
    _published("DeiT-S-SIN distilled, class token", _SMALL_2, 0.420),
    _published("DeiT-S-SIN distilled, shape token", _SMALL_2, 0.424, query=1),
    _published("ViT-S/16, random weights", "vit_small_patch16_224", 0.220, keep=0.6, source=_CARON),
    _published("ViT-S/16, supervised", _SMALL, 0.273, keep=0.6, source=_CARON),
    _published("ViT-S/16, DINO", "vit_small_patch16_224", 0.459, keep=0.6, source=_CARON),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """There is one for each way to treat void.

    Attributes:
        count_void: count unlabelled pixels as background, as the published numbers do; a perfect mask that reaches into the unlabelled
            rim then stays below 1.
    """

    count_void: bool = False


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """paper: void counts as background."""
    return [Condition(count_void=preset == "paper")]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs masks, and a map of attention over the patches."""
    if "mask" not in images.provides:
        return "segmentation needs an image set with masks (`masks:`, `voc:`, `cue_conflict:`, `shapes:`)"
    if "attention" not in backbone.provides:
        return f"segmentation needs attention over patches; {backbone.architecture} has none"
    return None


def passes(condition: Condition) -> float:
    return 1.3


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes import attention

    card = job.backbone.card
    assert job.masks is not None, "`refusal` asks for both"
    objects = overflows = 0
    for batch in job.batches():
        with torch.inference_mode():
            maps = attention.record(job.backbone, batch.images)
            looked = attention.over_patches(maps[-1], card).cpu()
        targets = torch.from_numpy(np.array(job.masks[batch.rows]))
        some = ((targets > 0) & (targets < 255)).flatten(1).any(dim=1)
        objects += int(some.sum())
        overflows += int((~_rankable(looked[:, :, 0])).sum())
        for query in range(looked.shape[2]):
            yield from _curves(job, batch, looked[:, :, query], targets, some, query)
        for k in (some & _rankable(looked[:, :, 0])).nonzero().flatten().tolist():
            if batch.ids[k] in job.exhibits:
                _keep(job, batch, k, looked[k : k + 1, :, 0], targets[k])
        job.progress(len(batch.ids))
    for count, what in (
        (len(job.ids) - objects, "show no object"),
        (overflows, "have attention that cannot be ranked"),
    ):
        if count:
            job.warn(f"{count} of {len(job.ids)} images {what} and are left out")


def _curves(job: Job, batch: Batch, rows: "Tensor", targets: "Tensor", some: "Tensor", query: int) -> Iterator[Scores]:
    """The scores of a batch for one asking token.

    Args:
        rows: its attention, (b, heads, n).
        targets: label maps, (b, h, w).
        some: bool (b,), whether the image shows an object.
    """
    import torch

    from visionvitals.probes import segmentation

    void = job.condition.count_void
    good = (some & _rankable(rows)).nonzero().flatten()
    items = [batch.ids[k] for k in good.tolist()]
    if not items:
        return
    whole = torch.ones_like(targets[:1], dtype=torch.bool)
    floors = [segmentation.jaccard(whole, t, n_classes=255, count_void=void).values.mean() for t in targets[good]]
    grid = job.backbone.card.patch_grid
    assert grid is not None
    curve = segmentation.curve(rows[good], targets[good], grid=grid, keeps=KEEPS, n_classes=255, count_void=void)
    for keep, found in zip(KEEPS, curve, strict=True):
        columns = {"best": found.best, "mean": found.averaged, "expected": found.expected}
        columns |= {"everything": torch.stack(floors)}
        columns |= {str(head): values for head, values in enumerate(found.fixed.T)}
        for head, values in columns.items():
            yield Scores(items, {"jaccard": values}, (head, keep, query))


def _keep(job: Job, batch: Batch, k: int, rows: "Tensor", target: "Tensor") -> None:
    """Pictures of image k of a batch: the mask of the mean head, from attention (1, heads, n), over the image."""
    from visionvitals.probes import segmentation

    card = job.backbone.card
    assert card.patch_grid is not None
    for keep in _SHOWN:
        mask = segmentation.mass_mask(rows.mean(dim=1, keepdim=True), keep)
        whole = segmentation.upsample(mask, card.patch_grid, card.preprocess.size)[0, 0]
        job.keep(batch.ids[k], segmentation.overlay(batch.images[k].cpu(), whole, target), ("mean", keep, 0))


def _rankable(rows: "Tensor") -> "Tensor":
    """Images whose attention, (b, heads, n), can be ranked in every head: not so where it overflowed."""
    from visionvitals.perturb import saliency

    return saliency.usable(rows.flatten(0, 1)).view(rows.shape[:2]).all(dim=1)
