"""What most studies share: look at the perturbed images, compare the logits with the labels, yield rows."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from visionvitals.core import Batch, Job, Row

if TYPE_CHECKING:
    from torch import Tensor


def score(
    job: Job,
    perturb: "Callable[[Batch], Tensor]",
    *,
    logits: "Callable[[Tensor, Batch], Tensor] | None" = None,
) -> Iterator[Row]:
    """Rows `top1`, `top5` (with more than five outputs), `cross_entropy` and `prediction` for every image of a job.

    Args:
        job: the cell's work.
        perturb: a batch -> the images to show, float (b, 3, h, w) in [0, 1].
        logits: (images to show, batch) -> logits; the backbone's own `logits` where None.
    """
    import torch

    for batch in job.batches():
        with torch.inference_mode():
            seen = perturb(batch)
            out = (job.backbone.logits(seen) if logits is None else logits(seen, batch)).float()
            measured = answers(out, batch.labels)
        for position, item in enumerate(batch.ids):
            if item in job.exhibits:
                job.keep(item, seen[position])
            for metric, values in measured.items():
                yield Row(item, metric, values[position])
        job.progress(len(batch.ids))


def answers(out: "Tensor", labels: "Tensor") -> dict[str, list[float]]:
    """`top1`, `cross_entropy`, `prediction` and, with more than five outputs, `top5` of each image, from logits (b, k)."""
    from torch.nn import functional

    best = out.argmax(dim=1)
    columns = {
        "top1": (best == labels).double(),
        "cross_entropy": functional.cross_entropy(out, labels, reduction="none").double(),
        "prediction": best.double(),
    }
    if out.shape[1] > 5:
        columns["top5"] = (out.topk(5, dim=1).indices == labels[:, None]).any(dim=1).double()
    return {metric: values.tolist() for metric, values in columns.items()}
