"""Stripes: how much is still recognised when every k-th row of patches is black.

What is lost is spread evenly over the picture, and no two patches that are left touch across a stripe.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionvitals.study import BackboneCard, Batch, ImageSetCard, Preset, require

if TYPE_CHECKING:
    from torch import Tensor


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
