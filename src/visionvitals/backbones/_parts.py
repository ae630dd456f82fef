"""From a network to a `Backbone`: normalisation inside, evaluation mode guarded, identity, pre-logit features, token removal."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals import core, registry
from visionvitals.answers import Answers
from visionvitals.backbones import _answers, _certify, _classes, _identity, _layout, _outputs, _sharing, _token_removal
from visionvitals.errors import VitalsError, require
from visionvitals.inside import Inside, Patches, attention, heads
from visionvitals.inside.blocks import Layout
from visionvitals.perturb import position

Pass = Callable[..., Any]
_T = TypeVar("_T")
HEADLESS = "has no classifier: what it gives are features, so studies of its answers are skipped"
_HEADS = ("head", "fc", "classifier", "heads")
AVERAGED = "its logits are the mean of its class head and its second head; `?token=class` or `?token=distillation` asks one of them"


@dataclass(frozen=True, kw_only=True)
class Network:
    """What a family makes of a spelling.

    Attributes:
        module: the network with its weights.
        architecture: the family's own name for it.
        preprocess: what its images look like; mean and std are applied by `assemble`.
        build: what shaped it beside its name; part of the digest.
        sources: digests of the user's code that made it; part of the digest.
        open_ended: see `_identity.digest`.
        forward: normalised images -> logits (b, k), or a mapping or an object with such `logits`; None is the module itself.
        features: normalised images -> pre-logit features (b, d); None is the input of the network's last linear layer, where that
            layer's output is the logits.
        tokens: its patch tokens; None is what the module's class tells.
        names: the classes of the outputs; None is ImageNet's where their number is that of an ImageNet subset.
        imagenet: that default is known to be true, so that no note says it is assumed.
        classifier: False where it is known to have none; else the network is looked at: one of timm without classes, or one whose `head`,
            `fc`, `heads` or `classifier` passes on what it gets, has none.
        notes: warnings for the report.
    """

    module: nn.Module
    architecture: str
    preprocess: core.Preprocess
    build: Mapping[str, object] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    open_ended: bool = False
    forward: Pass | None = None
    features: Pass | None = None
    tokens: _token_removal.Tokens | None = None
    names: _classes.Names | None = None
    imagenet: bool = False
    classifier: bool = True
    notes: tuple[str, ...] = ()

    def without_position(self, option: Literal["none"] | None) -> "Network":
        """Its position encoding taken out, where the option `position` asks for it.

        Raises:
            VitalsError: see `perturb.position.remove`.
        """
        if option is None:
            return self
        position.remove(self.module, size=self.preprocess.size)
        return replace(self, build={**self.build, "position": option})

    def by_token(self, token: str | None) -> "Network":
        """One head of a network that has two, where the option `token` asks for it.

        Raises:
            VitalsError: it has no second head.
        """
        found = heads.find(self.module)
        if token is None:
            return replace(self, notes=(*self.notes, AVERAGED)) if found else self
        must = "`token` needs a network with a distillation token, such as deit_tiny_distilled_patch16_224"
        require(bool(found), must, type(self.module).__name__, "Leave `token` out.")
        place = int(token != "class")
        layer, forward = list(found.values())[place], self.forward or self.module
        features, logits = heads.given(layer, forward), heads.gave(layer, forward)
        return replace(self, forward=logits, features=features, build={**self.build, "token": place})


def assemble(
    network: Network, *, spelling: str, device: torch.device, classes: Path | None = None, order: str | None = None
) -> core.Backbone:
    """Make the `Backbone`; puts the module into evaluation mode, float32, without parameter gradients, on `device`.

    Args:
        network: what the family made.
        spelling: for the card.
        device: where it is to compute.
        classes: a file of class keys that takes the place of `network.names`.
        order: not None where the user said that outputs without names stand in the order of an image set's classes.

    Raises:
        VitalsError: the network cannot run on its own input size, does not give logits, or the class count is another.
    """
    module = network.module.float()
    fingerprint = _identity.digest(
        module,
        architecture=network.architecture,
        build=network.build,
        sources=network.sources,
        open_ended=network.open_ended,
    )
    module.eval().requires_grad_(False).to(device)
    tokens = _token_removal.find(module) if network.tokens is None else network.tokens
    run = _Run(module, network.preprocess, device, spelling)
    own = network.forward or module
    logits = run.through(own)
    outputs, last, inside, tokens, seen = _look(network, logits, tokens, device, spelling)
    features = network.features or (heads.given(last, own) if last else None)
    features = features or (None if outputs else own)
    removable = tokens.keep is not None and tokens.grid is not None
    answers = _answers.ask(logits, network.preprocess.size, device)
    given = _classes.from_file(classes) if classes else network.names
    names, assumed = _names(outputs, given, network.imagenet, spelling)
    of_tokens = {t: run.through(heads.gave(layer, own)) for t, layer in heads.find(module).items()}
    with _answers.exact(device):
        shared = _sharing.find(
            module, own, tokens, run.through(lambda x: x)(_answers.pictures(network.preprocess.size, device))
        )
    layout = inside.layout if inside else None
    provides = _provided(inside, features=features is not None, removable=removable, heads=bool(of_tokens))
    card = core.BackboneCard(
        spec=spelling,
        architecture=network.architecture,
        digest=fingerprint,
        preprocess=network.preprocess,
        outputs=outputs,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        provides=provides,
        blocks=len(layout.blocks) if layout else 0,
        attention_heads=inside.attention[-1].heads if inside and "attention" in provides else 0,
        patch_grid=tokens.grid,
        prefix_tokens=tokens.prefix,
        registers=tokens.registers,
        late_prefix=layout is not None and layout.kind == "tokens" and layout.prefix < tokens.prefix,
        fixed_tokens=tokens.why,
        classes=names.keys if names else None,
        class_names=names.readable if names else None,
        ordered=order is not None,
        notes=(*network.notes, *_unseen(network.preprocess.size, tokens.grid), *assumed, *seen, *noted(answers)),
        answers=answers,
    )
    return core.Backbone(
        card=card,
        device=device,
        logits=run.through(shared.logits),
        module=module,
        features=run.through(features) if features else None,
        visible_logits=_token_removal.visible_logits(run.through(shared.logits), tokens.grid)
        if removable and tokens.grid
        else None,
        heads=of_tokens,
        inside=inside,
        patches=_patches(run, shared) if "patch embedding" in shared.shares else None,
        shares=shared.shares,
        remade=lambda change: run.through(change(own)),
    )


def noted(answers: Answers) -> tuple[str, ...]:
    """What the report must say of them."""
    return () if answers.stable else (_answers.UNSTABLE if answers.logits else "its answers are not finite numbers",)


@dataclass(frozen=True)
class _Run:
    """Passes of one network: images are checked and normalised, training mode is refused, gradients flow where images ask for them."""

    module: nn.Module
    preprocess: core.Preprocess
    device: torch.device
    spelling: str

    def through(self, function: Pass) -> Callable[..., Tensor]:
        """`function` of normalised images, and of what else it takes, as one of images in [0, 1]."""
        channels = (1, 3, 1, 1)
        mean = torch.tensor(self.preprocess.mean, device=self.device).view(channels)
        std = torch.tensor(self.preprocess.std, device=self.device).view(channels)
        expected = (3, *self.preprocess.size)
        do = f"Another size is another backbone: {registry.way(self.spelling, 'size', value='')}."
        must = f"`{self.spelling}` takes images of shape (b, {', '.join(map(str, expected))})"

        def run(images: Float[Tensor, "b 3 h w"], *more: Tensor) -> Float[Tensor, "b k"]:
            refuse_training_mode(self.module)
            require(images.shape[1:] == expected, must, tuple(images.shape), do)
            with torch.set_grad_enabled(torch.is_grad_enabled() and images.requires_grad):
                return logits_of(function(torch.sub(images, mean).div_(std), *more))

        return run


def logits_of(output: Any) -> Tensor:
    """What a network answered: the tensor itself, or what a mapping or an output object calls `logits`; anything else as it is."""
    named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    found: Tensor = output if isinstance(output, Tensor) or named is None else named
    return found


def refuse_training_mode(module: nn.Module) -> None:
    """Refuse to score a network that is in training mode anywhere inside.

    BatchNorm then uses the statistics of the batch, so that a prediction depends on which images happen to be beside it: on
    class-sorted batches the accuracy collapses. Dropout would add noise.

    Raises:
        VitalsError: a submodule is in training mode; the first one with BatchNorm is named where there is one.
    """
    if any(part.training for part in module.modules()):
        training = [(name, part) for name, part in module.named_modules() if part.training]
        norms = [name for name, part in training if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        raise VitalsError(
            f"A network is scored in evaluation mode only. Got training mode in {len(training)} modules, "
            + (f"BatchNorm `{norms[0]}` among them (it would use the statistics of each batch). " if norms else "")
            + "Call `module.eval()` before scoring."
        )


def seeded(make: Callable[[], _T], *, seed: int) -> _T:
    """Run `make` with torch's CPU generator at `seed`, and leave the generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def _look(
    network: Network, logits: Pass, tokens: _token_removal.Tokens, device: torch.device, spelling: str
) -> tuple[int, nn.Module | None, Inside | None, _token_removal.Tokens, tuple[str, ...]]:
    """One image passes: the number of logits, 0 where they are features; the last linear layer if its output is the logits; what is
    inside; its tokens, which are those that were found where the network does not declare them; and notes.
    """
    module, size = network.module, network.preprocess.size
    named = list(module.named_modules())
    linear = [part for _, part in named if isinstance(part, nn.Linear)]
    images = _answers.pictures(size, device)
    with _answers.exact(device):
        try:
            with _layout.Trace(module) as trace:
                result = logits(images[:1])
        except Exception as error:
            raise _outputs.cannot_run(module, size, error, spelling=spelling) from error
        _outputs.require_logits(result, rows=1)
        both = logits(images)
        _outputs.require_logits(both, rows=2)
        likely = _layout.find(trace, result, prefix=tokens.prefix, grid=tokens.grid, size=size)
        layout, patches, notes = _certify.certified(likely, trace, logits, images)
        if tokens.grid is None and patches is not None:
            tokens = tokens._replace(grid=patches[0], prefix=max(tokens.prefix, patches[1]))
        calls = _attention(module, lambda: logits(images[:1]), tokens)
    inside = Inside(layout, calls) if layout or calls else None
    if layout is not None and layout.unordered:
        notes = (*notes, f"{len(layout.unordered)} of its stages show no order row by row, so their maps are not drawn")
    last = linear[-1] if linear and trace.answers(linear[-1], result) else None
    if not network.classifier or any(_headless(name, part, last, trace, result) for name, part in named):
        return 0, None, inside, tokens, (*notes, HEADLESS)
    return result.shape[1], last, inside, tokens, notes + _outputs.probabilities(both)


def _headless(name: str, part: nn.Module, last: nn.Module | None, trace: _layout.Trace, result: Tensor) -> bool:
    """Whether the answer is that of a part which says that it gives features: it has no classes, or nothing where a head would be and no
    linear layer before it."""
    if getattr(part, "num_classes", 1) == 0:
        return not name or any(c.part is part and c.made and torch.equal(c.made[0], result) for c in trace.calls)
    empty = isinstance(part, nn.Identity) and name.rpartition(".")[2] in _HEADS
    return empty and last is None and trace.answers(part, result)


def _attention(
    module: nn.Module, run: Callable[[], object], tokens: _token_removal.Tokens
) -> tuple[attention.Call, ...]:
    """The attention calls of a pass of one image; none is usable where they are not one sequence."""

    def passing(spoil: int | None, take: Callable[[attention.Map], None]) -> None:
        with attention.watch(module, 1, take, prefix=tokens.prefix, grid=tokens.grid, spoil=spoil):
            run()

    maps: list[attention.Map] = []
    passing(None, maps.append)
    try:
        apart = attention.sequences(passing, len(maps))
    except Exception:  # a network may check that its numbers are finite
        apart = 1
    several = f"its {len(maps)} attention calls are {apart} sequences that do not depend on each other, as of several passes or networks"
    why = [several if apart > 1 else attention.unusable(m, tokens.grid) for m in maps]
    return tuple(attention.Call(m.name, m.geometry, no, m.rows.shape[1]) for m, no in zip(maps, why, strict=True))


def _provided(inside: Inside | None, *, features: bool, removable: bool, heads: bool) -> tuple[str, ...]:
    layout: Layout | None = inside.layout if inside else None
    attends = inside is not None and bool(inside.attention) and inside.attention[-1].unusable is None
    has = {
        "features": features,
        "token_removal": removable,
        "attention": attends,
        "tokens": layout is not None and layout.kind == "tokens",
        "maps": layout is not None and layout.kind == "maps",
        "readout": layout is not None and layout.readout is not None,
        "heads": heads,
    }
    return tuple(name for name, there in has.items() if there)


def _patches(run: _Run, shared: _sharing.Shared) -> Patches:
    embed = run.through(shared.embed)

    def colour(of: Float[Tensor, "1 3 1 1"]) -> Float[Tensor, "1 d 1 1"]:
        return embed(of.expand(1, 3, *run.preprocess.size))[:, :, :1, :1]

    def logits(embedded: Float[Tensor, "b d rows columns"]) -> Float[Tensor, "b k"]:
        refuse_training_mode(run.module)
        with torch.no_grad():
            answer: Tensor = shared.finish(embedded)
            return answer

    return Patches(embed, colour, logits, lambda: not _sharing.watched(run.module))


def _unseen(size: tuple[int, int], grid: tuple[int, int] | None) -> tuple[str, ...]:
    if grid is None or not any(side % cells for side, cells in zip(size, grid, strict=True)):
        return ()
    return (f"its {grid[0]} x {grid[1]} patches leave pixels at the right and lower border unseen",)


def _names(
    outputs: int, names: _classes.Names | None, imagenet: bool, spelling: str
) -> tuple[_classes.Names | None, tuple[str, ...]]:
    """The classes, and a note where they are assumed; none of a network without a classifier."""
    if outputs == 0:
        require(names is None, "`classes` needs a classifier", "a network without one", "Leave `classes` out.")
        return None, ()
    way = registry.way(spelling, "classes", value="FILE")
    if names is not None:
        must = f"It has {outputs} outputs, so there must be as many classes"
        require(len(names.keys) == outputs, must, len(names.keys), f"Give them in output order: {way}.")
        return names, ()
    names = _classes.imagenet(outputs)
    if names is None or imagenet:
        return names, ()
    return names, (f"its {outputs} outputs are taken as ImageNet's classes in the usual order; {way} gives others",)
