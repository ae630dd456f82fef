"""Reliance on cues: how much is still recognised when the shape, the texture or the colour of a picture is weakened, and the rest is left?

Where shape bias asks which of two cues wins in a made-up picture, this asks what the network can do without, on any labelled photographs. A
network that keeps little without a cue relies on it: one that loses much without colour is at risk on a camera by night, one that loses much
under the bilateral filter on soft or compressed pictures; one that loses nothing under a shuffle does not look at the whole object.

Protocol. `global_shape` cuts the picture into `cells` a side that change places, `local_shape` into twice as many; `texture` is a
bilateral filter (12 px, sigma 170 of colour and 75 of space), which smooths surfaces and keeps edges; `colour` makes the picture grey. The
score is the accuracy that is left, divided by that on unchanged pictures; it can exceed 1. Curves sweep one operation, or two in a row; their
score takes chance (1 / outputs) from both accuracies. Whether an operation does what it should is measured on the pictures themselves: the
local variance, high frequencies, edges and colour that are left.

What it means for a product. Set the score of a cue beside the place of use: no colour at night, no texture after strong compression, no global shape
in a crop. A low score there is a risk that clean accuracy hides.

Pitfalls. A shuffle makes borders between cells that are a cue of their own; networks trained on pasted cells (CutMix, Cutout) have met
some. Where cells cut through the patches of a transformer, it loses more than the shape, and the cell says so (`cells = 7` fits 14 x 14 patches).
A high score says that a cue is not needed, not that it is not used: cues are redundant. Which one counts depends on the data: in medical images
it is colour, in remote sensing texture. Never compare with scores on other pictures: easy ones keep more.

The literature disagrees. Geirhos et al. 2019 find networks biased to texture; Burgert et al. find that, measured by suppression, they rely on
local shape most of all; DiST (arXiv 2310.07555) finds that supervised transformers have no significant advantage in global shape.

`protocol = paper` is the published one: the picture is stretched to the input without a crop, there are 3 (6) cells a side, and where they do not divide the
input only cells of equal size change places, so that 4 of 9 stay where they are on average: weaker than a uniform shuffle. Deviations: an image has its
own draw (theirs: a worker's), values are not rounded to 8 bits, each network has its own normalisation (theirs: ImageNet's).

Source: Burgert et al. 2025 (arXiv 2509.20234). What is published of a ResNet50 stands beside points of `protocol = paper` alone: answers among 16 classes,
on 800 photographs that a ResNet50 is most sure of. The NL-means curve is left out.

Metrics: those of `clean`, what the operation leaves (`local_variance`, `high_frequency`, `gradient_correlation`, `colour_left`), and by the published
protocol `above_chance`.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionvitals.perturb.cells import covers_whole_patches, divides, division_refusal
from visionvitals.studies import _cues
from visionvitals.studies._cues import CUES, Op, Protocol, Then
from visionvitals.study import BackboneCard, Batch, ImageSetCard, Job, Preprocess, Preset, Scores, score

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Reliance on cues"
AXES = ("part",)
PER_IMAGE = True
METRICS = _cues.METRICS
CHARTS = _cues.CHARTS
SIGNS = _cues.SIGNS
PUBLISHED = _cues.PUBLISHED


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What is done to the picture.

    Attributes:
        suppress: a cue, by its usual operation: global_shape, local_shape, texture, colour; or an operation: `shuffle` and `rotate` the cells;
            `bilateral`, `gaussian` and `grey` by `amount`; `channels` in another order; `none`.
        amount: of bilateral, the diameter in pixels (sigma of colour 15 times that less 10, of space 75); of gaussian, the odd kernel in
            pixels (sigma a sixth of that less 1); of grey, the share in [0, 1]. 0 for all others.
        cells: cells a side; `local_shape` has twice as many; looked at by shuffles and rotations only.
        then: a second operation: `grey`, wholly, or `shuffle` of the cells; not after a cue.
        protocol: `own`: pictures prepared as the backbone says, cells must divide the input; `paper`: stretched pictures, any cells.
        run: repetition; each has its own draws.
    """

    suppress: Op = "none"
    amount: float = 0.0
    cells: int = 4
    then: Then = "none"
    protocol: Protocol = "own"
    run: int = 0

    def __post_init__(self) -> None:
        _cues.check(self)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: unchanged, and without global shape (4 x 4), local shape (8 x 8), texture, colour; default: the same with three runs of the
    shuffles; other numbers of cells where 4 and 8 do not divide the input. paper: the published four by the published
    protocol, and its curves over cells and amounts, single and in pairs, one run each.
    """
    if preset == "paper":
        own = [Condition(suppress=cue, cells=3 if cue in _cues.SHAPES else 4, protocol="paper") for cue in CUES]
        return own + [Condition(protocol="paper", **values) for values in _cues.curves()]
    cells, runs = usual_cells(size), 1 if preset == "quick" else 3
    return [
        Condition(suppress=cue, cells=cells if cue in _cues.SHAPES else 4, run=run)
        for cue in CUES
        for run in range(runs if cue in _cues.SHAPES else 1)
    ]


def usual_cells(size: tuple[int, int]) -> int:
    """The number nearest to 4, from 3 to 7, of cells a side that divides an input, as twice as many do; 4 where none does.

    Example:
        >>> usual_cells((224, 224)), usual_cells((518, 518)), usual_cells((299, 299))
        (4, 7, 4)
    """
    return next((n for n in (4, 3, 5, 6, 7) if divides((2 * n, 2 * n), size)), 4)


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The cells must divide the input, a turned cell be square, and a filter be smaller than the picture."""
    c, size = condition, backbone.preprocess.size
    if reach := _cues.reach(c):
        return (
            None
            if reach < min(size)
            else f"a filter that reaches {reach} px is larger than the {size[0]}x{size[1]} input"
        )
    grid = _cues.grid(c)
    if grid is None:
        return None
    if grid[0] > size[0] or grid[1] > size[1]:
        return f"a grid of {grid[0]}x{grid[1]} has more cells than the {size[0]}x{size[1]} input has pixels"
    if c.protocol == "own" and (reason := division_refusal(grid, size)):
        return reason
    height, width = -(-size[0] // grid[0]), -(-size[1] // grid[1])
    if c.suppress == "rotate" and height != width:
        return f"cells of {height}x{width} px are not square and cannot make a quarter turn"
    return None


def cut(condition: Condition, preprocess: Preprocess) -> Preprocess:
    """By the published protocol the whole picture is stretched to the input."""
    own = condition.protocol == "own"
    return preprocess if own else dataclasses.replace(preprocess, resize=None, stretch=False)


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images without one cue; the order of the cells is the same at every point of an image with so many cells and this run."""
    from visionvitals import randomness
    from visionvitals.perturb import suppress

    c, images = condition, batch.images
    size = (images.shape[2], images.shape[3])

    def keys(what: str) -> "Tensor":
        return randomness.stream(seed, batch.ids, f"reliance/{what}/run={c.run}", device=images.device)

    def shuffled(images: "Tensor", grid: tuple[int, int]) -> "Tensor":
        return suppress.shuffle(images, suppress.orders(keys("shuffle"), size, grid), grid)

    grid = _cues.grid(c)
    if c.suppress in (*_cues.SHAPES, "shuffle"):
        assert grid is not None
        images = shuffled(images, grid)
    elif c.suppress == "rotate":
        assert grid is not None
        turns = (4 * randomness.uniform(keys("rotate"), grid[0] * grid[1])).long()
        images = suppress.turn_cells(images, turns, grid)
    elif c.suppress in ("texture", "bilateral"):
        diameter, colour, space = _cues.bilateral(c)
        images = suppress.bilateral(images, diameter, colour, space)
    elif c.suppress == "gaussian":
        images = suppress.gaussian(images, int(c.amount), (c.amount - 1) / 6)
    elif c.suppress in ("colour", "grey"):
        images = suppress.grey(images, 1.0 if c.suppress == "colour" else float(c.amount))
    elif c.suppress == "channels":
        images = suppress.channels(images, randomness.permutation(keys("channels"), 3))
    if c.then == "grey":
        return suppress.grey(images, 1.0)
    return shuffled(images, (c.cells, c.cells)) if c.then == "shuffle" else images


def measure(job: Job) -> Iterator[Scores]:
    from visionvitals.perturb import cue_checks

    shown: list[Tensor] = []

    def remembered(condition: Condition, batch: Batch, seed: int) -> "Tensor":
        shown[:] = [perturb(condition, batch, seed)]
        return shown[0]

    def checks(batch: Batch) -> "dict[str, Tensor]":
        return dict(cue_checks.left(batch.images, shown[0]))

    part, grid, card = _cues.part(job.condition), _cues.grid(job.condition), job.backbone.card
    if grid is not None and card.patch_grid is not None and not covers_whole_patches(grid, card):
        own = "x".join(map(str, card.patch_grid))
        job.warn(
            f"{grid[0]}x{grid[1]} cells cut through the {own} patches of {card.architecture}: it loses more than the shape"
        )
    chance = 1 / job.backbone.card.outputs
    for block in score(job, remembered, at=(part,), more=checks):
        values: dict[str, Any] = dict(block.values)
        if job.condition.protocol == "paper":
            values["above_chance"] = values["top1"] - chance
        yield Scores(block.items, values, block.at)
