"""T2T-ViT: a vision transformer whose tokens come of overlapping windows that are unfolded, attended and folded again, three times.

Yuan et al. 2021, "Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet" (arXiv 2101.11986), written anew; the parts
have the names that their released files give to their weights. The token module attends with a Performer (linear in the number of tokens)
or with softmax.
"""

import math
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from timm.layers import Mlp, resample_abs_pos_embed
from torch import Tensor, nn
from torch.nn import functional

PATCH = 16
"""Pixels of the input for each token, along a side: 4 x 2 x 2."""
_TOKEN = 64  # width of the tokens inside the token module
_RANDOM = 32  # random features of a Performer


class Variant(NamedTuple):
    """A published size: width of the tokens, number of blocks, heads of each, hidden width of their MLP as a multiple, and what the token
    module attends with."""

    width: int
    blocks: int
    heads: int
    mlp: int
    module: Literal["performer", "transformer"]


VARIANTS = {
    "t2t_vit_7": Variant(256, 7, 4, 2, "performer"),
    "t2t_vit_10": Variant(256, 10, 4, 2, "performer"),
    "t2t_vit_12": Variant(256, 12, 4, 2, "performer"),
    "t2t_vit_14": Variant(384, 14, 6, 3, "performer"),
    "t2t_vit_19": Variant(448, 19, 7, 3, "performer"),
    "t2t_vit_24": Variant(512, 24, 8, 3, "performer"),
    "t2t_vit_t_14": Variant(384, 14, 6, 3, "transformer"),
    "t2t_vit_t_19": Variant(448, 19, 7, 3, "transformer"),
    "t2t_vit_t_24": Variant(512, 24, 8, 3, "transformer"),
}


class T2TViT(nn.Module):
    """The network.

    Args:
        variant: its sizes.
        grid: (rows, columns) of tokens that its position table is made for.
        num_classes: outputs; 0 gives the normed class token.
    """

    def __init__(self, variant: Variant, *, grid: tuple[int, int] = (14, 14), num_classes: int = 1000) -> None:
        super().__init__()
        width = variant.width
        self.grid, self.num_classes = grid, num_classes
        self.tokens_to_token = _TokensToToken(width, variant.module)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(sine_table(1 + grid[0] * grid[1], width)[None], requires_grad=False)
        self.blocks = nn.ModuleList(_Block(width, variant.heads, variant.mlp * width) for _ in range(variant.blocks))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.apply(_initialise)

    def resample(self, grid: tuple[int, int]) -> None:
        """Bring the position table to another grid, as timm does (bicubic); the class token's row stays."""
        table = resample_abs_pos_embed(self.pos_embed.data, list(grid), list(self.grid), num_prefix_tokens=1)
        self.pos_embed, self.grid = nn.Parameter(table, requires_grad=False), grid

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        x = self.tokens_to_token(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        answer: Tensor = self.head(self.norm(x)[:, 0])
        return answer


class _TokensToToken(nn.Module):
    """Images (b, 3, h, w) -> tokens (b, h / 16 * w / 16, width), row by row."""

    def __init__(self, width: int, kind: Literal["performer", "transformer"]) -> None:
        super().__init__()
        attention = _Performer if kind == "performer" else _Softmax
        self.attention1 = attention(3 * 7 * 7)
        self.attention2 = attention(_TOKEN * 3 * 3)
        self.project = nn.Linear(_TOKEN * 3 * 3, width)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        sides = (images.shape[2] // 4, images.shape[3] // 4)
        x = self.attention1(functional.unfold(images, 7, stride=4, padding=2).mT).mT.unflatten(2, sides)
        sides = (sides[0] // 2, sides[1] // 2)
        x = self.attention2(functional.unfold(x, 3, stride=2, padding=1).mT).mT.unflatten(2, sides)
        tokens: Tensor = self.project(functional.unfold(x, 3, stride=2, padding=1).mT)
        return tokens


class _Performer(nn.Module):
    """Attention through positive random features (Choromanski et al. 2021, "Rethinking Attention with Performers", "FAVOR+"), one head.

    With phi(u) = exp(u w^T - |u|^2 / 2) / sqrt(32), a token's new value is sum_s phi(q) phi(k_s) v_s / (sum_s phi(q) phi(k_s) + 1e-8).
    `w` (32, 64) is random, orthogonal and not trained: part of the file. The residual is of the value, not of the token, whose width is
    another.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1, self.kqv = nn.LayerNorm(inputs), nn.Linear(inputs, 3 * _TOKEN)
        self.w = nn.Parameter(nn.init.orthogonal_(torch.empty(_RANDOM, _TOKEN)) * _RANDOM**0.5, requires_grad=False)
        self.proj, self.norm2 = nn.Linear(_TOKEN, _TOKEN), nn.LayerNorm(_TOKEN)
        self.mlp = nn.Sequential(nn.Linear(_TOKEN, _TOKEN), nn.GELU(), nn.Linear(_TOKEN, _TOKEN))

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n 64"]:
        k, q, v = self.kqv(self.norm1(x)).split(_TOKEN, dim=2)  # keys come first
        x = v + self.proj(self.attended(k, q, v))
        return torch.add(x, self.mlp(self.norm2(x)))

    def attended(self, k: Tensor, q: Tensor, v: Tensor) -> Float[Tensor, "b n 64"]:
        """The mean of `v` by the kernel of `q` and `k`, in float32 whatever the precision of the pass: it is made of exponentials."""
        with torch.autocast(v.device.type, enabled=False):
            keys, queries = self._features(k.float()), self._features(q.float())
            weight = queries @ keys.sum(dim=1, keepdim=True).mT
            return queries @ (keys.mT @ v.float()) / (weight + 1e-8)

    def _features(self, u: Float[Tensor, "b n 64"]) -> Float[Tensor, "b n 32"]:
        return (u @ self.w.T - u.square().sum(dim=2, keepdim=True) / 2).exp() / math.sqrt(_RANDOM)


class _Softmax(nn.Module):
    """Softmax attention, one head. Its scale is that of the width of its input, not of the head, and the residual is of the value."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(inputs), _Attention(inputs, 1, _TOKEN)
        self.norm2, self.mlp = nn.LayerNorm(_TOKEN), Mlp(_TOKEN, _TOKEN)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n 64"]:
        x = self.attn(self.norm1(x))
        return torch.add(x, self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    """Queries, keys and values without bias, in this order.

    Args:
        inputs: width of what comes in.
        heads: their number.
        width: of what goes out. Where it is another than `inputs`, the values are the residual, and the scale is inputs^-1/2 instead of
            that of a head's width.
    """

    def __init__(self, inputs: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads, self.of_values = heads, width != inputs
        self.scale = (inputs if self.of_values else width // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(inputs, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "b n c"]) -> Float[Tensor, "b n d"]:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, scale=self.scale).transpose(1, 2).flatten(2)
        new: Tensor = self.proj(seen)
        return new + v.transpose(1, 2).flatten(2) if self.of_values else new


class _Block(nn.Module):
    """A pre-norm transformer block: tokens (b, n, d) -> (b, n, d)."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(width), _Attention(width, heads, width)
        self.norm2, self.mlp = nn.LayerNorm(width), Mlp(width, hidden)

    def forward(self, x: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
        x = x + self.attn(self.norm1(x))
        return torch.add(x, self.mlp(self.norm2(x)))


def sine_table(positions: int, width: int) -> Float[Tensor, "n d"]:
    """The position table: at position p and even column j sin(p / 10000^(j / d)), beside it, at j + 1, the cosine of the same angle.

    Position 0 is the class token; row 0 is 0 1 0 1 ..., and each row has the squared length d / 2.
    """
    even = torch.arange(0, width, 2, dtype=torch.float64)
    angles = torch.arange(positions, dtype=torch.float64)[:, None] / 10000 ** (even / width)
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


def _initialise(part: Any) -> None:
    """Random weights as usual for vision transformers: linear layers normal with a deviation of 0.02, without a bias."""
    if isinstance(part, nn.Linear):
        nn.init.trunc_normal_(part.weight, std=0.02)
        if part.bias is not None:
            nn.init.zeros_(part.bias)
