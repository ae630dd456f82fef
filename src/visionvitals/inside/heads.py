"""The classifiers of a network's tokens. A distilled transformer has two, the class token's and the second token's (distillation, or
shape), and answers with their mean, which hides what each token has learned; here each is asked alone.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

PAIRS = (("head", "head_dist"), ("cls_classifier", "distillation_classifier"))
"""timm's and transformers' names of the two."""


def find(module: nn.Module) -> dict[str, nn.Module]:
    """token (`class`, `distillation`) -> its own classifier, of networks that average two; empty for others."""
    parts = {name.rpartition(".")[2]: part for name, part in reversed(list(module.named_modules()))}
    for one, other in PAIRS:
        if one in parts and other in parts:
            return {"class": parts[one], "distillation": parts[other]}
    return {}


def passing(layer: nn.Module, run: Callable[[], Any]) -> tuple[Tensor, Tensor]:
    """Copies of what a layer was given and what it gave, at its last call while `run` runs; gradients as usual."""
    seen: list[Tensor] = []
    before = layer.register_forward_pre_hook(lambda _m, given: seen.append(given[0].clone()))
    after = layer.register_forward_hook(lambda _m, _a, output: seen.append(output.clone()))
    try:
        run()
    finally:
        before.remove()
        after.remove()
    return seen[-2], seen[-1]


def given(layer: nn.Module, forward: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """`forward`, but answering with what `layer` is given: the features that it classifies."""
    return lambda images: passing(layer, lambda: forward(images))[0]


def gave(layer: nn.Module, forward: Callable[[Tensor], Any]) -> Callable[[Tensor], Tensor]:
    """`forward`, but answering with what `layer` gives: the logits of its own token."""
    return lambda images: passing(layer, lambda: forward(images))[1]


def answers(module: nn.Module, images: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b k"], ...]:
    """The logits of each head of `find`, in its order, for normalised images."""
    found: dict[str, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda _m, _given, output, token=token: found.update({token: output.clone()}))
        for token, layer in find(module).items()
    ]
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
    return tuple(found[token] for token in find(module))
