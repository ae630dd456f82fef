"""Where a network's blocks are: found by watching one image go through, not by names of families.

Two kinds. `tokens`: the shallowest row of calls through which a sequence of tokens of one length passes. `maps`: the stages of a
convolutional or hierarchical network, a stage being all parts in a row whose feature maps have one size, whether it keeps them as maps
or as sequences. What reads the image is the stem, no stage.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from visionvitals.inside.blocks import Block, Readout, Visit, grid_of, places, tensors

_HEADS = ("head", "heads", "head_dist", "classifier", "fc", "last_linear")
_CLOSE = 1e-4
_STEM = (
    0.2,
    0.1,
    0.5,
)  # convolutions that read the image are a stem below this share of layers, or of weights below that of layers
_BODY = 0.75  # of the weights that work on maps or sequences: tokens of a grid that the network does not declare
_MOST = 16  # prefix tokens


State = tuple[int, int]
"""A tensor, by its `id`, and how often it had been changed in place."""


class Call(NamedTuple):
    """One call of a module.

    Attributes:
        name: path of the module.
        part: the module.
        order: how many calls had begun before, in the whole pass.
        nth: how many of them were of this module.
        given, made: the tensors in and out.
        inner: the calls within it, in order.
        entered, left: what those tensors were at that time, which they are no more where something changes them in place.
    """

    name: str
    part: nn.Module
    order: int
    nth: int
    given: tuple[Tensor, ...]
    made: list[Tensor]
    inner: "list[Call]"
    entered: set[State]
    left: set[State]


class Found(NamedTuple):
    """What may be the blocks.

    Attributes:
        kind, prefix, readout: as in `Layout`.
        grid: of tokens, (rows, columns) of the patches.
        declared: the network itself says what its grid is.
        runs: for each block or stage, the calls that it consists of.
    """

    kind: Literal["tokens", "maps"]
    runs: "tuple[tuple[Call, ...], ...]"
    prefix: int = 0
    grid: tuple[int, int] | None = None
    declared: bool = False
    readout: Readout | None = None


class Trace:
    """Hooks that note every call of every module; a context manager around one forward pass of one image."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.calls: list[Call] = []
        self._open: list[Call] = []
        self._outer: list[nn.Module] = []  # called by no other one
        self._handles: list[Any] = []

    def __enter__(self) -> "Trace":
        counts: dict[str, int] = {}
        for name, part in self.module.named_modules():

            def begin(part: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                nth = counts.get(name, 0)
                counts[name] = nth + 1
                given = tensors((args, kwargs))
                call = Call(name, part, len(self.calls), nth, given, [], [], _states(given), set())
                if self._open:
                    self._open[-1].inner.append(call)
                else:
                    self._outer.append(part)
                self.calls.append(call)
                self._open.append(call)

            def end(_m: nn.Module, _a: Any, output: Any) -> None:
                call = self._open.pop()
                call.made.extend(tensors(output))
                call.left.update(_states(call.made))

            self._handles += [part.register_forward_pre_hook(begin, with_kwargs=True), part.register_forward_hook(end)]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def visit(self, call: Call) -> Visit:
        """The call, to be met again in any pass."""
        root = self._outer[0] if len(self._outer) == 1 and self._outer[0] is not call.part else None
        return Visit(call.part, call.nth, sum(other.part is call.part for other in self.calls), root)

    def block(self, entry: Call, exit: Call) -> Block:
        """The block between two calls, each named by how often its module is called."""
        last = self.visit(exit)
        return Block(f"{exit.name}, call {last.nth + 1}" if last.calls > 1 else exit.name, self.visit(entry), last)

    def answers(self, layer: nn.Module, logits: Tensor) -> bool:
        """Whether what a layer gave, on one vector an image, is the network's answer."""
        calls = [call for call in self.calls if call.part is layer]
        one = len(calls) == 1 and len(calls[0].given) == 1 and calls[0].given[0].ndim == 2 and len(calls[0].made) == 1
        return one and torch.equal(calls[0].made[0], logits)


def find(
    trace: Trace, logits: Tensor, *, prefix: int, grid: tuple[int, int] | None, size: tuple[int, int]
) -> Iterator[Found]:
    """What may be the blocks of a traced network, the likeliest first.

    Args:
        trace: of one image.
        logits: what it answered, (1, k).
        prefix, grid: what the network declares of its tokens.
        size: (height, width) of the input.
    """
    rows = list(_rows(trace, prefix, grid, size))
    maps = _maps(trace, size)
    flat = maps is not None and len(maps.runs) == 1 and maps.runs[0][-1].made[0].ndim == 3
    least = 0 if flat else _BODY * _weights(trace.calls[:1], size)
    rows = [row for row in rows if row.declared or _of_row(row, size) >= least]
    if rows:
        found = _shallowest(rows, size)
        joined = found.prefix < prefix  # its class token joins later
        yield found._replace(readout=None if joined else _readout(trace, found, logits))
    if maps is not None:
        yield maps


def _of_row(row: Found, size: tuple[int, int]) -> int:
    return _weights([call for run in row.runs for call in run], size)


def _shallowest(rows: Sequence[Found], size: tuple[int, int]) -> Found:
    """Of the rows with at least half as many weights as the largest has, the shallowest; of several the longest."""
    most = max(_of_row(row, size) for row in rows)

    def depth(row: Found) -> tuple[bool, bool, int, int]:
        small = 2 * _of_row(row, size) < most
        return small, len(row.runs) == 1, row.runs[0][0].name.count("."), -len(row.runs)

    return min(rows, key=depth)


def _rows(trace: Trace, prefix: int, grid: tuple[int, int] | None, size: tuple[int, int]) -> Iterator[Found]:
    """The longest run of calls in each list of modules, or of one class beside each other, that give sequences of one shape."""
    parts = dict(trace.module.named_modules(remove_duplicate=False))
    for parent in trace.calls:
        beside: dict[str, list[Call]] = {}
        for call in parent.inner:
            if not _computes(call):
                continue
            above = call.name.rpartition(".")[0]
            listed = isinstance(parts[above], nn.ModuleList | nn.Sequential)
            beside.setdefault(above if listed else f"class {type(call.part).__qualname__}", []).append(call)
        for key, calls in beside.items():
            row = max(_alike(calls, prefix, grid, size), key=lambda found: len(found.runs), default=None)
            if row is not None and (len(row.runs) > 1 or (row.declared and not key.startswith("class "))):
                yield row


def _alike(calls: Sequence[Call], prefix: int, grid: tuple[int, int] | None, size: tuple[int, int]) -> Iterator[Found]:
    """The runs of calls that take and give sequences of tokens of one shape, not of two calls that take the same one."""
    n = grid[0] * grid[1] if grid else 0
    run: list[Call] = []
    shape: tuple[int, ...] | None = None
    for call in [*calls, None]:
        given = {tuple(x.shape[:2]) for x in (call.given if call else ())}
        made = [tuple(x.shape) for x in (call.made if call else ()) if x.ndim == 3 and tuple(x.shape[:2]) in given]
        fits = [s for s in made if s[0] == 1 and (s[1] - n in (0, prefix) if n else grid_of(s[1], size, most=_MOST))]
        now = shape if shape in fits else next(iter(fits), None)
        beside = bool(run and call and _beside(run[-1], call))
        if run and (now != shape or beside):
            assert shape is not None
            told = (grid, shape[1] - n) if grid else _declaring(shape[1], prefix, size)
            yield Found("tokens", tuple((c,) for c in run), told[1], told[0], grid is not None)
            run = []
        shape = now
        if call is not None and now is not None:
            run.append(call)


def _states(among: Sequence[Tensor]) -> set[State]:
    return {
        (id(x), 0 if x.is_inference() else x._version) for x in among
    }  # inference tensors do not count their changes


def _beside(before: Call, call: Call) -> bool:
    """Whether two calls take the same tensor, which the first one did not change in place and give back."""
    same = bool(call.given and before.given) and call.given[0] is before.given[0]
    return same and all(call.given[0] is not x for x in before.made)


def _declaring(tokens: int, prefix: int, size: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """Grid and prefix of a sequence: with the prefix tokens that the network declares, if that leaves a grid, else with the fewest."""
    own = grid_of(tokens - prefix, size, most=0) if prefix else None
    fewest = grid_of(tokens, size, most=_MOST)
    assert fewest is not None
    return (own[0], prefix) if own and fewest[1] else fewest


def _weights(calls: Sequence[Call], size: tuple[int, int]) -> int:
    """How many weights work on maps or sequences, not on the image itself, in these calls, each counted once."""
    every = (c for each in calls for c in _all(each) if c.given and c.given[0].ndim > 2 and not _reads_image(c, size))
    own = {id(c.part): c.part for c in every}
    return sum(p.numel() for part in own.values() for p in part.parameters(recurse=False))


def alike(call: Call, place: tuple[int, int]) -> list[Call]:
    """A call and those within it that give a sequence (1, tokens, d) of that shape."""
    return [c for c in _all(call) if any(x.ndim == 3 and tuple(x.shape[:2]) == place for x in c.made)]


def _all(call: Call) -> Iterator[Call]:
    yield call
    for inner in call.inner:
        yield from _all(inner)


def _readout(trace: Trace, found: Found, logits: Tensor) -> Readout | None:
    """The final norm and the head, kept only if they give the network's own logits from its last tokens."""
    prefix, grid = found.prefix, found.grid
    assert grid is not None
    last = next(x for x in found.runs[-1][0].made if x.ndim == 3 and x.shape[1] == prefix + grid[0] * grid[1])
    end = max(
        call.order for call in _all(found.runs[-1][0])
    )  # a block that works in place has norms of the same tensor
    later = [c for c in trace.calls if c.order > end and c.nth == 0 and c.given and c.made]
    firsts = [(c.part, c.given[0], c.made[0]) for c in later]
    norms = [part for part, given, made in firsts if given is last and made.shape == last.shape]
    norms = [part for part in norms if "Norm" in type(part).__name__]
    pooled = [part for part, given, _ in firsts if given.ndim == 2 and given.shape[1] == last.shape[2]]
    heads = [p for p in pooled if isinstance(p, nn.Linear) and p.out_features == logits.shape[1]]
    after = [p for p in pooled if "Norm" in type(p).__name__]
    if not heads or len(norms) > 1 or len(after) > 1:
        return None

    def through(modules: Sequence[nn.Module]) -> Callable[[Tensor], Tensor]:
        def apply(x: Tensor) -> Tensor:
            for part in modules:
                x = part(x)
            return x

        return apply

    before, behind, head = through(norms), through(after), through(heads[:1])
    read = Readout("class" if prefix else "mean", through([*norms, *after]), head, before, behind)
    if len(heads) == 2 and prefix > 1:  # a distilled network answers with the mean of its two heads
        both = (read.logits(last, prefix) + heads[1](read.norm(last[:, 1]))) / 2
        return read if _equal(both, logits) else None
    ways = (read, read._replace(pool="mean"))
    return next((way for way in ways if _equal(way.logits(last, prefix), logits)), None)


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= _CLOSE * max(1.0, float(theirs.abs().max())))


def _maps(trace: Trace, size: tuple[int, int]) -> Found | None:
    stages: list[tuple[tuple[int, int], list[Call]]] = []
    root = trace.calls[0]
    for call in _way(root, root, size):
        if call.name.partition(".")[0] in _HEADS or not _computes(call):
            continue
        here = _place(call.made, size)
        assert here is not None
        if stages and stages[-1][0] == here:
            stages[-1][1].append(call)
        elif here != (1, 1):
            stages.append((here, [call]))
    return Found("maps", tuple(tuple(run) for _, run in stages)) if stages else None


def _way(call: Call, root: Call, size: tuple[int, int]) -> Iterator[Call]:
    """The coarsest chain of calls, in order, none of which reads the image, shrinks its feature map by more than half or is, or holds, a
    list over several sizes.
    """
    image = _reads_image(call, size)
    if image and call is not root and _stem(call, root):
        return
    before, after = _place(call.given, size), _place(call.made, size)
    sizes = {_place(inner.made, size) for inner in call.inner} - {None}
    beside = [inner for inner in call.inner if inner.name.rpartition(".")[0] != call.name]
    listed = {_place(inner.made, size) for inner in beside if _computes(inner)} - {None}
    several = (isinstance(call.part, nn.Sequential) and len(sizes) > 1) or (before in listed and before != after)
    if before and after and call.name and not image and before[0] <= 2 * after[0] + 1 and not several:
        yield call
        return
    for inner in call.inner:
        yield from _way(inner, root, size)


def _reads_image(call: Call, size: tuple[int, int]) -> bool:
    return any(tuple(x.shape[1:]) == (3, *size) for x in call.given)


def _computes(call: Call) -> bool:
    return any(p.ndim > 1 for p in call.part.parameters())


def _stem(call: Call, root: Call) -> bool:
    """Whether a call that reads the image is a stem: convolutions only, few of the layers, or some of them with few of the weights."""
    if not all(p.ndim in (1, 4) for p in call.part.parameters()):
        return False
    share = sum(_layer(c) for c in _all(call)) / max(1, sum(_layer(c) for c in _all(root)))
    weights = [sum(p.numel() for p in each.part.parameters()) for each in (call, root)]
    few, light, some = _STEM
    return share < few or (share < some and weights[0] < light * weights[1])


def _layer(call: Call) -> bool:
    """Whether it is a layer with weights, such as a convolution, that works on maps or sequences."""
    return bool(call.given) and call.given[0].ndim > 2 and any(p.ndim > 1 for p in call.part.parameters(recurse=False))


def _place(among: Sequence[Tensor], size: tuple[int, int]) -> tuple[int, int] | None:
    return next((found for x in among if (found := places(x, size)) is not None), None)


def covered(trace: Trace, runs: Sequence[Sequence[Call]]) -> float:
    """The share of the layers, but for convolutions outside, that work between the first call and the last of these."""
    first, last = runs[0][0].order, max(call.order for call in _all(runs[-1][-1]))
    layers = [call for call in trace.calls if _layer(call)]
    inside = [call for call in layers if first <= call.order <= last]
    beside = [call for call in layers if not first <= call.order <= last and call.given[0].ndim == 3]
    return len(inside) / max(1, len(inside) + len(beside))
