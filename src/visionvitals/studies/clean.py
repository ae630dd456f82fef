"""Accuracy on the unchanged images: what every other study is compared with.

Rows: `top1`, `top5`, `cross_entropy` and `prediction` for every image.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from visionvitals.studies._scoring import score

from visionvitals.core import BackboneCard, ImageSetCard, Job, Preset, Row
from visionvitals.figure import Chart, Published, Sign

VERSION = 1
TITLE = "Clean accuracy"
AXES = ()
LABELS = "outputs"
CHARTS = (Chart(x="", x_title="", reads="Top-1 accuracy on the images as they are."),)
SIGNS = (Sign(title="clean top-1", kind="mean"),)
PUBLISHED = (
    Published(model="DeiT-Ti", architectures=("deit_tiny_patch16_224",), where={}, value=0.722),
    Published(model="DeiT-Ti", architectures=("deit_tiny_patch16_224",), where={}, value=0.911, metric="top5"),
    Published(model="DeiT-B", architectures=("deit_base_patch16_224",), where={}, value=0.817),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """There is one: the image as it is."""


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """One condition in every preset."""
    return [Condition()]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """Every backbone has logits."""
    return None


def passes(condition: Condition) -> float:
    return 1


def measure(job: Job) -> Iterator[Row]:
    yield from score(job, lambda batch: batch.images)
