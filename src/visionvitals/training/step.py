"""One step of a training: the loss of each part of the batch, its gradient, over parts and processes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals import randomness
from visionvitals.training import augment, losses, measure
from visionvitals.training.distributed import Team
from visionvitals.training.recipe import Recipe
from visionvitals.training.teacher import Teacher

_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Objective:
    """What a network is to make small.

    Attributes:
        recipe: mixing, smoothing, precision, distillation.
        outputs: number of classes.
        source: the teacher, or None.
    """

    recipe: Recipe
    outputs: int
    source: Teacher | None

    def loss(self, network: nn.Module, images: Tensor, labels: Tensor, *, part: str) -> Float[Tensor, ""]:
        """Mean loss of a part of a batch; `part` is the name that its mixing is drawn by."""
        recipe = self.recipe
        mixed, target = augment.mix(images, labels, recipe, part=part, outputs=self.outputs)
        with torch.autocast(images.device.type, _TYPES[recipe.precision], enabled=recipe.precision != "float32"):
            answer = network(measure.normalised(mixed, recipe))
            if self.source is None:
                return losses.cross_entropy(answer, target, smoothing=recipe.smoothing)
            first, second = answer
            return losses.distillation(
                first,
                second,
                target,
                self.source.logits(mixed),
                kind=recipe.distil,  # type: ignore[arg-type]  # a teacher has a kind, by the recipe
                alpha=recipe.alpha,
                tau=recipe.tau,
                smoothing=recipe.smoothing,
            )


def gradient(
    objective: Objective,
    network: nn.Module,
    coming: Iterator[tuple[Tensor, Tensor]],
    *,
    team: Team,
    parts: int,
    step: int,
    scaler: torch.amp.GradScaler,
) -> float:
    """Add the gradient of a step's mean loss to the parameters, averaged over the processes.

    Dropout and mixing of a part are drawn by (seed, step, number of the part), in whichever process it is.

    Args:
        objective: the loss.
        network: as `Team.wrap` gives it.
        coming: the parts of this process.
        team: the processes.
        parts: how many each accumulates.
        step: number of the step.
        scaler: of the loss, for half precision.

    Returns:
        The mean loss over the whole batch, the same in all processes.
    """
    loss = torch.zeros((), device=team.device)
    for k in range(parts):
        part = f"{step}/{team.rank * parts + k}"
        images, labels = (x.to(team.device, non_blocking=True) for x in next(coming))
        torch.manual_seed(int(randomness.stream(objective.recipe.seed, [part], "train/dropout")))
        with team.quiet(network, quiet=k < parts - 1):
            of_part = objective.loss(network, images, labels, part=part) / parts
            scaler.scale(of_part).backward()  # type: ignore[no-untyped-call]
        loss += of_part.detach()
    return team.sum(loss).item() / team.size
