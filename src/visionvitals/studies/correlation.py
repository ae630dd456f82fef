"""Token correlation: how much of what a block says of an image is still said when patches of it are removed.

    corr(u, v) = (1/n) sum_i (u_i - mean u)/std(u) * (v_i - mean v)/std(v)

u and v are the features of the original and of the occluded image: the class token of a transformer (the mean over patches where
its classifier does not read a class token), the mean over places of a convolutional network's stage. The published text leaves
open what mean and std run over. `definition` A: per image, over feature dimensions; B: every dimension over the image set, then the
mean product per image; C: the cosine, no centring. Only A shows the published
pattern of means and spreads.

Conventions. Blocks (stages) are counted from 1 and seen before the final norm; one more place, number of blocks + 1, stands for the
features that the head reads, after the final norm (of a distilled network those of the class token): this is the one to compare
with the published numbers, which do not say. A network that has no such features ends with its last stage. Occlusion is that of the
study `occlusion`, with its masks. `group_correlation` is the same number at the last place, as block 0, once more under the name of
the image's superclass; B is standardised over the whole set there too. Values that are not defined (constant or overflown features)
are NaN: left out of means, and counted.

One pass over the images serves all blocks and definitions. B needs the moments of the whole set before it can score an image;
until then features wait in a temporary file, not in memory.

What it means for a product. Features that stay alike under occlusion can be compared, clustered and searched when objects are partly hidden. Check it
on the kind of hiding that the place of use has.

Pitfalls. A and C count what all images share too: a large mean of all features makes any two images alike. Only B takes the mean over the images off.
The definitions do not compare with one another.

Source: Naseer et al. 2021, Table 1 and Figure 5. Deviation: one mask per image and run (theirs: one per batch).

Metrics: `correlation` at (block, definition, all); `group_correlation` at (0, definition, group).
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.perturb.cells import PAPER_GRID, default_grid, division_refusal
from visionvitals.studies import _superclasses
from visionvitals.studies._places import last_place
from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Published,
    Scores,
    Sign,
    VitalsError,
    load,
    require,
)

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.probes.tokens import Layout

TITLE = "Token correlation"
AXES = ("block", "definition", "group")
LABELS = "own"
METRICS = {
    "correlation": Metric(
        title="correlation with the original",
        meaning="correlation of the features of the changed with those of the original image; 1 is unchanged",
        unit="none",
        better="high",
    ),
    "group_correlation": Metric(
        title="correlation by group",
        meaning="`correlation`, of the images of one group of classes",
        unit="none",
        better="high",
    ),
}
_ALL = {"definition": "A", "group": "all"}
CHARTS = (
    Chart(
        x="block",
        x_title="block or stage; the last place is what the head reads",
        facet=("fraction", "definition"),
        metric="correlation",
        reads="1: the block says the same of the occluded image. A: over feature dimensions; B: standardised over the set; C: cosine.",
    ),
    Chart(
        x="group",
        x_title="superclass",
        facet=("fraction",),
        metric="group_correlation",
        y_title="correlation with the original",
        where={"definition": "A"},
        title="By superclass: what the head reads",
    ),
)
SIGNS = (
    Sign(
        title="feature correlation at 50 % occlusion",
        kind="index",
        metric="correlation",
        where={"fraction": 0.5, **_ALL},
        index=last_place,
        unit="none",
    ),
)
FRACTIONS = (0.25, 0.5, 0.75)
PUBLISHED = tuple(
    Published(
        model=model,
        architectures=(name,),
        where={"fraction": fraction, "block": block, "grid": PAPER_GRID, **_ALL},
        value=value,
        metric="correlation",
    )
    for model, name, block, values in (
        ("ResNet50", "resnet50", 5, (0.32, 0.13, 0.07)),
        ("TNT-S", "tnt_s_legacy_patch16_224", 13, (0.83, 0.67, 0.46)),
        ("ViT-L", "vit_large_patch16_224", 25, (0.92, 0.81, 0.50)),
        ("DeiT-B", "deit_base_patch16_224", 13, (0.90, 0.77, 0.56)),
    )
    for fraction, value in zip(FRACTIONS, values, strict=True)
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One strength of occlusion.

    Attributes:
        fraction: share of the cells to remove, in [0, 1].
        grid: (rows, columns) of cells.
        groups: a csv `class,group` that replaces ImageNet's superclasses. The beginning of its sha256 is put behind its name, after a
            `#`: a file that has changed is another condition.
        run: repetition; each has its own masks.
    """

    fraction: float = 0.5
    grid: tuple[int, int] = PAPER_GRID
    groups: str = ""
    run: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.fraction <= 1, "`fraction` must be in [0, 1]", self.fraction)
        require(len(self.grid) == 2 and min(self.grid) > 0, "`grid` must be two positive numbers", self.grid)
        require(self.run >= 0, "`run` must not be negative", self.run)
        object.__setattr__(self, "groups", _superclasses.marked(self.groups))  # frozen for everyone else


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: one half. default: 25, 50, 75 %. paper: the same on a grid of 14 x 14."""
    grid = PAPER_GRID if preset == "paper" else default_grid(size)
    return [Condition(fraction=f, grid=grid) for f in ((0.5,) if preset == "quick" else FRACTIONS)]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs blocks or stages, a grid that divides the input, and groups that fit if any are given."""
    if not {"tokens", "maps"} & set(backbone.provides):
        return (
            f"{backbone.architecture} has neither blocks of patch tokens nor stages of feature maps that could be found"
        )
    if condition.groups:
        try:
            _superclasses.by_class(images, backbone, condition.groups)
        except VitalsError as error:
            return str(error)
    return division_refusal(condition.grid, backbone.preprocess.size)


def passes(condition: Condition) -> float:
    return 2


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images without the patches that the study `occlusion` removes from them."""
    occlusion = load("occlusion")
    same = occlusion.Condition(fraction=condition.fraction, grid=condition.grid, run=condition.run)
    assert occlusion.perturb is not None
    return occlusion.perturb(same, batch, seed)


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes import correlation, tokens

    c: Condition = job.condition
    where = tokens.layout(job.backbone)
    groups = _groups(job)
    states: list[correlation.Moments] = []
    with tempfile.TemporaryFile() as file:
        kept: Any = None
        for batch in job.batches():
            with torch.inference_mode():
                changed = perturb(c, batch, job.seed)
                both = [_features(job, where, images) for images in (batch.images, changed)]
            for item, image in zip(batch.ids, changed, strict=True):
                if item in job.exhibits:
                    job.keep(item, image)
            if not states:
                states = [correlation.start(u.shape[1]) for u in both[0]]
                width = sum(u.shape[1] for u in both[0])
                kept = np.memmap(file, dtype=np.float32, mode="w+", shape=(len(job.ids), 2, width))
            states = [correlation.update(s, u, v) for s, u, v in zip(states, *both, strict=True)]
            for k, found in enumerate(both):
                kept[batch.rows, k] = torch.cat(found, dim=1).float().cpu().numpy()
            for block, (u, v) in enumerate(zip(*both, strict=True), 1):
                for definition, values in (("A", correlation.pearson(u, v)), ("C", correlation.cosine(u, v))):
                    own = groups if block == len(states) else None
                    yield from _scores(job, batch.rows, values, block, definition, own)
            job.progress(len(batch.ids))
        edges = np.cumsum([0, *(len(s.mean_u) for s in states)]).tolist()
        for start in range(0, len(job.ids), job.batch_size):
            part = slice(start, min(start + job.batch_size, len(job.ids)))
            for block, state in enumerate(states, 1):
                u, v = (torch.from_numpy(np.array(kept[part, k, edges[block - 1] : edges[block]])) for k in (0, 1))
                values = correlation.standardised(state, u, v)
                yield from _scores(job, part, values, block, "B", groups if block == len(states) else None)


def _features(job: Job, where: "Layout", images: "Tensor") -> "list[Tensor]":
    """One vector per image from each block, and the one that the head reads; one forward pass."""
    from visionvitals.probes import tokens

    seen: list[Tensor] = []
    whole: list[Tensor] = []

    def take(block: int, x: "Tensor") -> None:
        seen.append(tokens.pooled(where, x))
        if block + 1 == len(where.blocks) and where.readout is not None:
            whole.append(where.readout.features(x, where.prefix))

    with tokens.watch(where, take):
        if where.readout is None and job.backbone.features is not None:
            whole.append(job.backbone.features(images))
        else:
            job.backbone.logits(images)
    return seen + whole


def _groups(job: Job) -> np.ndarray | None:
    """The name of each image's group, "" for none, (n,); None where there are no groups."""
    of_class = _superclasses.by_class(job.images, job.backbone.card, job.condition.groups)
    return None if of_class is None else np.array([group or "" for group in of_class])[job.labels]


def _scores(
    job: Job, part: slice, values: "Tensor", block: int, definition: str, groups: np.ndarray | None
) -> Iterator[Scores]:
    """The values of the images `part`, and once more group by group where these are given; what is not finite becomes NaN."""
    numbers = values.masked_fill(~values.isfinite(), float("nan")).numpy()
    items = job.ids[part]
    yield Scores(items, {"correlation": numbers}, (block, definition, "all"))
    own = np.empty(0, dtype=str) if groups is None else groups[part]
    for group in np.unique(own[own != ""]).tolist():
        rows = np.flatnonzero(own == group)
        yield Scores([items[k] for k in rows.tolist()], {"group_correlation": numbers[rows]}, (0, definition, group))
