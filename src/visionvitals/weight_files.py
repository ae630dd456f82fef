"""Weights in files, read without executing code, and loaded strictly or refused with the keys that differ."""

import argparse
import math
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from visionvitals.errors import SHOWN, VitalsError, near, require

WRAPPERS = ("state_dict", "model", "model_state")
"""Keys under which published checkpoints keep the state dict, in the order in which they are looked for (timm's)."""
AVERAGES = ("state_dict_ema", "model_ema")
"""Keys of the average of the weights over the training, in timm's order; after them, any other of `_AVERAGE`, also inside another key."""
_AVERAGE = re.compile(r"(^|_)(emas?|swa|avg|average|averaged|averaging|shadow)(_|$)")
"""What the name of an average says, written small with `_` between its words."""
_WORDS = re.compile(r"[\W_]+|(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where a word of a key ends: `modelEma`, `model-ema`, `EMACallback`."""
Kind = Literal["ema", "raw"]
"""Which weights of a checkpoint that holds both: their average over the training, or those of the last step."""


class Weights(NamedTuple):
    """A state dict, from a safetensors file its metadata, and what the report must say of the file."""

    path: Path
    state: dict[str, Tensor]
    metadata: dict[str, str]
    notes: tuple[str, ...] = ()


def read(path: Path, kind: Kind | None = None) -> Weights:
    """Read a .safetensors file, or a file of `torch.save` with `weights_only=True`.

    A checkpoint that wraps its state dict (see `WRAPPERS`) beside an `argparse.Namespace`, as DeiT's do, is unwrapped; the
    prefixes that distributed training and compilation put before all keys are taken off.

    Args:
        path: the file.
        kind: of a checkpoint that holds an average of the weights too, which to take; where None, the average, as timm's own loader
            does. A note says what was taken.

    Raises:
        VitalsError: no such file (near names are listed), a damaged file, one that holds more than tensors and plain values, or one
            without the weights that `kind` asks for.
    """
    path = path.expanduser()
    if not path.is_file():
        require(not path.is_dir(), "Weights must be a file", str(path), "This is a folder: name the file in it.")
        folder = path.parent
        if not folder.is_dir():
            raise VitalsError(f"There is no weights file {path}, and its folder does not exist.")
        beside = [other.name for other in folder.iterdir() if other.is_file()]
        raise VitalsError(
            f"There is no weights file {path}. {near(path.name, beside) if beside else 'Its folder is empty.'}"
        )
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
                metadata = dict(file.metadata() or {})
        except SafetensorError as error:
            raise VitalsError(f"{path} is not a whole safetensors file: {error}. Fetch it again.") from error
        require(kind != "ema", f"{path} must hold an average of the weights", "one set of weights", _LEAVE_OUT)
        return Weights(path, _unprefixed(state), metadata)
    state, notes = _unwrap(_torch_load(path), path, kind)
    return Weights(path, _unprefixed(state), {}, notes)


def load_strict(
    module: torch.nn.Module,
    weights: Weights,
    *,
    architecture: str,
    like: Callable[[dict[str, Tensor]], str | None] | None = None,
) -> None:
    """Load every weight, or none.

    Args:
        module: the network.
        weights: of a file.
        architecture: its name, for the error.
        like: what to say that a state dict looks like; `likely` by default.

    Raises:
        VitalsError: keys are missing, unexpected or of another shape; the first few of each are listed, with the architecture
            that the keys look like; or integers or complex numbers stand where the network has floats (quantised weights).
    """
    own = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.state.items()}
    other = [f"{key} {given[key]} instead of {own[key]}" for key in given if key in own and given[key] != own[key]]
    _require_floats(module, weights, architecture)
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
        hint = (
            None
            if missing or unexpected
            else _of_another_size(module, [key for key in given if given[key] != own[key]], given)
        )
        if like is None and missing == ["pos_embed"] and not (unexpected or other):
            hint = " If it was trained without a position encoding, say so: `position=none`."
        if hint is None:
            found = (like or likely)(weights.state)
            hint = f" The keys look like {found}." if found else " Was it saved from another architecture?"
        raise VitalsError(f"{weights.path} does not fit `{architecture}` ({len(own)} keys): {what}.{hint}")


def _require_floats(module: torch.nn.Module, weights: Weights, architecture: str) -> None:
    """Refuse weights that are no floats where the network's are: read as plain numbers they would lack their scale."""
    own, given = module.state_dict(), weights.state
    bad = [key for key in given if key in own and own[key].is_floating_point() and not given[key].is_floating_point()]
    types = [f"{key} ({str(given[key].dtype).removeprefix('torch.')})" for key in bad]
    require(
        not bad,
        f"{weights.path} must hold floats for the weights of `{architecture}`",
        f"{len(bad)} of another type: {_few(types)}",
        "If they are quantised, save the weights as floats (multiplied by their scales) and give that file.",
    )


def _of_another_size(module: Any, differ: list[str], given: Mapping[str, tuple[int, ...]]) -> str | None:
    """What to say where nothing but the position table of a network of patches differs: its input size, not its architecture."""
    table, embed = getattr(module, "pos_embed", None), getattr(module, "patch_embed", None)
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    if differ != ["pos_embed"] or not isinstance(table, Tensor) or grid is None or patch is None or table.ndim != 3:
        return None
    if len(given["pos_embed"]) != 3 or given["pos_embed"][2] != table.shape[2]:
        return None
    prefix, n = table.shape[1] - grid[0] * grid[1], given["pos_embed"][1]
    sides = [(k, math.isqrt(n - k)) for k in dict.fromkeys((prefix, 0)) if n > k]
    square = [(k, side) for k, side in sides if side * side == n - k]
    if not square:
        return f" Only its position table, of {n}, is another: say with `model.img_size=HEIGHT,WIDTH` what it was trained with."
    without, side = square[0]
    way = (
        f"model.img_size={side * patch[0]}"
        if patch[0] == patch[1]
        else f"model.img_size={side * patch[0]},{side * patch[1]}"
    )
    way += "&model.no_embed_class=true" if without != prefix else ""
    return f" Only its position table is another, one of {side} x {side} patches if they are a square: give `{way}`."


def likely(state: Mapping[str, Tensor]) -> str | None:
    """The timm name whose keys these are, for plain ViT, DeiT and ResNet, or the family of T2T-ViT; None otherwise."""
    if "tokens_to_token.project.weight" in state:
        return "T2T-ViT's: `t2t:NAME@FILE`"
    if {"pos_embed", "cls_token", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= state.keys():
        width, _, patch, _ = state["patch_embed.proj.weight"].shape
        name = {192: "tiny", 384: "small", 768: "base", 1024: "large"}.get(width)
        if name is None:
            return None
        distilled = "dist_token" in state
        n = state["pos_embed"].shape[1]
        square = [k for k in (1 + distilled, 0) if math.isqrt(n - k) ** 2 == n - k]
        side = math.isqrt(n - square[0]) * patch if square else 0
        published = side if side in (224, 384) else 224
        if patch == 14 and "blocks.0.ls1.gamma" in state:
            return f"`vit_{name}_patch14_{'reg4_' if 'reg_token' in state else ''}dinov2`"
        plain = f"{name}_patch{patch}_{published}"
        twin = f"`deit_{plain}` or `vit_{plain}` (the same keys, another mean and std)"
        more = ([] if side == published else [f"`model.img_size={side or 'HEIGHT,WIDTH'}`"]) + (
            ["`model.no_embed_class=true`"] if square == [0] else []
        )
        return (f"`deit_{name}_distilled_patch{patch}_{published}`" if distilled else twin) + (
            f", with {' and '.join(more)}" if more else ""
        )
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
        reason = " ".join((str(error).partition("WeightsUnpickler error: ")[2].splitlines() or [""])[:1])
        if not reason:
            raise VitalsError(f"{path} is not {_NO_CHECKPOINT}") from error
        raise VitalsError(
            f"{path} holds more than tensors and plain values, and pickled code is never executed: {reason} "
            "Save the state dict alone, best as safetensors, where you trust the file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if "weights_only" in str(error):  # torch's advice there is to execute the file
            raise VitalsError(f"{path} is not {_NO_CHECKPOINT}") from error
        said = " ".join(str(error).split())[:SHOWN]
        raise VitalsError(
            f"{path} is not a whole checkpoint of torch.save{f': {said}' if len(said) > 8 else ''}. Fetch it again."
        ) from error


_LEAVE_OUT = "Leave `weights` out."
_NO_CHECKPOINT = "a checkpoint that can be read without executing code. Name a .pth or .safetensors file of weights."


def _unwrap(loaded: Any, path: Path, kind: Kind | None) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The state dict of what `torch.load` gave, and a note where there were several to choose from."""
    require(isinstance(loaded, dict), f"{path} must hold a state dict", type(loaded).__name__)
    raw = next((key for key in ("", *WRAPPERS) if _tensors(loaded if not key else loaded.get(key)) is not None), None)
    last = None if raw is None else _tensors(loaded[raw] if raw else loaded)
    inside = {} if raw == "" else dict(_inside(loaded))
    averages = _averages(inside, len(last or ()))
    average = averages[0] if averages else None
    if kind == "ema":
        must = f"{path} must hold an average of the weights"
        require(average is not None, must, _few(list(loaded)), _LEAVE_OUT)
    if average is None or (kind == "raw" and last is not None):
        if last is None:
            under = ", ".join((*WRAPPERS, *AVERAGES))
            raise VitalsError(f"{path} must be a state dict or hold one under {under}. Got {_few(list(loaded))}.")
        other = f"`{raw}` is taken from its checkpoint, not the average of the weights, `{average}`"
        return last, ((other,) if average else ()) + _left(inside, last, (raw, average))
    require(kind != "raw", f"{path} must hold other weights than their average", _few(list(loaded)), _LEAVE_OUT)
    found = _tensors(inside[average])
    if found is None:
        way = " Give `?weights=raw` for those of the last step." if raw else ""
        got = _few(list(inside[average])) if isinstance(inside[average], Mapping) else type(inside[average]).__name__
        raise VitalsError(f"{path}: the average of the weights, `{average}`, must be a state dict. Got {got}.{way}")
    note = f"the average of the weights, `{average}`, is taken from its checkpoint; `?weights=raw` takes `{raw}`"
    return found, ((note,) if raw else ()) + _left(inside, found, (raw, average))


def _inside(value: Mapping[Any, Any], at: str = "", deep: int = 3) -> Iterator[tuple[str, Any]]:
    """The entries of a checkpoint and of those of its entries that are no state dict, by their dotted path."""
    for key, inner in value.items():
        yield f"{at}{key}", inner
        if deep > 1 and isinstance(inner, Mapping) and _tensors(inner) is None:
            yield from _inside(inner, f"{at}{key}.", deep - 1)


def _averages(inside: Mapping[str, Any], size: int) -> list[str]:
    """Where an average of the weights lies: state dicts under a key that says so, at any level; then what such a key holds in another
    form. What holds less than a third of `size` tensors is none (of a network with batch normalisation half are parameters)."""
    large = [key for key, value in inside.items() if 0 < _count(value) >= size / 3]
    found = [key for key in large if _tensors(inside[key]) is not None and _says_average(key)]
    other = [key for key in large if _tensors(inside[key]) is None and _says_average(key.rpartition(".")[2])]
    return sorted(found, key=lambda key: AVERAGES.index(key) if key in AVERAGES else len(AVERAGES)) + other


def _says_average(key: str) -> bool:
    return _AVERAGE.search(_WORDS.sub("_", key).lower()) is not None


def _count(value: Any, deep: int = 2) -> int:
    """The tensors in a mapping or list, and in those that lie in it; the state of an optimiser lies deeper."""
    if isinstance(value, Tensor) or deep == 0 or not isinstance(value, Mapping | list | tuple):
        return int(isinstance(value, Tensor))
    return sum(_count(inner, deep - 1) for inner in (value.values() if isinstance(value, Mapping) else value))


def _left(inside: Mapping[str, Any], taken: dict[str, Tensor], known: tuple[str | None, ...]) -> tuple[str, ...]:
    """A note of the weights with the same keys that were not taken and that no other note names."""
    keys = _unprefixed(taken).keys()
    same = [
        key for key, value in inside.items() if key not in known and _unprefixed(_tensors(value) or {}).keys() == keys
    ]
    return (f"its checkpoint holds other weights of the same keys, which are not taken: {_few(same)}",) if same else ()


def _tensors(value: Any) -> dict[str, Tensor] | None:
    """A state dict, or None for what is none. That of an `AveragedModel` counts its steps in a key of its own, which is left out."""
    if not (isinstance(value, dict) and value and all(isinstance(v, Tensor) for v in value.values())):
        return None
    if "n_averaged" in value and all(key.startswith("module.") for key in value if key != "n_averaged"):
        return {key: tensor for key, tensor in value.items() if key != "n_averaged"}
    return value  # itself, not a copy: `_metadata` on it tells load_state_dict its version


def _unprefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in ("module.", "_orig_mod.", "module."):
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _few(keys: list[str]) -> str:
    return ", ".join(map(str, keys[:4])) + (", ..." if len(keys) > 4 else "")
