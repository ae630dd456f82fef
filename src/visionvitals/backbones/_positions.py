"""Where the positions of a weights file lie. A table of 64 positions may be one of 8 x 8 patches or of 4 x 16: its shape does not say.

A file that records its input size is loaded at that size, and resampled to another as timm does. Of any other file the grid is what the
spelling, or the published size of the network, says; whether the table can be one of that grid is seen in the table itself. A file of a network
that was trained without positions has no table.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals.errors import require
from visionvitals.perturb import position
from visionvitals.weight_files import Weights

_ALIKE = 0.3
_PEAK = 0.03
_NARROWEST = 3


def checked(module: nn.Module, path: Path, *, told: bool) -> tuple[str, ...]:
    """Refuse a network whose position table was learned on another grid of as many patches.

    Args:
        module: the network with its weights; one without a learned table over a grid of patches is let through.
        path: of the file that they come from, which does not say its input size.
        told: the spelling says it.

    Returns:
        A note where the table does not show its grid (see `columns`), so that what the spelling says cannot be checked.

    Raises:
        VitalsError: the grid that the table shows is another one.
    """
    table, embed = getattr(module, "pos_embed", None), getattr(module, "patch_embed", None)
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    if not isinstance(table, Tensor) or table.ndim != 3 or grid is None or patch is None:
        return ()
    height, width = grid
    n = height * width
    if (
        not 0 <= table.shape[1] - n < 8 or min(grid) < 2
    ):  # not one position a patch, beside those of class tokens and registers
        return ()
    found = columns(table.detach()[0, -n:])
    if found is None:
        sure = f"its positions are taken to lie on {height} x {width} patches, as `model.img_size` says; its file does not show it"
        return (sure,) if told else ()
    native = (n // found * patch[0], found * patch[1])
    require(
        found == width or width < _NARROWEST,
        f"{path}: its position table must be one of {height} x {width} patches",
        f"one in which {n // found} x {found} are neighbours, so that positions would be in the wrong place",
        f"Give `model.img_size={native[0]},{native[1]}`, with which it was trained, and `size=` for another input: its positions are then "
        "resampled.",
    )
    return ()


def without(module: nn.Module, weights: Weights, asked: str | None) -> Weights:
    """Take position out of a network before it is loaded, where `position=none` is asked for and the file has no table; where the network
    cannot do without one, the weights get its zeros.

    Raises:
        VitalsError: see `perturb.position.remove`.
    """
    size = getattr(getattr(module, "patch_embed", None), "img_size", None)
    if asked != "none" or size is None or "pos_embed" in weights.state or "pos_embed" not in module.state_dict():
        return weights
    position.remove(module, size=pair(size))
    zeros = {key: value for key, value in module.state_dict().items() if key == "pos_embed"}
    return weights._replace(state={**weights.state, **zeros})


def columns(table: Float[Tensor, "n d"]) -> int | None:
    """The number of columns of the grid on which a position table was learned, read from the table; None where it shows none.

    Learned positions that lie above each other are alike. So the mean cosine of all pairs that are k apart in the table (its mean taken
    off) has a peak at k = columns and at its multiples. Looked for among the divisors of n, from 3 to n / 2: the smallest whose cosine
    is at least 0.3, higher by 0.03 than those of k - 1 and k + 1, and by half as much as at the highest peak. Random tables
    have cosines near 0. On the tables of DeiT-Tiny and of a DINOv2 ViT-S/14, resampled to 4 x 16 up to 28 x 7 and 12 x 12, it finds each.

    Args:
        table: positions in row-major order, without those of class tokens.
    """
    n = len(table)
    centred = table.double() - table.double().mean(dim=0)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    alike = [1.0] + [float((unit[k:] * unit[:-k]).sum(dim=1).mean()) for k in range(1, n // 2 + 2)]
    peaks = {
        k: alike[k] - max(alike[k - 1], alike[k + 1])
        for k in range(_NARROWEST, n // 2 + 1)
        if n % k == 0 and alike[k] >= _ALIKE
    }
    highest = max(peaks.values(), default=0.0)
    return next((k for k, peak in peaks.items() if peak >= max(_PEAK, highest / 2)), None)


class Made(NamedTuple):
    """What of a network was made for one input size.

    Attributes:
        tables: name -> shape of parameters and buffers.
        windows: (height, width) of the windows of its attention, in the order of its modules.
    """

    tables: dict[str, tuple[int, ...]]
    windows: tuple[tuple[int, int], ...]


def made_for(module: nn.Module) -> Made:
    """The shapes that a change of the input size may change."""
    windows = [getattr(part, "window_size", None) for part in module.modules()]
    both = (tuple(w) for w in windows if isinstance(w, tuple | list) and len(w) == 2)
    return Made({name: tuple(x.shape) for name, x in module.named_parameters()}, tuple(both))


def changed(before: Made, after: Made, native: tuple[int, int], size: tuple[int, int]) -> tuple[str, ...]:
    """A note on tables and windows that differ from those that were trained, for an input of `size` instead of `native`."""
    tables = [name for name, shape in after.tables.items() if before.tables.get(name, shape) != shape]
    windows = [(a, b) for a, b in zip(before.windows, after.windows, strict=False) if a != b]
    said = [
        f"{len(tables)} tables of positions are resampled" if len(tables) > 1 else "its table of positions is resampled"
    ] * bool(tables)
    said += [f"windows of {a[0]} x {a[1]} patches become {b[0]} x {b[1]}" for a, b in windows[:1]]
    sizes = f"made for {native[0]} x {native[1]} pixels and shown {size[0]} x {size[1]}"
    return (f"{sizes}: {' and '.join(said)}",) if said else ()


def published_for(module: Any, size: tuple[int, int]) -> tuple[str, ...]:
    """The same note for published weights of a network that was made for another size than they were: timm resampled them."""
    native = tuple(module.pretrained_cfg.get("input_size", (3, *size))[1:])
    other = native != size and module.pretrained_cfg.get("fixed_input_size")
    return (
        (f"made for {native[0]} x {native[1]} pixels and shown {size[0]} x {size[1]}: its positions are resampled",)
        if other
        else ()
    )


def pair(img_size: Any) -> tuple[int, int]:
    """(height, width) of timm's `img_size`, an integer or two.

    Raises:
        VitalsError: it is neither.
    """
    sides = (img_size, img_size) if isinstance(img_size, int) else img_size
    fits = isinstance(sides, tuple | list) and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    require(fits, "`model.img_size` must be pixels, `224` or `256,192` (height, width)", img_size)
    return int(sides[0]), int(sides[1])
