"""Stripes: how much is still recognised when every k-th row of patches is black, and how sure the network stays."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
    require,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

_SAYS = "softmax probability of the predicted class"
METRICS = {"certainty": Metric(title="certainty", meaning=_SAYS, unit="share", better=None)}
CHARTS = (Chart(x="every", x_title="one of so many rows is black", metric="certainty", reads="Lower is less sure."),)
SIGNS = (Sign(title="kept with every 2nd row gone", kind="kept", where={"every": 2}, at="with every 2nd row gone"),)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`every`: the rows every, 2 every, ... of 8 are removed; 1 leaves nothing."""

    every: int = 2

    def __post_init__(self) -> None:
        require(1 <= self.every <= 8, "`every` must be from 1 to 8", self.every)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: every 4th and every 2nd row; the others: every 8th and every row too."""
    return [Condition(every=k) for k in ((4, 2) if preset == "quick" else (8, 4, 2, 1))]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    height = backbone.preprocess.size[0]
    return f"8 rows of patches do not divide an input of {height} px" if height % 8 else None


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    images = batch.images.clone()
    rows = images.unflatten(2, (8, -1))  # (b, 3, 8, height of a row, w), the same memory
    rows[:, :, condition.every - 1 :: condition.every] = 0
    return images


def measure(job: Job) -> Iterator[Scores]:
    said: list[Tensor] = []

    def logits(seen: "Tensor", batch: Batch) -> "Tensor":
        said[:] = [job.backbone.logits(seen)]
        return said[0]

    def certainty(batch: Batch) -> "dict[str, Tensor]":
        return {"certainty": said[0].float().softmax(dim=1).amax(dim=1)}

    yield from score(job, perturb, logits=logits, more=certainty)
