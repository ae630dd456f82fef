"""Missingness: does the answer change because something is gone, or because of what was put in its place?

The masks of `occlusion`, filled in several ways, beside the network's own answer to the whole image: no labels are needed. Token removal, which puts
nothing in the place of a patch, is the reference where the network can do it. Answers that collapse to a few classes whatever was
removed, and fills that disagree under the same masks, show that the fill has a meaning of its own; the accuracy under occlusion then says as
much about the fill as about what is gone.

Conventions. Where `occlusion` ran with several fills, `vitals table RUN --study occlusion --metric fill_agreement` (and `unchanged`,
`class_shift`, `prediction_entropy`) and its section of the report give the same numbers without a further pass; this study adds the probability of
the clean answer, and works on folders without labels. The entropy of the answers is at most ln n: compare equal n only.

What it means for a product. Parts of pictures that are missing (a dirty lens, a crop, a privacy mask) should be filled in the way whose
answers are nearest to token removal; a network whose fills disagree needs its fill fixed, and tested, as part of the product.

Pitfalls. Entropy drops too where classes are unequal: read it beside that of the clean images. Token removal leaks where tokens are mixed before
the first block (T2T, Swin, hybrids), and is refused there. Contradicts: with a fill of black a convolutional network looks worse than it is
(Jain et al. 2022).

Source: Jain et al. 2022, "Missingness Bias in Model Debugging" (arXiv 2204.08945). Deviations: random masks, nested over fractions, drawn by
image; token removal at whole patches only, where theirs drops a token as soon as any pixel of it is masked. Their study of LIME is `stability`.

Metrics: `unchanged`, `clean_probability`, `confidence` and `prediction` of every image.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from visionvitals.perturb.cells import PAPER_GRID, default_grid
from visionvitals.study import BackboneCard, Batch, Chart, ImageSetCard, Job, Metric, Preset, Scores, Sign, load

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Missingness"
LABELS = "none"
PER_IMAGE = True
METRICS = {
    "unchanged": Metric(
        title="answer unchanged",
        meaning="the predicted class is that of the whole image, right or wrong",
        unit="share",
        better=None,
    ),
    "clean_probability": Metric(
        title="probability of the clean answer",
        meaning="softmax probability of the class that was predicted of the whole image",
        unit="share",
        better=None,
    ),
}
CHARTS = (
    Chart(
        x="fraction",
        x_title="part of the image removed",
        x_unit="share",
        facet=("fill", "grid"),
        metric="unchanged",
        reads="The share of images whose answer stays. Compare the fills: a curve that falls faster belongs to a fill that says something itself.",
    ),
)
SIGNS = (
    Sign(
        title="unchanged at 50 % black",
        kind="mean",
        metric="unchanged",
        where={"fraction": 0.5, "fill": "black"},
        at="at 50 % occlusion in black",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One point of the sweep: as of `occlusion`.

    Attributes:
        fraction: share of the cells to remove, in [0, 1].
        grid: (rows, columns) of cells.
        fill: what a removed cell shows; `token` removes the patch's token instead.
        run: repetition; each has its own masks.
    """

    fraction: float = 0.0
    grid: tuple[int, int] = PAPER_GRID
    fill: Literal["black", "mean", "gray", "noise", "blur", "token"] = "black"
    run: int = 0

    def __post_init__(self) -> None:
        _masks(self)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: half removed, in black, the mean colour and by token removal. default: 25, 50, 75 %, blur too. paper: all six fills, 10 to 90 %, three
    runs."""
    fills: tuple[Any, ...] = ("black", "mean", "token")
    fractions: tuple[float, ...] = (0.5,)
    if preset != "quick":
        fills, fractions = ("black", "mean", "blur", "token"), (0.25, 0.5, 0.75)
    if preset == "paper":
        fills, fractions = ("black", "mean", "gray", "noise", "blur", "token"), (0.1, 0.25, 0.5, 0.75, 0.9)
    return [
        Condition(fraction=fraction, grid=default_grid(size), fill=fill, run=run)
        for fill in fills
        for fraction in fractions
        for run in range(3 if preset == "paper" else 1)
    ]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """As of `occlusion`; there must be answers that can change."""
    if backbone.outputs < 2:
        return f"answers need at least 2 outputs; {backbone.architecture} has {backbone.outputs}"
    return load("occlusion").refusal(_masks(condition), backbone, images)


def passes(condition: Condition) -> float:
    """One, and for all conditions together one of the whole images."""
    return 1


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images as `occlusion` shows them."""
    change = load("occlusion").perturb
    assert change is not None
    return change(_masks(condition), batch, seed)


def measure(job: Job) -> Iterator[Scores]:
    """What `occlusion` measures with the clean answers as labels."""
    import torch

    clean = np.array(_clean(job))
    place = {item: row for row, item in enumerate(job.ids)}
    asked = replace(job, condition=_masks(job.condition), labels=clean.clip(min=0), right=None, present=None)
    for block in load("occlusion").measure(asked):
        found = {name: torch.as_tensor(values) for name, values in block.values.items()}
        before = torch.as_tensor(clean[[place[item] for item in block.items]]).to(found["prediction"])
        lost = found["prediction"].isnan() | (before < 0)
        own = {
            "unchanged": (found["prediction"] == before).double(),
            "clean_probability": (-found["cross_entropy"]).exp(),
        }
        kept = {name: found[name] for name in ("confidence", "prediction", "information_loss")}
        yield Scores(block.items, {name: values.masked_fill(lost, torch.nan) for name, values in own.items()} | kept)


def _masks(c: Condition) -> Any:
    """The condition of `occlusion`."""
    return load("occlusion").Condition(fraction=c.fraction, grid=c.grid, fill=c.fill, run=c.run)


def _clean(job: Job) -> np.ndarray:
    """The class that is predicted of each whole image, -1 where it has none: int64 (n,)."""
    import torch

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        for batch in job.batches(start):
            with torch.inference_mode():
                out = job.answered(batch, None)[1]
            found = out.argmax(dim=1).masked_fill(~out.isfinite().all(dim=1), -1)
            arrays["prediction"][batch.rows] = found.cpu().numpy()
            yield batch.rows.stop

    return job.memo_answers("clean answers", {}, {"prediction": ((), "int64")}, fill)["prediction"]
