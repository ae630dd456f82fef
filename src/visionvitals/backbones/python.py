"""Your own factory: a Python function that takes nothing and gives a network.

`python:PACKAGE.MODULE:FUNCTION`, `python:./file.py:FUNCTION`. The function returns a `torch.nn.Module` (normalised images
(b, 3, h, w) -> logits (b, k)), a pair of one and a `visionvitals.core.Preprocess`, or a whole `visionvitals.core.Backbone`.
Options: `size`, `resize`, `crop`, `interpolation`, `mean`, `std`, `classes`.
"""

import importlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from visionvitals import core, registry
from visionvitals.backbones import _parts, _preprocess
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

EXAMPLES: tuple[str, ...] = ("python:torchvision.models:shufflenet_v2_x0_5?size=64",)


def load(spec: Spec, *, device: torch.device) -> core.Backbone:
    """The backbone that a user's function makes; it runs under a fixed seed of torch's CPU generator.

    Raises:
        VitalsError: no such module or function, the function raises, or what it returns is none of the three.
    """
    spec.only(*_preprocess.OPTIONS, "classes")
    made = _made(spec)
    if isinstance(made, core.Backbone):
        require(not spec.options, "A factory that returns a whole Backbone takes no options", spec.text)
        require(made.device == device, f"The Backbone of `{spec.text}` must be on {device}", made.device)
        return replace(made, card=replace(made.card, spec=spec.text))
    said = isinstance(made, tuple) and len(made) == 2
    module, base = made if said else (made, _preprocess.IMAGENET)
    fits = isinstance(module, torch.nn.Module) and isinstance(base, core.Preprocess)
    must = f"`{spec.text}` must return a torch.nn.Module, a pair (module, Preprocess), or a Backbone"
    require(fits, must, type(made).__name__)
    preprocess = _preprocess.override(spec, base)
    notes = () if said else (_preprocess.ASSUMED,)
    return _parts.assemble(spec, module, architecture=spec.name, preprocess=preprocess, device=device, notes=notes)


def _made(spec: Spec) -> Any:
    where, colon, name = spec.name.rpartition(":")
    must = "A factory must be spelled `python:PACKAGE.MODULE:FUNCTION` or `python:./file.py:FUNCTION`"
    require(bool(colon and where and name), must, spec.text)
    try:
        module = registry.load("backbones", where) if where.endswith(".py") else importlib.import_module(where)
    except ModuleNotFoundError as error:
        raise VitalsError(f"`{spec.text}`: cannot import `{where}`: {error}. Is it on PYTHONPATH?") from error
    factory: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(factory):
        raise VitalsError(f"`{spec.text}`: `{where}` has no function `{name}`. {near(name, vars(module))}".rstrip())
    try:
        return _parts.seeded(factory, seed=0)
    except VitalsError:
        raise
    except Exception as error:
        raise VitalsError(f"`{spec.text}`: `{name}()` failed: {type(error).__name__}: {error}") from error
