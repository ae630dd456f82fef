"""Taking position out of a transformer, so that it cannot know where a patch was: the option `position=none`.

Each family keeps position elsewhere, and some take the request and ignore it, so the removal proves itself: patches of a picture are
permuted and the answer must stay the same. Networks for which "no position" means nothing are refused with the reason.
"""

from collections.abc import Callable
from typing import Any

import torch
from timm.layers import PatchEmbed
from timm.models.beit import Beit
from timm.models.cait import Cait
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torchvision.models import SwinTransformer as TorchvisionSwin
from torchvision.models import VisionTransformer as TorchvisionTransformer

from visionvitals import randomness
from visionvitals.errors import VitalsError, require
from visionvitals.perturb import patches

TOLERANCE = 2e-5
"""Largest change of the answer, relative to its size, under a permutation of the patches; float32 gives about 1e-6."""


def remove(module: nn.Module, *, size: tuple[int, int]) -> None:
    """Take the position encoding out of a network, in place, for all tokens; its weights may be there already or come later.

    Where the network can do without the parameter it is gone; else it is zero and does not learn.

    Args:
        module: the network.
        size: (height, width) of its input in pixels.

    Raises:
        VitalsError: the network is not a transformer whose position can be taken out (the reason is given), or the proof failed.
    """
    _taker(module)(module)
    found = change(module, size=size)
    must = "A network without position must give the same answer when the patches of a picture change places"
    require(found < TOLERANCE, must, f"{type(module).__name__}, which changes by {found:.2g} of it", WHY)


WHY = "Something else in it knows positions, such as a convolution over several patches. Leave `position` out."


@torch.inference_mode()
def change(module: nn.Module, *, size: tuple[int, int]) -> float:
    """How far the answer moves when the patches of a noise picture are permuted: |f(permuted) - f| / |f|, both Euclidean.

    Args:
        module: a network with patch tokens; its training mode is put back.
        size: (height, width) of its input in pixels. Pixels beyond the last whole patch are left alone.
    """
    grid, patch = _grid(module, size)
    weight = next(module.parameters())
    keys = randomness.stream(0, ["position"], "position/proof")
    image = randomness.uniform(keys, 3 * size[0] * size[1]).view(1, 3, *size)
    moved = image.clone()
    whole = (slice(None), slice(None), slice(grid[0] * patch[0]), slice(grid[1] * patch[1]))
    moved[whole] = patches.shuffle(image[whole].contiguous(), randomness.permutation(keys, grid[0] * grid[1]), grid)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        before, after = (module(x.to(weight.device, weight.dtype)).double() for x in (image - 0.5, moved - 0.5))
    finally:
        for part, mode in modes:
            part.training = mode
    return float((after - before).norm() / before.norm().clamp(min=1e-12))


def _taker(module: nn.Module) -> Callable[[nn.Module], None]:
    for kind, take in _TAKERS:
        if isinstance(module, kind):
            return take
    for kinds, reason in _REFUSED:
        if isinstance(module, kinds):
            raise VitalsError(f"Position cannot be taken out of {type(module).__name__}: {reason}")
    if not any("attn" in name or "attention" in name for name, _ in module.named_modules()):
        raise VitalsError(
            f"Position cannot be taken out of {type(module).__name__}: it has no position encoding; its convolutions see where "
            "things are through their neighbours, so there is nothing to remove. Leave `position` out."
        )
    raise VitalsError(
        f"Position cannot be taken out of {type(module).__name__}: where it keeps position is not known here. Known: ViT, DeiT "
        "(with and without distillation), DINOv2, SigLIP, EVA and DINOv3, BEiT, CaiT of timm, ViT of torchvision."
    )


def _grid(module: nn.Module, size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    if isinstance(module, TorchvisionTransformer):
        side = module.patch_size
        return (size[0] // side, size[1] // side), (side, side)
    embed = getattr(module, "patch_embed", None)
    must = f"Position can be taken out where a patch embedding cuts the picture, one patch a token ({type(module).__name__})"
    require(isinstance(embed, PatchEmbed), must, type(embed).__name__, WHY)
    assert isinstance(embed, PatchEmbed)
    height, width = embed.patch_size
    return (size[0] // height, size[1] // width), (height, width)


def _zero(parameter: nn.Parameter | None) -> None:
    if parameter is not None:
        parameter.requires_grad_(False).zero_()


def _from_vit(module: Any) -> None:
    module.pos_embed = None


def _from_zeroed(module: Any) -> None:
    """timm's distilled DeiT takes `pos_embed="none"` and ignores it, and cannot run with None; CaiT cannot either."""
    _zero(module.pos_embed)


def _from_eva(module: Any) -> None:
    """An absolute embedding and rotations of the queries and keys; either alone still tells positions."""
    module.pos_embed, module.rope = None, None


def _from_beit(module: Any) -> None:
    """Biases between every pair of positions, in each block or shared by all."""
    module.pos_embed = None
    for name, parameter in module.named_parameters():
        if name.endswith("relative_position_bias_table"):
            _zero(parameter)


def _from_torchvision(module: nn.Module) -> None:
    assert isinstance(module, TorchvisionTransformer)
    _zero(module.encoder.pos_embedding)


_TAKERS: tuple[tuple[type[nn.Module], Callable[[nn.Module], None]], ...] = (
    (VisionTransformerDistilled, _from_zeroed),
    (VisionTransformer, _from_vit),
    (Eva, _from_eva),
    (Beit, _from_beit),
    (Cait, _from_zeroed),
    (TorchvisionTransformer, _from_torchvision),
)
_REFUSED = (
    (
        (SwinTransformer, SwinTransformerV2, TorchvisionSwin),
        "its attention works in windows and its merging layers join neighbours, so it knows positions without any encoding; "
        '"no position" is not defined for it.',
    ),
)
