"""Feature drop: how much of the prediction survives when part of what enters one block is set to zero.

Of a transformer, floor(ratio * T) of the patch tokens that enter block k are zeroed, T being all tokens, the prefix tokens (class,
distillation, registers) included, though none of those is touched. Of any other network, each place of the feature maps that enter
stage k is zeroed with probability `ratio`, in all channels. A block without which the network does well is one it can route around.

Conventions. Blocks and stages are counted from 1. A network of feature maps has one more: what leaves its last stage, before the
pool. A stage is all that works at one resolution; the stem, which reads the image itself, is none (`patches` and `occlusion` do
that). Each block needs a forward pass of its own; one cell measures all blocks. With the same image and run the mask is the same for
every block, and nested over ratios, so that comparisons are paired.

Source: Naseer et al. 2021, appendix C. Deviations from the authors' code: one mask per image and run (theirs: one per batch,
unseeded). Which blocks their numbers mean is not stated; ours take "block k" as the k-th from 1.

Metrics: `top1`, `top5`, `cross_entropy`, at each block.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionvitals.study import BackboneCard, Chart, ImageSetCard, Job, Preset, Published, Scores, Sign, answers, require

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Feature drop"
AXES = ("block",)
PER_IMAGE = True
CHARTS = (
    Chart(
        x="block",
        x_title="block whose input is cut",
        facet=("ratio",),
        reads="Higher is sturdier. Left are the early blocks. Bands are 95 % intervals over images.",
    ),
)
SIGNS = (Sign(title="worst block at 50 % feature drop", kind="lowest", x="block", where={"ratio": 0.5}),)
_DEIT_B = {1: (57.36, 38.51, 15.17), 3: (48.46, 32.61, 11.60), 5: (54.67, 40.70, 14.10), 7: (55.44, 43.90, 24.10),
           9: (50.54, 28.43, 18.21), 11: (61.97, 35.10, 10.94)}  # fmt: skip
_VIT_L = {1: (75.72, 67.62, 25.99), 3: (74.74, 66.86, 28.89), 5: (73.32, 60.56, 29.69), 7: (75.56, 69.65, 53.42),
          9: (76.16, 70.59, 42.63), 11: (76.28, 66.15, 28.95)}  # fmt: skip
_RESNET50 = {1: (0.14, 0.09, 0.05), 2: (45.09, 4.91, 0.23), 3: (69.19, 28.35, 0.52), 4: (73.95, 64.12, 18.95),
             5: (75.74, 75.21, 73.57)}  # fmt: skip
RATIOS = (0.25, 0.5, 0.75)
PUBLISHED = tuple(
    Published(model=model, architectures=(name,), where={"ratio": ratio, "block": block}, value=percent / 100)
    for model, name, table in (
        ("DeiT-B", "deit_base_patch16_224", _DEIT_B),
        ("ViT-L", "vit_large_patch16_224", _VIT_L),
        ("ResNet50", "resnet50", _RESNET50),
    )
    for block, row in table.items()
    for ratio, percent in zip(RATIOS, row, strict=True)
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One strength of the lesion.

    Attributes:
        ratio: share of the tokens or places to zero, in [0, 1].
        blocks: which blocks, from 1; those that the network does not have are left out. Empty for all.
        run: repetition; each has its own masks.
    """

    ratio: float = 0.5
    blocks: tuple[int, ...] = ()
    run: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.ratio <= 1, "`ratio` must be in [0, 1]", self.ratio)
        must = "`blocks` must be different positive numbers; the first block is 1"
        require(all(b > 0 for b in self.blocks) and len(set(self.blocks)) == len(self.blocks), must, self.blocks)
        require(self.run >= 0, "`run` must not be negative", self.run)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: one half, all blocks. default and paper: 25, 50, 75 %, all blocks."""
    return [Condition(ratio=ratio) for ratio in ((0.5,) if preset == "quick" else RATIOS)]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs blocks, one of those asked for, and enough patch tokens."""
    from visionvitals.perturb.patches import drop_count

    if not {"tokens", "maps"} & set(backbone.provides):
        return f"{backbone.architecture} has neither blocks of patch tokens nor stages of feature maps that can be told"
    if not _chosen(condition, backbone):
        return f"{backbone.architecture} has blocks 1 to {_places(backbone)}, none of {condition.blocks}"
    if "tokens" in backbone.provides:
        assert backbone.patch_grid is not None
        n = backbone.patch_grid[0] * backbone.patch_grid[1]
        count = drop_count(condition.ratio, n + backbone.prefix_tokens)
        if count > n:
            return f"a ratio of {condition.ratio:g} would zero {count} of {n} patch tokens"
    return None


def passes(condition: Condition) -> float:
    return len(condition.blocks) or 12


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import lesion
    from visionvitals.probes import tokens

    c: Condition = job.condition
    where = tokens.layout(job.backbone)
    for batch in job.batches():
        keys = randomness.stream(job.seed, batch.ids, f"lesion/run={c.run}", device=batch.images.device)

        def cut(x: "Tensor", keys: "Tensor" = keys) -> "Tensor":
            if where.kind == "maps":
                return lesion.zero_features(x, lesion.spatial_mask(keys, (x.shape[2], x.shape[3]), c.ratio))
            count = lesion.lesion_count(c.ratio, x.shape[1])
            return lesion.zero_tokens(x, lesion.token_mask(keys, where.patches, count), prefix=where.prefix)

        for block in _chosen(c, job.backbone.card):
            with torch.inference_mode(), tokens.entering(where, block - 1, cut):
                measured = answers(job.backbone.logits(batch.images).float(), batch.right)
            del measured["prediction"]
            yield Scores(batch.ids, measured, (block,))
        job.progress(len(batch.ids))


def _places(backbone: BackboneCard) -> int:
    """How many places there are to cut at: the blocks, and for feature maps what leaves the last stage."""
    return backbone.blocks + ("maps" in backbone.provides)


def _chosen(condition: Condition, backbone: BackboneCard) -> list[int]:
    every = range(1, _places(backbone) + 1)
    return [b for b in every if b in condition.blocks or not condition.blocks]
