"""What `lesion` puts in the place of tokens: the mean of other images, noise of their moments, or another image's own tokens.

The different pictures of a set are parted into two halves by hash; what is put into an image comes from the other half only, so that
no number of an image holds itself or a copy of it, and every image is scored.
"""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from visionvitals.study import Batch, Job, require

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.probes.tokens import Layout

Given = Callable[[Batch, int], "Tensor"]
"""(batch, place) -> what is put there, (b, m, d); place k is what enters block k + 1, the last place what leaves the last block."""


def halves(job: Job) -> np.ndarray:
    """0 or 1 for each image, int64 (n,): copies of a picture on one side, and as many different pictures on both, up to one.

    Raises:
        VitalsError: all images are copies of one picture.
    """
    from visionvitals import randomness

    pictures = [job.copies.get(item, item) for item in job.ids]
    different = sorted(set(pictures))
    must = "Two different pictures are needed to replace tokens of one by those of another"
    require(len(different) > 1, must, len(different), "Measure more images.")
    keys = randomness.stream(job.seed, different, "lesion/half").tolist()
    order = sorted(range(len(different)), key=keys.__getitem__)
    second = {different[k] for k in order[len(order) // 2 :]}
    return np.array([picture in second for picture in pictures], dtype=np.int64)


def given(job: Job, where: "Layout", which: slice) -> Given:
    """What the condition of a job (`replace`, `mean_over`, `run`) puts in the place of the tokens `which`."""
    c, side = job.condition, halves(job)
    if c.replace == "swap":
        return _swapped(job, where, which, side)
    return _drawn(job, where, which, side)


def _swapped(job: Job, where: "Layout", which: slice, side: np.ndarray) -> Given:
    """The tokens of a partner from the other half, drawn anew for each place, in a pass in which nothing is changed."""
    import torch

    from visionvitals import randomness
    from visionvitals.pixels import to_float

    every = job.different(range(len(job.ids)))
    pools = [np.array(sorted(every[side[every] != s], key=job.ids.__getitem__)) for s in (0, 1)]

    def tokens(batch: Batch, place: int) -> "Tensor":
        keys = randomness.stream(job.seed, batch.ids, f"lesion/run={job.condition.run}/partner/{place}")
        share = randomness.uniform(keys, 1)[:, 0].tolist()
        own = side[batch.rows].tolist()
        rows = [pools[s][int(u * len(pools[s]))] for s, u in zip(own, share, strict=True)]
        images = to_float(np.ascontiguousarray(job.pixels[rows]), job.backbone.device)
        with torch.inference_mode():
            return passing(job, where, images, (place,))[1][place][:, which]

    return tokens


def _drawn(job: Job, where: "Layout", which: slice, side: np.ndarray) -> Given:
    """The mean over the other half, or normal noise around it."""
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import lesion

    c, device = job.condition, job.backbone.device
    kept = job.memo("moments of tokens", {}, lambda: _moments(job, where, side))
    mean, variance = (torch.from_numpy(np.array(kept[name][:, :, which])).to(device) for name in ("mean", "variance"))
    if c.mean_over == "all":
        centre = mean.mean(dim=2, keepdim=True)
        variance = (variance + (mean - centre) ** 2).mean(dim=2, keepdim=True).expand_as(mean)
        mean = centre.expand_as(mean)

    def tokens(batch: Batch, place: int) -> "Tensor":
        other = torch.from_numpy(1 - side[batch.rows]).to(device)
        found = mean[other, place]
        if c.replace == "mean":
            return found
        keys = randomness.stream(job.seed, batch.ids, f"lesion/run={c.run}/noise/{place}", device=device)
        return lesion.gaussian(keys, found, variance[other, place])

    return tokens


def _moments(job: Job, where: "Layout", side: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and variance over the different pictures of each half, float32 (2, places, t, d); those with values that are not finite
    take no part in a place."""
    import torch

    places = tuple(range(len(where.blocks) + 1))
    taken = torch.zeros(2, len(job.ids), dtype=torch.float64)
    for row in job.different(range(len(job.ids))):
        taken[side[row], row] = 1
    sums: dict[str, Tensor] = {}
    for batch in job.batches():
        with torch.inference_mode():
            _, found = passing(job, where, batch.images, places)
            for place, x in found.items():
                fine = x.isfinite().flatten(1).all(dim=1)
                weights = taken[:, batch.rows].to(x.device) * fine
                exact = x.double().masked_fill(~fine[:, None, None], 0)
                for name, of in (("mean", exact), ("square", exact**2)):
                    whole = sums.setdefault(name, exact.new_zeros(2, len(places), *x.shape[1:]))
                    whole[:, place] += torch.einsum("sb,btd->std", weights, of)
                sums.setdefault("count", exact.new_zeros(2, len(places)))[:, place] += weights.sum(dim=1)
    count = sums["count"][:, :, None, None]
    mean = sums["mean"] / count
    variance = (sums["square"] / count - mean**2).clamp(min=0)
    return {"mean": mean.float().cpu().numpy(), "variance": variance.float().cpu().numpy()}


def passing(job: Job, where: "Layout", images: "Tensor", places: tuple[int, ...]) -> "tuple[Tensor, dict[int, Tensor]]":
    """The logits of the images, and what passes at each of the places: place -> (b, t, d) or (b, c, h, w)."""
    from visionvitals.probes import tokens

    seen: dict[int, Tensor] = {}

    def keep(x: "Tensor", place: int) -> "Tensor":
        seen[place] = x.clone()  # the network may change its own in place
        return x

    with ExitStack() as stack:
        for place in places:
            stack.enter_context(tokens.entering(where, place, partial(keep, place=place)))
        logits = job.backbone.logits(images)
    return logits, seen
