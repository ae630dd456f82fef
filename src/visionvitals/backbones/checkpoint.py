"""A weights file of your own: safetensors, or .pth read without executing code, into a named architecture.

`checkpoint:PATH?arch=TIMM_NAME`. What `vitals train` writes says itself what it is. Options: `arch`, `size`, `resize`, `crop`,
`interpolation`, `mean`, `std`, `classes`, `position=none`, `token` (`class`, or `distillation`, also called `shape`),
`weights=ema|raw` where a checkpoint holds an average of the weights beside those of the last step (the average by default), and
`model.KEY=VALUE` for any keyword argument of the network.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer

from visionvitals import core, registry, weight_files
from visionvitals.backbones import _classes, _options, _parts, _positions, _preprocess, timm
from visionvitals.core import Preprocess
from visionvitals.errors import VitalsError, require
from visionvitals.perturb import position
from visionvitals.registry import Spec, option, reads

EXAMPLES: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Options(_options.Parted):
    """What a `checkpoint:` spelling may say."""

    size: _options.Size | None = _options.size()
    arch: str | None = option(None, "timm's name of the network, or `tiny:NAME`, where the file does not say it")
    weights: weight_files.Kind | None = _options.weights()
    model: _options.Model = _options.model()


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone of a weights file.

    A safetensors file may say in its metadata what it holds: `arch` (`timm:NAME` or `tiny:NAME`), `kwargs` (JSON, keyword arguments
    of the network), `preprocess` (JSON: size, resize, interpolation, mean, std), `classes` (JSON list), `position` (`none` where the
    network was trained without), either each under its own key or all in one JSON object under `visionvitals`. The options come
    before it.

    Raises:
        VitalsError: no such file, a damaged one, no architecture, or weights that do not fit it (the keys that differ are listed).
    """
    # an `@` in a path is no separator here
    path = Path(spec.name if spec.checkpoint is None else f"{spec.name}@{spec.checkpoint}")
    made = described(
        weight_files.read(path, options.weights), options, size=options.size, arch=options.arch, model=options.model
    )
    return _parts.assemble(made, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def files(spec: Spec) -> tuple[Path, ...] | None:
    """See `plan.cards`. What the file says may lead to a family of another package."""
    known = registry.options(spec, Options).model
    return () if _options.without_names(known) and not entry_points(group="visionvitals.backbones") else None


def described(
    weights: weight_files.Weights,
    options: _options.Parted,
    *,
    size: _options.Size | None = None,
    arch: str | None = None,
    model: Mapping[str, Any] | None = None,
) -> _parts.Network:
    """The network of weights that are read already, with what their file says of it; see `load`."""
    said = _metadata(weights)
    arch = arch or said.get("arch")
    if not arch:
        like = weight_files.likely(weights.state)
        hint = f" Its keys look like {like}." if like else ""
        raise VitalsError(f"The file does not say its architecture. Add `?arch=TIMM_NAME`.{hint}")
    preprocess = said.get("preprocess")
    own = said.get("kwargs", {}).get("img_size", preprocess.size if preprocess else None)
    asked = dict(model or {})
    if own is not None and "img_size" in asked:
        size = _resampled(_positions.pair(own), _positions.pair(asked.pop("img_size")), size)
    kwargs = {**said.get("kwargs", {}), **asked}
    names = _classes.keyed(tuple(map(str, said["classes"]))) if said.get("classes") else None
    family, colon, name = str(arch).rpartition(":")
    if family in ("", "timm"):
        config = timm.published(name)
        kwargs.setdefault("num_classes", _outputs(weights, config.get("classifier"), config.get("num_classes", 1000)))
        if preprocess is not None and config.get("fixed_input_size"):
            kwargs.setdefault("img_size", list(preprocess.size))
        module, notes = _patched(name, kwargs, weights)
        without = _trained_without(said, module, preprocess)
        weights = _positions.without(module, weights, options.position)
        weight_files.load_strict(module, weights, architecture=name)
        notes += _positions.checked(module, weights.path, told="img_size" in asked) if own is None else ()
        built = {key: value for key, value in kwargs.items() if key != "num_classes"} | without
        made = timm.described(
            module, options, kwargs=built, size=size, preprocess=preprocess, names=names, imagenet=False
        )
        return replace(made, notes=weights.notes + notes + made.notes)
    make = getattr(registry.load("backbones", family), "network", None)
    require(make is not None and colon == ":", "`arch` must name a network of `timm:` or `tiny:`", arch)
    module = _parts.seeded(lambda: make(name, **kwargs), seed=0)  # type: ignore[misc]  # checked above
    kwargs |= _trained_without(said, module, preprocess)
    weight_files.load_strict(module, weights, architecture=str(arch))
    base = preprocess or _preprocess.IMAGENET
    notes = weights.notes + (() if preprocess else (_preprocess.ASSUMED,))
    if size is not None and size != base.size and hasattr(module, "set_input_size"):
        notes += timm.set_input_size(module, base.size, size)
    made = _parts.Network(
        module=module,
        architecture=str(arch),
        preprocess=_preprocess.override(base, options, size=size),
        build=kwargs,
        names=names,
        notes=notes,
    )
    return made.without_position(options.position).by_token(options.token)


def _patched(
    name: str, kwargs: dict[str, Any], weights: weight_files.Weights
) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """timm's network; a transformer with the patches of the weights, and a note, where neither the name nor the spelling says them.

    Their size is added to `kwargs`.
    """
    module = timm.network(name, kwargs)
    given, embed = weights.state.get("patch_embed.proj.weight"), getattr(module, "patch_embed", None)
    own = getattr(getattr(embed, "proj", None), "weight", None)
    if not isinstance(module, VisionTransformer) or own is None or given is None or "patch_size" in kwargs:
        return module, ()
    if not own.ndim == given.ndim == 4 or own.shape[:2] != given.shape[:2] or own.shape == given.shape:
        return module, ()
    height, width = given.shape[2:]
    kwargs["patch_size"] = height if height == width else (height, width)
    note = f"its patches are of {height} x {width} pixels, as its weights say; those of `{name}` are of {own.shape[2]} x {own.shape[3]}"
    return timm.network(name, kwargs), (note,)


def _resampled(own: _options.Size, asked: _options.Size, size: _options.Size | None) -> _options.Size | None:
    """The input size where the spelling says `model.img_size` of a file that records its own: positions lie where they were trained, and
    are resampled to what is asked for.
    """
    fits = size is None or size == asked or asked == own
    must = f"Its file records that it was trained with {own[0]} x {own[1]} pixels, so one other size can be asked for"
    require(fits, must, f"`model.img_size` {asked} and `size` {size}", "Leave `model.img_size` out.")
    return asked if size is None and asked != own else size


def _trained_without(said: dict[str, Any], module: torch.nn.Module, preprocess: Preprocess | None) -> dict[str, str]:
    """Take position out of a network whose weights were trained without, before they are loaded."""
    if said.get("position") != "none":
        return {}
    position.remove(module, size=(preprocess or _preprocess.IMAGENET).size)
    return {"position": "none"}


def _metadata(weights: weight_files.Weights) -> dict[str, Any]:
    """What the file says of itself, decoded."""
    raw = weights.metadata
    try:
        said: dict[str, Any] = json.loads(raw.get("visionvitals", "{}"))
        said |= {key: json.loads(raw[key]) for key in ("kwargs", "preprocess", "classes") if key in raw}
        said |= {key: raw[key] for key in ("arch", "position") if key in raw}
    except (ValueError, TypeError) as error:
        raise VitalsError(f"{weights.path}: its metadata is not JSON: {error}.") from error
    if said.get("preprocess") is not None:
        said["preprocess"] = _preprocess.from_json(said["preprocess"], where=str(weights.path))
    return said


def _outputs(weights: weight_files.Weights, classifier: Any, default: int) -> int:
    """The number of classes, from the rows of the head's weight; 0 where the file holds nothing of the head."""
    names = (classifier,) if isinstance(classifier, str) else classifier or ()
    for name in names:
        if f"{name}.weight" in weights.state:
            return int(weights.state[f"{name}.weight"].shape[0])
    there = not names or any(key.startswith(f"{name}.") for key in weights.state for name in names)
    return default if there else 0
