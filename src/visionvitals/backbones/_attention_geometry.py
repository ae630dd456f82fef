"""What an attention map is a map of: read from its shape, from what entered its module, and from the backbone's own patch grid."""

import math
from typing import Any, Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor

Geometry = Literal["global", "window", "reduced-keys", "channel", "class-only", "other"]
Rows = Literal["prefix", "mean", "all"]
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads")
_REORDERS = ("Hiera", "HieraModel")
"""Classes whose tokens stand in another order than row by row although their number would fill a grid."""


class Network(NamedTuple):
    """What is known of the network before it runs.

    Attributes:
        size: (height, width) of its input in pixels.
        grid: (rows, columns) of its patch tokens where it declares them; then no other number of tokens counts as a grid.
        prefix: its own count of tokens before the patches.
        raster: tokens stand row by row, so that their number may tell the grid where none is declared.
    """

    size: tuple[int, int]
    grid: tuple[int, int] | None = None
    prefix: int = 0
    raster: bool = True


class Shape(NamedTuple):
    """The numbers of one map. `width` is the last side of what map times values gives; `entered` the shape of the module's input."""

    batch: int
    heads: int
    queries: int
    keys: int
    width: int
    entered: tuple[int, ...]


class Place(NamedTuple):
    """The reading of a map.

    Attributes:
        geometry: see `visionvitals.backbones._attention.AttentionMap`.
        prefix: keys before the patches.
        rows: queries that are prefix tokens.
        grid: (rows, columns) of the other keys, or None where they are not known to form a grid.
    """

    geometry: Geometry
    prefix: int = 0
    rows: int = 0
    grid: tuple[int, int] | None = None


def network(module: Any, *, size: tuple[int, int], grid: tuple[int, int] | None, prefix: int) -> Network:
    """The same of a module, which tells by its classes whether it reorders its tokens."""
    return Network(size, grid, prefix, not any(type(part).__name__ in _REORDERS for part in module.modules()))


def place(net: Network, shape: Shape, *, images: int) -> Place:
    """Tell the geometry of a map.

    Convention: a map whose batch is not the number of images is a window. One of d x d, where the network has heads x d channels and
    the values are as wide as there are tokens, is a channel map; where d is also the number of tokens, only a declared grid
    makes it spatial. At most as many queries as prefix tokens (or one, learned) that look at more keys: class-only.
    """
    _, heads, queries, keys, width, entered = shape
    if shape.batch != images:
        return Place("window")
    sides = _sides(entered)
    declared = net.grid is not None and queries - math.prod(net.grid) in (net.prefix, 0)
    if queries == keys and not declared and any(heads * queries == c and width == n for n, c in sides):
        return Place("channel")
    if queries <= max(net.prefix, 1) and queries < keys:
        before, grid = _split(net, keys, (net.prefix, 0, queries))
        known = grid is not None or any(keys - n in (0, queries) for n, _ in sides)
        return Place("class-only", before, queries, grid) if known else Place("other", before)
    within = not sides or any(queries <= n for n, _ in sides)
    if queries == keys and within:
        before, grid = _split(net, keys, (net.prefix, 0))
        return Place("global", before, before if grid else 0, grid)
    if keys < queries and within:
        before, grid = _split(net, queries, (net.prefix, 0))
        return Place("reduced-keys", 0, before if grid else 0)
    return Place("other")


def heads_said(module: Any) -> int | None:
    """The number of heads that an attention module declares."""
    found = [getattr(module, name, None) for name in _HEADS]
    return next((value for value in found if type(value) is int), None)


def folded(weights: Float[Tensor, "*leading q k"], *, heads: int | None, images: int) -> Float[Tensor, "b h q k"]:
    """Bring a map into the form batch, heads, queries, keys; windows go into the batch.

    Args:
        weights: with the leading sides (batch x heads), (batch, heads), (batch, heads, windows) or (batch, windows, heads).
        heads: what the module declares.
        images: number of images that entered the network.
    """
    leading, last = weights.shape[:-2], weights.shape[-2:]
    if len(leading) < 2:
        merged = heads is not None and math.prod(leading) == images * heads
        return weights.reshape(-1, heads if merged and heads else 1, *last)
    axis = next((i for i in range(1, len(leading)) if leading[i] == heads), 1)
    return weights.movedim(axis, len(leading) - 1).reshape(-1, leading[axis], *last)


def grid_of(net: Network, tokens: int) -> tuple[int, int] | None:
    """(rows, columns) of `tokens` patches: the declared grid, else square cells that tile the input, else None."""
    if net.grid is not None:
        return net.grid if tokens == math.prod(net.grid) else None
    height, width = net.size
    rows = math.isqrt(tokens * height // width)
    if not net.raster or rows < 1 or tokens % rows or rows * width != tokens // rows * height:
        return None
    return (rows, tokens // rows) if height % rows == 0 else None


def _split(net: Network, keys: int, prefixes: tuple[int, ...]) -> tuple[int, tuple[int, int] | None]:
    """How many of the keys come before the patches, and the grid of the others; the first number that leaves a grid."""
    for before in prefixes:
        grid = grid_of(net, keys - before) if keys > before else None
        if grid is not None:
            return before, grid
    return 0, None


def _sides(entered: tuple[int, ...]) -> list[tuple[int, int]]:
    """The (tokens, channels) that the input of a module may have: a sequence, or pictures with channels first or last."""
    if len(entered) == 3:
        return [(entered[1], entered[2])]
    if len(entered) == 4:
        return [(entered[2] * entered[3], entered[1]), (entered[1] * entered[2], entered[3])]
    return []
