"""How good a network in training is: each head of it apart, on the test pictures."""

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from visionvitals.errors import require
from visionvitals.inside import heads
from visionvitals.pixels import to_float
from visionvitals.training.data import Pictures
from visionvitals.training.distributed import Team
from visionvitals.training.recipe import Recipe

PICTURES = 100  # a forward pass


def normalised(images: Tensor, recipe: Recipe) -> Tensor:
    """(images - mean) / std, per channel."""
    mean, std = (
        torch.tensor(recipe.channels(key), device=images.device, dtype=images.dtype).view(3, 1, 1)
        for key in ("mean", "std")
    )
    return (images - mean) / std


@torch.inference_mode()
def right(module: nn.Module, pictures: Pictures, recipe: Recipe, team: Team) -> dict[str, Tensor]:
    """Whether each picture's highest logit is its label, in evaluation mode; the processes share the pictures.

    Returns:
        `top1` of the network or of its class head, `top1_extra` of its second head where it has one: uint8 (n,), 0 or 1. A picture
        without finite logits is not right.

    Raises:
        VitalsError: more than 1 % of the pictures have no finite logits.
    """
    module.eval()
    n = len(pictures.labels)
    two = isinstance(module, VisionTransformerDistilled)
    names = ("top1", "top1_extra") if two else ("top1",)
    found = {name: torch.zeros(n, dtype=torch.int32, device=team.device) for name in (*names, "lost")}
    for start in range(team.rank * PICTURES, n, team.size * PICTURES):
        part = slice(start, min(start + PICTURES, n))
        images = to_float(pictures.pixels[part], team.device)
        labels = torch.from_numpy(pictures.labels[part]).to(team.device)
        inputs = normalised(images, recipe)
        answers = heads.answers(module, inputs) if two else (module(inputs),)
        for name, logits in zip(names, answers, strict=True):
            finite = logits.isfinite().all(dim=1)
            found[name][part] = ((logits.argmax(dim=1) == labels) & finite).to(torch.int32)
            found["lost"][part] |= (~finite).to(torch.int32)
    whole = {name: team.sum(values).to("cpu", torch.uint8) for name, values in found.items()}
    lost = int(whole.pop("lost").sum())
    must = "At most 1% of the test pictures may have no finite logits"
    require(lost <= 0.01 * n, must, f"{lost} of {n}", "Look at the learning rate: the averaged weights diverged.")
    return whole
