"""Attention maps: sees each attention call of a network while it runs, and makes its map again in float32; see `probes.attention`."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from visionvitals.inside.blocks import rebuilt

Geometry = Literal["global", "window", "reduced", "channel", "class-only", "other"]
Rows = Literal["prefix", "all"]


class Map(NamedTuple):
    """One attention map of a batch.

    Attributes:
        block: 0-based number of the attention call in the forward pass.
        name: path of the module that made it.
        geometry: see `probes.attention`.
        rows: float32 (b, heads, q, k). With `rows="prefix"`, a `global` map has the queries of its prefix tokens only, or, where it
            has none, one query: the mean over all of them.
        residual: max |map x values - the network's own result| / max(1, max |result|), over what is finite; NaN if nothing is.
        prefix: how many of the keys, at their start, are prefix tokens.
    """

    block: int
    name: str
    geometry: Geometry
    rows: Tensor
    residual: float
    prefix: int


class Call(NamedTuple):
    """An attention call of a network: the path of its module, what its map is over, why that is not the patch grid, or None, and its
    number of heads."""

    name: str
    geometry: Geometry
    unusable: str | None
    heads: int = 0


@contextmanager
def watch(
    module: torch.nn.Module,
    images: int,
    take: Callable[[Map], None],
    *,
    prefix: int,
    grid: tuple[int, int] | None,
    rows: Rows = "prefix",
    spoil: int | None = None,
) -> Iterator[None]:
    """A context in which each attention map of `module` is given to `take` while the network runs.

    Args:
        module: the network.
        images: number of images in the batch; a map with more rows than that is one of windows.
        take: called once per attention call, in order.
        prefix: the network's own count of prefix tokens.
        grid: its patch grid, or None; where a map has exactly that many keys, its block sees no prefix tokens.
        rows: as in `attention.record`.
        spoil: the attention call, from 0, whose result the network gets as NaN, so that all that comes of it is NaN.
    """
    watcher = _Watcher(images, take, prefix, grid, rows, spoil)
    inner = [(name, part) for name, part in module.named_modules() if any(True for _ in part.children())]
    handles = [
        handle
        for name, part in inner
        for handle in (
            part.register_forward_pre_hook(
                lambda m, args, kwargs, n=name: watcher.enter(n, type(m).__name__, args, kwargs), with_kwargs=True
            ),
            part.register_forward_hook(lambda _m, _a, _o: watcher.leave()),
        )
    ]
    try:
        with watcher:
            yield
    finally:
        for handle in handles:
            handle.remove()


def unusable(found: Map, grid: tuple[int, int] | None) -> str | None:
    """Why a map is not one over a patch grid, in a clause, or None."""
    if found.geometry == "window":
        return "attention within windows has no map over the image"
    if found.geometry == "channel":
        return "attention between channels is no map over places"
    if found.geometry == "reduced":
        return "its queries and keys have different resolutions, so it is no map over the patch grid"
    if found.geometry == "other":
        return "the network mixes tokens in a way that is no map over places"
    if grid is None:
        return "the network has no patch grid"
    (rows, columns), n = grid, found.rows.shape[3] - found.prefix
    return None if n == rows * columns else f"it is over {n} places, not over the {rows} x {columns} patch grid"


def sequences(passing: Callable[[int, Callable[[Map], None]], object], calls: int) -> int:
    """How many sequences the attention calls of a network are, none of which depends on a call of another.

    One for a network as usual, also with branches that meet before its last attention; two for the mean of two passes or of two networks.

    Args:
        passing: a forward pass within `watch`, with its `spoil` and its `take`.
        calls: number of attention calls in a pass.
    """
    apart: list[set[int]] = []
    while left := set(range(calls)).difference(*apart):
        first, maps = min(left), list[Map]()
        passing(first, maps.append)
        reached = {m.block for m in maps if m.residual != m.residual or bool(m.rows.isnan().any())} | {first}
        met = [other for other in apart if other & reached]
        apart = [other for other in apart if other not in met] + [reached.union(*met)]
    return len(apart)


class _Descendant(NamedTuple):
    """What came of a softmax: the tensor, the scores that it is the softmax of (None after the first change), whether over keys."""

    tensor: Tensor
    scores: Tensor | None
    over_keys: bool


class _Place(NamedTuple):
    """A module that is running: path, class, the shape of its input, and what descends from a softmax in it, by `id`."""

    name: str
    kind: str
    shape: tuple[int, ...]
    descended: dict[int, _Descendant]


_SOFTMAX = ("softmax", "special_softmax")
_CHANNEL = ("Channel", "XCA", "CrossCovariance")
_PRODUCTS = ("matmul", "__matmul__", "bmm")


class _Watcher(TorchFunctionMode):
    """Sees every torch call of the network's Python code; what it calls itself is not seen again."""

    def __init__(
        self,
        images: int,
        take: Callable[[Map], None],
        prefix: int,
        grid: tuple[int, int] | None,
        rows: Rows,
        spoil: int | None,
    ) -> None:
        TorchFunctionMode.__init__(self)
        self.images, self.take, self.prefix, self.grid, self.rows = images, take, prefix, grid, rows
        self.calls, self.spoil = 0, spoil
        self.stack = [_Place("", "", (), {})]

    def enter(self, name: str, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)), None)
        self.stack.append(_Place(name, kind, () if given is None else tuple(given.shape), {}))

    def leave(self) -> None:
        self.stack.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = self.calls
        result = self._watched(func, args, kwargs or {})
        spoiled = before == self.spoil and self.calls > before
        return rebuilt(result, lambda x: torch.full_like(x, torch.nan)) if spoiled else result

    def _watched(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            with _exactly(result):
                self._fused(result, *args, **kwargs)
            return result
        if func is functional.multi_head_attention_forward:
            with _exactly(result[0]):
                self._multi_head(func, result[0], args, kwargs)
            return result
        place, name = self.stack[-1], func.__name__
        if name in _SOFTMAX:
            dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
            scores = args[0] if args else kwargs["input"]
            last = dim in (-1, scores.ndim - 1)
            place.descended[id(result)] = _Descendant(result, scores if last else None, last)
        elif place.descended or (len(self.stack) > 1 and self.stack[-2].descended):
            self._descend(name, result, args)
        return result

    def _descend(self, name: str, result: Any, args: tuple[Any, ...]) -> None:
        """Follow a softmax through what is done to it (dropout, transposition, mixing of heads), up to its product with the values.

        A mixing layer may be a module within the one that made the softmax.
        """
        place = next(p for p in reversed(self.stack) if p.descended)
        given = [x for x in args if isinstance(x, Tensor)]
        known = [place.descended[id(x)] for x in given if id(x) in place.descended]
        if not known or not isinstance(result, Tensor):
            return
        if name not in (*_PRODUCTS, "einsum"):
            place.descended.setdefault(id(result), known[0]._replace(tensor=result, scores=None))
            return
        place.descended.clear()
        map_, scores, over_keys = known[0]
        left = given[0] is map_
        if len(given) != 2 or given[0] is given[1] or min(x.ndim for x in given) < 2:
            return
        with _exactly(result):
            values = given[1 if left else 0].float()
            exact = map_.float() if scores is None or scores.dtype == torch.float32 else scores.float().softmax(-1)
            if name == "einsum":
                again = torch.einsum(args[0], *((exact, values) if left else (values, exact)))
            else:  # values times the transposed map, or map times values
                exact, values, result = (exact, values, result) if left else (exact.mT, values.mT, result.mT)
                geometry = self._geometry(exact.shape, values.shape[-1], place, over_keys=over_keys)
                kept = self._kept(geometry, exact.shape)
                again, result = exact[..., kept, :] @ values, result[..., kept, :]
            geometry = self._geometry(exact.shape, values.shape[-1], place, over_keys=over_keys)
            self._emit(exact, again, result, geometry, place)

    def _fused(
        self,
        result: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> None:
        place = self.stack[-1]
        if enable_gqa:
            key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], dim=-3) for x in (key, value))
        q, k = query.shape[-2], key.shape[-2]
        shape = torch.Size((*query.shape[:-2], q, k))
        geometry = self._geometry(shape, value.shape[-1], place)
        kept = self._kept(geometry, shape)
        scores = query[..., kept, :].float() @ key.float().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(q, k, dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None:
            mask = attn_mask if attn_mask.shape[-2] == 1 else attn_mask[..., kept, :]
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask.float()
        exact = scores.softmax(-1)
        self._emit(exact, exact @ value.float(), result[..., kept, :], geometry, place)

    def _multi_head(self, func: Any, result: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The map as torch's own unfused path gives it; its certificate is that path's result, through the output projection."""
        asked = inspect.signature(func).bind(*args, **kwargs).arguments
        asked |= {"need_weights": True, "average_attn_weights": False, "training": False}
        again, map_ = func(**asked)
        place = self.stack[-1]
        geometry = self._geometry(map_.shape, asked["query"].shape[-1] // asked["num_heads"], place)
        self._emit(map_.float(), again, result, geometry, place)

    def _kept(self, geometry: Geometry, shape: torch.Size) -> slice:
        """The queries that are kept from the start, so that no others are computed."""
        count = self._prefix_of(shape[-1])
        return slice(0, count) if self.rows == "prefix" and geometry == "global" and count else slice(None)

    def _prefix_of(self, keys: int) -> int:
        without = self.grid is not None and keys == self.grid[0] * self.grid[1]
        return 0 if without or keys <= self.prefix else self.prefix

    def _geometry(self, shape: torch.Size, width: int, place: _Place, *, over_keys: bool = True) -> Geometry:
        """What a map of this shape, from a module with this input, is over; `width` is the values' last dimension.

        Between channels, the keys are a head's channels and the values' last dimension counts the tokens of the input; where both
        numbers are equal, the module's name decides.
        """
        q, k = shape[-2:]
        tokens = place.shape[1] if len(place.shape) == 3 else 0
        if len(shape) < 3 or k == 1 or not over_keys:
            return "other"
        if q == k and width == tokens and (k != tokens or any(word in place.kind for word in _CHANNEL)):
            return "channel"
        if len(shape) > 4 and not (k == tokens and 1 in shape[1:-2]):
            return "window"
        if shape[0] != self.images and not (len(shape) == 3 and shape[0] % self.images == 0):
            return "window"
        if q == 1:
            return "class-only"
        return "global" if q == k else "reduced"

    def _emit(self, exact: Tensor, again: Tensor, result: Tensor, geometry: Geometry, place: _Place) -> None:
        count = exact.shape[:-2].numel()
        first = exact.shape[0] if geometry == "window" else self.images if count % self.images == 0 else 1
        rows = exact.reshape(first, -1, *exact.shape[-2:])
        prefix = self._prefix_of(exact.shape[-1]) if geometry in ("global", "class-only") else 0
        if self.rows == "prefix" and geometry == "global":
            rows = rows[:, :, :prefix] if prefix else rows.mean(dim=2, keepdim=True)
        finite = result.isfinite() & again.isfinite()  # an image that overflowed shows as NaN in its rows
        wrong = (again - result.float()).abs()[finite]
        largest = max(1.0, float(result[finite].abs().max())) if len(wrong) else 1.0
        residual = float(wrong.max()) / largest if len(wrong) else float("nan")
        self.take(Map(self.calls, place.name, geometry, rows.detach().clone(), residual, prefix))
        self.calls += 1


@contextmanager
def _exactly(result: Tensor) -> Iterator[None]:
    """In float32 and without gradients, whatever the network runs in."""
    with torch.no_grad(), torch.autocast(result.device.type, enabled=False):
        yield
