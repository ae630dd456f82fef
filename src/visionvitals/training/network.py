"""The network that a recipe names, before it has learned anything."""

from typing import Any

import timm
from torch import nn

from visionvitals import registry
from visionvitals.backbones import _position, _preprocess, tiny
from visionvitals.errors import VitalsError, require
from visionvitals.training.recipe import Recipe


def make(recipe: Recipe, *, outputs: int) -> tuple[nn.Module, dict[str, Any]]:
    """The network that a recipe names, with random weights, and the keyword arguments that make it again.

    Raises:
        VitalsError: another family than `tiny:` or `timm:`, an unknown network, keyword arguments that it does not take, or no way to
            take its position encoding out.
    """
    spec = registry.parse(recipe.model, families=["tiny", "timm"])
    spec.only("position", *_preprocess.model_options(spec))
    require(spec.checkpoint is None, "A recipe's model starts from random weights, without `@`", recipe.model)
    kwargs = {**_preprocess.model_kwargs(spec), "num_classes": outputs}
    maker = tiny.network if spec.family == "tiny" else timm.create_model
    try:
        module = maker(spec.name, **kwargs)
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise VitalsError(f"`{recipe.model}` cannot be made: {error}") from error
    _position.option(spec, module, size=(recipe.size, recipe.size))
    return module, kwargs
