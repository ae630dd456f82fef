"""Attention maps of any network, without a flag and without making the network again: fused kernels give no map, so it is recomputed.

Each map carries a certificate: the greatest difference between map times values and what the network really computed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals.backbones._attention_geometry import Geometry, Network, Rows
from visionvitals.backbones._attention_recorder import Recorder
from visionvitals.errors import VitalsError, near, require

SPATIAL: tuple[Geometry, ...] = ("global", "class-only")
"""Geometries whose rows are distributions over the patches of the whole image."""
_WHY = {
    "window": "each of its queries sees only its own window",
    "reduced-keys": "its keys are pooled cells, not the patches of its queries",
    "channel": "it relates channels, not places",
    "other": "it is no map from tokens to tokens",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMap:
    """What one attention operation attended to, for a batch of images.

    Attributes:
        name: the module that computed it, e.g. `blocks.3.attn`.
        index: its place in the order in which the network's attention operations ran, from 0.
        geometry: `global`: all tokens see all tokens. `window`: the same within windows, which are counted in the batch side.
            `reduced-keys`: the keys are pooled. `channel`: channels attend to channels. `class-only`: the queries are class
            tokens, or one learned query. `other`: none of these, e.g. a softmax that mixes tokens without queries.
        weights: float32 on the network's device, what multiplies the values: a softmax, after gates or mixtures of heads where
            the network has them (then rows need not sum to one). Which queries are kept, `rows` says.
        rows: `prefix`: the queries that are prefix tokens, none where the map has none; `mean`: one row, the mean over the
            patch queries (over all where there are none); `all`.
        prefix: number of keys before the patches (class, distillation, registers).
        grid: (rows, columns) of the other keys, or None where they are not known to form a grid.
        residual: max |map times values - real output| over the computed queries (at least one); None where the product with
            values was not seen, so that nothing certifies the map.
    """

    name: str
    index: int
    geometry: Geometry
    weights: Float[Tensor, "b heads queries keys"]
    rows: Rows
    prefix: int
    grid: tuple[int, int] | None
    residual: float | None


def capture(
    forward: Callable[[Tensor], object], module: nn.Module, images: Tensor, *, net: Network, rows: Rows = "prefix"
) -> tuple[AttentionMap, ...]:
    """Run `forward` on `images` once and give the map of every attention operation in the order in which they ran.

    Args:
        forward: images -> anything; it must run `module`.
        module: the network, not compiled.
        images: (b, 3, h, w), whatever `forward` takes.
        net: what is known of the network, see `_attention_geometry.network`.
        rows: which queries to keep. `prefix` bounds the memory: a few rows a map instead of one for each token.

    Raises:
        VitalsError: a compiled network, no attention operation, or `prefix` where no map has a prefix token as its query.
    """
    require(rows in ("prefix", "mean", "all"), "`rows` must be one of prefix, mean, all", rows, near(str(rows), ["prefix"]))
    refuse_compiled(module)
    with recording(module, net=net, rows=rows) as maps:
        forward(images)
    kind = type(module).__name__
    must = f"Attention maps need attention operations, and a forward pass of {kind} has none (no scaled dot product, no softmax)"
    require(bool(maps), must, f"{sum(1 for _ in module.modules())} modules", "Use a gradient or an occlusion map instead.")
    must = f"`rows='prefix'` needs maps whose queries include a class or other prefix token, and {kind} has none"
    require(rows != "prefix" or any(m.weights.shape[2] for m in maps), must, summary(maps), "Use rows='mean' or rows='all'.")
    return tuple(maps)


@contextmanager
def recording(module: nn.Module, *, net: Network, rows: Rows = "prefix") -> Iterator[list[AttentionMap]]:
    """A context in which one forward pass of `module` fills the list at its end; other passes in other threads are not seen.

    The network's results are its own, except that a fast path which hides the map inside `nn.MultiheadAttention` is not taken
    (differences of rounding).
    """
    recorder = Recorder(net, rows)
    handles = []
    for name, part in module.named_modules():
        if isinstance(part, nn.Softmax):
            continue  # its softmax belongs to the attention around it
        handles.append(part.register_forward_pre_hook(_enter(recorder, name, part), with_kwargs=True))
        handles.append(part.register_forward_hook(_leave(recorder)))
    maps: list[AttentionMap] = []
    try:
        with recorder:
            yield maps
    finally:
        for handle in handles:
            handle.remove()
    errors = [found.error for found in recorder.found if found.error is not None]
    residuals = iter(torch.stack(errors).tolist() if errors else [])  # one wait for the device, not one a map
    for index, (name, place, weights, error) in enumerate(recorder.found):
        residual = None if error is None else next(residuals)
        maps.append(
            AttentionMap(
                name=name,
                index=index,
                geometry=place.geometry,
                weights=weights,
                rows=rows,
                prefix=place.prefix,
                grid=place.grid,
                residual=residual,
            )
        )


def refuse_compiled(module: nn.Module) -> None:
    """Refuse a network whose operations Python does not see.

    Raises:
        VitalsError: some part of it is scripted, traced or compiled.
    """
    for name, part in module.named_modules():
        how = "scripted" if isinstance(part, torch.jit.ScriptModule) else "compiled" if _compiled(part) else None
        if how:
            raise VitalsError(
                f"Attention maps need a network that runs step by step. Got `{name or type(part).__name__}`, which is {how}. "
                "Give the network as it was before."
            )


def require_spatial(attention: AttentionMap) -> None:
    """Refuse a map that cannot be laid over the image, as segmentation and saliency do.

    Raises:
        VitalsError: its geometry, no row, keys that form no grid, rows that are no distributions, or values that are not finite.
    """
    where = f"The attention map of `{attention.name}` cannot be laid over the image:"
    if attention.geometry not in SPATIAL:
        raise VitalsError(f"{where} its geometry is `{attention.geometry}`: {_WHY[attention.geometry]}. Use another block or backbone.")
    require(attention.weights.shape[2] > 0, f"{where} a query is needed", "none", "Ask for rows='mean' or rows='all'.")
    must = f"{where} its keys must be known to form a grid"
    require(attention.grid is not None, must, f"{attention.weights.shape[3]} keys")
    require(bool(attention.weights.isfinite().all()), f"{where} its weights must be finite", "overflow", "Use float32.")
    off = float((attention.weights.sum(dim=-1) - 1).abs().max())
    must = f"{where} each row must sum to one (this network mixes its heads after the softmax, perhaps)"
    require(off < 1e-2, must, f"a difference of {off:.3g}")


def rollout(maps: Sequence[AttentionMap]) -> Float[Tensor, "b queries keys"]:
    """Attention rollout: how much of each input token reaches each output token, by attention and skip connections alone.

    R = A_L ... A_1 with A_i = 0.5 I + 0.5 mean over heads (Abnar and Zuidema 2020, "Quantifying attention flow in transformers",
    equation 1). Rows sum to one. Row 0 without the prefix columns is the class token's map.

    Args:
        maps: all maps of a network in order, taken with rows='all', all `global` and of one size.

    Raises:
        VitalsError: no map, other rows, geometries or sizes, or rows that do not sum to one.
    """
    require(len(maps) > 0, "Rollout needs at least one map", 0)
    rolled: Tensor | None = None
    for attention in maps:
        must = "Rollout needs all rows of `global` maps of one size"
        sides = attention.weights.shape[2:]
        fits = attention.rows == "all" and attention.geometry == "global" and sides == maps[0].weights.shape[2:]
        got = f"`{attention.name}`: rows='{attention.rows}', {attention.geometry}, {tuple(sides)}"
        require(fits, must, got, "Ask for rows='all'; hierarchical networks have none.")
        mean = attention.weights.mean(dim=1)
        off = float((mean.sum(dim=-1) - 1).abs().max())
        require(off < 1e-2, f"Rollout needs rows that sum to one in `{attention.name}`", f"a difference of {off:.3g}")
        step = 0.5 * mean + 0.5 * torch.eye(mean.shape[-1], device=mean.device)
        rolled = step if rolled is None else step @ rolled
    assert rolled is not None
    return rolled


def summary(maps: Sequence[AttentionMap]) -> str:
    """How many maps of each geometry, in words."""
    kinds = [m.geometry for m in maps]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def _enter(recorder: Recorder, name: str, part: nn.Module) -> Callable[..., None]:
    def hook(_module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        recorder.entered(name, part, args, kwargs)

    return hook


def _leave(recorder: Recorder) -> Callable[..., None]:
    def hook(*_: object) -> None:  # returns None: anything else would take the place of the module's output
        recorder.left()

    return hook


def _compiled(part: nn.Module) -> bool:
    return getattr(part, "_orig_mod", None) is not None or getattr(part, "_compiled_call_impl", None) is not None
