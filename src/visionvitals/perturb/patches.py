"""Cut an image into a grid of cells; drop, shuffle, offset and paste them.

Conventions: images are float (b, 3, h, w) in [0, 1], before any normalisation. A grid is (rows, columns) of equal cells and must
divide the image. Cells are numbered row by row. Randomness comes in as per-image keys (`randomness.stream`).

Source: Naseer et al. 2021, "Intriguing Properties of Vision Transformers", sections 3.1 and 3.3, appendices A, B and F. Deviation:
the authors' code draws one mask or permutation per batch; here each image has its own.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchvision.transforms.v2 import functional as v2

from visionvitals import randomness
from visionvitals.errors import require

Grid = tuple[int, int]
Fill = Literal["black", "mean", "gray", "noise", "blur"]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


def drop_count(fraction: float, n: int) -> int:
    """Number of cells to drop: floor(fraction * n).

    Args:
        fraction: in [0, 1].
        n: number of cells.

    Convention: a product within 1e-9 below an integer counts as that integer, so that 0.29 of 100 is 29 (in binary floating
    point it is 28.999...).

    Example:
        >>> [drop_count(d / 10, 196) for d in range(10)]
        [0, 19, 39, 58, 78, 98, 117, 137, 156, 176]
    """
    require(0 <= fraction <= 1, "`fraction` must be in [0, 1]", fraction)
    return math.floor(fraction * n + 1e-9)


def cell_size(size: tuple[int, int], grid: Grid) -> tuple[int, int]:
    """(height, width) of one cell in pixels.

    Raises:
        VitalsError: the grid does not divide the image.
    """
    require(
        size[0] % grid[0] == 0 and size[1] % grid[1] == 0, f"The grid must divide the {size[0]}x{size[1]} image", grid
    )
    return size[0] // grid[0], size[1] // grid[1]


def random_drop(keys: Int64[Tensor, " b"], n: int, count: int) -> Bool[Tensor, "b n"]:
    """For each image a uniformly random set of `count` of n cells; True is dropped.

    The sets are nested: with the same keys, a larger count contains the smaller one, which makes comparisons over fractions
    paired.
    """
    ranks = randomness.ranks(keys, n)
    if count == 0:
        return torch.zeros_like(ranks, dtype=torch.bool)
    return ranks <= ranks.kthvalue(count, dim=1, keepdim=True).values


def to_pixels(
    dropped: Bool[Tensor, "b n"], grid: Grid, size: tuple[int, int], *, offset: int = 0
) -> Bool[Tensor, "b 1 h w"]:
    """A mask over cells as a mask over pixels.

    Args:
        dropped: True where a cell is dropped.
        grid: (rows, columns), rows * columns = n.
        size: (h, w) of the image.
        offset: the mask is shifted right and down by this many pixels; the uncovered band at the top and left stays visible and
            what leaves at the bottom and right is cut, so the true information loss is below the nominal one.
    """
    height, width = cell_size(size, grid)
    cells = dropped.view(-1, 1, *grid)
    pixels = cells.repeat_interleave(height, dim=2).repeat_interleave(width, dim=3)
    if offset == 0:
        return pixels
    require(0 < offset < min(size), "`offset` must be between 0 and the side of the image", offset)
    shifted = torch.zeros_like(pixels)
    shifted[:, :, offset:, offset:] = pixels[:, :, :-offset, :-offset]
    return shifted


def occlude(
    images: Float[Tensor, "b 3 h w"], pixels: Bool[Tensor, "b 1 h w"], fill: Float[Tensor, "#b 3 #h #w"]
) -> Float[Tensor, "b 3 h w"]:
    """The images with the marked pixels replaced by those of `fill`."""
    return torch.where(pixels, fill, images)


def occlude_cells(
    images: Float[Tensor, "b c h w"], dropped: Bool[Tensor, "b n"], grid: Grid, fill: Float[Tensor, "#b c #h #w"]
) -> Float[Tensor, "b c h w"]:
    """`occlude` by whole cells: the same values without a mask of pixels, which takes half the time. Also for maps of a network's patches."""
    rows, columns = grid
    height, width = cell_size((images.shape[2], images.shape[3]), grid)
    channels = images.shape[1]
    cells = images.view(len(images), channels, rows, height, columns, width)
    gone = dropped.view(-1, 1, rows, 1, columns, 1)
    if fill.shape[2:] == (1, 1):
        colour = fill.reshape(-1, channels, 1, 1, 1, 1)
        shown = cells * (~gone).to(
            images.dtype
        )  # values are finite, so a product with 0 is 0 and one with 1 is the value
        # black needs no second step; to ask a GPU for the colour would wait for it, and take longer than the step
        coloured = fill.device.type != "cpu" or bool(fill.any())
        return (shown.add_(colour * gone) if coloured else shown).reshape(images.shape)
    return torch.where(gone, fill.view(-1, channels, rows, height, columns, width), cells).reshape(images.shape)


def fill_pixels(
    fill: Fill, images: Float[Tensor, "b c h w"], keys: Int64[Tensor, " b"], *, mean: tuple[float, float, float]
) -> Float[Tensor, "#b 3 #h #w"]:
    """What a dropped pixel shows.

    Args:
        fill: `black`: 0 before normalisation, the paper's choice; `mean`: the backbone's own mean colour, which is zero after
            normalisation; `gray`: 0.5; `noise`: uniform in [0, 1) per pixel and channel; `blur`: the image itself under a
            Gaussian of sigma = 1/20 of its shorter side, which keeps colour and loses detail.
        images: the clean images; those of a single colour look only at the type and the device of what is given.
        keys: per-image keys, used by `noise` only.
        mean: the backbone's per-channel mean on the [0, 1] scale.
    """
    b, c, h, w = images.shape
    if fill == "noise":
        return randomness.uniform(keys, c * h * w).view(b, c, h, w)
    if fill == "blur":
        sigma = min(h, w) / 20
        blurred: Tensor = v2.gaussian_blur(images, kernel_size=[2 * math.ceil(2 * sigma) + 1] * 2, sigma=[sigma, sigma])
        return blurred
    colour = {"black": (0.0, 0.0, 0.0), "mean": mean, "gray": (0.5, 0.5, 0.5)}[fill]
    return torch.tensor(colour, dtype=images.dtype).view(1, 3, 1, 1).to(images.device, non_blocking=True)


def shuffle(images: Float[Tensor, "b c h w"], order: Int64[Tensor, "b n"], grid: Grid) -> Float[Tensor, "b c h w"]:
    """The cells of each image, or map of patches, in another order: cell k of the result is cell `order[:, k]` of the image."""
    b, c, h, w = images.shape
    rows, columns = grid
    height, width = cell_size((h, w), grid)
    source, device = order.view(b, 1, rows, 1, columns), images.device
    plane = torch.arange(b * c, device=device).view(b, c, 1, 1, 1)
    line = source // columns * height + torch.arange(height, device=device)[:, None]
    strips = (plane * h + line) * columns + source % columns  # a line of a cell is a strip; all are copied in one pass
    return images.reshape(-1, width).index_select(0, strips.flatten()).view(images.shape)


def paste_in_corner(
    images: Float[Tensor, "b 3 h w"], inner: tuple[int, int], corner: Corner
) -> Float[Tensor, "b 3 h w"]:
    """Each image resized to `inner` (height, width; antialiased bilinear) in one corner of a black canvas of its own size."""
    h, w = images.shape[-2:]
    require(0 < inner[0] <= h and 0 < inner[1] <= w, f"`inner` must fit into the {h}x{w} canvas", inner)
    small = v2.resize(images, list(inner), antialias=True)
    canvas = torch.zeros_like(images)
    vertical, horizontal = corner.split("-")
    top = 0 if vertical == "top" else h - inner[0]
    left = 0 if horizontal == "left" else w - inner[1]
    canvas[:, :, top : top + inner[0], left : left + inner[1]].copy_(small).clamp_(0, 1)
    return canvas
