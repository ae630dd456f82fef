"""Whether what was found are blocks: stages on the way from the picture to the logits. What cannot be certified is not offered.

A block answers two pictures differently. A block of tokens is certified where the logits depend on what it gives: their gradient to it
is not zero, or, for a network that has no gradient, the logits change when the two pictures swap what the block gives. A stage of maps
must be a place that all passes: with all that enters it swapped, and with all that leaves it swapped, the two pictures swap their logits,
which no side branch does; and the map itself must matter. What is kept as a sequence, by a network that does not declare its grid, must
stand row by row: a change of the picture at a place is seen most in the token of that place.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from visionvitals.backbones._layout import Call, Found, State, Trace, alike, covered
from visionvitals.inside import blocks
from visionvitals.inside.blocks import Block, Layout, places, rebuilt, sequence, tensors

_SAME = 1e-6  # of the largest value: float32's rounding
_APART = 1e-4  # of the largest logit: what two pictures must differ by
_SWAPPED = 0.01  # of that difference: by how much swapped logits may miss
_TRIED = 3  # calls of a stage, from its end or its start, that are tried for its exit or its entry
_PLACES = ((0, 0), (0, 6), (6, 0), (6, 6), (1, 3), (3, 5), (5, 2), (3, 1))  # of 7 x 7

Logits = Callable[[Tensor], Any]
Seen = tuple[Tensor, Tensor]
"""A tensor that a call gave, which the network may change in place later, and a copy of what it was."""
Patches = tuple[tuple[int, int], int]
"""(rows, columns) of what is kept as a sequence, and the prefix tokens before it."""


def certified(
    likely: Iterator[Found], trace: Trace, logits: Logits, images: Tensor
) -> tuple[Layout | None, Patches | None, tuple[str, ...]]:
    """The first layout that has certified blocks, with these only, or None where there is none.

    Args:
        likely: what may be the blocks, the likeliest first.
        trace: of one image.
        logits: images in [0, 1] -> (b, k).
        images: two different pictures.

    Returns: the layout, the patches that leave its last block where they are kept as a sequence, and a note on what is not offered.
    """
    with torch.no_grad():
        plain = logits(images)
    if not bool(plain.isfinite().all()) or _equal(plain[0], plain[1]):
        how = "the same for two different pictures" if bool(plain.isfinite().all()) else "not finite"
        return None, None, (f"its blocks are not offered: they cannot be certified, since its logits are {how}",)
    note: tuple[str, ...] = ()
    for found in likely:
        check = _Check(found, trace, logits, images)
        good, reasons = check.blocks()
        bad = [(name, reason) for name, reason in reasons if reason is not None]
        if bad:
            note = (f"{len(bad)} of its {len(reasons)} blocks are not offered: `{bad[0][0]}` {bad[0][1]}",)
        if good is not None:
            beside = check.beside(good[0].blocks[-1].name) if good[0].kind == "tokens" else ()
            return *good, (note if bad else ()) + beside
    return None, None, note


class _Check:
    """The passes that certify one layout."""

    def __init__(self, found: Found, trace: Trace, logits: Logits, images: Tensor) -> None:
        self.found, self.trace, self.logits, self.images = found, trace, logits, images
        self.size = (images.shape[2], images.shape[3])
        self.tokens = found.kind == "tokens"
        with torch.set_grad_enabled(self.tokens):
            self.plain, self.seen = self._pass([c for run in found.runs for c in run], images.clone().requires_grad_())
        self.slopes = self._slopes() if self.tokens else set()
        self.strangers = self._out_of_order()
        self.passed: list[set[State]] = []  # the tensors of the trace that all of the network passes

    def blocks(self) -> tuple[tuple[Layout, Patches | None] | None, list[tuple[str, str | None]]]:
        """The layout of the certified blocks with the patches of the last one, and for each block its name and why it is none, or None."""
        offered = [self._token_block(run[0]) if self.tokens else self._stage(run) for run in self.found.runs]
        why = [reason for _, reason in offered]
        if len(self.strangers) == len(self.found.runs) or (self.tokens and self.strangers):
            why = ["keeps its tokens in another order than row by row"] * len(why)
        names = [block.name for block, _ in offered]
        left = [(run, block) for run, (block, _), no in zip(self.found.runs, offered, why, strict=True) if no is None]
        if left and not self.tokens and (share := covered(self.trace, [run for run, _ in left])) < 0.5:
            where = f"and the stages beside it leave out {1 - share:.0%} of the network's layers"
            why, left = [no or where for no in why], []
        reasons = list(zip(names, why, strict=True))
        if not left:
            return None, reasons
        f, good = self.found, tuple(block for _, block in left)
        if self.tokens:
            assert f.grid is not None
            n, readout = f.grid[0] * f.grid[1], f.readout if why[-1] is None else None
            return (Layout("tokens", good, f.prefix, n, self.size, readout), (f.grid, f.prefix)), reasons
        kept = [k for k, no in enumerate(why) if no is None]
        unordered = tuple(place for place, k in enumerate(kept) if k in self.strangers)
        last = None if kept[-1] in self.strangers else self._grid(left[-1][0][-1])
        return (Layout("maps", good, 0, 0, self.size, None, unordered), last), reasons

    def _token_block(self, call: Call) -> tuple[Block, str | None]:
        reason = self._blind(call)
        flat = reason is None and call.order not in self.slopes
        if flat and _equal(self.plain, self._swapped(call, after=True)):
            reason = "gives what the logits do not depend on"
        return self.trace.block(call, call), reason

    def _stage(self, run: Sequence[Call]) -> tuple[Block, str | None]:
        exit, why = self._passed(run[: -_TRIED - 1 : -1], after=True)
        entry, why = self._passed(run[:_TRIED], after=False) if why is None else (run[0], why)
        block = self.trace.block(entry, exit)
        more = len(exit.made) > 1 or exit.made[0].ndim == 3  # than the map left it, and was swapped with it
        if why is None and more and all(_equal(self.plain, x) for x in self._with_other_maps(block)):
            why = "gives what the logits do not depend on"
        return block, why

    def beside(self, name: str) -> tuple[str, ...]:
        """A note where the last block of tokens is not all that the logits come of: there are other passes, or other networks."""
        if _equal(*self.plain, within=_APART) or self._all_passes(self.found.runs[-1][-1], after=True):
            return ()
        return (f"its blocks are one part of it: what reaches the logits also passes around `{name}`",)

    def _all_passes(self, call: Call, *, after: bool) -> bool:
        """Whether the two pictures swap their logits with what a call gives, or is given."""
        missed = (self._swapped(call, after=after) - self.plain.flip(0)).abs().max()
        return bool(missed <= _SWAPPED * (self.plain[0] - self.plain[1]).abs().max())

    def _passed(self, run: Sequence[Call], *, after: bool) -> tuple[Call, str | None]:
        """The first of some calls that everything passes, or else the first one and the reason why not."""
        reasons: list[str] = []
        for call in run:
            reason = self._blind(call) if after else None
            met = call.left if after else call.entered
            if reason is None and _equal(*self.plain, within=_APART):
                reason = "cannot be certified: the logits of two different pictures are almost the same"
            if reason is None and met not in self.passed and not self._all_passes(call, after=after):
                reason = "is a side branch: what reaches the logits also passes around it"
            if reason is None:
                self.passed.append(met)
                return call, None
            reasons.append(reason)
        return run[0], reasons[0]

    def _pass(self, calls: Sequence[Call], images: Tensor) -> tuple[Tensor, dict[int, list[list[Seen]]]]:
        """The logits, and what each of some calls gave, by its order in the trace."""
        seen: dict[int, list[list[Seen]]] = {}

        def note(order: int) -> Callable[[Any], None]:
            return lambda output: seen.setdefault(order, []).append([(x, x.clone()) for x in tensors(output)])

        handles = [self.trace.visit(call).after(note(call.order)) for call in calls]
        try:
            answer: Tensor = self.logits(images)
        finally:
            for handle in handles:
                handle.remove()
        return answer, seen

    def _blind(self, call: Call) -> str | None:
        seen = self.seen.get(call.order, [])
        if len(seen) != 1 or len(seen[0]) != len(call.made):
            return "is not called once for a batch, whatever its size"
        pairs = [
            x for (_, x), own in zip(seen[0], call.made, strict=True) if x.shape == (2 * own.shape[0], *own.shape[1:])
        ]
        if not pairs:
            return "does not give something for each picture"
        same = all(_equal(*x.reshape(2, -1)) for x in pairs)
        return "gives the same for two different pictures" if same else None

    def _slopes(self) -> set[int]:
        """The calls, by their order, to whose outputs the logits have a gradient that is not zero."""
        every = ((order, *pair) for order, seen in self.seen.items() for pair in seen[-1])
        asked = [(order, x) for order, x, then in every if x.requires_grad and torch.equal(x, then)]
        if not (self.plain.requires_grad and asked):
            return set()
        weights = torch.arange(1, self.plain.shape[1] + 1, device=self.plain.device) % 7 - 3.5
        try:
            with torch.enable_grad():  # without, the sum has no gradient, and each block would need a pass of its own
                total = (self.plain * weights).sum()
            slopes = torch.autograd.grad(total, [x for _, x in asked], allow_unused=True)
        except RuntimeError:  # such as a tensor that was changed in place
            return set()
        return {
            order
            for (order, _), g in zip(asked, slopes, strict=True)
            if g is not None and g.isfinite().all() and (g != 0).any()
        }

    def _swapped(self, call: Call, *, after: bool) -> Tensor:
        """The logits of two pictures when all that a call gives, or is given, of each is taken for the other's."""
        mine = call.made if after else call.given

        def swap(output: Any) -> Any:
            left = iter(mine)

            def change(x: Tensor) -> Tensor:
                own = next(left, None)
                if own is None or x.shape != (2 * own.shape[0], *own.shape[1:]):
                    return x
                return x.reshape(2, *own.shape).flip(0).reshape(x.shape)

            return rebuilt(output, change)

        visit = self.trace.visit(call)
        handle = visit.after(swap) if after else visit.before(lambda args, kwargs: swap((args, kwargs)))
        try:
            with torch.no_grad():
                answer: Tensor = self.logits(self.images)
        finally:
            handle.remove()
        return answer

    def _with_other_maps(self, block: Block) -> Iterator[Tensor]:
        """The logits of two pictures when the maps that leave a stage, or those that enter it, are each taken for the other's."""
        where = Layout("maps", (block,), 0, 0, self.size)
        for place in (1, 0):
            with torch.no_grad(), blocks.entering(where, place, lambda x: x.flip(0)):
                yield self.logits(self.images)

    def _out_of_order(self) -> set[int]:
        """The runs, by number, whose sequences do not stand row by row, of those for which nothing but their length says so.

        A sequence is in order where one of the calls within the first or the last call of its run shows it; others may mix all tokens.
        """
        runs = () if self.found.declared else self.found.runs[:1] if self.tokens else self.found.runs
        ends = [(k, own) for k, run in enumerate(runs) for own in dict.fromkeys((run[0].order, run[-1].order))]
        asked: list[tuple[int, list[Call], Patches]] = []
        for k, order in ends:
            own = self.trace.calls[order]
            grid = self._grid(own)
            if grid is not None:
                asked.append((k, alike(own, (1, grid[1] + grid[0][0] * grid[0][1])), grid))
        if not asked:
            return set()
        with torch.no_grad():
            _, seen = self._pass([call for _, calls, _ in asked for call in calls], self._probes())
        return {
            k for k, calls, grid in asked if not any(_in_order(seen.get(call.order, [[]])[0], *grid) for call in calls)
        }

    def _grid(self, call: Call) -> Patches | None:
        """The patches of the sequence that a call gives; None for maps."""
        if self.tokens:
            assert self.found.grid is not None
            return self.found.grid, self.found.prefix
        own = next(x for x in call.made if places(x, self.size) is not None)
        return sequence(own, self.size) if own.ndim == 3 else None

    def _probes(self) -> Tensor:
        """The first picture, and that picture with one of 8 places taken from the second."""
        probes = self.images[:1].repeat(1 + len(_PLACES), 1, 1, 1)
        for probe, (row, column) in zip(probes[1:], _PLACES, strict=True):
            rows, columns = (
                slice(k * side // 7, (k + 1) * side // 7) for k, side in zip((row, column), self.size, strict=True)
            )
            probe[:, rows, columns] = self.images[1, :, rows, columns]
        return probes


def _in_order(given: Sequence[Seen], grid: tuple[int, int], prefix: int) -> bool:
    """Whether each place's token changes most, of all changes of the picture, by that of this place; two tokens may be wrong."""
    shape = (1 + len(_PLACES), prefix + grid[0] * grid[1])
    x = next((x for _, x in given if x.ndim == 3 and x.shape[:2] == shape), None)
    if x is None:
        return False
    changes = (x[1:] - x[:1]).float().norm(dim=2)[:, prefix:]
    changes = changes / changes.sum(dim=1, keepdim=True)
    at = [(2 * r + 1) * grid[0] // 14 * grid[1] + (2 * c + 1) * grid[1] // 14 for r, c in _PLACES]
    right = [all(changes[k, i] > changes[j, i] for j in range(len(at)) if at[j] != i) for k, i in enumerate(at)]
    return sum(right) >= len(at) - 2


def _equal(a: Tensor, b: Tensor, *, within: float = _SAME) -> bool:
    largest = max(float(a.detach().abs().max()), float(b.detach().abs().max()))
    return bool((a - b).detach().abs().max() <= within * largest)
