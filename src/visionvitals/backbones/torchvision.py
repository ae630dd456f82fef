"""torchvision: any image classifier of torchvision, with its published weights or a local file.

`torchvision:NAME`, `torchvision:NAME@weights.pth`. Options: `weights=IMAGENET1K_V1` chooses among the published ones, whose
transform is also used for a local file; `size`, `resize`, `crop`, `interpolation`, `mean`, `std`, `classes`, `pretrained=false`
with `seed`, and `model.KEY=VALUE` for any keyword argument of the network.
"""

import re
from pathlib import Path
from typing import Any, cast

import torch
import torchvision
from torchvision.models import get_model_builder, get_model_weights, list_models

from visionvitals import core
from visionvitals.backbones import _hub, _parts, _preprocess, _weights
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

EXAMPLES: tuple[str, ...] = (
    "torchvision:squeezenet1_1?pretrained=false&size=64",
    "torchvision:shufflenet_v2_x0_5?pretrained=false&seed=1&size=64",
)
OPTIONS = (*_preprocess.OPTIONS, "classes", "pretrained", "seed", "weights")


def load(spec: Spec, *, device: torch.device) -> core.Backbone:
    """The backbone that a `torchvision:` spelling names.

    Raises:
        VitalsError: an unknown name, option or keyword argument, or weights that do not fit or cannot be had.
    """
    spec.only(*OPTIONS, *_preprocess.model_options(spec))
    known = list_models(module=torchvision.models)
    if spec.name not in known:
        version = torchvision.__version__
        raise VitalsError(
            f"`{spec.text}`: torchvision {version} has no classifier `{spec.name}`. {near(spec.name, known)}"
        )
    pretrained = spec.checkpoint is None and _preprocess.flag(spec, "pretrained", default=True)
    require(not (pretrained and "seed" in spec.options), "`seed` needs `pretrained=false`", spec.text)
    must = "Give a file after `@` or `pretrained`, not both"
    require(spec.checkpoint is None or "pretrained" not in spec.options, must, spec.text)

    weights = _published(spec)
    preprocess = _preprocess.override(spec, _preprocessing(weights))
    kwargs = _preprocess.model_kwargs(spec)
    builder = get_model_builder(spec.name)
    if builder.__module__ == "torchvision.models.vision_transformer":
        kwargs.setdefault("image_size", preprocess.size[0])
    if builder.__module__ in ("torchvision.models.googlenet", "torchvision.models.inception"):
        # What the builders themselves do for their published weights; the input is normalised another time, inside.
        kwargs = {"init_weights": False, "transform_input": pretrained or spec.checkpoint is not None, **kwargs}
    module = _network(spec, kwargs)
    if pretrained or spec.checkpoint is not None:
        path = _fetched(spec, weights) if spec.checkpoint is None else Path(spec.checkpoint)
        found = _weights.read(path)
        if builder.__module__ == "torchvision.models.densenet":
            # the published files have the names of 2017, `norm.1`, which the builder renames too
            renamed = {
                re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)", r"\1\2", k): v for k, v in found.state.items()
            }
            found = found._replace(state=renamed)
        _weights.load_strict(module, found, architecture=spec.name)
    return _parts.assemble(
        spec, module, architecture=spec.name, preprocess=preprocess, device=device, kwargs=kwargs, imagenet=True
    )


def _network(spec: Spec, kwargs: dict[str, Any]) -> torch.nn.Module:
    seed = int(_preprocess.number(spec, "seed")) if "seed" in spec.options else 0
    build = get_model_builder(spec.name)
    try:
        return cast(torch.nn.Module, _parts.seeded(lambda: build(weights=None, **kwargs), seed=seed))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise VitalsError(f"`{spec.text}`: torchvision cannot make it: {type(error).__name__}: {error}.") from error


def _published(spec: Spec) -> Any:
    """The member of the weights enumeration that the spelling names, or the default one."""
    enumeration = get_model_weights(spec.name)
    name = spec.options.get("weights", "DEFAULT")
    names = [*enumeration.__members__, "DEFAULT"]
    require(name in names, f"`{spec.text}`: no published weights of that name", name, near(name, names))
    return enumeration[name]


def _preprocessing(weights: Any) -> core.Preprocess:
    """torchvision's own evaluation transform of these weights."""
    transform = weights.transforms()
    return core.Preprocess(
        size=(transform.crop_size[0], transform.crop_size[0]),
        resize=transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def _fetched(spec: Spec, weights: Any) -> Path:
    """The published file in torch's own cache, downloaded if it is not there."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(weights.url).name
    if path.is_file():
        return path
    reason = _hub.no_answer(weights.url)
    if reason is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(
                weights.url, str(path), hash_prefix=path.stem.rpartition("-")[2], progress=False
            )
            return path
        except (OSError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {error}"
    raise _hub.cannot_fetch(
        spec,
        source=weights.url,
        cache=str(folder),
        reason=reason,
        file_way=f"`torchvision:{spec.name}@FILE.pth`",
        spelling_way="`?weights=NAME` for other published ones, or `?pretrained=false` for random ones",
    )
