"""Stability: does an explanation of an answer depend on the colour that stands for "missing"?

LIME hides random cells of a picture, asks the network each time, and fits how much each cell adds to the probability of its answer. What stands in
the place of a hidden cell is a choice that the explanation should not depend on. Eight colours give eight rankings of the cells; where their tops
differ, the explanation says as much about the colour as about the picture. Removing the most important cells then shows what the ranking is worth.

Protocol. The same random masks for all pictures, each cell kept with probability 1/2; the response is the softmax probability of the class that is
predicted of the whole picture. Its weights on the cells minimise the squared error, of each mask times sqrt(exp(-D^2 / 0.25^2)) with D the cosine
distance of the mask to the one that keeps everything, plus the squared weights; there is an intercept, without penalty. The top is floor(share of the
cells). `agreement` is the mean Jaccard index of the top of two rankings over all pairs of colours, at 2.5 to 25 % of the cells (4 to 49 of 196).
`agreement_of_masks` is that of two sets of masks in black (or by token removal), so what noise alone leaves of 100 %: a colour matters only where
`agreement` is below it. `agreement_by_chance` is that of random rankings. `changed` is the share of answers that change when the top of the first
ranking (black) is removed in black, `changed_at_random` that of as many random cells. With `fill = token` the tokens of hidden patches are not given
to the network: there is no colour, so rankings by colour agree by construction.

What it means for a product. Where explanations are shown to people, agree on the fill, and prefer token removal where the network can do it; with an
agreement near chance show none. A top that changes answers no more often than random cells explains nothing.

Conventions. It costs 9,000 passes an image (771 with the preset `quick`), so it is measured only where it is named (`--studies stability`), on some
hundred pictures (`--limit 200`). Intervals are over images and take the masks as given. An image that has no answer, or whose response does not vary,
has no ranking.

Pitfalls. Fewer masks lower every agreement by noise: read `agreement` beside `agreement_of_masks`, and compare equal numbers of masks only. Of few
cells the top is one or two, and its agreement a step.

Source: Jain et al. 2022, "Missingness Bias in Model Debugging" (arXiv 2204.08945), whose 200 pictures, 1,000 masks and kernel these are. Deviations:
their eight colours are not stated, ours are the corners of the colour cube; ten tops instead of each from 1 to 49; the control by the ranking of
another network is left out. They report figures only.

Metrics: `agreement`, `agreement_of_masks`, `agreement_by_chance`, `changed`, `changed_at_random`.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from visionvitals.perturb.cells import PAPER_GRID, covers_whole_patches, default_grid
from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Scores,
    Sign,
    load,
    require,
)

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Stability of explanations"
LABELS = "none"
PER_IMAGE = True
ON_REQUEST = True
AXES = ("top",)
METRICS = {
    "agreement": Metric(
        title="agreement of explanations",
        meaning="mean Jaccard index of the most important cells by two colours, over all pairs of colours",
        unit="share",
        better="high",
    ),
    "agreement_of_masks": Metric(
        title="agreement of masks",
        meaning="Jaccard index of the most important cells by two sets of masks in one colour; what noise leaves of 1",
        unit="share",
        better=None,
    ),
    "agreement_by_chance": Metric(
        title="agreement by chance",
        meaning="expected Jaccard index of as many random cells; the same for every image",
        unit="share",
        better=None,
        interval=False,
    ),
    "changed": Metric(
        title="answers changed without the top",
        meaning="the answer is another one when the most important cells are removed",
        unit="share",
        better=None,
    ),
    "changed_at_random": Metric(
        title="answers changed at random",
        meaning="the answer is another one when as many random cells are removed",
        unit="share",
        better=None,
    ),
}
CHARTS = (
    Chart(
        x="top",
        x_title="most important cells",
        x_unit="share",
        facet=("grid",),
        metric="agreement",
        where={"fill": "colours"},
        reads="The colour of what is hidden matters where this lies below the agreement of two sets of masks (next chart).",
    ),
    Chart(
        x="top",
        x_title="most important cells",
        x_unit="share",
        facet=("fill", "grid"),
        metric="agreement_of_masks",
        title="Agreement of two sets of masks",
        reads="What noise leaves of 100 % in one colour. Where two colours agree as well as this, the colour cannot be told from noise.",
    ),
    Chart(
        x="top",
        x_title="most important cells removed",
        x_unit="share",
        facet=("fill", "grid"),
        metric="changed",
        title="Answers changed without the top",
        reads="Higher: what the explanation names carries the answer. Compare `changed_at_random` in the table.",
    ),
)
SIGNS = (
    Sign(
        title="agreement of explanations",
        kind="mean",
        metric="agreement",
        where={"top": 0.1, "fill": "colours"},
        at="at the top 10 %",
    ),
)
_BLACK, _WHITE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
COLOURS = (_BLACK, _WHITE, *(each for each in itertools.product((1.0, 0.0), repeat=3) if each not in (_BLACK, _WHITE)))
"""The corners of the colour cube; black first: its ranking is the one that is tried."""
TOPS = tuple(step / 40 for step in range(1, 11))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How answers are explained.

    Attributes:
        masks: how many random masks.
        colours: how many of the eight colours of the fill `colours` are compared, black first.
        fill: what a hidden cell shows; `token` removes the patch's token instead.
        grid: (rows, columns) of cells.
    """

    masks: int = 1000
    colours: int = 8
    fill: Literal["colours", "token"] = "colours"
    grid: tuple[int, int] = PAPER_GRID

    def __post_init__(self) -> None:
        _hidden(self)
        require(self.masks >= 2, "`masks` must be at least 2", self.masks)
        require(2 <= self.colours <= len(COLOURS), f"`colours` must be from 2 to {len(COLOURS)}", self.colours)
        require(self.fill in ("colours", "token"), "`fill` must be `colours` or `token`", self.fill)
        require(self.grid[0] * self.grid[1] >= 4, "`grid` must have at least 4 cells", self.grid)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: 250 masks in black and white. default: 1,000 masks in eight colours, and by token removal. paper: the same on its grid."""
    if preset == "quick":
        return [Condition(masks=250, colours=2, grid=default_grid(size))]
    grid = PAPER_GRID if preset == "paper" else default_grid(size)
    return [Condition(grid=grid), Condition(grid=grid, fill="token")]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """As of `occlusion`; there must be answers that can change."""
    if backbone.outputs < 2:
        return f"answers need at least 2 outputs; {backbone.architecture} has {backbone.outputs}"
    return load("occlusion").refusal(_hidden(condition), backbone, images)


def passes(condition: Condition) -> float:
    """One for each mask and colour, as many as masks again, two for each top, and one of the whole image."""
    return condition.masks * (len(_fills(condition)) + 1) + 2 * len(TOPS) + 1


def measure(job: Job) -> Iterator[Scores]:
    from visionvitals.perturb import patches
    from visionvitals.probes import lime

    c: Condition = job.condition
    n = c.grid[0] * c.grid[1]
    (kept, others), found = _masks(c, job.seed), _responses(job)
    for batch in job.batches():
        response = np.moveaxis(found["response"][batch.rows], 0, -1)  # (fills, masks, images)
        varies = np.isfinite(response).all(axis=1) & (np.ptp(response, axis=1) > 0)
        *by_colour, again = np.nan_to_num(response)
        ranked = [lime.ranking(lime.importance(kept, each)) for each in by_colour]
        second = lime.ranking(lime.importance(others, again))
        changed = _changed(job, batch, ranked[0].T, np.array(found["answer"][batch.rows]))
        for top, shares in changed.items():
            values = {name: np.where(varies[0], share, np.nan) for name, share in shares.items()}
            count = patches.drop_count(top, n)
            alike = lime.overlap([ranked[0], second], count)
            values["agreement_of_masks"] = np.where(varies[0] & varies[-1], alike, np.nan)
            values["agreement_by_chance"] = np.full(alike.shape, lime.chance(n, count))
            if len(ranked) > 1:
                values["agreement"] = np.where(varies[:-1].all(axis=0), lime.overlap(ranked, count), np.nan)
            yield Scores(batch.ids, values, (top,))
        job.progress(len(batch.ids))


def _hidden(c: Condition) -> object:
    """The condition of `occlusion` that hides cells in the same way."""
    return load("occlusion").Condition(fraction=0.5, grid=c.grid, fill="token" if c.fill == "token" else "black")


def _fills(c: Condition) -> tuple[tuple[float, ...], ...]:
    return COLOURS[: 1 if c.fill == "token" else c.colours]


def _masks(c: Condition, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of masks, True where a cell is kept, (masks, cells) each; a mask that would keep nothing keeps everything."""
    from visionvitals import randomness

    keys = randomness.stream(seed, [str(k) for k in range(2 * c.masks)], "stability/masks")
    kept: np.ndarray = (randomness.uniform(keys, c.grid[0] * c.grid[1]) < 0.5).numpy()
    kept[~kept.any(axis=1)] = True
    return kept[: c.masks], kept[c.masks :]


def _responses(job: Job) -> Mapping[str, np.ndarray]:
    """`answer` to each whole image, int64 (n,), -1 where it has none; `response`, the probability of that class, float32 (n, fills + 1, masks), the
    last one of the first fill under the other masks."""
    import torch

    c: Condition = job.condition
    kept, others = map(torch.from_numpy, _masks(c, job.seed))
    rows = [(colour, kept) for colour in _fills(c)] + [(_fills(c)[0], others)]

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        for batch in job.batches(start):
            with torch.inference_mode():
                out = job.answered(batch, None)[1]
                answer = out.argmax(dim=1)
                for row, (colour, masks) in enumerate(rows):
                    for k, visible in enumerate(masks):
                        hidden = (~visible).to(answer.device).expand(len(answer), -1)
                        share = _without(job, batch, hidden, colour).softmax(dim=1).gather(1, answer[:, None])
                        arrays["response"][batch.rows, row, k] = share[:, 0].cpu().numpy()
            arrays["answer"][batch.rows] = answer.masked_fill(~out.isfinite().all(dim=1), -1).cpu().numpy()
            yield batch.rows.stop

    settings = {"masks": c.masks, "grid": list(c.grid), "fill": c.fill, "colours": _fills(c)}
    columns = {"answer": ((), "int64"), "response": ((len(rows), c.masks), "float32")}
    return job.memo_answers("answers under random masks", settings, columns, fill)


def _changed(job: Job, batch: Batch, ranked: np.ndarray, answer: np.ndarray) -> dict[float, dict[str, np.ndarray]]:
    """top -> `changed` and `changed_at_random` of the images of a batch, with ranked cells (b, n) and their answers (b,); shows
    the pictures without their top."""
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import patches

    n, device = ranked.shape[1], batch.images.device
    random = randomness.permutation(randomness.stream(job.seed, batch.ids, "stability/random"), n)
    orders = {"changed": torch.from_numpy(ranked).to(device), "changed_at_random": random.to(device)}
    before = torch.from_numpy(answer).to(device)
    found: dict[float, dict[str, np.ndarray]] = {}
    for top in TOPS:
        if not (count := patches.drop_count(top, n)):
            continue
        found[top] = {}
        for name, order in orders.items():
            hidden = torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :count], True)
            with torch.inference_mode():
                out = _without(job, batch, hidden, COLOURS[0])
            lost = ~out.isfinite().all(dim=1) | (before < 0)
            turned = (out.argmax(dim=1) != before).double().masked_fill(lost, torch.nan)
            found[top][name] = turned.cpu().numpy()
            for k in sorted(map(batch.ids.index, job.exhibits.intersection(batch.ids))) if name == "changed" else ():
                black = torch.zeros(1, 3, 1, 1, device=device)
                shown = patches.occlude_cells(batch.images[k : k + 1], hidden[k : k + 1], job.condition.grid, black)
                job.keep(batch.ids[k], shown[0], (top,), "another answer" if turned[k] == 1 else "")
    return found


def _without(job: Job, batch: Batch, hidden: "Tensor", colour: tuple[float, ...]) -> "Tensor":
    """Logits of the images of a batch without their hidden cells, bool (b, n), of which each image has as many: float32 (b, outputs)."""
    import torch

    from visionvitals.perturb import patches

    c: Condition = job.condition
    card = job.backbone.card

    def covered(condition: Condition, shown: Batch, seed: int) -> "Tensor":
        fill = torch.tensor(colour, device=shown.images.device).view(1, 3, 1, 1)
        return patches.occlude_cells(shown.images, hidden, c.grid, shown.shown(fill))

    def visible(seen: "Tensor", shown: Batch) -> "Tensor":
        network = job.scorer or job.backbone
        assert network.visible_logits is not None
        assert card.patch_grid is not None
        return network.visible_logits(shown.images, ~patches.to_pixels(hidden, c.grid, card.patch_grid).flatten(1))

    if c.fill == "token":
        return job.answered(batch, None, visible)[1].float()
    plain = replace(job, exhibits=frozenset())
    return plain.answered(batch, covered, whole_patches=covers_whole_patches(c.grid, card))[1].float()
