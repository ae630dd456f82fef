"""Making a universal patch: which images train and which are scored, the epochs, and what is kept of the result."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from visionvitals.perturb.limits import Shape
from visionvitals.study import Job, answers, require

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.core import Backbone
    from visionvitals.perturb.adversarial_patch import Placement

BATCH = 8
"""Images a training step, whatever the run's batch size: it decides the patch."""


def parts(job: Job, *, most: int, run: int) -> tuple[np.ndarray, frozenset[str]]:
    """Rows of the training images, in order of their hash for this run and at most `most`; and the ids of the images that are scored.

    No picture is on both sides: of copies one takes part, a scored one where the set has parts.
    """
    from visionvitals import randomness

    n = len(job.ids)
    order = randomness.stream(job.seed, job.ids, f"adversarial_patch/split/run={run}").argsort().numpy()
    known = [] if job.splits is None else [k for k in order if job.splits[k] == "train"]
    if 0 < len(known) < n:
        scored = np.setdiff1d(order, known)
        train = job.different(known, besides=scored)
        left_out = len(known) - len(train)
    else:
        pictures = job.different(order)
        train, scored = np.split(pictures, [len(pictures) // 2])
        left_out = n - len(pictures)
    if left_out:
        job.warn(f"{left_out} images are copies of others and are left out: no picture is trained on and scored")
    require(len(train) > 0, "A patch needs images to train on and others to score", n)
    return train[:most], frozenset(job.ids[k] for k in scored)


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a patch is made, as plain values.

    Attributes:
        placement: its size and poses on the network that it is made on.
        target, epochs, lr, run: as the condition's.
    """

    placement: "Placement"
    target: int
    epochs: int
    lr: float
    run: int


def train(job: Job, source: "Backbone", training: np.ndarray, plan: Training) -> np.ndarray:
    """The patch made on `source`, float (3, s, s): one row of a memo per epoch, so that a killed training goes on.

    Args:
        job: whose images and labels are used; labels are outputs of `source` too.
        source: the network.
        training: rows of the training images.
        plan: how.

    Raises:
        VitalsError: the network has no gradients.
    """
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import adversarial_patch as patches
    from visionvitals.perturb import gradients

    c, placement = plan, plan.placement
    device, side, size = source.device, placement.side, source.card.preprocess.size
    name = f"adversarial_patch/run={c.run}"

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        gradients.require_gradients(source.logits, _images(job, source, training[:1]))
        right = _first_correct(job, source, training, c.target)
        count = len(right)
        right = right if count else training
        per_epoch = -(-len(right) // BATCH)
        if start:
            kept = {k: torch.from_numpy(arrays[k][start - 1].copy()).to(device) for k in ("patch", "mean", "variance")}
            state = patches.State(kept["patch"], kept["mean"], kept["variance"], start * per_epoch)
        else:
            key = randomness.stream(job.seed, ["patch"], f"{name}/start", device=device)
            state = patches.begin(randomness.uniform(key, 3 * side * side).view(3, side, side))
        for epoch in range(start, c.epochs):
            key = randomness.stream(job.seed, ["order"], f"{name}/epoch={epoch}")
            order = right[randomness.permutation(key, len(right))[0].numpy()]
            losses = []
            for first in range(0, len(order), BATCH):
                rows = order[first : first + BATCH]
                ids = [job.ids[k] for k in rows]
                keys = randomness.stream(job.seed, ids, f"{name}/train/epoch={epoch}", device=device)
                labels = torch.from_numpy(np.asarray(job.labels)[rows].astype(np.int64)).to(device)
                state, loss = patches.climb(
                    state,
                    source.logits,
                    _images(job, source, rows),
                    labels if c.target < 0 else torch.full_like(labels, c.target),
                    patches.poses(keys, placement, size),
                    placement.shape,
                    targeted=c.target >= 0,
                    lr=c.lr,
                )
                losses.append(loss)
            for column, value in zip(("patch", "mean", "variance"), state[:3], strict=True):
                arrays[column][epoch] = value.cpu().numpy()
            arrays["loss"][epoch], arrays["right"][epoch] = np.mean(losses), count
            yield epoch + 1

    shape = ((3, side, side), "float32")
    columns = {"patch": shape, "mean": shape, "variance": shape, "loss": ((), "float32"), "right": ((), "int64")}
    rows = hashlib.sha256(training.astype(np.int64).tobytes()).hexdigest()
    settings = {**asdict(plan), "training": rows, "batch": BATCH}
    made = job.memo_rows("adversarial patch", settings, columns, fill, of=source, rows=c.epochs)
    if not made["right"][-1]:
        job.warn(
            f"the network gets none of the {len(training)} training images right: the patch is trained on all of them"
        )
    return np.array(made["patch"][-1])


def _first_correct(job: Job, source: "Backbone", training: np.ndarray, target: int) -> np.ndarray:
    """The training images that the network gets right, and that are not of the target's class."""
    import torch

    right = []
    for first in range(0, len(training), BATCH):
        rows = training[first : first + BATCH]
        with torch.no_grad():
            out = source.logits(_images(job, source, rows)).float()
        labels = np.asarray(job.labels)[rows]
        found = answers(out, torch.from_numpy(labels.astype(np.int64)).to(out.device))["top1"].cpu().numpy() == 1
        right.append(rows[found & (labels != target)])
    return np.concatenate(right)


def _images(job: Job, source: "Backbone", rows: "np.ndarray | Sequence[int]") -> "Tensor":
    """Some images as float (b, 3, h, w) in [0, 1] at the size of `source`."""
    from torch.nn import functional

    from visionvitals.pixels import to_float

    images = to_float(np.stack([job.pixels[k] for k in rows]), source.device)
    size = source.card.preprocess.size
    if images.shape[-2:] == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


def hand_over(job: Job, patch: "Tensor", shape: Shape) -> None:
    """Keep the patch as a picture and as numbers, and show it beside the images."""
    import io

    import torch
    from PIL import Image
    from safetensors.torch import save

    at = torch.arange(patch.shape[-1]) + 0.5 - patch.shape[-1] / 2
    radius = (at[:, None].square() + at[None, :].square()).sqrt()
    shown = torch.ones_like(radius) if shape == "square" else (radius <= patch.shape[-1] / 2).float()
    values = torch.cat([patch.cpu(), shown[None]]).mul(255).round().byte().permute(1, 2, 0).numpy()
    png = io.BytesIO()
    Image.fromarray(values).save(png, "png")
    job.attach("patch.png", png.getvalue())
    job.attach("patch.safetensors", save({"patch": patch.cpu().contiguous()}, {"shape": shape}))
    if job.exhibits:
        job.keep("patch", torch.where(shown[None] > 0, patch.cpu(), torch.ones(())))
