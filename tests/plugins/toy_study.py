"""Noise of growing strength, for tests. `VISIONVITALS_TOY_SLEEP` seconds are slept after every batch."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionvitals.core import BackboneCard, Batch, ImageSetCard, Job, Preset, Row
from visionvitals.errors import require
from visionvitals.figure import Chart, Published, Sign
from visionvitals.studies._scoring import score

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 1
TITLE = "Noise"
AXES = ()
LABELS = "outputs"
CHARTS = (Chart(x="strength", x_title="strength of the noise"),)
SIGNS: tuple[Sign, ...] = (Sign(title="with noise", kind="mean", where={"strength": 0.5}),)
PUBLISHED: tuple[Published, ...] = ()


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


def passes(condition: Condition) -> float:
    return 1


def measure(job: Job) -> Iterator[Row]:
    from visionvitals import randomness

    c: Condition = job.condition
    if c.strength == 13:
        raise ValueError("the toy study fails on purpose")

    def noisy(batch: Batch) -> "Tensor":
        keys = randomness.stream(job.seed, batch.ids, f"noise/run={c.run}", device=batch.images.device)
        noise = randomness.uniform(keys, batch.images[0].numel()).reshape(batch.images.shape)
        time.sleep(float(os.environ.get("VISIONVITALS_TOY_SLEEP", "0")))
        return batch.images.lerp(noise, c.strength)

    yield from score(job, noisy)
