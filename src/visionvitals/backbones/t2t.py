"""T2T-ViT: the nine published sizes, with their authors' released weights or a local file.

`t2t:t2t_vit_14`, `t2t:t2t_vit_14@81.5_T2T_ViT_14.pth.tar`; names `t2t_vit_7`, `_10`, `_12`, `_14`, `_19`, `_24`, and `t2t_vit_t_14`, `_19`,
`_24`, whose token module attends with softmax. Options: `size` (positions are resampled), `resize`, `crop`, `interpolation`, `mean`, `std`,
`classes`, `weights=ema|raw`, `pretrained=false` with `seed`. A file with the positions of another input
(83.3_T2T_ViT_14.pth.tar, 384 px) is shown that one. `?resize=256&interpolation=bilinear` shows pictures as Naseer et al. 2021 did.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from visionvitals import core, weight_files
from visionvitals.backbones import _hub, _options, _parts, _preprocess
from visionvitals.backbones._t2t_network import PATCH, VARIANTS, T2TViT, sine_table
from visionvitals.backbones._token_removal import Tokens
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec, option, options, reads

EXAMPLES: tuple[str, ...] = (
    "t2t:t2t_vit_7?pretrained=false&size=64",
    "t2t:t2t_vit_t_14?pretrained=false&seed=1&size=48",
)
NAMES = tuple(VARIANTS)
RELEASE = "https://github.com/yitu-opensource/T2T-ViT/releases/download/main/"
FILES = {
    "t2t_vit_7": "71.7_T2T_ViT_7.pth.tar",
    "t2t_vit_10": "75.2_T2T_ViT_10.pth.tar",
    "t2t_vit_12": "76.5_T2T_ViT_12.pth.tar",
    "t2t_vit_14": "81.5_T2T_ViT_14.pth.tar",
    "t2t_vit_19": "81.9_T2T_ViT_19.pth.tar",
    "t2t_vit_24": "82.3_T2T_ViT_24.pth.tar",
    "t2t_vit_t_14": "81.7_T2T_ViTt_14.pth.tar",
    "t2t_vit_t_19": "82.4_T2T_ViTt_19.pth.tar",
    "t2t_vit_t_24": "82.6_T2T_ViTt_24.pth.tar",
}
"""The released file of each size; the number before its name is its published top-1."""
CROP = 0.9
"""Share of the resized side that the authors' evaluation keeps."""
FIXED = "its token module attends over the whole image before there are tokens, so each of them has seen all pixels"
"""Why no token can be taken out."""


def _refused(text: str) -> str:
    raise ValueError(
        "left out: without its table of positions, its overlapping windows of pixels still know where things are"
    )


@dataclass(frozen=True, kw_only=True)
class Options(_options.Look):
    """What a `t2t:` spelling may say."""

    size: _options.Size | None = _options.size()
    pretrained: bool | None = option(None, "`false` for random weights; the released ones where nothing is said")
    seed: int | None = option(None, "of random weights, 0 where nothing is said")
    weights: weight_files.Kind | None = _options.weights()
    position: str | None = option(None, "not available: its first layers know where pixels are", read=_refused)


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone that a `t2t:` spelling names.

    Raises:
        VitalsError: an unknown name or option, weights that do not fit or are not available, a size that is not whole tokens.
    """
    name, file = spec.name, spec.checkpoint
    if name not in NAMES:
        raise VitalsError(f"There is no T2T-ViT `{name}`. {near(name, NAMES)}")
    pretrained = file is None and options.pretrained is not False
    require(not pretrained or options.seed is None, "`seed` needs `pretrained=false`", options.seed)
    require(file is None or options.pretrained is None, "Give a file after `@` or `pretrained`, not both", file)
    require(file is not None or options.weights is None, "`weights` needs a file after `@`", options.weights)
    notes: tuple[str, ...] = ()
    if pretrained or file is not None:
        found = weight_files.read(Path(file) if file is not None else _fetched(name), options.weights)
        module, notes = _with_weights(name, found)
    else:
        module = _parts.seeded(lambda: T2TViT(VARIANTS[name]), seed=options.seed or 0)
    native = (module.grid[0] * PATCH, module.grid[1] * PATCH)
    base = core.Preprocess(
        size=native,
        resize=math.floor(native[0] / CROP),
        interpolation="bicubic",
        mean=_preprocess.IMAGENET.mean,
        std=_preprocess.IMAGENET.std,
    )
    preprocess = _preprocess.override(base, options, size=options.size, crop=CROP)
    if preprocess.size != native:
        notes += _resized(module, native, preprocess.size)
    made = _parts.Network(
        module=module,
        architecture=name,
        preprocess=preprocess,
        tokens=Tokens(module.grid, 1, why=FIXED),
        imagenet=True,
        notes=notes,
    )
    return _parts.assemble(made, spelling=spec.text, device=device, classes=options.classes, order=options.order)


def files(spec: Spec) -> tuple[Path, ...] | None:
    """See `plan.cards`. Released weights are looked for anew each time."""
    own = spec.checkpoint is not None or options(spec, Options).pretrained is False
    return () if own else None


def _with_weights(name: str, found: weight_files.Weights) -> tuple[T2TViT, tuple[str, ...]]:
    """The network of a file, made for the file's own number of positions and classes, and what must be said of it."""
    n = _rows(found, "pos_embed", axis=1)
    side = math.isqrt(max((n or 197) - 1, 1))
    fits = n is None or side * side == n - 1
    require(fits, f"{found.path}: its position table must be one of a square grid and a class token", n)
    outputs = _rows(found, "head.weight", axis=0)
    module = _parts.seeded(
        lambda: T2TViT(VARIANTS[name], grid=(side, side), num_classes=1000 if outputs is None else outputs), seed=0
    )
    weight_files.load_strict(module, found, architecture=name, like=_variant)
    return module, found.notes + _not_the_released(module)


def _rows(found: weight_files.Weights, key: str, *, axis: int) -> int | None:
    """The length of an axis of one of the tensors, or None where it is not there."""
    shape = found.state[key].shape if key in found.state else ()
    return int(shape[axis]) if len(shape) > axis else None


def _variant(state: dict[str, torch.Tensor]) -> str | None:
    """The size whose weights these are, by their keys and shapes; what follows from the input size and the classes is left out."""
    free = ("pos_embed", "head.weight", "head.bias")
    given = {key: tuple(value.shape) for key, value in state.items() if key not in free}
    for name, variant in VARIANTS.items():
        with torch.device("meta"):
            own = {k: tuple(v.shape) for k, v in T2TViT(variant).state_dict().items() if k not in free}
        if own == given:
            return f"`t2t:{name}`"
    return weight_files.likely(state)


def _not_the_released(module: T2TViT) -> tuple[str, ...]:
    """A note where what the authors never train is not as their code makes it: the position table at 224 px, a Performer's features."""
    table = sine_table(197, module.pos_embed.shape[2])
    odd = (
        ["position table"]
        if module.grid == (14, 14) and not torch.allclose(module.pos_embed[0], table, atol=1e-2)
        else []
    )
    own = [w.float() for key, w in module.state_dict().items() if key.endswith(".w")]
    odd += ["random features"] if any(not torch.allclose(w @ w.T, 32 * torch.eye(32), atol=0.5) for w in own) else []
    return (
        (f"its {' and '.join(odd)} are not those of the authors' code: was it trained by another one?",) if odd else ()
    )


def _resized(module: T2TViT, native: tuple[int, int], size: tuple[int, int]) -> tuple[str, ...]:
    """Bring the network to another input size, and the note on it."""
    must = f"T2T-ViT takes whole tokens, so both sides of its input must be multiples of {PATCH} pixels"
    require(not any(side % PATCH for side in size), must, size)
    module.resample((size[0] // PATCH, size[1] // PATCH))
    sizes = f"made for {native[0]} x {native[1]} pixels and shown {size[0]} x {size[1]}"
    return (f"{sizes}: its table of positions is resampled",)


def _fetched(name: str) -> Path:
    """The released file in torch's own cache, downloaded if it is not there."""
    return _hub.downloaded(
        RELEASE + FILES[name],
        name=name,
        file_way=f"`t2t:{name}@{FILES[name]}`",
        spelling_way="`?pretrained=false` for random ones",
    )
