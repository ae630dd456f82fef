"""Watching one forward pass for attention: fused, multi-head, or a softmax followed by a matrix product.

The map is made from the very arguments that the network's own call gets, and checked against what that call returns.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from visionvitals.backbones import _attention_geometry as geometry
from visionvitals.backbones._attention_geometry import Network, Place, Rows, Shape

_SOFTMAX = {torch.softmax, torch.Tensor.softmax, F.softmax, torch.special.softmax}
_PRODUCTS = {torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm, torch.einsum}
_FUSED = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


class Found(NamedTuple):
    """One map with its reading; `error` is the greatest difference of map times values from the real output, or None."""

    name: str
    place: Place
    weights: Float[Tensor, "b heads queries keys"]
    error: Float[Tensor, ""] | None


class Frame(NamedTuple):
    """A module that is running: its name, the heads it declares, the shape of what entered it."""

    name: str
    heads: int | None
    entered: tuple[int, ...]


class Softmax(NamedTuple):
    """A softmax that has not yet met values: where it was made, how deep in the modules, and all that was derived from it."""

    frame: Frame
    depth: int
    made: Tensor
    rows: bool


class Recorder(TorchFunctionMode):
    """Collects `found` while it is entered; `stack` is kept by hooks on the modules. The network's own results are passed on."""

    def __init__(self, net: Network, rows: Rows) -> None:
        TorchFunctionMode.__init__(self)
        self.net, self.rows = net, rows
        self.images = 0
        self.stack: list[Frame] = []
        self.found: list[Found] = []
        self.open: dict[int, Softmax] = {}
        self.derived: dict[int, tuple[Tensor, frozenset[int]]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.stack:
            return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            result = func(*args, **kwargs)
            with torch.no_grad(), _exact(result):
                self._fused(dict(zip(_FUSED, args, strict=False)) | kwargs, result)
            return result
        if func is F.multi_head_attention_forward:
            return self._multi_head(_MULTI_HEAD.bind(*args, **kwargs))
        result = func(*args, **kwargs)
        if func in _SOFTMAX and isinstance(result, Tensor) and result.ndim >= 3:
            self._opened(result, args, kwargs)
        elif self.derived and isinstance(result, Tensor):
            self._followed(func, args, result)
        return result

    def entered(self, name: str, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        shape = tuple(tensors[0].shape) if tensors else ()
        if not self.stack:
            self.images = shape[0] if shape else 0
        self.stack.append(Frame(name, geometry.heads_said(module), shape))

    def left(self) -> None:
        """A module is done; what its own children left open will not meet values any more."""
        depth = len(self.stack)
        self.stack.pop()
        for key in [key for key, softmax in self.open.items() if softmax.depth > depth or depth == 1]:
            softmax = self.open[key]
            if softmax.rows:
                self._keep(softmax.frame, Place("other"), softmax.made, None)
            self._close({key})

    def _fused(self, call: dict[str, Any], result: Tensor) -> None:
        """The map of `scaled_dot_product_attention`: softmax(scale q k^T + mask), in float32."""
        query, key, value = call["query"], call["key"], call["value"]
        if call.get("enable_gqa"):
            key, value = (t.repeat_interleave(query.shape[-3] // t.shape[-3], dim=-3) for t in (key, value))
        frame, sides = self.stack[-1], (query.shape[-2], key.shape[-2])
        place = self._place(frame, (*result.shape[:-2], *sides), result.shape[-1])
        rows = self._computed(place)
        scale = call.get("scale")
        scores = query[..., rows, :].float() @ key.float().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        mask = call.get("attn_mask")
        if call.get("is_causal"):
            mask = torch.ones(sides, dtype=torch.bool, device=query.device).tril()
        if mask is not None:
            mask = mask[..., rows, :] if mask.shape[-2] > 1 else mask
            scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        weights = scores.softmax(dim=-1)
        error = _difference(weights @ value.float(), result[..., rows, :])
        self._keep(frame, place, weights, error)

    def _multi_head(self, call: inspect.BoundArguments) -> Any:
        """`nn.MultiheadAttention`: it is asked for the weights of each head, and its caller gets what it asked for."""
        call.apply_defaults()
        said = call.arguments
        wanted, averaged = said["need_weights"], said["average_attn_weights"]
        said |= {"need_weights": True, "average_attn_weights": False}
        result, weights = F.multi_head_attention_forward(*call.args, **call.kwargs)
        error = None
        with torch.no_grad(), _exact(result):
            query = said["query"] if said["query"].ndim == 3 else said["query"][:, None]  # queries, batch, channels
            shown = weights if weights.ndim == 4 else weights[None]
            frame = self.stack[-1]._replace(entered=(query.shape[1], query.shape[0], query.shape[2]))
            place = self._place(frame, shown.shape, query.shape[2] // said["num_heads"])
            rows = self._computed(place)
            plain = said["bias_k"] is None and said["static_v"] is None and not said["add_zero_attn"]
            if plain and not said["use_separate_proj_weight"] and said["value"].ndim == 3:
                bias = None if said["in_proj_bias"] is None else said["in_proj_bias"].chunk(3)[2]
                values = F.linear(said["value"], said["in_proj_weight"].chunk(3)[2], bias)  # keys, batch, channels
                values = values.unflatten(2, (said["num_heads"], -1)).permute(1, 2, 0, 3)
                mixed = (shown[..., rows, :] @ values).permute(2, 0, 1, 3).flatten(2)
                error = _difference(F.linear(mixed, said["out_proj_weight"], said["out_proj_bias"]), result[rows])
            self._keep(frame, place, shown, error)
        if not wanted:
            return result, None
        return result, weights.mean(dim=-3) if averaged else weights

    def _opened(self, result: Tensor, args: Any, kwargs: dict[str, Any]) -> None:
        axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
        self.open[id(result)] = Softmax(self.stack[-1], len(self.stack), result, axis in (-1, result.ndim - 1))
        self.derived[id(result)] = (result, frozenset({id(result)}))

    def _followed(self, func: Callable[..., Any], args: Any, result: Tensor) -> None:
        """Follow a softmax through views, casts, gates and mixtures of heads until it multiplies values."""
        operands = [a for arg in args for a in (arg if isinstance(arg, list | tuple) else (arg,))]
        sources = [self.derived.get(id(operand), (None, frozenset[int]()))[1] for operand in operands]
        origin = frozenset[int]().union(*sources)
        if not origin:
            return
        if func in _PRODUCTS:
            with torch.no_grad(), _exact(result):
                self._product(func, operands, [bool(source) for source in sources], result)
            self._close(origin)
        elif any(key in self.open and result.numel() == self.open[key].made.numel() for key in origin):
            self.derived[id(result)] = (result, origin)

    def _product(self, func: Callable[..., Any], operands: list[Any], is_map: list[bool], result: Tensor) -> None:
        frame = self.stack[-1]
        if func is torch.einsum:
            weights = operands[is_map.index(True)].float()
            floats = [o.float() if isinstance(o, Tensor) else o for o in operands]
            error = _difference(torch.einsum(*floats), result)
            if weights.ndim == 4 and weights.shape[2] == frame.heads != weights.shape[1]:
                weights = weights.transpose(1, 2)  # several queries of each head share the keys: b, queries, heads, keys
            place = self._place(frame, weights.shape, result.shape[-1])
        else:
            weights, values, out = (*operands[:2], result) if is_map[0] else (operands[1].mT, operands[0].mT, result.mT)
            place = self._place(frame, weights.shape, values.shape[-1])
            rows = self._computed(place)
            error = _difference(weights[..., rows, :].float() @ values.float(), out[..., rows, :])
        self._keep(frame, place, weights, error)

    def _close(self, keys: set[int] | frozenset[int]) -> None:
        self.open = {key: softmax for key, softmax in self.open.items() if key not in keys}
        self.derived = {key: (t, origin) for key, (t, origin) in self.derived.items() if not origin & keys}

    def _place(self, frame: Frame, shape: tuple[int, ...], width: int) -> Place:
        """The reading of a map of that shape whose product with the values is `width` wide."""
        like = torch.empty(shape, device="meta")
        batch, heads, queries, keys = geometry.folded(like, heads=frame.heads, images=self.images).shape
        known = Shape(batch, heads, queries, keys, width, frame.entered)
        return geometry.place(self.net, known, images=self.images)

    def _computed(self, place: Place) -> slice:
        """The queries to compute; where no row is to be kept, the first one, so that every map is checked."""
        return slice(0, max(place.rows, 1)) if self.rows == "prefix" else slice(None)

    def _keep(self, frame: Frame, place: Place, weights: Tensor, error: Tensor | None) -> None:
        """Fold, cut to the asked rows and copy, so that no more than these rows stays in memory."""
        folded = geometry.folded(weights, heads=frame.heads, images=self.images)
        if self.rows == "prefix":
            kept = folded[:, :, : place.rows]
        elif self.rows == "mean":
            patches = folded[:, :, place.rows :]
            kept = (patches if patches.shape[2] else folded).mean(dim=2, keepdim=True)
        else:
            kept = folded
        copied = kept.detach().float().clone(memory_format=torch.contiguous_format)
        self.found.append(Found(frame.name, place, copied, error))


def _exact(like: Tensor) -> torch.autocast:
    return torch.autocast(like.device.type, enabled=False)


def _difference(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours - theirs.float()).abs().max()
