"""Accuracy on the unchanged images: what every other study is compared with.

What it means for a product. A network that is right more often here and keeps less elsewhere may still be the better one: read the other studies as
shares of this and as accuracies, whichever the product pays for.

Pitfalls. Public weights may have seen public pictures. An accuracy near guessing is most often a class order, a normalisation or the weights of
another network; the run warns of it.

Metrics: `top1`, `top5`, `cross_entropy` and `prediction` of every image.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionvitals.study import Batch, Chart, Preset, Published, Sign

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Clean accuracy"
CHARTS = (Chart(x="", reads="Top-1 accuracy on the images as they are."),)
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


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    return batch.images
