"""Weights in files, read without executing code, and loaded strictly or refused with the keys that differ."""

import argparse
import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from visionvitals.errors import VitalsError, near, require

WRAPPERS = ("model", "state_dict", "model_state", "ema")
"""Keys under which published checkpoints keep the state dict, in the order in which they are looked for."""


class Weights(NamedTuple):
    """A state dict and, from a safetensors file, its metadata."""

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, str]


def read(path: Path) -> Weights:
    """Read a .safetensors file, or a file of `torch.save` with `weights_only=True`.

    A checkpoint that wraps its state dict (see `WRAPPERS`) beside an `argparse.Namespace`, as DeiT's do, is unwrapped; the
    prefixes that distributed training and compilation put before all keys are taken off.

    Raises:
        VitalsError: no such file (near names are listed), a damaged file, or one that holds more than tensors and plain values.
    """
    path = path.expanduser()
    if not path.is_file():
        folder = path.parent
        if not folder.is_dir():
            raise VitalsError(f"There is no weights file {path}, nor its folder.")
        beside = [other.name for other in folder.iterdir() if other.is_file()]
        raise VitalsError(
            f"There is no weights file {path}. {near(path.name, beside) if beside else 'Its folder is empty.'}"
        )
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
                return Weights(path, _unprefixed(state), dict(file.metadata() or {}))
        except SafetensorError as error:
            raise VitalsError(f"{path} is not a whole safetensors file: {error}. Fetch it again.") from error
    return Weights(path, _unprefixed(_unwrap(_torch_load(path), path)), {})


def load_strict(module: torch.nn.Module, weights: Weights, *, architecture: str) -> None:
    """Load every weight, or none.

    Raises:
        VitalsError: keys are missing, unexpected or of another shape; the first few of each are listed, with the architecture
            that the keys look like.
    """
    own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.state.items()}
    other = [f"{key} {given[key]} instead of {own[key]}" for key in given if key in own and given[key] != own[key]]
    missing, unexpected = [key for key in own if key not in given], [key for key in given if key not in own]
    if not other:
        # the network's own hooks know older names of its keys, so what differs is for it to say
        try:
            missing, unexpected = module.load_state_dict(weights.state, strict=False)
        except (RuntimeError, ValueError) as error:
            raise VitalsError(f"{weights.path} cannot be loaded into `{architecture}`: {error}.") from error
    if missing or unexpected or other:
        lists = (("missing", missing), ("unexpected", unexpected), ("of another shape", other))
        what = "; ".join(f"{len(keys)} {how}: {_few(keys)}" for how, keys in lists if keys)
        like = likely(weights.state)
        hint = f" The keys look like {like}." if like else " Was it saved from another architecture?"
        raise VitalsError(f"{weights.path} does not fit `{architecture}` ({len(own)} keys): {what}.{hint}")


def likely(state: Mapping[str, Tensor]) -> str | None:
    """The timm name whose keys these are, for plain ViT, DeiT and ResNet; None otherwise."""
    if {"pos_embed", "cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
        name = {192: "tiny", 384: "small", 768: "base", 1024: "large"}.get(width)
        distilled = "dist_token" in state
        side = math.isqrt(state["pos_embed"].shape[1] - 1 - distilled) * patch
        if name is None:
            return None
        plain = f"{name}_patch{patch}_{side}"
        twin = f"`deit_{plain}` or `vit_{plain}` (the same keys, another mean and std)"
        return f"`deit_{name}_distilled_patch{patch}_{side}`" if distilled else twin
    if {"conv1.weight", "layer1.0.conv1.weight", "fc.weight"} <= state.keys():
        depths: tuple[int, ...] = tuple(
            sum(f"layer{stage}.{i}.conv1.weight" in state for i in range(64)) for stage in range(1, 5)
        )
        bottleneck = "layer1.0.conv3.weight" in state
        names: dict[tuple[tuple[int, ...], bool], str] = {
            ((2, 2, 2, 2), False): "`resnet18`",
            ((3, 4, 6, 3), False): "`resnet34`",
            ((3, 4, 6, 3), True): "`resnet50`",
            ((3, 4, 23, 3), True): "`resnet101`",
            ((3, 8, 36, 3), True): "`resnet152`",
        }
        return names.get((depths, bottleneck))
    return None


def _torch_load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
        raise VitalsError(
            f"{path} holds more than tensors and plain values, and pickled code is never executed: {reason.splitlines()[0]} "
            "Save the state dict alone, best as safetensors, where you trust the file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise VitalsError(f"{path} is not a whole checkpoint of torch.save: {error}. Fetch it again.") from error


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    require(isinstance(loaded, dict), f"{path} must hold a state dict", type(loaded).__name__)
    for candidate in (loaded, *(loaded.get(key) for key in WRAPPERS)):
        if isinstance(candidate, dict) and candidate and all(isinstance(v, Tensor) for v in candidate.values()):
            return candidate  # itself, not a copy: `_metadata` on it tells load_state_dict its version
    raise VitalsError(f"{path} must be a state dict or hold one under {', '.join(WRAPPERS)}. Got {_few(list(loaded))}.")


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ("module.", "_orig_mod.", "module."):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _few(keys: list[str]) -> str:
    return ", ".join(map(str, keys[:4])) + (", ..." if len(keys) > 4 else "")
