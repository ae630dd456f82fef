"""torchvision: any image classifier of torchvision, with its published weights or a local file.

`torchvision:NAME`, `torchvision:NAME@weights.pth`. Options: `weights=IMAGENET1K_V1` chooses among the published ones, whose
transform is also used for a local file; `weights=ema|raw` chooses in a file that holds an average of the weights too; `size`, `resize`,
`crop`, `interpolation`, `mean`, `std`, `classes`, `pretrained=false` with `seed`, and `model.KEY=VALUE` for any keyword argument of the
network.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
import torchvision
from torchvision.models import get_model_builder, get_model_weights, list_models

from visionvitals import core, weight_files
from visionvitals.backbones import _hub, _options, _parts, _preprocess
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec, option, options, reads

EXAMPLES: tuple[str, ...] = (
    "torchvision:squeezenet1_1?pretrained=false&size=64",
    "torchvision:shufflenet_v2_x0_5?pretrained=false&seed=1&size=64",
)


@dataclass(frozen=True, kw_only=True)
class Options(_options.Look):
    """What a `torchvision:` spelling may say."""

    size: _options.Size | None = _options.size()
    pretrained: bool | None = option(None, "`false` for random weights; published ones where nothing is said")
    seed: int | None = option(None, "of random weights, 0 where nothing is said")
    weights: str = option(
        "DEFAULT",
        "which of the published weights; their transform is also used for a local file. Of a file that holds both: `ema`, the average of "
        "the weights, or `raw`; the average by default",
    )
    model: _options.Model = _options.model()


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a `torchvision:` spelling names.

    Raises:
        VitalsError: an unknown name, option or keyword argument, or weights that do not fit or cannot be had.
    """
    name, file = spec.name, spec.checkpoint
    known = list_models(module=torchvision.models)
    if name not in known:
        raise VitalsError(f"torchvision {torchvision.__version__} has no classifier `{name}`. {near(name, known)}")
    pretrained = file is None and options.pretrained is not False
    require(not pretrained or options.seed is None, "`seed` needs `pretrained=false`", options.seed)
    require(file is None or options.pretrained is None, "Give a file after `@` or `pretrained`, not both", file)
    kind = cast(weight_files.Kind, options.weights) if options.weights in get_args(weight_files.Kind) else None
    require(file is not None or kind is None, "`weights` = `ema` or `raw` needs a file after `@`", options.weights)
    published = _published(name, "DEFAULT" if kind else options.weights)
    preprocess = _preprocess.override(_preprocessing(published), options, size=options.size)
    kwargs = dict(options.model)
    family = get_model_builder(name).__module__.rpartition(".")[2]
    if family == "vision_transformer":
        kwargs.setdefault("image_size", preprocess.size[0])
    if family in ("googlenet", "inception"):
        # What the builders themselves do for their published weights; the input is normalised another time, inside.
        kwargs = {"init_weights": False, "transform_input": pretrained or file is not None, **kwargs}
    module = _network(name, kwargs, seed=options.seed or 0)
    notes: tuple[str, ...] = ()
    if pretrained or file is not None:
        found = weight_files.read(Path(file) if file is not None else _fetched(name, published), kind)
        weight_files.load_strict(module, _renamed(found) if family == "densenet" else found, architecture=name)
        notes = found.notes
    made = _parts.Network(
        module=module, architecture=name, preprocess=preprocess, build=kwargs, imagenet=True, notes=notes
    )
    return _parts.assemble(made, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def files(spec: Spec) -> tuple[Path, ...] | None:
    """See `plan.cards`. Published weights are looked for anew each time."""
    asked = options(spec, Options)
    own = spec.checkpoint is not None or asked.pretrained is False
    return () if own and _options.without_names(asked.model) else None


def _renamed(found: weight_files.Weights) -> weight_files.Weights:
    """The published files of DenseNet have the names of 2017, `norm.1`, which the builder renames too."""
    pattern = r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)"
    return found._replace(state={re.sub(pattern, r"\1\2", key): value for key, value in found.state.items()})


def _network(name: str, kwargs: dict[str, Any], *, seed: int) -> torch.nn.Module:
    build = get_model_builder(name)
    try:
        return cast(torch.nn.Module, _parts.seeded(lambda: build(weights=None, **kwargs), seed=seed))
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise VitalsError(f"torchvision cannot make it: {type(error).__name__}: {error}.") from error


def _published(network: str, name: str) -> Any:
    """The member of the weights enumeration of a network, by its name."""
    enumeration = get_model_weights(network)
    names = [*enumeration.__members__, "DEFAULT"]
    require(name in names, "There are no published weights of that name", name, near(name, names))
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


def _fetched(name: str, weights: Any) -> Path:
    """The published file in torch's own cache, downloaded if it is not there."""
    return _hub.downloaded(
        weights.url,
        name=name,
        file_way=f"`torchvision:{name}@FILE.pth`",
        spelling_way="`?weights=NAME` for other published ones, or `?pretrained=false` for random ones",
        hash_prefix=Path(weights.url).stem.rpartition("-")[2],
    )
