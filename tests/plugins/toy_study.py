"""Noise of growing strength, for tests. `VISIONVITALS_TOY_SLEEP` seconds are slept after every batch."""

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionvitals.study import BackboneCard, Batch, Chart, ImageSetCard, Preset, Sign, require

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Noise"
CHARTS = (Chart(x="strength", x_title="strength of the noise"),)
SIGNS = (Sign(title="with noise", kind="mean", where={"strength": 0.5}),)


@dataclass(frozen=True, kw_only=True)
class Condition:
    strength: float = 0.0
    shape: tuple[int, int] = (1, 1)
    run: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.strength <= 1 or self.strength == 13, "`strength` must be in [0, 1]", self.strength)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    return [Condition(strength=s, run=r) for s in (0.25, 0.5) for r in range(2)]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    return "a strength of 1 leaves nothing to see" if condition.strength == 1 else None


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    from visionvitals import randomness

    if condition.strength == 13:
        raise ValueError("the toy study fails on purpose")
    keys = randomness.stream(seed, batch.ids, f"noise/run={condition.run}", device=batch.images.device)
    noise = randomness.uniform(keys, batch.images[0].numel()).reshape(batch.images.shape)
    time.sleep(float(os.environ.get("VISIONVITALS_TOY_SLEEP", "0")))
    return batch.images.lerp(noise, condition.strength)
