"""Taking patch tokens out of a vision transformer: after the position embedding, before the first block.

What is removed is gone from the sequence: no block sees it, and class, distillation and register tokens stay. This is the `token`
fill of the occlusion study and the only removal that puts nothing in the place of the patch.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from timm.layers import HybridEmbed, PatchEmbed
from timm.models.eva import Eva
from timm.models.tnt import TNT
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.models import VisionTransformer as TorchvisionTransformer

from visionvitals.errors import require

Keep = Callable[[Tensor], AbstractContextManager[None]]
"""Given the indices (b, m) of the visible patch tokens, a context in which the network's forward pass sees only these."""


class Tokens(NamedTuple):
    """The patch tokens of a network.

    Attributes:
        grid: (rows, columns) of patch tokens, or None.
        prefix: tokens before them in the sequence (class, distillation, registers), by the network's own count.
        registers: how many of these are registers, which stand at their end.
        keep: how to remove some, or None where that is not defined (windows, convolutions between blocks, relative biases).
        why: where it is None, the reason, if the family says it.
    """

    grid: tuple[int, int] | None = None
    prefix: int = 0
    keep: Keep | None = None
    registers: int = 0
    why: str = ""


def find(module: torch.nn.Module) -> Tokens:
    """Recognise timm's and torchvision's transformers by their class; anything else has no tokens that we can name.

    Tokens that come out of a convolutional stem have seen their neighbours' pixels, so removing them removes nothing: not offered.
    """
    if isinstance(module, TorchvisionTransformer):
        side = module.image_size // module.patch_size
        plain = isinstance(module.conv_proj, torch.nn.Conv2d)
        return Tokens((side, side), 1, by_hook(module.encoder.dropout, 1) if plain else None)
    if isinstance(
        module, TNT
    ):  # a patch token and, beside it, the tokens of its pixels: removing the former leaves the latter
        return Tokens(tuple(module.pixel_embed.grid_size), module.num_prefix_tokens)
    embed = getattr(module, "patch_embed", None) or getattr(module, "stem", None)
    grid = tuple(embed.grid_size) if isinstance(embed, PatchEmbed | HybridEmbed) and embed.grid_size else None
    prefix = int(getattr(module, "num_prefix_tokens", 0))
    own = getattr(module, "reg_token", None)  # (1, registers, d)
    registers = min(prefix, own.shape[1]) if isinstance(own, torch.Tensor) and own.ndim == 3 else 0
    keep = None
    if isinstance(embed, PatchEmbed) and isinstance(module, Eva):
        keep = _by_patch_drop(module, prefix)
    elif isinstance(embed, PatchEmbed) and isinstance(module, VisionTransformer):
        keep = by_hook(module.patch_drop, prefix)
    return Tokens(grid, prefix, keep, registers)


def find_hugging_face(module: Any, size: tuple[int, int]) -> Tokens:
    """The same for transformers' models, by their declared model type; `size` is the network input in pixels."""
    config = getattr(module.config, "vision_config", module.config)
    kind = str(config.model_type)
    registers = getattr(config, "num_register_tokens", 0)
    prefixes = {
        **dict.fromkeys(("vit", "vit_msn", "dinov2", "clip_vision_model", "beit"), 1),
        **dict.fromkeys(("siglip_vision_model",), 0),
        **dict.fromkeys(("dinov2_with_registers", "dinov3_vit"), 1 + registers),
        "deit": 2,
    }
    if kind not in prefixes:
        return Tokens()
    patch = config.patch_size
    height, width = patch if isinstance(patch, list | tuple) else (patch, patch)
    grid, prefix = (size[0] // height, size[1] // width), prefixes[kind]
    registers = registers if kind in ("dinov2_with_registers", "dinov3_vit") else 0
    if kind in ("beit", "dinov3_vit"):  # positions enter each block for the whole grid, so no token can be taken out
        return Tokens(grid, prefix, registers=registers)
    embeddings = next(part for name, part in module.named_modules() if name.rpartition(".")[2] == "embeddings")
    return Tokens(grid, prefix, by_hook(embeddings, prefix), registers)


def by_hook(place: torch.nn.Module, prefix: int) -> Keep:
    """Removal where the output of `place` is the whole sequence (b, prefix + n, d) that the first block reads."""

    @contextmanager
    def keep(indices: Int64[Tensor, "b m"]) -> Iterator[None]:
        def gather(_module: torch.nn.Module, _arguments: object, tokens: Tensor) -> Tensor:
            return gather_tokens(tokens, indices, prefix=prefix)

        handle = place.register_forward_hook(gather)
        try:
            yield
        finally:
            handle.remove()

    return keep


def gather_tokens(
    tokens: Float[Tensor, "b n d"], indices: Int64[Tensor, "b m"], *, prefix: int
) -> Float[Tensor, "b k d"]:
    """The prefix tokens and, of the patch tokens, those at `indices`: k = prefix + m.

    Args:
        tokens: the sequence, prefix first.
        indices: positions among the patch tokens, in [0, n - prefix), each row in increasing order.
        prefix: tokens that always stay.
    """
    patches = tokens[:, prefix:]
    picked = patches.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))
    return torch.cat((tokens[:, :prefix], picked), dim=1)


def _by_patch_drop(module: Eva, prefix: int) -> Keep:
    """Removal for the EVA family, whose own patch dropout also removes the rotary embedding of the dropped positions."""

    @contextmanager
    def keep(indices: Int64[Tensor, "b m"]) -> Iterator[None]:
        before = module.patch_drop
        module.patch_drop = _Drop(indices, prefix).eval()
        try:
            yield
        finally:
            module.patch_drop = before

    return keep


class _Drop(torch.nn.Module):
    """Stands for timm's `PatchDropoutWithIndices` during one forward pass."""

    def __init__(self, indices: Tensor, prefix: int) -> None:
        torch.nn.Module.__init__(self)
        self.indices, self.prefix = indices, prefix

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return gather_tokens(tokens, self.indices, prefix=self.prefix), self.indices


def visible_indices(visible: Tensor, grid: tuple[int, int]) -> Int64[Tensor, "b m"]:
    """The positions that `visible`, bool (b, n), marks; each row in increasing order.

    Raises:
        VitalsError: `visible` is not bool, n is not the number of patches, or the rows differ in their number of True.
    """
    n = grid[0] * grid[1]
    require(visible.dtype == torch.bool, "`visible` must be bool", visible.dtype)
    require(visible.ndim == 2 and visible.shape[1] == n, f"`visible` must be (b, {n})", tuple(visible.shape))
    counts = visible.sum(dim=1)
    require(bool((counts == counts[:1]).all()), "Each row of `visible` must mark equally many tokens", counts.tolist())
    return visible.nonzero()[:, 1].view(visible.shape[0], -1)


def visible_logits(
    logits: Callable[[Tensor, Tensor], Tensor], grid: tuple[int, int]
) -> Callable[[Tensor, Tensor], Tensor]:
    """`core.Backbone.visible_logits` of a pass that takes images and the indices (b, m) of the visible patches."""

    def of_visible(images: Float[Tensor, "b 3 h w"], visible: Bool[Tensor, "b n"]) -> Float[Tensor, "b k"]:
        indices = visible_indices(visible.to(images.device), grid)
        must = "`visible` must have one row for each image"
        require(len(visible) == len(images), must, (len(visible), len(images)))
        result = logits(images, indices)
        if indices.shape[1] == 0:
            must = "This network pools its patch tokens, so at least one must be visible"
            require(bool(result.isfinite().all()), must, "none")
        return result

    return of_visible
