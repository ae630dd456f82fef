"""timm: any network of timm by name, with timm's weights or a local file, and timm's own preprocessing.

`timm:NAME`, `timm:NAME.TAG`, `timm:NAME@weights.safetensors`, `timm:hf-hub:USER/REPO`, `timm:local-dir:FOLDER`. Options: `size`,
`resize`, `crop`, `interpolation`, `mean`, `std`, `classes`, `pretrained=false` with `seed`, `position=none` to take the position
encoding out, `token=class` or `token=distillation` for one head of a distilled network, `weights=ema|raw` where a file holds an average of
the weights beside those of the last step (the average by default), and `model.KEY=VALUE` for any keyword argument of the network.
"""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import timm
import torch
from timm.data import resolve_model_data_config
from timm.models import get_pretrained_cfg, is_model, split_model_name_tag

from visionvitals import core, weight_files
from visionvitals.backbones import _classes, _hub, _options, _parts, _positions, _preprocess
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec, option, options, reads

EXAMPLES: tuple[str, ...] = (
    "timm:test_vit?pretrained=false&size=64",
    "timm:deit_tiny_distilled_patch16_224?pretrained=false&size=48&model.depth=2&model.embed_dim=48",
    "timm:eva02_tiny_patch14_224?pretrained=false&size=56&model.depth=2&model.embed_dim=48&model.num_classes=10",
    "timm:test_resnet?pretrained=false&size=64",
)
_ELSEWHERE = ("hf-hub:", "hf_hub:", "local-dir:")


@dataclass(frozen=True, kw_only=True)
class Options(_options.Parted):
    """What a `timm:` spelling may say."""

    size: _options.Size | None = _options.size()
    pretrained: bool | None = option(None, "`false` for random weights; published ones where nothing is said")
    seed: int | None = option(None, "of random weights, 0 where nothing is said")
    weights: weight_files.Kind | None = _options.weights()
    model: _options.Model = _options.model()


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a `timm:` spelling names.

    Raises:
        VitalsError: an unknown name, option or keyword argument, weights that do not fit or are not available, an input size that the
            network does not take.
    """
    name, file = spec.name, spec.checkpoint
    pretrained = file is None and options.pretrained is not False
    require(not pretrained or options.seed is None, "`seed` needs `pretrained=false`", options.seed)
    require(file is None or options.pretrained is None, "Give a file after `@` or `pretrained`, not both", file)
    require(file is not None or options.weights is None, "`weights` needs a file after `@`", options.weights)
    _require_known(name)
    module = network(name, _fetched(name, options.model) if pretrained else options.model, seed=options.seed or 0)
    notes: tuple[str, ...] = ()
    if file is not None:
        found = _positions.without(module, weight_files.read(Path(file), options.weights), options.position)
        weight_files.load_strict(module, found, architecture=name)
        notes = found.notes + _positions.checked(module, found.path, told="img_size" in options.model)
    if pretrained and "img_size" in options.model:
        notes = _positions.published_for(module, _positions.pair(options.model["img_size"]))
    made = described(module, options, kwargs=options.model, size=options.size, elsewhere=name.startswith(_ELSEWHERE))
    made = replace(made, notes=notes + made.notes)
    return _parts.assemble(made, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def files(spec: Spec) -> tuple[Path, ...] | None:
    """See `plan.cards`. Of published weights, their file in the local cache where `_fetched` reads that."""
    asked = options(spec, Options)
    if spec.name.startswith(_ELSEWHERE) or not _options.without_names(asked.model):
        return None
    if spec.checkpoint is not None or asked.pretrained is False:
        return ()
    config = get_pretrained_cfg(spec.name)
    if config is None or not config.hf_hub_id or config.hf_hub_filename or config.custom_load:
        return None
    path = _hub.cached(config.hf_hub_id, "model.safetensors", "pytorch_model.bin")
    return None if path is None else (path,)


def network(name: str, kwargs: Mapping[str, Any], *, seed: int = 0) -> torch.nn.Module:
    """Create timm's network `name`, random by `seed` where `kwargs` do not say `pretrained`.

    Raises:
        VitalsError: the name is unknown, timm refuses the keyword arguments, or its download fails.
    """
    _require_known(name)
    try:
        return cast(torch.nn.Module, _parts.seeded(lambda: timm.create_model(name, **kwargs), seed=seed))
    except Exception as error:
        ours = isinstance(error, TypeError | ValueError | AssertionError | RuntimeError | KeyError)
        if kwargs.get("pretrained") and (isinstance(error, OSError) or not ours):
            raise _cannot_fetch(name, f"{type(error).__name__}: {error}") from error
        raise VitalsError(f"timm cannot make `{name}`: {type(error).__name__}: {error}.") from error


def described(
    module: Any,
    options: _options.Parted,
    *,
    kwargs: Mapping[str, Any],
    size: _options.Size | None,
    preprocess: core.Preprocess | None = None,
    names: _classes.Names | None = None,
    imagenet: bool = True,
    elsewhere: bool = False,
) -> _parts.Network:
    """A timm network that has its weights, with what timm says of it.

    Args:
        module: the network.
        options: what the spelling changes.
        kwargs: its keyword arguments.
        size: (height, width) that the spelling asks for.
        preprocess, names: take the place of timm's own.
        imagenet: 1000 outputs (12k, 21k) are known to be ImageNet's classes.
        elsewhere: its keyword arguments come from a repository or a folder too, not only from the spelling.
    """
    config = module.pretrained_cfg
    config.pop("state_dict", None)  # the weights again, where they came from the cache
    base, notes = (preprocess, ()) if preprocess else _preprocessing(module, kwargs.get("img_size"))
    if size is not None and size != base.size and config.get("fixed_input_size"):
        notes += set_input_size(module, base.size, size)
    share = None if preprocess or base.resize is None else min(1.0, resolve_model_data_config(module)["crop_pct"])
    registers = int(getattr(module, "num_prefix_tokens", 0))
    if registers and not any(name.rpartition(".")[2] == "cls_token" for name, _ in module.named_parameters()):
        notes = (*notes, f"has no class token: what is called so is the first of its {registers} registers")
    if names is None and config.get("label_names"):
        names = _classes.named(tuple(config["label_names"]))
    made = _parts.Network(
        module=module,
        architecture=config["architecture"],
        preprocess=_preprocess.override(base, options, size=size, crop=share),
        build=kwargs,
        open_ended=elsewhere,
        features=lambda images: module.forward_head(module.forward_features(images), pre_logits=True),
        names=names,
        imagenet=imagenet,
        notes=notes,
    )
    return made.without_position(options.position).by_token(options.token)


def published(name: str) -> dict[str, Any]:
    """What timm declares of its network `name`: input size, head, number of classes, ...

    Raises:
        VitalsError: the name is unknown.
    """
    _require_known(name)
    config = get_pretrained_cfg(name)
    return dict(config.to_dict()) if config else {}


def _require_known(name: str) -> None:
    if name.startswith(_ELSEWHERE):
        return
    architecture, tag = split_model_name_tag(name)
    if not is_model(architecture):
        close = near(architecture, timm.list_models())
        raise VitalsError(f"timm {timm.__version__} has no network `{architecture}`. {close}".rstrip())
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise VitalsError(f"timm {timm.__version__} has no weights `{tag}` of it. {near(tag, tags)}")


def _fetched(name: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments that give timm its published weights: from the local cache where they are there, so that nothing is asked
    of the network, else by timm's own download if the host answers.
    """
    if name.startswith("local-dir:"):
        return {**kwargs, "pretrained": True}
    if name.startswith(_ELSEWHERE):
        repo = name.partition(":")[2]
        _require_answer(name, _hub.hub_url(repo), here=_hub.cached(repo, "config.json") is not None)
        return {**kwargs, "pretrained": True}
    config = get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise VitalsError(
            f"timm {timm.__version__} publishes no weights for it. Give a local file, "
            f"`timm:{name}@FILE`, or `?pretrained=false` for random weights."
        )
    outputs = kwargs.get("num_classes", config.num_classes)
    must = f"Its published weights have {config.num_classes} outputs; timm would fill another head at random"
    require(outputs in (0, config.num_classes), must, outputs, "Leave `model.num_classes` out.")
    if not config.hf_hub_id:
        here = (Path(torch.hub.get_dir()) / "checkpoints" / Path(config.url).name).is_file()
        _require_answer(name, config.url, here=here)
    elif config.hf_hub_filename or config.custom_load:
        here = _hub.cached(config.hf_hub_id, config.hf_hub_filename or "pytorch_model.bin") is not None
        _require_answer(name, _hub.hub_url(config.hf_hub_id), here=here)
    else:
        path = _hub.cached(config.hf_hub_id, "model.safetensors", "pytorch_model.bin")
        _require_answer(name, _hub.hub_url(config.hf_hub_id), here=path is not None)
        if path is not None:
            overlay = {"state_dict": weight_files.read(path).state}
            return {**kwargs, "pretrained": True, "pretrained_cfg_overlay": overlay}
    return {**kwargs, "pretrained": True}


def _require_answer(name: str, url: str, *, here: bool) -> None:
    reason = None if here else _hub.no_answer(url)
    if reason is not None:
        raise _cannot_fetch(name, reason)


def _cannot_fetch(name: str, reason: str) -> VitalsError:
    elsewhere = name.startswith(_ELSEWHERE)
    config = {} if elsewhere else published(name)
    repo = name.partition(":")[2] if elsewhere else config.get("hf_hub_id")
    architecture = "NAME" if elsewhere else split_model_name_tag(name)[0]
    return _hub.cannot_fetch(
        name,
        source=_hub.hub_url(repo) if repo else str(config.get("url")),
        cache=_hub.hub_cache() if repo else f"{torch.hub.get_dir()}/checkpoints",
        reason=reason,
        file_way=f"`timm:{architecture}@FILE.safetensors`",
        spelling_way=f"other weights (`timm:{architecture}.TAG`), or `?pretrained=false` for random ones",
    )


def set_input_size(module: Any, native: tuple[int, int], size: tuple[int, int]) -> tuple[str, ...]:
    """Tell a network of fixed size another one; its tables of positions are resampled as timm does.

    Returns:
        A note where tables or windows are not those that were trained.

    Raises:
        VitalsError: it takes its own size only, or refuses this one.
    """
    change = getattr(module, "set_input_size", None)
    must = f"This network takes its own input size only, {native[0]} x {native[1]}"
    require(change is not None, must, size, "Leave `size` out, or give `model.img_size` where the network knows it.")
    before = _positions.made_for(module)
    try:
        with warnings.catch_warnings():
            # how timm indexes when it resamples tables of relative positions
            warnings.filterwarnings("ignore", module=r"timm\.layers\.interpolate")
            change(img_size=size)  # type: ignore[misc]  # checked above
    except (AssertionError, ValueError, RuntimeError) as error:
        raise VitalsError(f"The network refuses the size {size}: {error}.") from error
    return _positions.changed(before, _positions.made_for(module), native, size)


def _preprocessing(module: Any, img_size: Any) -> tuple[core.Preprocess, tuple[str, ...]]:
    """timm's evaluation transform (`timm.data.transforms_imagenet_eval`) in our terms, with a note where they cannot say it."""
    config = resolve_model_data_config(module)
    native = config["input_size"][1:] if img_size is None else img_size
    height, width = (native, native) if isinstance(native, int) else native
    crop, mode, interpolation = config["crop_pct"], config["crop_mode"], config["interpolation"]
    notes: list[str] = []
    if mode == "border":
        notes.append("timm pads the picture to a square here; ours crops it")
    if crop > 1:
        notes.append(f"timm pads the picture by {crop:g} here; ours does not")
    if interpolation not in get_args(core.Interpolation):
        notes.append(f"interpolation `{interpolation}` replaced by bicubic")
        interpolation = "bicubic"
    stretch = mode == "squash" and crop == 1
    base = core.Preprocess(
        size=(height, width),
        resize=None if stretch else math.floor(max(height, width) / min(1.0, crop)),
        interpolation=interpolation,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        stretch=mode == "squash" and not stretch,
    )
    return base, tuple(notes)
