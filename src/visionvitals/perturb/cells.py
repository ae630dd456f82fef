"""The grids of cells that studies cut an image into: which of them divide an input, and which fit a network's own patches. No torch."""

from visionvitals.core import BackboneCard

PAPER_GRID = (14, 14)


def default_grid(size: tuple[int, int]) -> tuple[int, int]:
    """The grid that studies use unless told otherwise: the paper's 14 x 14 where it divides the input, so that numbers compare
    over models; otherwise cells of 16 px (8 px for inputs under 128 px); otherwise as many cells per side, up to 14, as divide it.

    Example:
        >>> default_grid((224, 224)), default_grid((256, 256)), default_grid((64, 64)), default_grid((299, 299))
        ((14, 14), (16, 16), (8, 8), (13, 13))
    """
    if divides(PAPER_GRID, size):
        return PAPER_GRID
    pixels = 16 if min(size) >= 128 else 8
    if size[0] % pixels == 0 and size[1] % pixels == 0:
        return size[0] // pixels, size[1] // pixels
    rows, columns = (max(k for k in range(1, 15) if side % k == 0) for side in size)
    return rows, columns


def divides(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether the grid cuts an image of `size` into whole cells."""
    return size[0] % grid[0] == 0 and size[1] % grid[1] == 0


def division_refusal(grid: tuple[int, int], size: tuple[int, int]) -> str | None:
    """Why a grid cannot cut a network input, as a sentence, or None."""
    if divides(grid, size):
        return None
    return f"a grid of {grid[0]}x{grid[1]} does not divide the {size[0]}x{size[1]} input into whole cells"


def covers_whole_patches(grid: tuple[int, int], backbone: BackboneCard) -> bool:
    """Whether every cell of the grid is a union of whole patches of the network (False for a network without patches)."""
    patches = backbone.patch_grid
    return patches is not None and patches[0] % grid[0] == 0 and patches[1] % grid[1] == 0
