"""The teacher of a distillation: any backbone, asked for the classes of the image set."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from visionvitals import registry
from visionvitals.core import ImageSetCard
from visionvitals.errors import VitalsError, require
from visionvitals.training.checkpoints import WEIGHTS
from visionvitals.training.recipe import Recipe, load_recipe


class Teacher(NamedTuple):
    """What a training needs of a teacher.

    Attributes:
        logits: pictures in [0, 1], float (b, 3, h, w) -> its logits of the image set's classes, (b, k), without gradient.
        digest: of its weights.
    """

    logits: Callable[[Tensor], Tensor]
    digest: str


RECIPE = "recipe:"
"""Before the name of a recipe: a teacher that is trained first."""


def folder(out: Path) -> Path:
    """Where a student keeps the teacher that is trained for it."""
    return out / "teacher"


def first(recipe: Recipe) -> Recipe | None:
    """The recipe of the teacher that is trained before its student, where there is one.

    Raises:
        VitalsError: no such recipe, or one that cannot be trained by itself.
    """
    if not recipe.teacher.startswith(RECIPE):
        return None
    found = load_recipe(recipe.teacher.removeprefix(RECIPE))
    must = "A recipe for a teacher must have image sets of its own, and no recipe for a teacher in turn"
    way = f"Train `{found.name}` by itself and set `teacher=checkpoint:FILE`."
    require(bool(found.train and found.test) and not found.teacher.startswith(RECIPE), must, found.name, way)
    return found


def spelled(recipe: Recipe, out: Path) -> str:
    """The spelling of a student's teacher."""
    return f"checkpoint:{folder(out) / WEIGHTS}" if recipe.teacher.startswith(RECIPE) else recipe.teacher


def load(text: str, images: ImageSetCard, *, device: torch.device, report: Callable[[str], None]) -> Teacher:
    """Load a teacher by its spelling.

    It sees the student's augmented pictures, resized where its own input has another size, and normalises them as it is used to.

    Args:
        text: the spelling.
        images: the image set that the student learns from.
        device: where to compute.
        report: is told how the classes were matched.

    Raises:
        VitalsError: it cannot be loaded, or its classes are not those of the image set (what differs is said).
    """
    from visionvitals.datasets.base import labels as _labels

    spec = registry.parse(text, families=registry.names("backbones"))
    backbone = registry.load("backbones", spec.family).load(spec, device=device)
    try:
        found = _labels.align(images, backbone.card)
    except VitalsError as error:
        raise VitalsError(f"The teacher must know the classes of the student: {error}") from error
    report(f"teacher {text}: {found.how}")
    indices = torch.tensor(found.indices, device=device)
    size = backbone.card.preprocess.size

    @torch.no_grad()
    def logits(pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        if pictures.shape[2:] != size:
            pictures = functional.interpolate(pictures, size, mode="bilinear", antialias=True)
        with torch.autocast(device.type, enabled=False):
            answers: Tensor = backbone.logits(pictures.float())
        return answers[:, indices]

    return Teacher(logits, backbone.card.digest)
