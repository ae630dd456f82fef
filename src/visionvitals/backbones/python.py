"""Your own factory: a Python function that takes nothing and gives a network.

`python:PACKAGE.MODULE:FUNCTION`, `python:./file.py:FUNCTION`. The function returns a `torch.nn.Module` (normalised images
(b, 3, h, w) -> logits (b, k)), a pair of one and a `visionvitals.core.Preprocess`, or a whole `visionvitals.core.Backbone`.
Options: `size`, `resize`, `crop`, `interpolation`, `mean`, `std`, `classes`.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from visionvitals import core, registry, source
from visionvitals.backbones import _answers, _identity, _options, _outputs, _parts, _preprocess
from visionvitals.errors import VitalsError, blamed, near, require
from visionvitals.registry import Spec, reads

EXAMPLES: tuple[str, ...] = ("python:torchvision.models:shufflenet_v2_x0_5?size=64",)
UNREAD = "the source of its factory cannot be read, so a change of that code is not noticed"


@dataclass(frozen=True, kw_only=True)
class Options(_options.Look):
    """What a `python:` spelling may say."""

    size: _options.Size | None = _options.size()


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a user's function makes; it runs under a fixed seed of torch's CPU generator.

    The source of the module that the spelling names, of the one that defines the function, and of the one that defines the network's
    class is part of its digest, and so is what its modules hold beside their weights.

    Raises:
        VitalsError: no such module or function, the function raises, or what it returns is none of the three.
    """
    factory, sources = _factory(spec.name)
    made = _made(factory, spec.name.rpartition(":")[2])
    if isinstance(made, core.Backbone):
        require(options == Options(), "A factory that returns a whole Backbone takes no options", spec.text)
        require(made.device == device, f"Its Backbone must be on {device}", made.device)
        return _whole(made, sources, spelling=spec.text)
    said = isinstance(made, tuple) and len(made) == 2
    module, base = made if said else (made, _preprocess.IMAGENET)
    fits = isinstance(module, torch.nn.Module) and isinstance(base, core.Preprocess)
    require(fits, "It must return a torch.nn.Module, a pair (module, Preprocess), or a Backbone", type(made).__name__)
    library = type(module).__module__.startswith(_identity.LIBRARIES)  # its versions are the answers' business
    network = _parts.Network(
        module=module,
        architecture=spec.name.rpartition(":")[2],
        preprocess=_preprocess.override(base, options, size=options.size),
        sources=_known((*sources, None if library else source.of(type(module)))),
        open_ended=True,
        notes=(() if said else (_preprocess.ASSUMED,)) + (() if _known(sources) else (UNREAD,)),
    )
    return _parts.assemble(network, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def _whole(made: core.Backbone, sources: tuple[str | None, ...], *, spelling: str) -> core.Backbone:
    """A user's own `Backbone`: its own digest is trusted as far as it goes, code and contents are added to it."""
    card = made.card
    _outputs.require_whole(made)
    digest = _identity.digest(made.module, architecture=card.digest, build={}, sources=_known(sources), open_ended=True)
    answers = card.answers or _answers.ask(made.logits, card.preprocess.size, made.device)
    more = (() if _known(sources) else (UNREAD,)) + (() if card.answers else _parts.noted(answers))
    return replace(made, card=replace(card, spec=spelling, digest=digest, answers=answers, notes=card.notes + more))


def _known(sources: tuple[str | None, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for each in sources if each is not None))


def _factory(spelled: str) -> tuple[Callable[[], Any], tuple[str | None, ...]]:
    """The function, and the digests of the code that it comes from."""
    where, colon, name = spelled.rpartition(":")
    must = "A factory must be spelled `python:PACKAGE.MODULE:FUNCTION` or `python:./file.py:FUNCTION`"
    require(bool(colon and where and name), must, spelled)
    if where.endswith(".py"):
        beside = str(Path(where).resolve().parent)
        if beside not in sys.path:
            sys.path.append(beside)  # as for a script: what it imports may lie beside it
        module = registry.load("backbones", where)
    else:
        with blamed(f"`{where}` must be a module that can be imported"):
            try:
                module = importlib.import_module(where)
            except ModuleNotFoundError as error:
                raise VitalsError(f"cannot import `{where}`: {error}. Is it on PYTHONPATH?") from error
    factory: Callable[[], Any] | None = getattr(module, name, None)
    if not callable(factory):
        public = [each for each in vars(module) if not each.startswith("_")]
        raise VitalsError(f"`{where}` has no function `{name}`. {near(name, public)}".rstrip())
    return factory, (source.of(module), source.of(factory))


def _made(factory: Callable[[], Any], name: str) -> Any:
    with blamed(f"`{name}()` must make a network", inspect.getsourcefile(factory) or ""):
        return _parts.seeded(factory, seed=0)
