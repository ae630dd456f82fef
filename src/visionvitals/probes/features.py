"""The features of every block, from one pass over the images, kept on disk: what probes and few-shot episodes are fitted on.

`prefix`: the prefix tokens (class, distillation, registers) as they leave each block; `patch_mean`: the mean of its patch tokens;
`pooled`: what the network's own classifier reads. Tokens are seen after the final norm where the network has one that applies to
every block (as the authors' `classify_metadataset.py` does), else as they are. A network without tokens has stages of maps: it has no
prefix tokens (p = 0), and `patch_mean` is the mean over the places of each stage, with zeros on the right of stages narrower than the
widest, so that all are of one width; `columns` leaves the zeros out.

Source: Naseer et al. 2021, section 3.5 and Table 5.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from visionvitals.job import Job

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.probes.tokens import Layout

_KEPT_EVERY = 512  # images between two looks at the disk; a kill loses at most these


def features(job: Job) -> Mapping[str, np.ndarray]:
    """The features of a job's images, computed once for all studies and mapped from the cache; see `job.Job.memo_rows`.

    Calls `job.progress` for every image, whether it was computed now or found.

    Returns:
        float32 arrays in the order of `job.ids`: `prefix` (n, blocks, p, d), `patch_mean` (n, blocks, d), `pooled` (n, e). Values
        that are not finite are kept as they are.

    Raises:
        VitalsError: the network has neither blocks of tokens nor stages of maps, or the cache has no room.
    """
    import torch

    from visionvitals.probes import tokens

    where = tokens.layout(job.backbone)
    with torch.inference_mode():
        trial = _of_batch(job, where, torch.zeros(1, 3, *where.size, device=job.backbone.device))
    shapes = {name: (tuple(x.shape[1:]), "float32") for name, x in trial.items()}
    computed = 0

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        nonlocal computed
        kept = start
        for batch in job.batches(start):
            with torch.inference_mode():
                found = _of_batch(job, where, batch.images)
            for name, x in found.items():
                arrays[name][batch.rows] = x.cpu().numpy()
            computed += len(batch.ids)
            job.progress(len(batch.ids))
            if batch.rows.stop - kept >= _KEPT_EVERY or batch.rows.stop == len(job.ids):
                kept = batch.rows.stop
                yield kept

    found = job.memo_rows("features", {}, shapes, fill)
    job.progress(len(job.ids) - computed)
    return found


def columns(block: np.ndarray) -> np.ndarray:
    """Features of one block, float (n, d), without the zeros that pad a narrow stage on the right."""
    used = np.flatnonzero((block != 0).any(axis=0))
    return block[:, : used[-1] + 1 if len(used) else 1]


def _of_batch(job: Job, where: "Layout", images: "Tensor") -> "dict[str, Tensor]":
    """One pass over some images: what `features` gives, as float32 tensors of b rows."""
    import torch
    from torch.nn import functional

    from visionvitals.probes import tokens

    norm = where.readout.norm if where.readout and where.kind == "tokens" else torch.nn.Identity()
    prefix: list[Tensor] = []
    means: list[Tensor] = []

    def take(_block: int, x: "Tensor") -> None:
        if where.kind == "maps":
            means.append(x.mean(dim=(2, 3)))
            prefix.append(x.new_zeros(len(x), 0, x.shape[1]))
        else:
            normed = norm(x)
            means.append(normed[:, where.prefix :].mean(dim=1))
            prefix.append(normed[:, : where.prefix])

    with tokens.watch(where, take):
        own = job.backbone.features
        pooled = own(images) if own else job.backbone.logits(images)
    width = max(x.shape[1] for x in means)
    return {
        "prefix": torch.stack([functional.pad(x, (0, width - x.shape[2])) for x in prefix], dim=1).float(),
        "patch_mean": torch.stack([functional.pad(x, (0, width - x.shape[1])) for x in means], dim=1).float(),
        "pooled": (pooled if own else prefix[-1][:, 0] if where.prefix else means[-1]).flatten(1).float(),
    }
