"""Where a network's blocks are: found by watching one image go through, not by names of families.

Two kinds. `tokens`: the shallowest list of modules through which the whole sequence of tokens passes, each once. `maps`: the
stages of a convolutional or hierarchical network, a stage being all parts in a row whose feature maps have one size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from visionvitals.inside.blocks import Block, Layout, Readout, channels_at, tensors

_HEADS = ("head", "heads", "head_dist", "classifier", "fc", "last_linear")
_CLOSE = 1e-4


class _Call(NamedTuple):
    """The first call of a module: when it began, the first tensor in, the tensors out."""

    order: int
    given: Tensor | None
    made: tuple[Tensor, ...]


class Trace:
    """Hooks that note each module's first call; a context manager around one forward pass of one image."""

    def __init__(self, module: nn.Module) -> None:
        self.parts = dict(module.named_modules(remove_duplicate=False))  # a part with two names is found by either
        self.calls: dict[str, _Call] = {}
        self._begun: dict[str, tuple[int, Tensor | None]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> "Trace":
        for name, part in self.parts.items():

            def begin(_m: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
                self._begun.setdefault(name, (len(self._begun), given))

            def end(_m: nn.Module, _a: Any, output: Any, name: str = name) -> None:
                self.calls.setdefault(name, _Call(*self._begun[name], tensors(output)))

            self._handles += [part.register_forward_pre_hook(begin, with_kwargs=True), part.register_forward_hook(end)]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def orders(self, part: nn.Module) -> list[int]:
        """When a module was called first, by each of its names."""
        return [self.calls[name].order for name, own in self.parts.items() if own is part and name in self.calls]

    def answers(self, layer: nn.Module, logits: Tensor) -> bool:
        """Whether what a layer gave, on one vector an image, is the network's answer."""
        call = next(
            (self.calls[name] for name, part in self.parts.items() if part is layer and name in self.calls), None
        )
        one = call is not None and call.given is not None and call.given.ndim == 2 and len(call.made) == 1
        return bool(one and call and torch.equal(call.made[0], logits))


def find(
    trace: Trace, logits: Tensor, *, prefix: int, grid: tuple[int, int] | None, size: tuple[int, int]
) -> Layout | None:
    """The layout of a traced network, or None where it has neither tokens of its patch grid nor feature maps."""
    return (_tokens(trace, logits, prefix, grid, size) if grid else None) or _maps(trace, size)


def _tokens(trace: Trace, logits: Tensor, prefix: int, grid: tuple[int, int], size: tuple[int, int]) -> Layout | None:
    n = grid[0] * grid[1]
    best: tuple[int, int, list[str], int] | None = None
    for name, part in trace.parts.items():
        children = [f"{name}.{child}".lstrip(".") for child, _ in part.named_children()]
        if not isinstance(part, nn.ModuleList | nn.Sequential) or not all(c in trace.calls for c in children):
            continue
        for before in dict.fromkeys((prefix, 0)):
            through = children and all(
                any(x.ndim == 3 and x.shape[:2] == (1, before + n) for x in trace.calls[c].made) for c in children
            )
            depth = name.count(".")
            if through and (best is None or (depth, -len(children)) < (best[0], -best[1])):
                best = depth, len(children), children, before
    if best is None:
        return None
    names, before = best[2], best[3]
    last = next(x for x in trace.calls[names[-1]].made if x.ndim == 3 and x.shape[1] == before + n)
    readout = _readout(trace, last, logits, before) if before == prefix else None
    return Layout("tokens", tuple(Block(c, trace.parts[c], trace.parts[c]) for c in names), before, n, size, readout)


def _readout(trace: Trace, last: Tensor, logits: Tensor, prefix: int) -> Readout | None:
    """The final norm and the head, kept only if they give the network's own logits from its last tokens."""
    parts = trace.parts
    norms = [parts[n] for n, c in trace.calls.items() if c.given is last and c.made and c.made[0].shape == last.shape]
    norms = [part for part in norms if "Norm" in type(part).__name__]
    pooled = [
        parts[n]
        for n, c in sorted(trace.calls.items(), key=lambda item: item[1].order)
        if c.given is not None and c.given.ndim == 2 and c.given.shape[1] == last.shape[2]
    ]
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

    before, later, head = through(norms), through(after), through(heads[:1])
    read = Readout("class" if prefix else "mean", through([*norms, *after]), head, before, later)
    if len(heads) == 2 and prefix > 1:  # a distilled network answers with the mean of its two heads
        both = (read.logits(last, prefix) + heads[1](read.norm(last[:, 1]))) / 2
        return read if _equal(both, logits) else None
    ways = (read, read._replace(pool="mean"))
    return next((way for way in ways if _equal(way.logits(last, prefix), logits)), None)


def _equal(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() <= _CLOSE * max(1.0, float(theirs.abs().max())))


def _maps(trace: Trace, size: tuple[int, int]) -> Layout | None:
    parts = trace.parts
    stages: list[tuple[tuple[int, int], str, str]] = []
    for name in _path(trace, "", size):
        call = trace.calls[name]
        if name.partition(".")[0] in _HEADS or call.given is None or not _computes(parts[name]):
            continue
        if tuple(call.given.shape[1:]) == (3, *size):
            continue  # the stem: what enters it is the image
        here = places(call.made[0], size)
        assert here is not None
        if stages and stages[-1][0] == here:
            stages[-1] = (here, stages[-1][1], name)
        elif here != (1, 1):
            stages.append((here, name, name))
    if not stages:
        return None
    blocks = tuple(Block(last, parts[first], parts[last]) for _, first, last in stages)
    return Layout("maps", blocks, 0, 0, size)


def _path(trace: Trace, name: str, size: tuple[int, int]) -> Iterator[str]:
    """The coarsest chain of modules, in order, none of which shrinks its feature map by more than half or is a list over several
    sizes.
    """
    call = trace.calls.get(name)
    if call is not None and call.given is not None and call.made:
        before, after = places(call.given, size), places(call.made[0], size)
        image = tuple(call.given.shape[1:]) == (3, *size)
        children = [trace.calls.get(f"{name}.{child}") for child, _ in trace.parts[name].named_children()]
        sizes = {places(c.made[0], size) for c in children if c is not None and c.made} - {None}
        several = isinstance(trace.parts[name], nn.Sequential) and len(sizes) > 1
        halved = before and after and before[0] <= 2 * after[0] + 1 and not several
        if before and after and name and (halved or (image and not children)):
            yield name
            return
    inner = [f"{name}.{child}".lstrip(".") for child, _ in trace.parts[name].named_children()]
    for child in sorted(inner, key=lambda c: _first(trace, c)):
        yield from _path(trace, child, size)


def _first(trace: Trace, name: str) -> float:
    """When a module, or the first one within it, was called."""
    own = [c.order for n, c in trace.calls.items() if n == name or n.startswith(f"{name}.")]
    return float(min(own, default=float("inf")))


def _computes(part: nn.Module) -> bool:
    return any(isinstance(p, nn.Conv2d | nn.Linear) for p in part.modules())


def places(x: Tensor, size: tuple[int, int]) -> tuple[int, int] | None:
    """(h, w) of a feature map, or None where it is none."""
    where = channels_at(x, size)
    if where is None:
        return None
    return (x.shape[2], x.shape[3]) if where == 1 else (x.shape[1], x.shape[2])
