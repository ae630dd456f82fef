"""Weaken one cue of a picture and leave the others: its shape, by cells that change places or turn; its texture, by a filter; its colour.

Conventions: images are float (b, 3, h, w) in [0, 1], before any normalisation. Cells are numbered row by row. Randomness comes in as
per-image keys (`randomness.stream`). Values stay floats: the published operations work on 8 bits, so that theirs differ by up to half a
grey level, grey by up to one.

Source: Burgert et al. 2025 (arXiv 2509.20234) for the choice of the operations; Tomasi & Manduchi 1998 for the bilateral filter.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as v2

from visionvitals import randomness
from visionvitals.errors import require

Grid = tuple[int, int]
CACHED = 2**16
"""Pixels that a CPU filters at once: an image of 224 px, or several small ones."""
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""


def starts(side: int, cells: int) -> list[int]:
    """Where each of the cells of a side begins, and where the last one ends: floor(i side / cells), i = 0..cells.

    Example:
        >>> starts(224, 3), starts(224, 4)
        ([0, 74, 149, 224], [0, 56, 112, 168, 224])
    """
    require(0 < cells <= side, f"The cells of a side must be from 1 to its {side} pixels", cells)
    return [i * side // cells for i in range(cells + 1)]


def alike(size: tuple[int, int], grid: Grid) -> list[list[int]]:
    """The cells of each size; one group where the grid divides the image. The first group is that of the cell at the upper left.

    Example:
        >>> [len(group) for group in alike((224, 224), (3, 3))], [len(group) for group in alike((224, 224), (6, 6))]
        ([1, 2, 2, 4], [16, 8, 8, 4])
    """
    rows, columns = (starts(side, cells) for side, cells in zip(size, grid, strict=True))
    groups: dict[tuple[int, int], list[int]] = {}
    for r in range(grid[0]):
        for c in range(grid[1]):
            shape = rows[r + 1] - rows[r], columns[c + 1] - columns[c]
            groups.setdefault(shape, []).append(r * grid[1] + c)
    return list(groups.values())


def orders(keys: Int64[Tensor, " b"], size: tuple[int, int], grid: Grid) -> Int64[Tensor, "b n"]:
    """For each image a uniformly random order of its cells in which only cells of equal size change places.

    Where the grid divides the image that is `randomness.permutation`; where it does not, more cells stay where they are: 4 of 9 on average
    on a 3 x 3 grid of 224 x 224 px, which has four sizes.
    """
    ranks = randomness.ranks(keys, grid[0] * grid[1])
    order = torch.empty_like(ranks)
    for group in alike(size, grid):
        members = torch.tensor(group, device=keys.device)
        order[:, members] = members[ranks[:, members].argsort(dim=1)]
    return order


def shuffle(images: Float[Tensor, "b c h w"], order: Int64[Tensor, "b n"], grid: Grid) -> Float[Tensor, "b c h w"]:
    """Cell k of the result is cell `order[:, k]` of the image, for grids that need not divide it; see `orders`."""
    b, c, h, w = images.shape
    device = images.device
    tops, lefts = (torch.tensor(starts(side, cells), device=device) for side, cells in ((h, grid[0]), (w, grid[1])))
    y, x = torch.arange(h, device=device), torch.arange(w, device=device)
    row, column = torch.bucketize(y, tops[1:], right=True), torch.bucketize(x, lefts[1:], right=True)
    source = order.view(b, *grid)[:, row][:, :, column]  # (b, h, w): the cell that each pixel comes from
    from_y = tops[source // grid[1]] + (y - tops[row])[:, None]
    from_x = lefts[source % grid[1]] + (x - lefts[column])
    pixels = (from_y * w + from_x).view(b, 1, h * w).expand(b, c, h * w)
    return images.flatten(2).gather(2, pixels).view(images.shape)


def turn_cells(images: Float[Tensor, "b c h w"], turns: Int64[Tensor, "b n"], grid: Grid) -> Float[Tensor, "b c h w"]:
    """Each cell in its place, turned by 0 to 3 quarters against the clock.

    An image that the grid does not divide is enlarged to the next size that it does (bilinear), and brought back.

    Args:
        images: any channels.
        turns: quarter turns of each cell, 0 to 3.
        grid: (rows, columns); the cells must be square.

    Raises:
        VitalsError: the cells are not square.
    """
    b, c, h, w = images.shape
    side = math.ceil(h / grid[0]), math.ceil(w / grid[1])
    require(side[0] == side[1], "Only square cells can make quarter turns", f"{side[0]}x{side[1]} px")
    wide = side[0] * grid[0], side[1] * grid[1]
    fitted = images if wide == (h, w) else functional.interpolate(images, wide, mode="bilinear")
    cells = fitted.reshape(b, c, grid[0], side[0], grid[1], side[1])
    quarters, out = turns.view(b, 1, grid[0], 1, grid[1], 1), cells
    for k in (1, 2, 3):
        out = torch.where(quarters == k, torch.rot90(cells, k, dims=(3, 5)), out)
    out = out.reshape(b, c, *wide)
    return out if wide == (h, w) else functional.interpolate(out, (h, w), mode="bilinear").clamp(0, 1)


def bilateral(
    images: Float[Tensor, "b 3 h w"], diameter: int, sigma_colour: float, sigma_space: float
) -> Float[Tensor, "b 3 h w"]:
    """Bilateral filter: a mean over a disk in which near pixels of like colour count most; it loses texture and keeps edges.

    The weight of a neighbour at distance r is exp(-r^2 / (2 sigma_space^2)) exp(-(|dR| + |dG| + |dB|)^2 / (2 sigma_colour^2)). The border
    mirrors without its edge. Equal to OpenCV's `bilateralFilter` but for its rounding to 8 bits.

    Args:
        images: three channels.
        diameter: pixels; the disk has the radius floor(diameter / 2), at least 1, which must be smaller than the image.
        sigma_colour: on the scale of 0 to 255; positive, infinite looks at no colour.
        sigma_space: pixels, positive.
    """
    require(sigma_colour > 0 and sigma_space > 0, "Both sigmas must be positive", (sigma_colour, sigma_space))
    radius = max(1, diameter // 2)
    require(radius < min(images.shape[-2:]), "The radius must be smaller than the image", radius)
    disk = [(dy, dx) for dy in range(radius + 1) for dx in range(-radius, radius + 1) if (dy, dx) > (0, 0)]
    near = [(dy, dx) for dy, dx in disk if dy * dy + dx * dx <= radius * radius]
    small = images.device.type == "cpu"  # what fits its cache is filtered faster
    each = torch.split(images, max(1, CACHED // images[0, 0].numel()) if small and len(images) else max(1, len(images)))
    parts = [_bilateral(part, near, radius, sigma_colour / 255, sigma_space) for part in each]
    return torch.cat(parts) if parts else images


def _bilateral(
    images: Float[Tensor, "b 3 h w"], half: list[tuple[int, int]], radius: int, sigma_colour: float, sigma_space: float
) -> Float[Tensor, "b 3 h w"]:
    """`half` of the disk: the weight of a pair of pixels is the same for both, so that it is computed once."""
    h, w = images.shape[-2:]
    wide = functional.pad(images, (radius,) * 4, mode="reflect")
    total, weights = images.clone(), torch.ones_like(images[:, :1])
    for dy, dx in half:
        # all pairs (p, p + (dy, dx)) of which one lies in the image: rows and columns of p in the padded image
        top, left, right = radius - dy, radius - max(dx, 0), radius + w - min(dx, 0)
        first = wide[:, :, top : radius + h, left:right]
        second = wide[:, :, top + dy : radius + h + dy, left + dx : right + dx]
        apart = (first - second).abs_().sum(dim=1, keepdim=True)
        weight = apart.square_().mul_(-0.5 / sigma_colour**2).sub_((dy * dy + dx * dx) / (2 * sigma_space**2)).exp_()
        own, other = slice(dy, dy + h), slice(0, h)  # rows of pairs whose first, or second, lies in the image
        at, there = slice(max(dx, 0), max(dx, 0) + w), slice(max(-dx, 0), max(-dx, 0) + w)
        total.addcmul_(weight[:, :, own, at], second[:, :, own, at])
        total.addcmul_(weight[:, :, other, there], first[:, :, other, there])
        weights.add_(weight[:, :, own, at]).add_(weight[:, :, other, there])
    return total.div_(weights).clamp_(0, 1)


def gaussian(images: Float[Tensor, "b c h w"], kernel: int, sigma: float) -> Float[Tensor, "b c h w"]:
    """Gaussian blur by an odd kernel of so many pixels; the border mirrors without its edge, as OpenCV does."""
    require(kernel % 2 == 1 and kernel > 0, "The kernel must be an odd number of pixels", kernel)
    require(kernel // 2 < min(images.shape[-2:]), "Half of the kernel must be smaller than the image", kernel)
    out: Tensor = v2.gaussian_blur(images, kernel_size=[kernel, kernel], sigma=[sigma, sigma])
    return out.clamp(0, 1)


def luma(images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h w"]:
    """The grey value of each pixel."""
    red, green, blue = LUMA
    return (red * images[:, :1] + green * images[:, 1:2] + blue * images[:, 2:]).clamp(0, 1)


def grey(images: Float[Tensor, "b 3 h w"], alpha: float) -> Float[Tensor, "b 3 h w"]:
    """(1 - alpha) of the image and alpha of its grey value in all channels, alpha in [0, 1]."""
    require(0 <= alpha <= 1, "`alpha` must be in [0, 1]", alpha)
    return ((1 - alpha) * images + alpha * luma(images)).clamp(0, 1)


def channels(images: Float[Tensor, "b 3 h w"], order: Int64[Tensor, "b 3"]) -> Float[Tensor, "b 3 h w"]:
    """Channel k of the result is channel `order[:, k]` of the image."""
    return images.gather(1, order[:, :, None, None].expand(images.shape))
