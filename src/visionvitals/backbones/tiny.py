"""tiny: a small transformer and a small convolutional network that come with the package, trained on the embedded image set.

`tiny:vit`, `tiny:cnn`, or `tiny:vit@weights.safetensors` for weights of your own (`vitals train` writes them); `tiny:vit_distilled` has
a second token and no embedded weights. Options: `classes`, `resize`, `crop`, `interpolation`, `mean`, `std`, `position`, `token`. The
recipes that made the weights are in `training/recipes`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer

from visionvitals import core, weight_files
from visionvitals.backbones import _options, _parts, checkpoint
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec, reads

EXAMPLES: tuple[str, ...] = ("tiny:vit", "tiny:cnn")
NAMES = ("vit", "cnn", "vit_distilled")
WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Options(_options.Parted):
    """What a `tiny:` spelling may say."""


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a `tiny:` spelling names.

    Raises:
        VitalsError: an unknown name or option, no weights file, or one of another network.
    """
    require_known(spec.name)
    name, file = spec.name, spec.checkpoint
    if file is None and f"tiny:{name}" not in EXAMPLES:
        raise VitalsError(f"It needs weights that `vitals train` wrote: `tiny:{name}@FILE.safetensors`.")
    weights = weight_files.read(WEIGHTS / f"tiny_{name}.safetensors" if file is None else Path(file))
    arch = weights.metadata.get("arch")
    require(arch == f"tiny:{name}", f"It needs a weights file of `tiny:{name}`, as `vitals train` writes it", arch)
    made = checkpoint.described(weights, options)
    return _parts.assemble(made, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def files(spec: Spec) -> tuple[Path, ...]:
    """See `plan.cards`."""
    return () if spec.checkpoint else (WEIGHTS / f"tiny_{spec.name}.safetensors",)


def network(name: str, **kwargs: Any) -> torch.nn.Module:
    """A network with random weights, for images of 64 x 64 pixels.

    `vit`: timm's VisionTransformer, 8 x 8 pixel patches through `patch_stem`, width 128, 6 blocks, 4 heads, a class token.
    `vit_distilled`: the same with a second token and its own head (timm's VisionTransformerDistilled).
    `cnn`: timm's ResNet, 8 basic blocks with batch normalisation, about as many weights, a similar forward cost.

    Args:
        name: one of `NAMES`.
        kwargs: keyword arguments of timm's class, over these values; `num_classes` is needed.
    """
    require_known(name)
    if name != "cnn":
        own: dict[str, Any] = {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4}
        made = (VisionTransformer if name == "vit" else VisionTransformerDistilled)(**{**own, **kwargs})
        made.patch_embed.proj = patch_stem(made.patch_embed.patch_size[0], width=made.embed_dim)
    else:
        own = {"layers": (2, 2, 2, 2), "channels": (40, 64, 96, 144), "stem_width": 32}
        made = ResNet(BasicBlock, **{**own, **kwargs})
    assert isinstance(made, torch.nn.Module)
    return made


def patch_stem(patch: int, *, width: int) -> torch.nn.Module:
    """The hierarchical patch stem "hMLP" (Touvron et al. 2022, "Three things everyone should know about vision transformers",
    section 5), in two steps: it sees one patch at a time, as a plain projection does, so that a token never holds pixels of another
    patch and removing tokens stays exact. A plain projection was still near chance after 1,000 steps of the recipe (docs/LOG.md).

    Args:
        patch: side of a patch in pixels, even.
        width: of the tokens.
    """
    require(patch % 2 == 0, "`patch_size` must be even", patch)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 48, kernel_size=patch // 2, stride=patch // 2),
        torch.nn.BatchNorm2d(48),
        torch.nn.GELU(),
        torch.nn.Conv2d(48, width, kernel_size=2, stride=2),
        torch.nn.BatchNorm2d(width),
    )


def require_known(name: str) -> None:
    """Refuse a name that is not one of `NAMES`."""
    if name not in NAMES:
        raise VitalsError(f"There is no network `tiny:{name}`. {near(name, NAMES)}")
