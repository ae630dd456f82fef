"""Hugging Face: any image classifier of transformers, from the hub or a local folder. Needs the extra `[hf]`.

`hf:USER/REPO`, `hf:./folder`. The preprocessing is that of its image processor; options `size`, `resize`, `crop`, `interpolation`,
`mean`, `std` and `classes` change it. Code that a repository brings along is never run.
"""

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionvitals import core
from visionvitals.backbones import _classes, _hub, _parts, _preprocess, _token_removal
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

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


def load(spec: Spec, *, device: torch.device) -> core.Backbone:
    """The backbone that a `hf:` spelling names.

    Raises:
        VitalsError: the extra is not installed, there is no such folder, the hub cannot be reached, the repository is no image
            classifier, or it lacks weights (such as those of the classifier).
    """
    spec.only(*_preprocess.OPTIONS, "classes")
    if importlib.util.find_spec("transformers") is None:
        raise VitalsError(f'`{spec.text}` needs transformers. Install it: pip install "visionvitals[hf]"')
    _require_folder(spec)
    module = _model(spec)
    config = module.config
    processor = _processor(spec, config)
    base, notes = preprocessing(processor)
    preprocess = _preprocess.override(spec, base)
    names = tuple(str(config.id2label[i]) for i in sorted(config.id2label))
    generic = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    volatile = ("_name_or_path", "transformers_version", "torch_dtype", "dtype", "id2label", "label2id")

    def forward(images: Tensor) -> Any:
        return module(images.flip(1) if processor.get("do_flip_channel_order") else images).logits

    return _parts.assemble(
        spec,
        module,
        architecture=type(module).__name__,
        preprocess=preprocess,
        device=device,
        kwargs={key: value for key, value in config.to_diff_dict().items() if key not in volatile},
        forward=forward,
        tokens=_token_removal.find_hugging_face(module, preprocess.size),
        names=None if generic else _classes.named(names),
        notes=notes,
    )


def preprocessing(processor: Mapping[str, Any]) -> tuple[core.Preprocess, tuple[str, ...]]:
    """What an image processor's configuration does to a picture, in our terms, and a note where they cannot say it.

    Args:
        processor: `to_dict()` of an image processor of transformers. `size` is {height, width} (stretch) or {shortest_edge}; then
            comes a centre crop of `crop_size`. With `crop_pct` and no `crop_size`, as ConvNeXt has it, a size below 384 is resized
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
    told = core.Preprocess(
        size=final,
        resize=resize,
        interpolation=_RESAMPLE.get(2 if resample is None else int(resample), "bilinear"),
        mean=_triple([(m + offset) / scale for m in mean]),
        std=_triple([math.pow(s, power) / scale for s in std]),
    )
    bends = stretches and resize is not None
    return told, (
        "its image processor stretches the picture, then crops it; ours keeps its aspect ratio",
    ) if bends else ()


def _require_folder(spec: Spec) -> None:
    """A name that reads like a path must be a folder; asking the hub for it would only mislead."""
    path = Path(spec.name)
    if path.is_dir():
        require((path / "config.json").is_file(), f"{path} must hold the `config.json` of a model", "none")
    elif spec.name.startswith((".", "/", "~")) or spec.name.count("/") > 1:
        beside = [p.parent.name for p in path.parent.glob("*/config.json")] if path.parent.is_dir() else []
        raise VitalsError(f"`{spec.text}`: there is no folder {path}. {near(path.name, beside)}".rstrip())


def _model(spec: Spec) -> Any:
    import transformers

    here = Path(spec.name).is_dir() or _hub.cached(spec.name, "config.json") is not None
    reason = None if here else _hub.no_answer(_hub.hub_url(spec.name))
    if reason is not None:
        raise _cannot_fetch(spec, reason)
    try:
        config = transformers.AutoConfig.from_pretrained(spec.name, local_files_only=here)
        if config.model_type == "timm_wrapper":
            raise VitalsError(f"`{spec.text}` holds a timm network. Spell it `timm:hf-hub:{spec.name}`.")
        module, report = transformers.AutoModelForImageClassification.from_pretrained(
            spec.name, local_files_only=here, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if Path(spec.name).is_dir():
            raise VitalsError(f"`{spec.text}` is no image classifier that transformers can load: {error}") from error
        raise _cannot_fetch(spec, f"{type(error).__name__}: {error}") from error
    lacking = sorted(str(key) for key in (*report["missing_keys"], *report["mismatched_keys"]))
    must = f"`{spec.text}` must hold all weights of {type(module).__name__}; transformers would make the others up at random"
    require(not lacking, must, f"{len(lacking)} missing: {', '.join(lacking[:4])}")
    return module


def _processor(spec: Spec, config: Any) -> Mapping[str, Any]:
    """The image processor's configuration with its class's defaults, or one made of the spelling's options."""
    import transformers

    try:
        here = Path(spec.name).is_dir() or _hub.cached(spec.name, "preprocessor_config.json") is not None
        processor = transformers.AutoImageProcessor.from_pretrained(spec.name, local_files_only=here)
    except (OSError, ValueError, KeyError, TypeError) as error:
        if {"mean", "std"} <= spec.options.keys():
            size = _preprocess.input_size(spec) or _pixels(getattr(config, "image_size", 224))
            assert size is not None
            return {"size": {"height": size[0], "width": size[1]}, "resample": 2}
        raise VitalsError(
            f"`{spec.text}` has no image processor that transformers can load ({error}). "
            "Say what its images are like: `?mean=..&std=..`, and `size`, `resize`, `interpolation` where they matter."
        ) from error
    found: dict[str, Any] = processor.to_dict()
    return {key: found[key] if key in found else getattr(processor, key, None) for key in _READ}


def _cannot_fetch(spec: Spec, reason: str) -> VitalsError:
    return _hub.cannot_fetch(
        spec,
        source=_hub.hub_url(spec.name),
        cache=_hub.hub_cache(),
        reason=reason,
        file_way="`hf:./FOLDER` with config.json, preprocessor_config.json and model.safetensors",
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
