"""Fine-tuning: the weights that a network starts from are those of any backbone; what it has besides is new."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor, nn

from visionvitals import registry
from visionvitals.core import ImageSetCard
from visionvitals.errors import require
from visionvitals.training.recipe import Recipe
from visionvitals.weight_files import Weights, load_strict


class Start(NamedTuple):
    """What a network starts from.

    Attributes:
        text: the spelling of the backbone.
        state: its weights, on the CPU.
        same: whether its outputs are the classes to learn, in their order; else the classifier is new.
        digest: of its weights.
    """

    text: str
    state: dict[str, Tensor]
    same: bool
    digest: str


def load(recipe: Recipe, images: ImageSetCard, *, report: Callable[[str], None]) -> Start:
    """The backbone that `recipe.start` names.

    Raises:
        VitalsError: it cannot be loaded, or it normalises pictures otherwise than the recipe.
    """
    spec = registry.parse(recipe.start, families=registry.names("backbones"))
    backbone = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    card = backbone.card
    used, asked = (card.preprocess.mean, card.preprocess.std), (recipe.channels("mean"), recipe.channels("std"))
    must = f"A recipe must normalise pictures as what it starts from: `{recipe.start}` has the mean {used[0]}, std {used[1]}"
    require(used == asked, must, asked, "Set `mean` and `std`.")
    same = card.classes == images.classes
    report(f"starts from {recipe.start}, {'with its' if same else 'which has other classes, with a new'} classifier")
    return Start(recipe.start, dict(backbone.module.state_dict()), same, card.digest)


def put(start: Start, module: nn.Module, *, architecture: str) -> None:
    """Give a new network the weights of its start.

    A second token that the start lacks begins as a copy of the class token, with its place and its classifier, so that both say the
    same until their losses part them. Where the position encoding was taken out of the network, that of the start is left out.

    Raises:
        VitalsError: weights beside the classifier are missing, left over or of another shape.
    """
    state, own = dict(start.state), module.state_dict()
    parameters = dict(module.named_parameters())
    if isinstance(module, VisionTransformerDistilled) and "dist_token" not in state and "cls_token" in state:
        state["dist_token"] = state["cls_token"]
        state |= {f"head_dist.{key}": state[f"head.{key}"] for key in ("weight", "bias") if f"head.{key}" in state}
        if "pos_embed" in state:
            state["pos_embed"] = torch.cat([state["pos_embed"][:, :1], state["pos_embed"]], dim=1)
    if not start.same:
        found = module.get_classifier()  # type: ignore[operator]  # of every network of timm, and ours are
        heads = {id(p) for head in (found if isinstance(found, tuple) else (found,)) for p in head.parameters()}
        state |= {key: own[key] for key, parameter in parameters.items() if id(parameter) in heads}
    if "pos_embed" not in own:  # its position was taken out, or it never had one and lacks more
        state.pop("pos_embed", None)
    state |= {key: own[key] for key, parameter in parameters.items() if not parameter.requires_grad}
    load_strict(module, Weights(Path(start.text), state, {}), architecture=architecture)
