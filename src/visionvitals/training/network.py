"""The network that a recipe names, before its first step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import timm
from torch import nn

from visionvitals import registry
from visionvitals.backbones import tiny
from visionvitals.errors import blamed, require
from visionvitals.perturb import position
from visionvitals.training.recipe import Recipe
from visionvitals.training.start import Start, put

_START = "Name the weights to start from in `start`."


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the spelling of a recipe's model may say."""

    position: Literal["none"] | None = registry.option(None, "`none` trains without position encoding")
    model: Mapping[str, Any] = registry.free("any keyword argument of the network")


def make(recipe: Recipe, *, outputs: int, start: Start | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a recipe names, with random weights or those of `start`, and the keyword arguments that make it again.

    Raises:
        VitalsError: another family than `tiny:` or `timm:`, an unknown network, keyword arguments that it does not take, weights that do
            not fit it, or no way to take its position encoding out.
    """
    spec = registry.parse(recipe.model, families=["tiny", "timm"])
    options = registry.options(spec, Options)
    require(
        spec.checkpoint is None,
        "A recipe's `model` must be a network without weights, so without `@`",
        recipe.model,
        _START,
    )
    kwargs = {**options.model, "num_classes": outputs}
    maker = tiny.network if spec.family == "tiny" else timm.create_model
    with blamed(f"`{recipe.model}` cannot be made"):
        module = maker(spec.name, **kwargs)
    if options.position is not None:
        position.remove(module, size=(recipe.size, recipe.size))
    if start is not None:
        put(start, module, architecture=recipe.model)
    return module, kwargs
