"""The attention maps of any network, fused or not, without a flag and without another model: caught while it runs, and certified.

While the network runs, each product "map times values" is caught: a call of `scaled_dot_product_attention`, a softmax that reaches
a matrix product within its module, or a call of `multi_head_attention_forward`. The map is computed again in float32 from what the
call was given, and with it the product; the largest difference to the network's own result is the map's residual, its certificate.

Conventions: a map is what multiplies the values. Where a network mixes heads after its softmax (talking heads, gated position
attention) that is the mixture, whose rows need not sum to 1. Keys and queries stand as the network has them: prefix tokens (class,
distillation, shape, registers) first, then patches row by row.

`geometry` says what a map is over: `global`, each of an image's tokens attends to all of them; `class-only`, one query attends to
all; `window`, the first two dimensions count images, windows and heads as the network laid them out; `reduced`, queries and keys
have different resolutions; `channel`, not over places at all; `other`, what the shapes do not tell.

Source of the rollout: Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", eq. 1.

Known limits: a network compiled into a graph (`torch.compile`, TorchScript) hides its calls. Attention that never multiplies a map
with values (linear attention) has no map here.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from visionvitals import core
from visionvitals.errors import VitalsError, require
from visionvitals.inside.attention import Geometry, Map, Rows, unusable, watch

__all__ = ["Geometry", "Map", "Rows", "over_patches", "patch_rows", "record", "record_with_logits", "unusable", "watch"]

TOLERANCE = 1e-3
"""Residuals above this are refused where a map is used. In float32 they lie below 1e-5; in half precision rounding alone reaches 1e-3."""


def record(backbone: core.Backbone, images: Float[Tensor, "b 3 h w"], *, rows: Rows = "prefix") -> list[Map]:
    """All maps of one forward pass, in the order of the calls; empty for a network without attention.

    Args:
        backbone: any; its logits and its weights are as before.
        images: in [0, 1].
        rows: `prefix` keeps, of `global` maps, the rows of the prefix tokens; `all` keeps everything: 715 MB for 64 images of DeiT-S
            at 224 px, where `prefix` needs 4.
    """
    return record_with_logits(backbone, images, rows=rows)[0]


def record_with_logits(
    backbone: core.Backbone, images: Float[Tensor, "b 3 h w"], *, rows: Rows = "prefix"
) -> tuple[list[Map], Float[Tensor, "b k"]]:
    """`record`, and the logits of the same pass."""
    maps: list[Map] = []
    card = backbone.card
    with watch(backbone.module, len(images), maps.append, prefix=card.prefix_tokens, grid=card.patch_grid, rows=rows):
        logits = backbone.logits(images)
    return maps, logits


def patch_rows(
    backbone: core.Backbone,
    images: Float[Tensor, "b 3 h w"],
    *,
    block: int = -1,
    query: int = 0,
    rollout: bool = False,
) -> Float[Tensor, "b heads n"]:
    """How much one token attends to each patch, over the patch grid, row by row; not renormalised. NaN for an image that overflowed.

    Args:
        backbone: one with a patch grid.
        images: in [0, 1].
        block: which attention call; negative counts from the last.
        query: which prefix token asks: 0 is the class token, 1 of a distilled network its distillation or shape token. Networks
            without prefix tokens have one query, 0: the mean over patches, or the pooling query of an attention pool.
        rollout: instead of this map, that of the attention flow up to it, with heads averaged, as one head.

    Raises:
        VitalsError: no attention, no such call or query, a map that is not over the patch grid, one that fails its certificate, or a
            network whose attention calls are not one sequence.
    """
    calls = backbone.inside.attention if backbone.inside else ()
    if -len(calls) <= block < len(calls) and (reason := calls[block].unusable) is not None:
        raise VitalsError(
            f"`{backbone.card.spec}`, attention call {block % len(calls)} (`{calls[block].name}`): {reason}."
        )
    if rollout:
        return _patches_of(backbone, _rolled_out(backbone, images, block), query)
    maps = record(backbone, images)
    return _patches_of(backbone, _choose(backbone, maps, block), query)


def over_patches(found: Map, card: core.BackboneCard) -> Float[Tensor, "b heads q n"]:
    """The columns of a map that are the patches of the grid.

    Raises:
        VitalsError: the map is not over the patch grid, or fails its certificate.
    """
    reason = unusable(found, card.patch_grid)
    if reason is not None:
        raise VitalsError(f"`{card.spec}`, attention call {found.block} (`{found.name}`): {reason}.")
    must = f"`{card.spec}`, attention call {found.block} (`{found.name}`): map times values must be the network's own result"
    require(not found.residual > TOLERANCE, must, f"a residual of {found.residual:.2g}", "Its map is unknown.")
    return found.rows[:, :, :, found.prefix :]


def _choose(backbone: core.Backbone, maps: list[Map], block: int) -> Map:
    spec = backbone.card.spec
    require(bool(maps), f"`{spec}` must have attention", "none", "Choose a vision transformer.")
    must = f"`{spec}` has {len(maps)} attention calls, so `block` must be in [{-len(maps)}, {len(maps) - 1}]"
    require(-len(maps) <= block < len(maps), must, block)
    return maps[block]


def _patches_of(backbone: core.Backbone, found: Map, query: int) -> Tensor:
    rows = over_patches(found, backbone.card)
    must = f"`{backbone.card.spec}`: `query` must be in [0, {rows.shape[2] - 1}], the queries of attention call {found.block}"
    require(0 <= query < rows.shape[2], must, query)
    return rows[:, :, query]


def _rolled_out(backbone: core.Backbone, images: Tensor, block: int) -> Map:
    """R_l = norm(mean over heads of A_l + I) R_(l-1), R_0 = I, as one head; one block's maps are held at a time."""
    card = backbone.card
    flow: list[Map] = []
    calls: list[Map] = []
    last = block

    def fold(found: Map) -> None:
        calls.append(found._replace(rows=found.rows[:0]))
        if last >= 0 and found.block > last:
            return
        over_patches(found, card)
        must = f"`{card.spec}`: a rollout needs attention between all tokens in each block"
        same = not flow or flow[0].rows.shape[3] == found.rows.shape[3]
        require(found.geometry == "global" and same, must, f"{found.geometry} in `{found.name}`")
        mixed = found.rows.mean(dim=1) + torch.eye(found.rows.shape[3], device=found.rows.device)
        mixed = mixed / mixed.sum(dim=-1, keepdim=True)
        rows = mixed if not flow else mixed @ flow[0].rows[:, 0]
        flow[:] = [found._replace(rows=rows[:, None])]

    if last < 0:
        total = len(backbone.inside.attention) if backbone.inside else 0
        require(total > 0, f"`{card.spec}` must have attention", "none", "Choose a vision transformer.")
        require(
            -total <= last, f"`{card.spec}` has {total} attention calls, so `block` must be at least {-total}", block
        )
        last += total
    with watch(backbone.module, len(images), fold, prefix=card.prefix_tokens, grid=card.patch_grid, rows="all"):
        backbone.logits(images)
    _choose(backbone, calls, last)
    whole = flow[0]
    rows = whole.rows[:, :, : whole.prefix] if whole.prefix else whole.rows.mean(dim=2, keepdim=True)
    return whole._replace(rows=rows)
