"""From a network to a `Backbone`: normalisation inside, evaluation mode guarded, digest, pre-logit features, token removal."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from visionvitals import core
from visionvitals.backbones import _classes, _token_removal
from visionvitals.errors import VitalsError, require
from visionvitals.probes import attention
from visionvitals.probes import tokens as inside
from visionvitals.registry import Spec

Pass = Callable[[Tensor], Any]
_T = TypeVar("_T")


def assemble(
    spec: Spec,
    module: torch.nn.Module,
    *,
    architecture: str,
    preprocess: core.Preprocess,
    device: torch.device,
    kwargs: Mapping[str, object] | None = None,
    forward: Pass | None = None,
    features: Pass | None = None,
    tokens: _token_removal.Tokens | None = None,
    names: _classes.Names | None = None,
    imagenet: bool = False,
    notes: tuple[str, ...] = (),
) -> core.Backbone:
    """Make the `Backbone`; puts `module` into evaluation mode, float32, without parameter gradients, on `device`.

    Args:
        spec: the spelling; its option `classes` names a file of class keys that takes the place of `names`.
        module: the network with its weights.
        architecture: the family's own name for it.
        preprocess: what its images look like; mean and std are applied here.
        device: where it is to compute.
        kwargs: what shaped the architecture beside its name; part of the digest.
        forward: normalised images -> logits (b, k); by default the module itself.
        features: normalised images -> pre-logit features (b, d); by default the input of the network's last linear layer, where
            that layer's output is the logits.
        tokens: its patch tokens; by default what the module's class tells.
        names: the classes of the outputs; by default ImageNet's where their number is that of an ImageNet subset.
        imagenet: that default is known to be true, so that no note says it is assumed.
        notes: warnings for the report.

    Raises:
        VitalsError: the network cannot run on its own input size, does not give logits, or the class count is another.
    """
    fingerprint = digest(module.float(), architecture=architecture, kwargs=kwargs or {})
    module.eval().requires_grad_(False).to(device)
    forward = forward or module
    tokens = _token_removal.find(module) if tokens is None else tokens
    mean = torch.tensor(preprocess.mean, device=device).view(1, 3, 1, 1)
    std = torch.tensor(preprocess.std, device=device).view(1, 3, 1, 1)

    def run(function: Pass, images: Tensor) -> Any:
        refuse_training_mode(module)
        expected = (3, *preprocess.size)
        require(
            images.shape[1:] == expected,
            f"`{spec.text}` takes images of shape (b, {', '.join(map(str, expected))})",
            tuple(images.shape),
            "Another size is another backbone: `?size=`.",
        )
        with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
            return function((images - mean) / std)

    def logits(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        result: Tensor = run(forward, images)
        return result

    maps: list[attention.Map] = []
    with attention.watch(module, 1, maps.append, prefix=tokens.prefix, grid=tokens.grid), inside.Trace(module) as trace:
        result, head = _try_out(spec, module, logits, preprocess, device)
    with torch.no_grad():
        layout = inside.find(trace, result, prefix=tokens.prefix, grid=tokens.grid, size=preprocess.size)
    outputs = result.shape[1]
    del trace
    features = features or (_input_of(head, forward) if head else None)

    def pre_logits(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        result: Tensor = run(features, images)  # type: ignore[arg-type]  # used only where there are some
        return result

    def visible_logits(images: Float[Tensor, "b 3 h w"], visible: Bool[Tensor, "b n"]) -> Float[Tensor, "b k"]:
        assert tokens.keep is not None
        assert tokens.grid is not None
        indices = _token_removal.visible_indices(visible.to(device), tokens.grid)
        must = "`visible` must have one row for each image"
        require(len(visible) == len(images), must, (len(visible), len(images)))
        with tokens.keep(indices):
            result = logits(images)
        if indices.shape[1] == 0:
            must = f"`{spec.text}` pools its patch tokens, so at least one must be visible"
            require(bool(result.isfinite().all()), must, "none")
        return result

    if tokens.grid and any(side % cells for side, cells in zip(preprocess.size, tokens.grid, strict=True)):
        notes = (
            *notes,
            f"its {tokens.grid[0]} x {tokens.grid[1]} patches leave pixels at the right and lower border unseen",
        )
    removable = tokens.keep is not None and tokens.grid is not None
    attends = bool(maps) and attention.unusable(maps[-1], tokens.grid) is None
    heads = {token: _output_of(layer, run, forward) for token, layer in _heads(module).items()}
    names, more_notes = _names(spec, outputs, names, imagenet=imagenet)
    card = core.BackboneCard(
        spec=spec.text,
        architecture=architecture,
        digest=fingerprint,
        preprocess=preprocess,
        outputs=outputs,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        provides=(("features",) if features else ())
        + (("token_removal",) if removable else ())
        + (("attention",) if attends else ())
        + ((layout.kind,) if layout else ())
        + (("readout",) if layout and layout.readout else ())
        + (("heads",) if heads else ()),
        blocks=len(layout.blocks) if layout else 0,
        patch_grid=tokens.grid,
        prefix_tokens=tokens.prefix,
        classes=names.keys if names else None,
        class_names=names.readable if names else None,
        notes=notes + more_notes,
    )
    return core.Backbone(
        card=card,
        device=device,
        logits=logits,
        module=module,
        features=pre_logits if features else None,
        visible_logits=visible_logits if removable else None,
        heads=heads,
    )


def refuse_training_mode(module: torch.nn.Module) -> None:
    """Refuse to score a network that is in training mode anywhere inside.

    BatchNorm then uses the statistics of the batch, so that a prediction depends on which images happen to be beside it: on
    class-sorted batches the accuracy collapses. Dropout would add noise.

    Raises:
        VitalsError: a submodule is in training mode; the first one with BatchNorm is named where there is one.
    """
    if any(part.training for part in module.modules()):
        training = [(name, part) for name, part in module.named_modules() if part.training]
        norms = [name for name, part in training if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
        raise VitalsError(
            f"A network is scored in evaluation mode only. Got training mode in {len(training)} modules, "
            + (f"BatchNorm `{norms[0]}` among them (it would use the statistics of each batch). " if norms else "")
            + "Call `module.eval()` before scoring."
        )


def digest(module: torch.nn.Module, *, architecture: str, kwargs: Mapping[str, object]) -> str:
    """sha256 over the architecture, its keyword arguments, and name, dtype, shape and bytes of each weight, sorted by name."""
    made = hashlib.sha256(json.dumps([architecture, kwargs], sort_keys=True, default=str).encode())
    for name, value in sorted(module.state_dict().items()):
        made.update(f"\0{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        made.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


def seeded(make: Callable[[], _T], *, seed: int) -> _T:
    """Run `make` with torch's CPU generator at `seed`, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def _try_out(
    spec: Spec, module: torch.nn.Module, logits: Pass, preprocess: core.Preprocess, device: torch.device
) -> tuple[Tensor, torch.nn.Module | None]:
    """One image: its logits, and the last linear layer if its output is the logits."""
    linear = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    seen: list[tuple[Tensor, Tensor]] = []
    handles = [
        part.register_forward_hook(lambda _m, arguments, output: seen.append((arguments[0], output)))
        for part in linear[-1:]
    ]
    height, width = preprocess.size
    try:
        result = logits(inside.trial_image(preprocess.size, device))
    except Exception as error:
        raise VitalsError(
            f"`{spec.text}` cannot run on images of {height} x {width} pixels: {type(error).__name__}: {error}. "
            "Give a size that it takes: `?size=`."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
    require(isinstance(result, Tensor) and result.ndim == 2, f"`{spec.text}` must give logits of shape (b, k)", got)
    if len(seen) == 1 and seen[0][0].ndim == 2 and torch.equal(seen[0][1], result):
        return result, linear[-1]
    return result, None


def _input_of(layer: torch.nn.Module, forward: Pass) -> Pass:
    def features(images: Tensor) -> Tensor:
        seen: list[Tensor] = []
        handle = layer.register_forward_pre_hook(lambda _m, arguments: seen.append(arguments[0]))
        try:
            forward(images)
        finally:
            handle.remove()
        return seen[0]

    return features


def _heads(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """token -> its own classifier, of networks that average two: timm's and transformers' names for those of a distilled ViT."""
    parts = dict(module.named_modules())
    for one, other in (("head", "head_dist"), ("cls_classifier", "distillation_classifier")):
        found = [
            next((part for name, part in parts.items() if name.split(".")[-1] == end), None) for end in (one, other)
        ]
        if found[0] is not None and found[1] is not None:
            return {"class": found[0], "distillation": found[1]}
    return {}


def _output_of(layer: torch.nn.Module, run: Callable[[Pass, Tensor], Any], forward: Pass) -> Pass:
    def logits(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        seen: list[Tensor] = []
        handle = layer.register_forward_hook(lambda _m, _arguments, output: seen.append(output))
        try:
            run(forward, images)
        finally:
            handle.remove()
        return seen[-1]

    return logits


def _names(
    spec: Spec, outputs: int, names: _classes.Names | None, *, imagenet: bool
) -> tuple[_classes.Names | None, tuple[str, ...]]:
    """The classes, and a note where they are assumed."""
    if "classes" in spec.options:
        names = _classes.from_file(Path(spec.options["classes"]))
    if names is not None:
        must = f"`{spec.text}` has {outputs} outputs, so there must be as many classes"
        require(len(names.keys) == outputs, must, len(names.keys), "Give them in output order: `?classes=FILE`.")
        return names, ()
    names = _classes.imagenet(outputs)
    if names is None or imagenet:
        return names, ()
    assumed = (
        f"its {outputs} outputs are taken for ImageNet's classes in their usual order; `?classes=FILE` says otherwise"
    )
    return names, (assumed,)
