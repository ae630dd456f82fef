"""Patch shuffle: how much is still recognised when the patches change places and only their content is left.

An image is cut into a grid and its cells are permuted, each image by its own permutation. A network that needs the global shape
loses its accuracy; one that reads a bag of local features does not. With more cells, less structure is left.

What it means for a product. A network that keeps much does not look at where the parts are: it will take a heap of parts for the object. Where the
arrangement is what matters (assembly, faces, documents), that is a fault.

Pitfalls. Borders between cells are a cue of their own, and cells that cut through patches cost a transformer more than the order does.

Source: Naseer et al. 2021, section 3.3, which shows its numbers in a figure only. Deviation from the authors' code: one permutation
per image and run (theirs: per batch).

Metrics: those of `clean`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from visionvitals.perturb.cells import covers_whole_patches, divides, division_refusal
from visionvitals.study import BackboneCard, Batch, Chart, ImageSetCard, Job, Preset, Scores, Sign, require, score

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Patch shuffle"
PER_IMAGE = True
CHARTS = (
    Chart(
        x="grid",
        x_title="grid of shuffled cells",
        reads="A flat line is a network that does not need to know where things are. 1x1 is the unchanged image.",
    ),
)
SIGNS = (Sign(title="kept at 4x4 shuffle", kind="kept", where={"grid": (4, 4)}, at="at 4x4 shuffle"),)
PAPER_GRIDS = ((2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (14, 14), (16, 16))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One point of the sweep.

    Attributes:
        grid: (rows, columns) of the cells that are permuted; (1, 1) is the unchanged image.
        run: repetition; each has its own permutations.
    """

    grid: tuple[int, int] = (1, 1)
    run: int = 0

    def __post_init__(self) -> None:
        require(len(self.grid) == 2 and min(self.grid) > 0, "`grid` must be two positive numbers", self.grid)
        require(self.run >= 0, "`run` must not be negative", self.run)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """The unchanged image, and: quick: 2x2, 4x4, 8x8, one run; default: the paper's grids that divide the input, three runs;
    paper: its seven grids, five runs."""
    if preset == "quick":
        grids, runs = [grid for grid in ((2, 2), (4, 4), (8, 8)) if divides(grid, size)], 1
    elif preset == "default":
        grids, runs = [grid for grid in PAPER_GRIDS if divides(grid, size)], 3
    else:
        grids, runs = list(PAPER_GRIDS), 5
    return [Condition()] + [Condition(grid=grid, run=run) for grid in grids for run in range(runs)]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The grid must divide the input."""
    return division_refusal(condition.grid, backbone.preprocess.size)


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images with their cells in another order."""
    from visionvitals import randomness
    from visionvitals.perturb import patches

    c = condition
    keys = randomness.stream(seed, batch.ids, f"shuffle/run={c.run}", device=batch.images.device)
    return patches.shuffle(batch.images, randomness.permutation(keys, c.grid[0] * c.grid[1]), c.grid)


def measure(job: Job) -> Iterator[Scores]:
    yield from score(job, perturb, whole_patches=covers_whole_patches(job.condition.grid, job.backbone.card))
