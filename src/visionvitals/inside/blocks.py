"""What passes between the blocks of a network: tokens of transformers, feature maps of the stages of other networks; seen and changed.

Conventions: blocks are counted from 0 here. Tokens are (b, prefix + n, d), prefix tokens (class, distillation, shape, registers; the
network's own count) first, then n patches row by row; maps are (b, c, h, w), whatever order the network keeps. What a block gives
is seen as it leaves the block: before the final norm. `Layout.readout` has that norm and the head, where the network's
logits are verified to be the head of one normed token.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn


class Readout(NamedTuple):
    """How a network makes its logits from the tokens that leave its last block.

    Attributes:
        pool: which tokens its classifier reads: the first prefix token (`class`), or the mean over patches (`mean`).
        norm: tokens (..., d) -> (..., d), each on its own: the final norms, one after the other.
        head: normed tokens (..., d) -> logits (..., k).
        before, after: `norm` in its two parts, before and after the mean over patches.
    """

    pool: Literal["class", "mean"]
    norm: Callable[[Tensor], Tensor]
    head: Callable[[Tensor], Tensor]
    before: Callable[[Tensor], Tensor]
    after: Callable[[Tensor], Tensor]

    def features(self, tokens: Tensor, prefix: int) -> Tensor:
        """(b, prefix + n, d) -> (b, d): pooled and normed, what the head reads."""
        if self.pool == "class":
            return self.norm(tokens[:, 0])
        return self.after(self.before(tokens)[:, prefix:].mean(dim=1))

    def logits(self, tokens: Tensor, prefix: int) -> Tensor:
        """(b, prefix + n, d) -> (b, k)."""
        return self.head(self.features(tokens, prefix))


class Block(NamedTuple):
    """A block or a stage: its path, the module that its input enters, and the one that its output leaves."""

    name: str
    entry: nn.Module
    exit: nn.Module


class Layout(NamedTuple):
    """The blocks of a network, in order.

    Attributes:
        kind: `tokens`, (b, prefix + n, d) between blocks; `maps`, (b, c, h, w).
        blocks: transformer blocks, or stages.
        prefix: tokens before the patches in these blocks; a network whose class token joins later has none.
        patches: n, or 0 for maps.
        size: (height, width) of the input in pixels.
        readout: None where the logits are not the head of one pooled, normed token (verified on one image).
    """

    kind: Literal["tokens", "maps"]
    blocks: tuple[Block, ...]
    prefix: int
    patches: int
    size: tuple[int, int]
    readout: Readout | None = None


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
    among = tensors(given)
    if where.kind == "tokens":
        return next(x for x in among if x.ndim == 3 and x.shape[1] == where.prefix + where.patches)
    return next(x for x in among if x.ndim == 4)


def _outward(where: Layout, x: Tensor) -> Tensor:
    """The network's own order of a map as (b, c, h, w)."""
    if where.kind == "maps" and channels_at(x, where.size) == 3:
        return x.permute(0, 3, 1, 2)
    return x


def _inward(where: Layout, edited: Tensor, own: Tensor) -> Tensor:
    """The reverse of `_outward` for a map that came as `own`."""
    if where.kind == "maps" and channels_at(own, where.size) == 3:
        return edited.permute(0, 2, 3, 1)
    return edited


def tensors(output: object) -> tuple[Tensor, ...]:
    """The tensors that a module returned, alone or among others."""
    if isinstance(output, Tensor):
        return (output,)
    return tuple(x for x in output if isinstance(x, Tensor)) if isinstance(output, tuple | list) else ()


def channels_at(x: Tensor, size: tuple[int, int]) -> int | None:
    """1 for (b, c, h, w), 3 for (b, h, w, c): whichever has the sides of the input in proportion, to one pixel."""
    if x.ndim != 4:
        return None

    def fits(h: int, w: int) -> bool:
        return abs(h * size[1] - w * size[0]) <= max(size) and h <= size[0] and w <= size[1]

    if fits(x.shape[2], x.shape[3]):
        return 1
    return 3 if fits(x.shape[1], x.shape[2]) else None
