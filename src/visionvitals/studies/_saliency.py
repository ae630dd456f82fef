"""Where the weights of salient patches come from: the data set's mask, attention, or a gradient; computed once and shared."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from visionvitals.study import Job, require

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.core import Backbone

Source = Literal["self", "gradient", "mask", "model"]
Weights = Callable[[slice], "Tensor"]
"""Rows of the job's arrays -> float64 (rows, cells), row by row of the grid, on the CPU."""


def weights(job: Job, *, source: Source, model: str, head: str, grid: tuple[int, int]) -> Weights:
    """How to get the weights of a job's images on the cells of `grid`.

    Args:
        job: `mask` needs its masks, `model` its companion.
        source: `self`: the last block's attention of the class token over the patches, of the job's backbone; `model`: of the
            backbone that `model` spells; `gradient`: |d logit of the predicted class / d pixel|, of the job's backbone; `mask`: the share
            of each cell that is object.
        model: spelling, for `model`.
        head: of attention: `mean`, an index, or `best-foreground`: the one head whose attention lies on the objects most, averaged
            over the images of the job, which needs its masks.
        grid: (rows, columns); attention is spread over it by area where the patches are others.
    """
    if source == "mask":
        return lambda rows: foreground(job, rows, grid)
    if source == "gradient":
        found = _gradients(job, grid)
        return lambda rows: _tensor(found[rows])
    backbone = job.companion(model) if source == "model" else job.backbone
    by_head, patches = attention(job, backbone)

    def regridded(rows: slice) -> "Tensor":
        from visionvitals.perturb import saliency

        return saliency.regrid(_tensor(by_head[rows]), patches, grid)

    if head == "mean":
        return lambda rows: regridded(rows).mean(dim=1)
    heads = by_head.shape[1]
    chosen = best_head(job, regridded, grid) if head == "best-foreground" else int(head)
    require(
        chosen < heads, f"`head` must be one of the {heads} of {backbone.card.architecture}, 0 to {heads - 1}", head
    )
    return lambda rows: regridded(rows)[:, chosen]


def attention(job: Job, backbone: "Backbone") -> tuple[np.ndarray, tuple[int, int]]:
    """The last block's attention of the first prefix token over the patches, float32 (n, heads, patches), and the patch grid.

    The backbone is shown the job's images, resized where its input is of another size; it normalises them itself.

    Raises:
        VitalsError: it has no such attention.
    """
    import torch
    from torchvision.transforms.v2 import functional as v2

    from visionvitals.probes.attention import patch_rows

    card = backbone.card
    size, grid = card.preprocess.size, card.patch_grid
    require(grid is not None, "The source of saliency must have a grid of patches", card.architecture, "Name a ViT.")
    assert grid is not None

    def rows(images: "Tensor") -> "Tensor":
        fits = tuple(images.shape[2:]) == size
        seen = images if fits else v2.resize(images, list(size), antialias=True).clamp(0, 1)
        with torch.inference_mode():
            found: Tensor = patch_rows(backbone, seen)
        return found

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        for batch in job.batches(start):
            arrays["rows"][batch.rows] = rows(batch.images).float().cpu().numpy()
            yield batch.rows.stop

    one = torch.zeros(1, 3, *job.pixels.shape[1:3], device=backbone.device)
    shape = tuple(rows(one).shape[1:])
    kept = job.memo_rows("attention", {"block": -1, "query": 0}, {"rows": (shape, "float32")}, fill, of=backbone)
    return kept["rows"], grid


def best_head(job: Job, by_head: Weights, grid: tuple[int, int], *, step: int = 256) -> int:
    """The head whose attention lies on the objects most: the mean over the images of its share there; the lower index of equals.

    Images without an object, or with weights that cannot be used in some head, do not count.
    """
    from visionvitals.perturb import saliency

    total: Any = 0.0
    counted = 0
    for start in range(0, len(job.ids), step):
        rows = slice(start, min(start + step, len(job.ids)))
        objects, attended = foreground(job, rows, grid), by_head(rows)
        heads = attended.shape[1]
        good = saliency.usable(objects) & saliency.usable(attended.flatten(0, 1)).view(-1, heads).all(dim=1)
        if bool(good.any()):
            total = total + saliency.foreground_overlap(attended[good], objects[good]).sum(dim=0)
            counted += int(good.sum())
    require(counted > 0, "`best-foreground` needs an image with an object", 0, "Name a head by its index, or `mean`.")
    return int(total.argmax())


def foreground(job: Job, rows: slice, grid: tuple[int, int]) -> "Tensor":
    """The share of each cell that is object, float64 (rows, cells)."""
    from visionvitals.perturb import saliency

    assert job.masks is not None, "`refusal` asks for masks"
    values = np.asarray(job.masks[rows])
    return saliency.from_mask(_tensor((values > 0) & (values < 255)), grid)


def _gradients(job: Job, grid: tuple[int, int]) -> np.ndarray:
    """|gradient of the predicted class's logit|, summed over each cell, float64 (n, cells)."""
    from visionvitals.perturb import saliency
    from visionvitals.probes import gradient

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        for batch in job.batches(start):
            slope = gradient.predicted(job.backbone, batch.images)
            arrays["weights"][batch.rows] = saliency.from_gradient(slope, grid).numpy()
            yield batch.rows.stop

    columns = {"weights": ((grid[0] * grid[1],), "float64")}
    return job.memo_rows("gradient", {"of": "predicted logit", "grid": list(grid)}, columns, fill)["weights"]


def _tensor(values: np.ndarray) -> "Tensor":
    import torch

    return torch.from_numpy(np.array(values))  # a copy: mapped files must not be written to
