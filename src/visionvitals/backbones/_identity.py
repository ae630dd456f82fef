"""What makes two networks the same: weights, architecture and build, and for a user's own code its source and what its modules hold."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_OWN = frozenset(vars(nn.Module()))  # what every module holds
_ORIGIN = (
    "pretrained_cfg",
    "default_cfg",
    "fused_attn",
)  # where weights came from and which kernel runs: the same network
LIBRARIES = ("torch.", "torchvision.", "timm.", "transformers.")


def digest(
    module: nn.Module,
    *,
    architecture: str,
    build: Mapping[str, object],
    sources: tuple[str, ...] = (),
    open_ended: bool = False,
) -> str:
    """sha256 of a network; to be taken before its first forward pass, which may fill caches.

    Args:
        module: weights enter by name, dtype, shape and bytes, sorted by name; tensors that its modules keep as plain attributes, also
            in lists and mappings, likewise.
        architecture: the family's own name for it.
        build: what shaped it beside the name.
        sources: digests of the code that made it, where that is the user's.
        open_ended: architecture and build do not determine it, so that the class of each module and its other plain attributes
            (numbers, strings, ...) enter, and buffers that no state dict holds.
    """
    made = _Hash(hashlib.sha256(json.dumps([architecture, build, *sources], sort_keys=True, default=str).encode()))
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):  # else what `get_extra_state` of a module gives
            made.tensor(name, value)
        else:
            made.value(name, value, plain=True)
    made.attributes("", module, plain=open_ended)
    return str(made.sha.hexdigest())


class _Hash:
    """A sha256 that takes named values; nothing else than what they are, such as an address, enters it."""

    def __init__(self, sha: Any) -> None:
        self.sha = sha
        self.seen: set[int] = set()

    def text(self, *parts: object) -> None:
        self.sha.update("".join(f"\0{part}" for part in parts).encode("utf-8", "surrogatepass"))

    def tensor(self, name: str, value: Tensor) -> None:
        self.text(name, value.dtype, tuple(value.shape), "")
        whole = value.detach().to_dense() if value.is_sparse else value.detach()
        self.sha.update(whole.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)

    def attributes(self, path: str, module: nn.Module, *, plain: bool) -> None:
        """What the modules of a network hold beside parameters, buffers and each other."""
        registered = module.state_dict().keys()
        for name, part in module.named_modules(prefix=path):
            self.seen.add(id(part))
            library = type(part).__module__.startswith(LIBRARIES)
            if plain:
                self.text(name, type(part).__qualname__)
            for key, value in sorted(vars(part).items()):
                if key not in _OWN and key not in _ORIGIN:
                    self.value(f"{name}.{key}", value, plain=plain)
            if plain and not library:
                for key, value in part.named_buffers(recurse=False):
                    inner = f"{name}.{key}".lstrip(".").removeprefix(f"{path}.")
                    if inner not in registered:
                        self.tensor(f"{name}.{key}", value)

    def value(self, name: str, value: object, *, plain: bool) -> None:
        """Tensors and what holds them; other values only if they are asked for."""
        if isinstance(value, Tensor):
            self.tensor(name, value)
        elif isinstance(value, np.ndarray):
            self.text(name, value.dtype, value.shape, "")
            self.sha.update(value.tobytes() if value.dtype != object else repr(value).encode())
        elif isinstance(value, nn.Module):
            if id(value) not in self.seen:  # one that no other module has registered
                for key, weight in sorted(value.state_dict().items()):
                    self.value(f"{name}.{key}", weight, plain=plain)
                self.attributes(name, value, plain=plain)
        elif isinstance(value, Mapping | list | tuple | set | frozenset) or dataclasses.is_dataclass(value):
            self.container(name, value, plain=plain)
        elif plain and isinstance(value, bool | int | float | complex | str | bytes | Enum | torch.dtype | None):
            self.text(name, repr(value))
        elif plain and not isinstance(value, torch.device):
            self.text(name, getattr(value, "__qualname__", type(value).__qualname__))

    def container(self, name: str, value: Any, *, plain: bool) -> None:
        if id(value) in self.seen:
            return
        self.seen.add(id(value))
        if dataclasses.is_dataclass(value):
            value = {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
        if isinstance(value, set | frozenset):
            value = sorted(value, key=repr)
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        if plain:
            self.text(name, len(value))
        for key, inner in items:
            self.value(f"{name}[{key!r}]", inner, plain=plain)
