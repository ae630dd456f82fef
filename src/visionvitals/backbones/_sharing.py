"""Passes of a vision transformer that compute nothing twice and nothing for nobody, equal to its own within float32's rounding.

The last block gives the tokens that the classifier reads, and no others: queries, attention rows, projection and MLP of the rest are left
out. The patch embedding sees one patch at a time, so that whole patches can be filled or moved after it as well as before. A network is
taken by its exact class and tried on pictures when it is loaded. Gradients, and whatever looks inside, get the network's own pass.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from timm.layers import PatchEmbed
from timm.layers.attention import Attention
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional

from visionvitals.backbones._token_removal import Tokens, gather_tokens
from visionvitals.perturb import patches

WITHIN = 1e-5
"""Of the largest output: by how much the shared pass may differ from the network's own."""


class Shared(NamedTuple):
    """A network's pass, whole and in two steps.

    Attributes:
        logits: (normalised images, indices (b, m) of the visible patches or nothing for all) -> logits (b, k).
        embed: normalised images -> the map of patch embeddings (b, d, rows, columns), before positions.
        finish: that map, and those indices -> logits.
        shares: what was found equal to the network's own pass: `last block`, `patch embedding`.
    """

    logits: Callable[..., Any]
    embed: Callable[[Tensor], Tensor]
    finish: Callable[..., Any]
    shares: tuple[str, ...]


def find(module: Any, own: Callable[[Tensor], Any], tokens: Tokens, pictures: Float[Tensor, "2 3 h w"]) -> Shared:
    """The pass of a network that shares what it can: a `VisionTransformer` of timm what is certified, any other network nothing.

    Args:
        module: the network.
        own: its own pass of normalised images.
        tokens: its patch tokens.
        pictures: two, normalised.
    """
    known = own is module and type(module) in (VisionTransformer, VisionTransformerDistilled)
    known = known and type(module.patch_embed) is PatchEmbed and module.patch_embed.flatten and not watched(module)
    distilled = type(module) is VisionTransformerDistilled
    by_token = known and (distilled or (module.attn_pool is None and module.global_pool == "token"))
    reads = 1 + distilled if by_token else 0

    def embed(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d rows columns"]:
        embedded: Tensor = module.patch_embed(images).mT
        return embedded.view(*embedded.shape[:2], *module.patch_embed.grid_size)

    def finish(embedded: Float[Tensor, "b d rows columns"], visible: Int64[Tensor, "b m"] | None = None) -> Any:
        x = module._pos_embed(embedded.flatten(2).mT.contiguous())
        x = module.norm_pre(x if visible is None else gather_tokens(x, visible, prefix=tokens.prefix))
        for block in module.blocks[:-1]:
            x = block(x)
        last = module.blocks[-1]
        return module.forward_head(module.norm(_last(last, x, reads) if reads else last(x)))

    shares = _certified(embed, finish, own, pictures, reads) if known else ()

    def logits(images: Float[Tensor, "b 3 h w"], visible: Int64[Tensor, "b m"] | None = None) -> Any:
        if shares and not torch.is_grad_enabled() and not watched(module):
            return finish(embed(images), visible)
        if visible is None:
            return own(images)
        assert tokens.keep is not None
        with tokens.keep(visible):
            return own(images)

    return Shared(logits, embed, finish, shares)


def watched(module: nn.Module) -> bool:
    """Whether somebody looks into a network, or has changed how a part of it computes: then only its own pass is right."""
    return any(p._forward_hooks or p._forward_pre_hooks or "forward" in vars(p) for p in module.modules())


def _certified(
    embed: Callable[[Tensor], Tensor],
    finish: Callable[..., Any],
    own: Callable[[Tensor], Any],
    pictures: Float[Tensor, "2 3 h w"],
    reads: int,
) -> tuple[str, ...]:
    """What equals the network's own pass: the two steps, and, in one more try, patches that are filled or moved between them."""
    embedded, answer = embed(pictures), own(pictures)
    grid = embedded.shape[2], embedded.shape[3]
    if torch.equal(answer[0], answer[1]) or not _equal(finish(embedded), answer):
        return ()
    shares = ("last block",) if reads else ()
    if any(side % cells for side, cells in zip(pictures.shape[2:], grid, strict=True)):
        return shares
    moved = torch.arange(grid[0] * grid[1], device=pictures.device).flip(0).roll(1).expand(2, -1)

    def changed(x: Tensor, colour: Tensor) -> Tensor:
        return torch.cat([patches.occlude_cells(x, moved % 3 == 0, grid, colour), patches.shuffle(x, moved, grid)])

    colour = pictures[:1, :, :1, :1]
    fill = embed(colour.expand(1, *pictures.shape[1:]))[:, :, :1, :1]
    same = _equal(finish(changed(embedded, fill)), own(changed(pictures, colour)))
    return (*shares, "patch embedding") if same else shares


def _equal(ours: Tensor, own: Tensor) -> bool:
    return ours.shape == own.shape and bool((ours - own).abs().max() <= WITHIN * own.abs().max())


def _last(block: Any, x: Float[Tensor, "b n d"], reads: int) -> Any:
    """What a block gives for the first `reads` tokens, which look at all; all that it gives, where its kind is not known."""
    attention: Any = block.attn if type(block) is Block else None
    if type(attention) is not Attention or attention.gate is not None or type(attention.qkv) is not nn.Linear:
        return block(x)
    weight, bias, width = attention.qkv.weight, attention.qkv.bias, attention.attn_dim
    of_query, of_rest = (None, None) if bias is None else (bias[:width], bias[width:])
    shape, normed = (attention.num_heads, attention.head_dim), block.norm1(x)
    query = functional.linear(normed[:, :reads], weight[:width], of_query).unflatten(2, shape).transpose(1, 2)  # type: ignore[no-untyped-call]
    rest = functional.linear(normed, weight[width:], of_rest).unflatten(2, (2, *shape)).permute(2, 0, 3, 1, 4)  # type: ignore[no-untyped-call]
    seen = functional.scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(rest[0]), rest[1])
    x = x[:, :reads] + block.ls1(attention.proj(attention.norm(seen.transpose(1, 2).flatten(2))))
    return x + block.ls2(block.mlp(block.norm2(x)))
