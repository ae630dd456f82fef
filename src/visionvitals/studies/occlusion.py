"""PatchDrop: how much is still recognised when a random share of the image's patches is removed.

An image is cut into a grid of N cells; floor(fraction * N) of them, drawn for each image on its own, are replaced by `fill`. The
masks are nested: what is gone at 25 % is gone at 50 % too. A network is robust where its prediction stays right.

Conventions. The grid is cut from the network's input after resize and crop. `black` is 0 before normalisation, as in the paper, so
it reaches the network as -mean/std; `mean` is the network's own mean colour, zero after normalisation; `token` does not paint
anything: the patch's token is not given to the network at all. `information_loss` is the share of pixels that were really
removed, per image: with an offset grid it lies below the nominal fraction.

What it means for a product. Says what to expect when part of the view is gone: a dirty lens, a hand, a frame. Where that is common, choose by the
accuracy at the share that occurs, and not by the area.

Pitfalls. The fill has a meaning of its own: compare `missingness`. A mask that is aligned with the patches of a transformer is kind to it; with
`offset` it loses far more (docs/reproduce.md). Random cells are not how objects hide each other.

Source: Naseer et al. 2021, section 3.1, appendices A and B. Deviations from the authors' code: one mask per image and run (theirs:
one per batch, unseeded); `fraction` 0 is measured once.

Metrics: those of `clean`, and `information_loss`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from visionvitals.perturb.cells import PAPER_GRID, covers_whole_patches, default_grid, divides, division_refusal
from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Preset,
    Published,
    Scores,
    Sign,
    require,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Occlusion"
PER_IMAGE = True
CHARTS = (
    Chart(
        x="fraction",
        x_title="part of the image removed",
        x_unit="share",
        x_metric="information_loss",
        facet=("fill", "grid", "offset"),
        reads="Higher is more robust. Bands are 95 % intervals over images; each image's runs are averaged first.",
    ),
)
SIGNS = (
    Sign(
        title="kept at 50 % occlusion",
        kind="kept",
        where={"fraction": 0.5, "fill": "black", "offset": 0},
        at="at 50 % occlusion",
    ),
    Sign(title="area under occlusion", kind="area", where={"fill": "black", "offset": 0}, x="fraction"),
)
_HALF = {"fraction": 0.5, "fill": "black", "grid": PAPER_GRID, "offset": 0}
_MOST = _HALF | {"fraction": 0.9}
PUBLISHED = (
    Published(model="DeiT-S", architectures=("deit_small_patch16_224",), where=_HALF, value=0.70),
    Published(model="DeiT-B", architectures=("deit_base_patch16_224",), where=_HALF, value=0.755),
    Published(model="DeiT-B", architectures=("deit_base_patch16_224",), where=_MOST, value=0.37),
    Published(model="ResNet50", architectures=("resnet50",), where=_HALF, value=0.001),
)

Fill = Literal["black", "mean", "gray", "noise", "blur", "token"]
PAPER_VARIANTS = (
    (4, 4),
    (4, 8),
    (7, 7),
    (8, 8),
    (16, 16),
)  # appendix A; the pixel grid and the offset are added to them


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One point of the sweep.

    Attributes:
        fraction: share of the cells to remove, in [0, 1].
        grid: (rows, columns) of cells; as many as pixels is "PixelDrop".
        fill: what a removed cell shows; `token` removes the patch's token instead.
        offset: the mask is shifted right and down by this many pixels.
        run: repetition; each has its own masks.
    """

    fraction: float = 0.0
    grid: tuple[int, int] = PAPER_GRID
    fill: Fill = "black"
    offset: int = 0
    run: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.fraction <= 1, "`fraction` must be in [0, 1]", self.fraction)
        require(len(self.grid) == 2 and min(self.grid) > 0, "`grid` must be two positive numbers", self.grid)
        known = ("black", "mean", "gray", "noise", "blur", "token")
        require(self.fill in known, f"`fill` must be one of {', '.join(known)}", self.fill)
        require(self.offset >= 0, "`offset` must not be negative", self.offset)
        require(self.run >= 0, "`run` must not be negative", self.run)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: four fractions, black, one run. default: 0, 10, 25, 50, 75, 90 %; black, mean colour and token removal; three runs.
    paper: tenths from 0 to 90 %, black, 14 x 14, five runs; the grids of appendix A, the pixel grid and the offset grid with one
    run each.
    """
    if preset == "quick":
        return _sweep((0.0, 0.25, 0.5, 0.75), default_grid(size), ("black",), runs=1)
    if preset == "default":
        return _sweep((0.0, 0.1, 0.25, 0.5, 0.75, 0.9), default_grid(size), ("black", "mean", "token"), runs=3)
    tenths = tuple(d / 10 for d in range(10))
    main = _sweep(tenths, PAPER_GRID, ("black",), runs=5)
    grids = [c for grid in (*PAPER_VARIANTS, size) for c in _sweep(tenths, grid, ("black",), runs=1)]
    offset = [Condition(fraction=f, offset=8) for f in (0.3, 0.5, 0.7, 0.9)]
    return main + grids + offset


def _sweep(
    fractions: tuple[float, ...], grid: tuple[int, int], fills: tuple[Fill, ...], *, runs: int
) -> list[Condition]:
    """Every fraction, fill and run; where nothing is removed, the runs are the same and one is enough."""
    return [
        Condition(fraction=fraction, grid=grid, fill=fill, run=run)
        for fill in fills
        for fraction in fractions
        for run in range(runs if fraction > 0 else 1)
    ]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """A grid must divide the input; token removal needs tokens, whole patches and something left to see."""
    if not divides(condition.grid, backbone.preprocess.size):
        return division_refusal(condition.grid, backbone.preprocess.size)
    if condition.offset >= min(backbone.preprocess.size):
        return f"an offset of {condition.offset} px moves the mask out of the image"
    if condition.fill != "token":
        return None
    if "token_removal" not in backbone.provides:
        why = f": {backbone.fixed_tokens}" if backbone.fixed_tokens else ""
        return f"`fill = token` needs patch tokens that can be removed; {backbone.architecture} has none{why}"
    if condition.offset or not covers_whole_patches(condition.grid, backbone):
        return f"`fill = token` needs cells of whole patches; the patch grid is {backbone.patch_grid}"
    if condition.fraction == 1:
        return "`fill = token` needs at least one token left"
    return None


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images with `fill` in the place of the removed cells; black where their tokens are removed."""
    return _covered(condition, batch, seed, _removed(condition, batch, seed))


def measure(job: Job) -> Iterator[Scores]:
    from visionvitals.perturb import patches

    c: Condition = job.condition
    card = job.backbone.card
    h, w = card.preprocess.size
    areas = _areas(c, (h, w)).to(job.backbone.device)
    now: dict[str, Tensor] = {}  # the removed cells of the batch, drawn once

    def covered(condition: Condition, batch: Batch, seed: int) -> "Tensor":
        now["removed"] = _removed(condition, batch, seed)
        return _covered(condition, batch, seed, now["removed"])

    def logits_without(seen: "Tensor", batch: Batch) -> "Tensor":
        visible_logits = (job.scorer or job.backbone).visible_logits
        assert visible_logits is not None
        assert card.patch_grid is not None
        per_patch = patches.to_pixels(now["removed"], c.grid, card.patch_grid).flatten(1)
        return visible_logits(batch.images, ~per_patch)

    def loss(batch: Batch) -> "dict[str, Tensor]":
        return {"information_loss": (now["removed"] * areas).sum(dim=1) / (h * w)}

    whole = c.offset == 0 and c.fill in ("black", "mean", "gray") and covers_whole_patches(c.grid, card)
    yield from score(job, covered, whole_patches=whole, logits=logits_without if c.fill == "token" else None, more=loss)


def _removed(c: Condition, batch: Batch, seed: int) -> "Tensor":
    """The cells to remove, bool (b, rows * columns)."""
    from visionvitals import randomness
    from visionvitals.perturb import patches

    n = c.grid[0] * c.grid[1]
    keys = randomness.stream(seed, batch.ids, f"occlusion/run={c.run}", device=batch.images.device)
    return patches.random_drop(keys, n, patches.drop_count(c.fraction, n))


def _covered(c: Condition, batch: Batch, seed: int, removed: "Tensor") -> "Tensor":
    from visionvitals import randomness
    from visionvitals.perturb import patches

    keys = randomness.stream(seed, batch.ids, f"occlusion/fill/run={c.run}", device=batch.images.device)
    kind = "black" if c.fill == "token" else c.fill
    fill = patches.fill_pixels(kind, batch.images, keys, mean=batch.card.preprocess.mean)
    if c.offset == 0:
        return patches.occlude_cells(batch.images, removed, c.grid, batch.shown(fill))
    pixels = patches.to_pixels(removed, c.grid, batch.card.preprocess.size, offset=c.offset)
    return patches.occlude(batch.images, pixels, fill)


def _areas(c: Condition, size: tuple[int, int]) -> "Tensor":
    """Pixels of each cell inside the picture, float (rows * columns,): an offset pushes a part of the last ones out."""
    import torch

    sides = []
    for length, cells in zip(size, c.grid, strict=True):
        first = torch.arange(cells) * (length // cells) + c.offset
        sides.append((first + length // cells).clamp(max=length) - first.clamp(max=length))
    return (sides[0][:, None] * sides[1]).flatten().float()
