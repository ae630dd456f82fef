"""What passes between the blocks of a network: tokens of transformers, feature maps of the stages of other networks; seen and changed.

Conventions: blocks are counted from 0 here. Tokens are (b, prefix + n, d), prefix tokens (class, distillation, shape, registers; the
network's own count) first, then n patches row by row; maps are (b, c, h, w), whatever order the network keeps. What a block gives
is seen as it leaves the block: before the final norm. `Layout.readout` has that norm and the head, where the network's
logits are verified to be the head of one normed token.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals.errors import require


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


class Tap:
    """Hooks that count the calls of a module in each pass, act at one of them, and can be removed."""

    def __init__(self, visit: "Visit", hook: Callable[["Tap"], Any]) -> None:
        self.visit, self._seen, self._odd = visit, 0, 0
        self._handles = [hook(self)]
        if visit.root is not None:
            self._handles.append(visit.root.register_forward_pre_hook(self._begin, prepend=True))
            self._handles.append(visit.root.register_forward_hook(self._end))

    def _begin(self, *_: Any) -> None:
        self._seen = 0

    def _end(self, *_: Any) -> None:
        self._odd = self._odd or (self._seen if self._seen != self.visit.calls else 0)

    def now(self) -> bool:
        """Count a call; whether it is the one of the visit."""
        self._seen += 1
        return (self._seen - 1) % self.visit.calls == self.visit.nth

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()

    def check(self) -> None:
        """After whole passes.

        Raises:
            VitalsError: in one of them there were other calls than when the blocks were found, so that others were acted on.
        """
        odd = self._odd or (self._seen if self._seen % self.visit.calls else 0)
        must = f"A block (`{type(self.visit.module).__name__}`) must be called as often in each pass as in that of one picture"
        require(not odd, must, f"{odd} calls, not {self.visit.calls}")


class Visit(NamedTuple):
    """One call of a module in a forward pass: the `nth` (from 0) of its `calls`; `root` is the module whose call is the whole pass, where
    there is one."""

    module: nn.Module
    nth: int = 0
    calls: int = 1
    root: nn.Module | None = None

    def before(self, change: Callable[[Any, Any], Any]) -> Tap:
        """Have `change(arguments, keywords)` take their place at this call of each pass."""

        def hook(tap: Tap) -> Any:
            return self.module.register_forward_pre_hook(
                lambda _m, args, kwargs: change(args, kwargs) if tap.now() else None, with_kwargs=True
            )

        return Tap(self, hook)

    def after(self, change: Callable[[Any], Any]) -> Tap:
        """Have what `change(output)` gives, unless it is None, take the place of the output at this call of each pass."""

        def hook(tap: Tap) -> Any:
            return self.module.register_forward_hook(lambda _m, _a, out: change(out) if tap.now() else None)

        return Tap(self, hook)


class Block(NamedTuple):
    """A block or a stage: its path, the call that its input enters, and the one that its output leaves.

    A module that is called several times in a pass is as many blocks.
    """

    name: str
    entry: Visit
    exit: Visit


class Layout(NamedTuple):
    """The blocks of a network, in order.

    Attributes:
        kind: `tokens`, (b, prefix + n, d) between blocks; `maps`, (b, c, h, w).
        blocks: transformer blocks, or stages.
        prefix: tokens before the patches in these blocks; a network whose class token joins later has none.
        patches: n, or 0 for maps.
        size: (height, width) of the input in pixels.
        readout: None where the logits are not the head of one pooled, normed token (verified on one image).
        unordered: of the stages that the network keeps as sequences, those that do not stand row by row: their maps have the right
            values at wrong places.
    """

    kind: Literal["tokens", "maps"]
    blocks: tuple[Block, ...]
    prefix: int
    patches: int
    size: tuple[int, int]
    readout: Readout | None = None
    unordered: tuple[int, ...] = ()


@contextmanager
def watch(where: Layout, take: Callable[[int, Tensor], None]) -> Iterator[None]:
    """A context in which `take` gets (block, what leaves it) while the network runs; keep less than all of it to save memory.

    What it gets is a copy: the network may change its own tensor in place later.

    Raises:
        VitalsError: at its end, where a shared block was called another number of times than when the blocks were found.
    """

    def hook(block: int) -> Callable[[Any], None]:
        return lambda output: take(block, _outward(where, _of(where, output)).clone())

    taps = [part.exit.after(hook(k)) for k, part in enumerate(where.blocks)]
    try:
        yield
    finally:
        for tap in taps:
            tap.remove()
    for tap in taps:
        tap.check()


@contextmanager
def entering(where: Layout, block: int, edit: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A context in which what enters a block is `edit`ed first; `block` = number of blocks edits what leaves the last one.

    Args:
        where: the blocks.
        block: in [0, len(where.blocks)].
        edit: (b, prefix + n, d) or (b, c, h, w) -> the same shape.

    Raises:
        VitalsError: as `watch`.
    """

    def changed(given: Any) -> Any:
        chosen = _of(where, given)
        return rebuilt(given, lambda x: _inward(where, edit(_outward(where, x)), x) if x is chosen else x)

    def before(args: Any, kwargs: Any) -> Any:
        return changed((args, kwargs))

    if block < len(where.blocks):
        tap = where.blocks[block].entry.before(before)
    else:
        tap = where.blocks[-1].exit.after(changed)
    try:
        yield
    finally:
        tap.remove()
    tap.check()


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
    return next(x for x in among if places(x, where.size) is not None)


def _outward(where: Layout, x: Tensor) -> Tensor:
    """The network's own order of a map as (b, c, h, w); of one that is kept as a sequence, without its prefix tokens."""
    if where.kind == "maps" and x.ndim == 3:
        (h, w), prefix = sequence(x, where.size)
        return x[:, prefix:].mT.reshape(x.shape[0], x.shape[2], h, w)
    if where.kind == "maps" and channels_at(x, where.size) == 3:
        return x.permute(0, 3, 1, 2)
    return x


def _inward(where: Layout, edited: Tensor, own: Tensor) -> Tensor:
    """The reverse of `_outward` for a map that came as `own`."""
    if where.kind == "maps" and own.ndim == 3:
        prefix = sequence(own, where.size)[1]
        return torch.cat([own[:, :prefix], edited.flatten(2).mT], dim=1)
    if where.kind == "maps" and channels_at(own, where.size) == 3:
        return edited.permute(0, 2, 3, 1)
    return edited


def tensors(output: object) -> tuple[Tensor, ...]:
    """The tensors that a module was given or gave, alone or among others, in their order."""
    found: list[Tensor] = []
    rebuilt(output, lambda x: found.append(x) or x)  # type: ignore[func-returns-value]
    return tuple(found)


def rebuilt(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tuple, list or mapping with each tensor `change`d, also in those within it."""
    if isinstance(output, Tensor):
        return change(output)
    if isinstance(output, Mapping):
        made = copy.copy(output)
        for key, value in output.items():
            made[key] = rebuilt(value, change)  # type: ignore[index]  # those of libraries are dicts
        return made
    if isinstance(output, tuple | list):
        inner = [rebuilt(value, change) for value in output]
        return output._make(inner) if hasattr(output, "_make") else type(output)(inner)
    return output


def channels_at(x: Tensor, size: tuple[int, int]) -> int | None:
    """1 for (b, c, h, w), 3 for (b, h, w, c): whichever has the sides of the input in proportion, to one pixel."""
    if x.ndim != 4:
        return None

    def fits(h: int, w: int) -> bool:
        return abs(h * size[1] - w * size[0]) <= max(size) and h <= size[0] and w <= size[1]

    if fits(x.shape[2], x.shape[3]):
        return 1
    return 3 if fits(x.shape[1], x.shape[2]) else None


def grid_of(tokens: int, size: tuple[int, int], *, most: int) -> tuple[tuple[int, int], int] | None:
    """The grid over the input that leaves the fewest prefix tokens, at most `most`: (rows, columns) and their number; None without."""
    grids = _grids(size)
    return next(((grids[tokens - k], k) for k in range(most + 1) if tokens - k in grids), None)


@functools.cache
def _grids(size: tuple[int, int]) -> dict[int, tuple[int, int]]:
    """Number of patches -> (rows, columns), at least 2 x 2: one patch for so many pixels along both sides, or any square of a square."""
    sides = [(size[0] // step, size[1] // step) for step in range(1, min(size) // 2 + 1)]
    sides += [(-(-size[0] // step), -(-size[1] // step)) for step in range(1, min(size))]
    sides += [(side, side) for side in range(2, size[0] + 1) if size[0] == size[1]]
    return {h * w: (h, w) for h, w in sides if min(h, w) > 1}


def sequence(x: Tensor, size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """(rows, columns) of a map that is kept as a sequence (b, prefix + n, c), and its prefix tokens."""
    found = grid_of(x.shape[1], size, most=1)
    assert found is not None
    return found


def places(x: Tensor, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of a feature map, also of one that is kept as a sequence, or None where it is none."""
    if x.ndim == 3:
        found = grid_of(x.shape[1], size, most=1)
        return found[0] if found else None
    where = channels_at(x, size)
    if where is None:
        return None
    return (x.shape[2], x.shape[3]) if where == 1 else (x.shape[1], x.shape[2])
