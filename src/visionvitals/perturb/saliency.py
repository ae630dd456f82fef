"""Which cells to drop when the drop follows importance instead of chance: the mass rule, and where the weights come from.

Conventions: `weights` are (b, n), one number per cell, row by row, larger is more salient; only their ratios matter. They must be
finite, not negative and not all zero. Sums are taken on the CPU in float64, so that float16 neither overflows nor rounds and every
device picks the same cells.

Source: Naseer et al. 2021, "Intriguing Properties of Vision Transformers", section 3.1; the rule itself is that of Caron et al.
2021, "Emerging Properties in Self-Supervised Vision Transformers", visualize_attention.py, which sorts upwards and keeps what lies
above 1 - mass. Deviation from the former's code: the head is a parameter, not the number 1.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from visionvitals.errors import VitalsError, require
from visionvitals.perturb.patches import Grid, cell_size

_TOLERANCE = 1e-9  # a sum this close below `mass` has reached it: ten cells of 0.1 hold 0.7 after seven, also in binary


class Shares(NamedTuple):
    """What a drop took from each image.

    Attributes:
        mass: share of the weights, in [0, 1].
        pixels: share of the cells, which is that of the pixels; half of the mass can sit in a tenth of them.
    """

    mass: Float64[Tensor, " b"]
    pixels: Float64[Tensor, " b"]


def salient_drop(weights: Float[Tensor, "b n"], mass: float) -> Bool[Tensor, "b n"]:
    """The fewest cells, largest first, that hold at least `mass` of each image's weight; True is dropped.

    With w sorted downwards and normalised to sum 1, the first m cells, where m is the smallest number with
    w_1 + ... + w_m >= mass: the cell that crosses the line is included. Of equal weights the lower index comes first. The sets are
    nested in `mass`.

    Args:
        weights: see the conventions above.
        mass: in [0, 1]. 0 drops nothing; 1 drops every cell that has weight, so a cell without any stays.

    Raises:
        VitalsError: `mass` is outside [0, 1], or an image's weights are not `usable`.

    Example:
        >>> salient_drop(torch.tensor([[0.2, 0.5, 0.3]]), 0.6)
        tensor([[False,  True,  True]])
    """
    require(0 <= mass <= 1, "`mass` must be in [0, 1]", mass)
    share, order = _normalised(weights).sort(dim=1, descending=True, stable=True)
    before = share.cumsum(dim=1).roll(1, dims=1)
    before[:, 0] = 0
    chosen = before < mass - _TOLERANCE if mass < 1 else share > 0  # at 1 the tolerance would leave a faint tail
    dropped = torch.zeros_like(chosen).scatter(1, order, chosen)
    return dropped.to(weights.device)


def non_salient_drop(weights: Float[Tensor, "b n"], mass: float) -> Bool[Tensor, "b n"]:
    """The most cells, smallest first, that hold at most `mass` of each image's weight; True is dropped.

    It is what `salient_drop(weights, 1 - mass)` leaves, cell for cell. So a cell that crosses the line stays, and cells without
    any weight go first, even at `mass` 0: with weights from a true mask, 0 removes the background.

    Raises:
        VitalsError: as `salient_drop`.
    """
    require(0 <= mass <= 1, "`mass` must be in [0, 1]", mass)
    return ~salient_drop(weights, 1 - mass)


def shares(weights: Float[Tensor, "b n"], dropped: Bool[Tensor, "b n"]) -> Shares:
    """The share of the weight and of the cells that `dropped` took from each image."""
    gone = dropped.cpu()
    return Shares((_normalised(weights) * gone).sum(dim=1), gone.double().mean(dim=1))


def usable(weights: Float[Tensor, "b n"]) -> Bool[Tensor, " b"]:
    """False for images whose weights cannot rank cells: NaN or infinite, negative, or all zero (no object, no gradient).

    `salient_drop` refuses such images; a study counts and skips them.
    """
    return weights.isfinite().all(dim=1) & (weights >= 0).all(dim=1) & (weights > 0).any(dim=1)


def from_mask(mask: Bool[Tensor, "b h w"], grid: Grid) -> Float64[Tensor, "b n"]:
    """The share of each cell that is object, in [0, 1]: 1 where the object covers the cell.

    Args:
        mask: True on the object.
        grid: (rows, columns), must divide (h, w).
    """
    height, width = cell_size((mask.shape[1], mask.shape[2]), grid)
    return _cell_sums(mask.cpu().double(), grid) / (height * width)


def from_gradient(gradient: Float[Tensor, "b c h w"], grid: Grid) -> Float64[Tensor, "b n"]:
    """Sum of |gradient| over the channels and pixels of each cell.

    Args:
        gradient: of one output with respect to the images. Which output (the predicted or the true class, logit or loss) is the
            caller's choice and belongs in the record.
        grid: (rows, columns), must divide (h, w).

    Source: Simonyan et al. 2014, "Deep Inside Convolutional Networks", section 3.1. Deviation: the sum over channels, not the
    largest, so that the mass of a cell is the sum of its parts.
    """
    return _cell_sums(gradient.cpu().double().abs().sum(dim=1), grid)


def regrid(weights: Float[Tensor, "... n"], grid: Grid, to: Grid) -> Float64[Tensor, "... m"]:
    """The same weights on another grid over the same picture; each cell gives to those it overlaps, by area, so the sum stays.

    Args:
        weights: n = rows * columns of `grid`.
        grid: (rows, columns) they are on.
        to: (rows, columns) wanted; need not divide anything.
    """
    n = weights.shape[-1]
    require(grid[0] * grid[1] == n, f"`grid` must have the {n} cells of the weights", grid)
    exact = weights.detach().cpu().double()
    if grid == to:
        return exact
    down, across = (_overlap(cells, wanted) for cells, wanted in zip(grid, to, strict=True))
    return (down @ exact.view(*exact.shape[:-1], *grid) @ across.mT).flatten(-2)


def foreground_overlap(
    attention: Float[Tensor, "b heads n"], foreground: Float[Tensor, "b n"]
) -> Float64[Tensor, "b heads"]:
    """The share of each head's mass that lies on the object: sum_k a_k f_k / sum_k a_k, in [0, 1].

    Args:
        attention: one row of patch weights per head.
        foreground: share of each cell that is object, from `from_mask` with the patch grid.

    Source: the energy-based pointing game of Wang et al. 2020, "Score-CAM", with a mask in place of a box.
    """
    b, heads, n = attention.shape
    share = _normalised(attention.reshape(b * heads, n)).view(b, heads, n)
    return (share * foreground.cpu().double()[:, None]).sum(dim=2)


def best_foreground_head(
    attention: Float[Tensor, "b heads n"], foreground: Float[Tensor, "b n"]
) -> Int64[Tensor, " b"]:
    """The head that looks at the object most, per image; the lower index of equals.

    An oracle: it knows the truth of the image it is used on. For one head for a whole set, average `foreground_overlap` over
    the images first.

    Raises:
        VitalsError: an image without an object has no best head.
    """
    _refuse_unusable(foreground, "the true mask")
    return foreground_overlap(attention, foreground).argmax(dim=1).to(attention.device)


def _overlap(cells: int, wanted: int) -> Float64[Tensor, "wanted cells"]:
    """For one side of the picture: the share of each cell that lies in each wanted one."""
    start, wanted_start = (
        torch.arange(cells) * wanted,
        torch.arange(wanted)[:, None] * cells,
    )  # in whole units, so exact
    common = torch.minimum(start + wanted, wanted_start + cells) - torch.maximum(start, wanted_start)
    return common.clamp(min=0).double() / wanted


def _cell_sums(pixels: Float64[Tensor, "b h w"], grid: Grid) -> Float64[Tensor, "b n"]:
    height, width = cell_size((pixels.shape[1], pixels.shape[2]), grid)
    return pixels.reshape(-1, grid[0], height, grid[1], width).sum(dim=(2, 4)).flatten(1)


def _normalised(weights: Float[Tensor, "b n"]) -> Float64[Tensor, "b n"]:
    _refuse_unusable(weights, "saliency")
    exact = weights.detach().cpu().double()
    exact = exact / exact.amax(dim=1, keepdim=True)  # so that the sum of huge weights cannot overflow
    return exact / exact.sum(dim=1, keepdim=True)


def _refuse_unusable(weights: Float[Tensor, "b n"], source: str) -> None:
    bad = (~usable(weights)).nonzero().flatten().tolist()
    if bad:
        raise VitalsError(
            f"The weights from {source} must be finite, not negative and not all zero for every image. Got others at positions "
            f"{bad[:10]} of {len(weights)}. Leave these images out (`usable` tells them), or compute in float32."
        )
