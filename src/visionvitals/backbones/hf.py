"""Hugging Face: any image classifier of transformers, or a backbone without one, from the hub or a local folder. Needs `[hf]`.

`hf:USER/REPO`, `hf:./folder`. The preprocessing is that of its image processor; options `size`, `resize`, `crop`, `interpolation`,
`mean`, `std` and `classes` change it. Code that a repository brings along is never run.
"""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionvitals import core
from visionvitals.backbones import _classes, _hub, _options, _parts, _preprocess, _processor, _token_removal
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec, reads

EXAMPLES: tuple[str, ...] = ()
_RESAMPLE: dict[int, core.Interpolation] = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_READ = (
    *(
        "size",
        "crop_size",
        "crop_pct",
        "resample",
        "image_mean",
        "image_std",
        "do_center_crop",
        "do_normalize",
        "do_rescale",
    ),
    *("rescale_factor", "rescale_offset", "include_top", "do_flip_channel_order"),
)


@dataclass(frozen=True, kw_only=True)
class Options(_options.Look):
    """What a `hf:` spelling may say."""

    size: _options.Size | None = _options.size()


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a `hf:` spelling names.

    Raises:
        VitalsError: the extra is not installed, there is no such folder, the hub cannot be reached, the repository holds no network of
            images, or it lacks weights (such as those of the classifier that it says it has).
    """
    module = model(spec.name)
    config = module.config
    classifier = "ImageClassification" in type(module).__name__
    tower = module if classifier else getattr(module, "vision_model", module)
    preprocess, flips, notes = looked(spec.name, config, options)
    tokens = _token_removal.find_hugging_face(tower, preprocess.size)
    labels = config.id2label or {}  # some configurations have none
    names = tuple(str(labels[i]) for i in sorted(labels)) if classifier else ()
    notes += resampled(tower.config, tokens, preprocess.size)
    generic = all(name == f"LABEL_{i}" for i, name in enumerate(names))

    def forward(images: Tensor) -> Any:
        found = tower(images.flip(1) if flips else images)
        return found if classifier else _pooled(found, tokens.prefix)

    made = _parts.Network(
        module=tower,
        architecture=type(tower).__name__,
        preprocess=preprocess,
        build=built(config),
        forward=forward,
        tokens=tokens,
        names=None if generic else _classes.named(names),
        classifier=classifier,
        notes=notes,
    )
    return _parts.assemble(made, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def looked(name: str, config: Any, options: Options) -> tuple[core.Preprocess, bool, tuple[str, ...]]:
    """What its images are like, by its image processor and the spelling; whether its channels are in reverse order; notes."""
    processor, running = _image_processor(name, config, options)
    base, flips = preprocessing(processor), bool(processor.get("do_flip_channel_order"))
    notes: tuple[str, ...] = ()
    if running is not None and (options.resize, options.crop, options.size, options.interpolation) == (None,) * 4:
        base, notes = _processor.fitted(base, running, flips=flips)
    return _preprocess.override(base, options, size=options.size), flips, notes


def built(config: Any) -> dict[str, Any]:
    """What of a configuration shapes the network."""
    volatile = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id")
    return {key: value for key, value in config.to_diff_dict().items() if key not in volatile}


def preprocessing(processor: Mapping[str, Any]) -> core.Preprocess:
    """What an image processor's configuration does to a picture, in our terms. Its code may do otherwise, see `_processor.fitted`.

    Args:
        processor: `to_dict()` of an image processor of transformers. `size` is {height, width} (stretch) or {shortest_edge}; then
            comes a centre crop of `crop_size`, down to whole pixels. With `crop_pct` and no `crop_size`, as ConvNeXt has it, a size below 384 is resized
            to size / crop_pct and cropped, and a larger one is stretched. Where values are not rescaled to [0, 1] or are shifted
            or divided once more (EfficientNet), mean and std are brought to the [0, 1] scale.
    """
    crop = _pixels(processor.get("crop_size")) if processor.get("do_center_crop") else None
    size = _pixels(processor.get("size")) or crop
    if size is None:
        raise VitalsError(f"An image processor must have a `size`. Got {dict(processor)}.")
    stretches = isinstance(processor.get("size"), Mapping) and bool(processor["size"].get("height"))
    share = processor.get("crop_pct")
    final = crop or size
    resize: int | None = max(min(size), max(final))
    if share:
        resize = None if crop is None and size[0] >= 384 else int(size[0] / share)
    elif stretches and final == size:
        resize = None
    # transformers computes ((255 x a - o) - m) / s, and EfficientNet's `include_top` divides by s again
    scale = 255 * float(processor.get("rescale_factor") or 1 / 255) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    normalises = processor.get("do_normalize", True) and processor.get("image_mean") is not None
    mean = _triple(processor["image_mean"]) if normalises else (0.0, 0.0, 0.0)
    std = _triple(processor["image_std"]) if normalises else (1.0, 1.0, 1.0)
    power = 2 if processor.get("include_top") else 1
    resample = processor.get("resample")
    return core.Preprocess(
        size=final,
        resize=resize,
        interpolation=_RESAMPLE.get(2 if resample is None else int(resample), "bilinear"),
        mean=_triple([(m + offset) / scale for m in mean]),
        std=_triple([math.pow(s, power) / scale for s in std]),
        stretch=stretches and resize is not None,
        crop="round" if resize is None else "floor",
    )


def local(name: str, file: str) -> bool:
    """Whether a folder, or the cache of the hub, has what `file` stands for: then the hub is not asked."""
    return Path(name).is_dir() or _hub.cached(name, file) is not None


def _require_folder(name: str) -> None:
    """A name that reads like a path must be a folder; asking the hub for it would only mislead."""
    path = Path(name)
    if path.is_dir():
        require((path / "config.json").is_file(), f"{path} must hold the `config.json` of a model", "none")
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        beside = [p.parent.name for p in path.parent.glob("*/config.json")] if path.parent.is_dir() else []
        raise VitalsError(f"there is no folder {path}. {near(path.name, beside)}".rstrip())


def model(name: str, *, family: str = "hf") -> Any:
    """The network of a folder or a repository, with all of its weights; `family` is for the messages.

    Raises:
        VitalsError: see `load`.
    """
    if importlib.util.find_spec("transformers") is None:
        raise VitalsError('It needs transformers. Install it: pip install "visionvitals[hf]"')
    import transformers

    _require_folder(name)
    here = local(name, "config.json")
    reason = None if here else _hub.no_answer(_hub.hub_url(name))
    if reason is not None:
        raise _cannot_fetch(name, reason, family)
    try:
        config = transformers.AutoConfig.from_pretrained(name, local_files_only=here)
        if config.model_type == "timm_wrapper":
            raise VitalsError(f"It holds a timm network. Spell it `timm:hf-hub:{name}`.")
        loaded, report = _loaded(name, config, here=here)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if Path(name).is_dir():
            raise VitalsError(f"It is no network of images that transformers can load: {error}") from error
        raise _cannot_fetch(name, f"{type(error).__name__}: {error}", family) from error
    lacking = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    must = f"It must hold all weights of {type(loaded).__name__}; transformers would fill the others at random"
    require(not lacking, must, f"{len(lacking)} missing: {', '.join(lacking[:4])}")
    return loaded


def _loaded(name: str, config: Any, *, here: bool) -> tuple[Any, Mapping[str, Any]]:
    """The network, and what transformers says of the loading: a classifier where the repository holds one, else the bare backbone."""
    import transformers

    held = [str(each) for each in config.architectures or ()]
    bare = held and not any("ImageClassification" in each for each in held)
    kind = transformers.AutoModel if bare else transformers.AutoModelForImageClassification
    how = {"local_files_only": here, "output_loading_info": True}
    module, report = kind.from_pretrained(name, **how)
    if bare and report["missing_keys"] and all(key.startswith("pooler.") for key in report["missing_keys"]):
        module, report = kind.from_pretrained(name, add_pooling_layer=False, **how)  # it was trained without one
    return module, report


def resampled(config: Any, tokens: _token_removal.Tokens, size: tuple[int, int]) -> tuple[str, ...]:
    """A note where a table of positions was trained for another input; transformers resamples it, or refuses the picture."""
    side = getattr(getattr(config, "vision_config", config), "image_size", None)
    native = _pixels(side) if isinstance(side, int | list | tuple) else None
    if native is None or native == size or tokens.grid is None:
        return ()
    return (f"made for {native[0]} x {native[1]} pixels and shown {size[0]} x {size[1]}: its positions are resampled",)


def _pooled(output: Any, prefix: int) -> Tensor:
    """The features of a bare backbone (b, d): its own pooled output, else its first token, or the mean where it has no class token."""
    found = getattr(output, "pooler_output", None)
    if found is None:
        last: Tensor = output.last_hidden_state
        found = last.mean(dim=(2, 3)) if last.ndim == 4 else last[:, 0] if prefix else last.mean(dim=1)
    result: Tensor = found.flatten(1)
    return result


def _image_processor(name: str, config: Any, options: Options) -> tuple[Mapping[str, Any], Any]:
    """The image processor's configuration with its class's defaults, and itself: with Pillow's filters, where it has them. Where there is
    none, a configuration made of the spelling's options, and None.
    """
    import transformers

    try:
        here = local(name, "preprocessor_config.json")
        processor = transformers.AutoImageProcessor.from_pretrained(name, local_files_only=here, use_fast=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if options.mean is not None and options.std is not None:
            size = options.size or _pixels(getattr(config, "image_size", 224))
            assert size is not None
            return {"size": {"height": size[0], "width": size[1]}, "resample": 2}, None
        raise VitalsError(
            f"It has no image processor that transformers can load ({error}). "
            "Say what its images are like: `?mean=..&std=..`, and `size`, `resize`, `interpolation` where they matter."
        ) from error
    found: dict[str, Any] = processor.to_dict()
    return {key: found[key] if key in found else getattr(processor, key, None) for key in _READ}, processor


def _cannot_fetch(name: str, reason: str, family: str) -> VitalsError:
    return _hub.cannot_fetch(
        name,
        source=_hub.hub_url(name),
        cache=_hub.hub_cache(),
        reason=reason,
        file_way=f"`{family}:./FOLDER` with config.json, preprocessor_config.json and model.safetensors",
        spelling_way="the same network from `timm:`, or another repository",
    )


def _pixels(value: Any) -> tuple[int, int] | None:
    """(height, width) of a size in any of transformers' forms."""
    if value is None:
        return None
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge") or value.get("longest_edge")
        return (int(edge), int(edge)) if edge else (int(value["height"]), int(value["width"]))
    return int(value[0]), int(value[1])


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = [values] * 3 if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)
