"""What passes between the blocks of a network: tokens of transformers, feature maps of the stages of other networks; seen and changed.

Conventions: blocks are counted from 0 here. Tokens are (b, prefix + n, d), prefix tokens (class, distillation, shape, registers; the
network's own count) first, then n patches row by row; maps are (b, c, h, w), whatever order the network keeps. What a block gives
is seen as it leaves the block: before the final norm. `Layout.readout` has that norm and the head, where the network's
logits are verified to be the head of one normed token.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals import core
from visionvitals.errors import VitalsError
from visionvitals.probes import _layout
from visionvitals.probes._layout import Block, Layout, Readout, Trace, find, trial_image

__all__ = [
    "Block",
    "Layout",
    "Readout",
    "Trace",
    "find",
    "trial_image",
    "layout",
    "record",
    "watch",
    "entering",
    "pooled",
]


def layout(backbone: core.Backbone) -> Layout:
    """Where the blocks of a backbone are; one image passes through it.

    Raises:
        VitalsError: it has neither tokens of its patch grid nor feature maps that we can tell.
    """
    card = backbone.card
    size = card.preprocess.size
    with Trace(backbone.module) as trace, torch.no_grad():
        logits = backbone.logits(trial_image(size, backbone.device))
        found = find(trace, logits, prefix=card.prefix_tokens, grid=card.patch_grid, size=size)
    if found is None:
        raise VitalsError(f"`{card.spec}` must have blocks of patch tokens or stages of feature maps. Got neither.")
    return found


def record(
    backbone: core.Backbone, images: Float[Tensor, "b 3 h w"], where: Layout
) -> tuple[list[Tensor], Float[Tensor, "b k"]]:
    """What leaves each block, (b, prefix + n, d) or (b, c, h, w), and the logits of the same pass."""
    seen: list[Tensor] = []
    with watch(where, lambda _block, x: seen.append(x)):
        logits = backbone.logits(images)
    return seen, logits


@contextmanager
def watch(where: Layout, take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """A context in which `take` gets (block, what leaves it) while the network runs; keep less than all of it to save memory."""

    def hook(block: int) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _m, _a, output: take(block, _outward(where, _of(where, output)))

    handles = [part.exit.register_forward_hook(hook(k)) for k, part in enumerate(where.blocks)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def entering(where: Layout, block: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A context in which what enters a block is `edit`ed first; `block` = number of blocks edits what leaves the last one.

    Args:
        where: the blocks.
        block: in [0, len(where.blocks)].
        edit: (b, prefix + n, d) or (b, c, h, w) -> the same shape.
    """

    def change(x: Tensor) -> Tensor:
        return _inward(where, edit(_outward(where, x)), x)

    def before(_m: nn.Module, args: Any, kwargs: Any) -> Any:
        changed = [change(x) if x is _of(where, args) else x for x in args]
        return tuple(changed), kwargs

    def after(_m: nn.Module, _a: Any, output: Any) -> Any:
        chosen = _of(where, output)
        if isinstance(output, Tensor):
            return change(chosen)
        return type(output)(change(x) if x is chosen else x for x in output)

    if block < len(where.blocks):
        handle = where.blocks[block].entry.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = where.blocks[-1].exit.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()


def pooled(where: Layout, x: Tensor) -> Float[Tensor, "b d"]:
    """One vector per image: the class token where there is one that the classifier reads, else the mean over patches or places."""
    if where.kind == "maps":
        return x.mean(dim=(2, 3))
    by_class = where.prefix > 0 and (where.readout is None or where.readout.pool == "class")
    return x[:, 0] if by_class else x[:, where.prefix :].mean(dim=1)


def _of(where: Layout, given: object) -> Tensor:
    """The tokens or the map among what a block was given or gave."""
    among = _layout.tensors(given)
    if where.kind == "tokens":
        return next(x for x in among if x.ndim == 3 and x.shape[1] == where.prefix + where.patches)
    return next(x for x in among if x.ndim == 4)


def _outward(where: Layout, x: Tensor) -> Tensor:
    """The network's own order of a map as (b, c, h, w)."""
    if where.kind == "maps" and _layout.channels_at(x, where.size) == 3:
        return x.permute(0, 3, 1, 2)
    return x


def _inward(where: Layout, edited: Tensor, own: Tensor) -> Tensor:
    """The reverse of `_outward` for a map that came as `own`."""
    if where.kind == "maps" and _layout.channels_at(own, where.size) == 3:
        return edited.permute(0, 2, 3, 1)
    return edited
