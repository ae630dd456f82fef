"""From images to columns: what is shown to a network, and what is read of its answers."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from visionvitals.core import Place, Scores
from visionvitals.job import Batch, Job

if TYPE_CHECKING:
    from torch import Tensor


def score(
    job: Job,
    perturb: "Callable[[Any, Batch, int], Tensor] | None",
    *,
    at: Place = (),
    whole_patches: bool = False,
    logits: "Callable[[Tensor, Batch], Tensor] | None" = None,
    more: "Callable[[Batch], Mapping[str, Tensor]] | None" = None,
) -> Iterator[Scores]:
    """What `answers` reads of the network's answer to every image of a job.

    Args:
        job: the cell's work.
        perturb: (condition, batch, seed) -> the images to show, float (b, 3, h, w) in [0, 1]; None shows them as they are.
        at: the place on the study's axes.
        whole_patches: whether `perturb` only moves whole patches of the network, or fills them with `Batch.shown` of a colour: then it is
            given the map of their embeddings where the network has one, and answers as for the images within 1e-5 of the largest logit.
        logits: (images to show, batch) -> logits; the backbone's own `logits` where None.
        more: batch -> further metrics of its images, (b,) each; called after `perturb`.
    """
    import torch

    present = None if job.present is None else torch.from_numpy(job.present).to(job.backbone.device)
    for batch in job.batches():
        with torch.inference_mode():
            seen, out = job.answered(batch, perturb, logits, whole_patches=whole_patches)
            measured = answers(out.float(), batch.right, present) | dict({} if more is None else more(batch))
        for position in sorted(map(batch.ids.index, job.exhibits.intersection(batch.ids))):
            job.keep(batch.ids[position], seen[position])
        yield Scores(batch.ids, measured, at)
        job.progress(len(batch.ids))


def answers(out: "Tensor", labels: "Tensor", present: "Tensor | None" = None) -> "dict[str, Tensor]":
    """What is read of the answer to each image, float64 (b,): `top1`, `cross_entropy`, `prediction`, `confidence`, `brier` and, with more than
    five outputs, `top5`; where `present` is given, `top1_present`.

    An image whose logits are not finite has no answer: NaN. Where the label shares its logit with others, it counts by the share of the
    orders of these in which it is among the highest, so that the order of the classes decides nothing; `prediction` is the first.

    Args:
        out: logits (b, k).
        labels: int64 (b,); or (b, m), all outputs that are right for an image, some of them twice where it has fewer: the highest of
            them is judged, and their probabilities are added.
        present: int64 (c,), the outputs whose classes the image set has.
    """
    import torch
    from torch.nn import functional

    right = labels if labels.ndim == 2 else labels[:, None]

    def ranked(out: "Tensor", highest: int, wrong: "Tensor | None") -> "Tensor":
        above, level = (out > own).sum(dim=1), (out == own).sum(dim=1).clamp(min=1)
        places = highest - above
        if wrong is None:
            return (places / level.double()).clamp(0, 1)
        astray, missed = ((out == own) & wrong).sum(dim=1), torch.ones_like(level, dtype=torch.float64)
        for k in range(
            highest
        ):  # each place goes to one of those that share the logit; all miss where all go to wrong ones
            missed = torch.where(k < places, missed * (astray - k).clamp(min=0) / (level - k).clamp(min=1), missed)
        return 1 - missed

    own = out.gather(1, right).amax(dim=1, keepdim=True)
    shares, wrong = out.softmax(dim=1), None
    if labels.ndim == 1:
        truth, loss = shares.gather(1, right)[:, 0], functional.cross_entropy(out, labels, reduction="none")
        off = shares.square().sum(dim=1) - truth.square()
    else:
        wrong = torch.ones_like(out, dtype=torch.bool).scatter(1, right, False)
        loss = out.logsumexp(dim=1) - out.masked_fill(wrong, -float("inf")).logsumexp(dim=1)
        truth, off = (shares * ~wrong).sum(dim=1), (shares * wrong).square().sum(dim=1)
    columns = {
        "top1": ranked(out, 1, wrong),
        "cross_entropy": loss.double(),
        "prediction": out.argmax(dim=1).double(),
        "confidence": shares.amax(dim=1).double(),
        "brier": off.clamp(min=0).double() + (1 - truth).square().double(),
    }
    if out.shape[1] > 5:
        columns["top5"] = ranked(out, 5, wrong)
    if present is not None:
        columns["top1_present"] = ranked(out[:, present], 1, None if wrong is None else wrong[:, present])
    lost = ~out.isfinite().all(dim=1)  # filled in without asking whether there is one, which would wait for the device
    return {metric: values.masked_fill(lost, float("nan")) for metric, values in columns.items()}
