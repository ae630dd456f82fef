"""Accuracy by depth: from which block on the network knows the answer.

The token that the classifier reads (class token, or the mean over patches), as it leaves each block, goes through the trained final
norm and the trained head, as if it were the last. With `tokens = patches`, every patch token goes there on its own: the share of
patches that name the right class, by block, and where on the patch grid they sit in the last block.

Conventions. Blocks are counted from 1 and seen before the final norm, which is then applied. At the last block, `tokens = pooled` is
the network's own prediction (of a distilled network that of its class token and head alone).

What it means for a product. Where an early block already knows the answer, the rest can be cut off or its features taken from there, at a part of the
cost.

Pitfalls. Every block is read with the last one's head. A block that this head cannot read may hold the answer in another form: `transfer` trains a
probe for the block.

Source: Naseer et al. 2021, appendix, Figures 12 to 15.

Metrics. pooled: `top1`, `top5`, `cross_entropy` at (block, 0, 0). patches: `patch_share` at (block, 0, 0), and for the last
block `patch_top1` at (block, row, column): rows from 1, the lowest, as a heat map draws them, columns from 1, the left one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Scores,
    Sign,
    answers,
    require,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

TITLE = "Accuracy by depth"
AXES = ("block", "row_from_below", "column")
PER_IMAGE = True
METRICS = {
    "patch_top1": Metric(
        title="accuracy of the patch",
        meaning="the class predicted from one patch's token alone is the label (0 or 1)",
        unit="share",
        better="high",
    ),
    "patch_share": Metric(
        title="patches that name the class",
        meaning="share of the patches whose token alone predicts the label",
        unit="share",
        better="high",
    ),
}


def _last(points: Sequence[Mapping[str, Any]]) -> int:
    """The point of the last block."""
    return max(range(len(points)), key=lambda k: int(points[k]["block"]))


def _half_way(points: Sequence[Mapping[str, Any]], means: "np.ndarray") -> "np.ndarray":
    """The first block whose accuracy is at least half of the last one's, over the number of blocks."""
    import numpy as np

    order = sorted(range(len(points)), key=lambda k: int(points[k]["block"]))
    curve = means[..., order]
    first = (curve >= curve[..., -1:] / 2).argmax(axis=-1) + 1
    return np.asarray(first / len(order))


_WHOLE = {"tokens": "pooled", "row_from_below": 0, "column": 0}
CHARTS = (
    Chart(
        x="block",
        x_title="block",
        where=_WHOLE,
        reads="Each block's class token through the trained final norm and head. Bands are 95 % intervals over images.",
    ),
    Chart(
        x="block",
        x_title="block",
        where={"tokens": "patches"},
        metric="patch_share",
        title="Patch tokens",
    ),
    Chart(
        x="column",
        y="row_from_below",
        x_title="column of the patch grid",
        where={"tokens": "patches"},
        metric="patch_top1",
        title="Where the answer is known: patch tokens of the last block",
    ),
)
SIGNS = (
    Sign(
        title="depth of half the accuracy",
        kind="index",
        where=_WHOLE,
        index=_half_way,
        base=_last,
        unit="share",
        better="neither",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Which tokens are read.

    Attributes:
        tokens: `pooled`, the one that the classifier reads; `patches`, each patch on its own.
    """

    tokens: Literal["pooled", "patches"] = "pooled"

    def __post_init__(self) -> None:
        require(self.tokens in ("pooled", "patches"), "`tokens` must be pooled or patches", self.tokens)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: pooled. default and paper: both."""
    return [Condition(), *([] if preset == "quick" else [Condition(tokens="patches")])]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The logits must be the trained head of one normed token."""
    if "readout" in backbone.provides:
        return None
    if "tokens" not in backbone.provides:
        return f"{backbone.architecture} has no patch tokens by block"
    return f"{backbone.architecture} does not read its logits from one normed token, so its head does not apply to inner blocks"


def passes(condition: Condition) -> float:
    return 1.1 if condition.tokens == "pooled" else 2


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes import tokens

    where = tokens.layout(job.backbone)
    readout, grid = where.readout, job.backbone.card.patch_grid
    assert readout is not None
    assert grid is not None
    for batch in job.batches():
        found: list[Scores] = []

        def pooled(block: int, x: "Tensor", batch: Batch = batch, found: list[Scores] = found) -> None:
            measured = answers(readout.logits(x, where.prefix).float(), batch.right)
            del measured["prediction"]
            found.append(Scores(batch.ids, measured, (block + 1, 0, 0)))

        def patches(block: int, x: "Tensor", batch: Batch = batch, found: list[Scores] = found) -> None:
            said = readout.head(readout.norm(x[:, where.prefix :]))
            right = said.argmax(dim=2)[..., None] == batch.right.reshape(len(said), 1, -1)
            right = right.any(dim=2).double()
            right = right.masked_fill(~said.isfinite().all(dim=2), torch.nan)  # overflown is neither right nor wrong
            found.append(Scores(batch.ids, {"patch_share": right.mean(dim=1)}, (block + 1, 0, 0)))
            if block + 1 == len(where.blocks):
                for k, column in enumerate(right.T.cpu()):
                    at = (block + 1, grid[0] - k // grid[1], 1 + k % grid[1])
                    found.append(Scores(batch.ids, {"patch_top1": column}, at))

        with torch.inference_mode(), tokens.watch(where, pooled if job.condition.tokens == "pooled" else patches):
            job.backbone.logits(batch.images)
        yield from found
        job.progress(len(batch.ids))
