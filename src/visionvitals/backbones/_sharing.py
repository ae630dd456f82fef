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
from torchvision.models import VisionTransformer as TorchvisionTransformer
from torchvision.models.vision_transformer import EncoderBlock

from visionvitals.backbones._token_removal import Tokens, gather_tokens
from visionvitals.perturb import patches

WITHIN = 1e-5
"""Of the largest output: by how much the shared pass may differ from the network's own."""


class Shared(NamedTuple):
    """A network's pass, whole and in two steps.

    Attributes:
        logits: (normalised images, indices (b, m) of the visible patches or nothing for all) -> logits (b, k).
        embed: normalised images -> the map of patch embeddings (b, d, rows, columns), before positions.
        finish: (that map, those indices or None) -> logits.
        shares: what was found equal to the network's own pass: `last block`, `patch embedding`.
    """

    logits: Callable[..., Any]
    embed: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor, Tensor | None], Tensor]
    shares: tuple[str, ...]


class _Family(NamedTuple):
    """How a library writes a vision transformer; `reads` is how many of the first tokens its classifier reads, 0 for all."""

    embed: Callable[[Tensor], Tensor]
    begin: Callable[[Tensor], Tensor]
    norm: Callable[[Tensor], Tensor]
    blocks: nn.Module
    finish: Callable[[Tensor], Tensor]
    reads: int


def find(module: nn.Module, own: Callable[[Tensor], Any], tokens: Tokens, pictures: Float[Tensor, "2 3 h w"]) -> Shared:
    """The pass of a network that shares what it can: a transformer of timm or torchvision what is certified, any other nothing.

    Args:
        module: the network.
        own: its own pass of normalised images.
        tokens: its patch tokens.
        pictures: two, normalised.
    """
    family = (_timm(module) or _torchvision(module)) if own is module and tokens.grid else None
    embed, finish = _steps(family, tokens) if family is not None else (own, lambda embedded, visible: embedded)
    shares = (
        _certified(embed, finish, own, pictures, family.reads) if family is not None and not watched(module) else ()
    )

    def logits(images: Float[Tensor, "b 3 h w"], visible: Int64[Tensor, "b m"] | None = None) -> Any:
        if shares and not torch.is_grad_enabled() and not watched(module):
            return finish(embed(images), visible)
        if visible is None:
            return own(images)
        assert tokens.keep is not None
        with tokens.keep(visible):
            return own(images)

    return Shared(logits, embed, finish, shares)


def _steps(
    family: _Family, tokens: Tokens
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor | None], Tensor]]:
    grid = tokens.grid
    assert grid is not None

    def embed(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d rows columns"]:
        tokens = family.embed(images).mT
        return tokens.view(*tokens.shape[:2], *grid)

    def finish(
        embedded: Float[Tensor, "b d rows columns"], visible: Int64[Tensor, "b m"] | None
    ) -> Float[Tensor, "b k"]:
        x = family.begin(embedded.flatten(2).mT.contiguous())
        x = family.norm(x if visible is None else gather_tokens(x, visible, prefix=tokens.prefix))
        *before, last = family.blocks.children()
        for block in before:
            x = block(x)
        return family.finish(_last(last, x, family.reads) if family.reads else last(x))

    return embed, finish


def watched(module: nn.Module) -> bool:
    """Whether somebody looks into a network, or has changed how a part of it computes: then only its own pass is right."""
    return any(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part) for part in module.modules())


def _certified(
    embed: Callable[[Tensor], Tensor],
    finish: Callable[[Tensor, Tensor | None], Tensor],
    own: Callable[[Tensor], Any],
    pictures: Float[Tensor, "2 3 h w"],
    reads: int,
) -> tuple[str, ...]:
    """What equals the network's own pass: the two steps, and, in one more try, patches that are filled or moved between them."""
    embedded, answer = embed(pictures), own(pictures)
    grid = embedded.shape[2], embedded.shape[3]
    if torch.equal(answer[0], answer[1]) or not _equal(finish(embedded, None), answer):
        return ()
    shares = ("last block",) if reads else ()
    if any(side % cells for side, cells in zip(pictures.shape[2:], grid, strict=True)):
        return shares
    moved = torch.arange(grid[0] * grid[1], device=pictures.device).flip(0).roll(1).expand(2, -1)
    dropped = moved % 3 == 0

    def changed(x: Tensor, colour: Tensor) -> Tensor:
        return torch.cat([patches.occlude_cells(x, dropped, grid, colour), patches.shuffle(x, moved, grid)])

    colour = pictures[:1, :, :1, :1]
    fill = embed(colour.expand(1, *pictures.shape[1:]))[:, :, :1, :1]
    same = _equal(finish(changed(embedded, fill), None), own(changed(pictures, colour)))
    return (*shares, "patch embedding") if same else shares


def _equal(ours: Tensor, own: Tensor) -> bool:
    return ours.shape == own.shape and bool((ours - own).abs().max() <= WITHIN * own.abs().max())


def _timm(module: nn.Module) -> _Family | None:
    if type(module) not in (VisionTransformer, VisionTransformerDistilled):
        return None
    assert isinstance(module, VisionTransformer)
    if type(module.patch_embed) is not PatchEmbed or not module.patch_embed.flatten:
        return None
    distilled = isinstance(module, VisionTransformerDistilled)
    by_token = distilled or (module.attn_pool is None and module.global_pool == "token")
    return _Family(
        module.patch_embed,
        module._pos_embed,
        module.norm_pre,
        module.blocks,
        lambda x: module.forward_head(module.norm(x)),
        1 + distilled if by_token else 0,
    )


def _torchvision(module: nn.Module) -> _Family | None:
    if type(module) is not TorchvisionTransformer:
        return None
    own: TorchvisionTransformer = module
    encoder = own.encoder

    def begin(tokens: Tensor) -> Tensor:
        x = torch.cat([own.class_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return x.add_(encoder.pos_embedding)

    def finish(x: Tensor) -> Tensor:
        answer: Tensor = own.heads(encoder.ln(x)[:, 0])
        return answer

    return _Family(own._process_input, begin, nn.Identity(), encoder.layers, finish, 1)


def _last(block: Any, x: Float[Tensor, "b n d"], reads: int) -> Any:
    """What a block gives for the first `reads` tokens; all that it gives, where its kind is not known."""
    if type(block) is EncoderBlock:
        normed = block.ln_1(x)
        x = x[:, :reads] + block.self_attention(normed[:, :reads], normed, normed, need_weights=False)[0]
        return x + block.mlp(block.ln_2(x))
    known = type(block) is Block and type(block.attn) is Attention and block.attn.gate is None
    if not known or type(block.attn.qkv) is not nn.Linear:
        return block(x)
    x = x[:, :reads] + block.ls1(_attended(block.attn, block.norm1(x), reads))
    return x + block.ls2(block.mlp(block.norm2(x)))


def _attended(attention: Any, x: Float[Tensor, "b n d"], reads: int) -> Any:
    """What timm's attention gives for the first `reads` tokens, which look at all."""
    weight, bias, width = attention.qkv.weight, attention.qkv.bias, attention.attn_dim
    of_query, of_rest = (None, None) if bias is None else (bias[:width], bias[width:])
    b, n, _ = x.shape
    shape = attention.num_heads, attention.head_dim
    query = functional.linear(x[:, :reads], weight[:width], of_query).view(b, reads, *shape).transpose(1, 2)
    rest = functional.linear(x, weight[width:], of_rest).view(b, n, 2, *shape).permute(2, 0, 3, 1, 4)
    seen = functional.scaled_dot_product_attention(attention.q_norm(query), attention.k_norm(rest[0]), rest[1])
    return attention.proj(attention.norm(seen.transpose(1, 2).reshape(b, reads, width)))
