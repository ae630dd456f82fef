"""A network that lives in this Python process: `memory:NAME`, as `visionvitals.backbone(module, name=NAME)` gives it.

Its identity is its weights, what else its modules hold, the source of its class where there is one, and its answers. Another process
cannot load it: it goes on by the same Python call.
"""

import copy
from dataclasses import dataclass

import torch

from visionvitals import source
from visionvitals.backbones import _classes, _identity, _parts, _preprocess
from visionvitals.core import Backbone, Preprocess
from visionvitals.errors import near, require
from visionvitals.registry import Spec, reads

USUAL = _preprocess.IMAGENET
"""What a call is taken to mean that says nothing of its images."""
EXAMPLES: tuple[str, ...] = ()
UNREAD = "the source of its class cannot be read, so a change of that code is noticed by its answers only"


@dataclass(frozen=True)
class Held:
    """A module as the user gave it."""

    module: torch.nn.Module
    preprocess: Preprocess
    names: _classes.Names | None
    notes: tuple[str, ...] = ()


_held: dict[str, Held] = {}


@dataclass(frozen=True, kw_only=True)
class Options:
    """A `memory:` spelling has none; all is said where the network is given."""


def hold(
    name: str,
    module: torch.nn.Module,
    *,
    preprocess: Preprocess,
    classes: tuple[str, ...] | None,
    notes: tuple[str, ...] = (),
) -> str:
    """Make a module loadable as `memory:NAME` in this process, and return that spelling. A name that is given again means the new one."""
    _held[name] = Held(module, preprocess, None if classes is None else _classes.named(classes), notes)
    return f"memory:{name}"


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> Backbone:
    """The network as it is now. It is copied, so that the user's own stays in its mode and on its device.

    Raises:
        VitalsError: no network of this name was given in this process.
    """
    do = "It lives in the Python process that made it: go on there with `visionvitals.audit(...)`, or give it again with "
    do += f"`visionvitals.backbone(module, name=...)`. {near(spec.name, _held)}"
    require(spec.name in _held, "A `memory:` network must have been given in this process", spec.text, do.rstrip())
    held = _held[spec.name]
    own = not type(held.module).__module__.startswith(_identity.LIBRARIES)
    code = source.of(type(held.module)) if own else None
    network = _parts.Network(
        module=copy.deepcopy(held.module),
        architecture=type(held.module).__name__,
        preprocess=held.preprocess,
        names=held.names,
        sources=() if code is None else (code,),
        open_ended=True,
        notes=held.notes + (UNREAD,) * (own and code is None),
    )
    return _parts.assemble(network, spelling=spec.text, device=device)
