"""Adversarial patch: one picture, made with a network's gradients, that turns its answer on images it was not made from.

The patch is universal (the same for every image) and covers a share `area` of the input. It is trained on the training images: the
set's part called `train` where it has one, else half of the images, chosen by hash anew for each run; of these, at most `training` that the network gets
right. All other images but copies of a picture are scored, with a pose of their own each, and only those get values. Beside the trained patch stand two
controls of the same size in the same places: `noise` (uniform) and `gray`. What the trained patch does beyond the noise patch is the
attack; the rest is occlusion.

One patch says little about the next: with another half of the images, another start and other poses it may fail. All images share it, so
intervals are over runs as well as images (`stats.over_draws`): one run has none, and three leave it very wide.

Places on the axis `counted`: `all` scored images, and the `first-correct` ones, right without a patch. With a `target`, images of that
class are left out. An image at which the network gives NaN or Inf with the patch has no value.

`where`: `free` anywhere, `fixed` in the lower right corner, `aligned` on whole patches of the network (its side rounded down to whole
patches), `unaligned` the same size half a patch off. `source` names the backbone that the patch is made on; it is scored on every
backbone of the plan, so `source = "*"` gives the transfer matrix.

Source: Naseer et al. 2021, section 3.4 and figure 12: untargeted, circles of 5, 15 and 25 % of the area, five runs, ImageNet. Their optimiser is
unpublished; ours is in `perturb/adversarial_patch.py`. Each cell keeps its patch as PNG and safetensors under `files/`; training goes
on after a kill. On a GPU, training differs in the last bits from run to run.

What it means for a product. A patch can be printed and carried. Where somebody gains from a wrong answer (entry, traffic, moderation), the transfer
from a network that is public to yours is the number to look at, and what stays after the noise patch is taken off.

Pitfalls. A short training makes a weak patch, and overstates robustness. Ten epochs of 64 images are enough for two small CNNs,
while the loss of DeiT-Tiny still climbs (docs/case_attack.md): give `epochs` and `training` more where the cost allows.

Metrics: those of `clean`, `attack_success`, `covered`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from visionvitals.perturb.limits import Shape, extent, patch_side
from visionvitals.studies._universal_patch import Training, hand_over, parts, train
from visionvitals.studies.attack import SUCCESS
from visionvitals.study import (
    BackboneCard,
    BackboneSpec,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Scores,
    Sign,
    answers,
    require,
)

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.perturb.adversarial_patch import Placement

VERSION = 3
TITLE = "Adversarial patch"
SHARED = True
AXES = ("counted",)
METRICS = {
    "attack_success": SUCCESS,
    "covered": Metric(
        title="pixels covered",
        meaning="share of the input pixels that the adversarial patch covers",
        unit="share",
        better=None,
        interval=False,
    ),
}
_OWN = {"source": "", "target": -1}
_FACET = ("shape", "where", "area", "counted")
CHARTS = (
    Chart(
        x="content",
        x_title="what the patch shows",
        facet=_FACET,
        where=_OWN,
        title="trained against controls",
        reads="Accuracy with the patch on images that it was not trained on. The trained patch is an attack to the extent that its bar is below that of noise.",
    ),
    Chart(
        x="area",
        x_title="area of the patch",
        x_unit="share",
        facet=("content", "shape", "where", "counted"),
        where=_OWN | {"where": "free"},
        title="by size",
    ),
    Chart(
        x="source",
        x_title="network that the patch was made on",
        facet=_FACET,
        where={"content": "trained", "target": -1, "counted": "first-correct"},
        title="transfer",
        reads="The bars of a group are the networks that see the patch; without a name: each network's own.",
    ),
    Chart(
        x="content",
        x_title="what the patch shows",
        facet=("target", *_FACET),
        metric="attack_success",
        y_title="the patch reached its goal",
        where={"source": "", "counted": "all"},
        title="success",
        reads="The goal is any class but the label, or the target where there is one.",
    ),
)
_SIGN = _OWN | {"area": 0.15, "shape": "circle", "where": "free", "counted": "first-correct"}
SIGNS = (
    Sign(title="right in spite of a 15 % patch", kind="mean", where=_SIGN | {"content": "trained"}),
    Sign(title="right in spite of 15 % noise", kind="mean", where=_SIGN | {"content": "noise"}),
)
ITSELF = BackboneSpec("")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One patch.

    Attributes:
        content: `trained`, or a control: `noise`, `gray`.
        area: share of the input's area, in (0, 1]; see `perturb.limits.patch_side` for the rounding.
        shape: `circle` or `square`.
        where: see above.
        rotation: at most so many degrees to either side, in [0, 180].
        scale: (smallest, largest) factor on the side.
        target: the output that the patch must reach; -1: any but the label.
        source: the backbone that the patch is made on; "" is the one that it is scored on.
        epochs: passes over the training images.
        training: at most so many training images.
        lr: step of Adam on pixel values in [0, 1].
        run: repetition, with another start and other poses.
    """

    content: Literal["trained", "noise", "gray"] = "trained"
    area: float = 0.15
    shape: Shape = "circle"
    where: Literal["free", "fixed", "aligned", "unaligned"] = "free"
    rotation: float = 45.0
    scale: tuple[float, float] = (1.0, 1.0)
    target: int = -1
    source: BackboneSpec = ITSELF
    epochs: int = 10
    training: int = 128
    lr: float = 0.05
    run: int = 0

    def __post_init__(self) -> None:
        known = ("trained", "noise", "gray")
        require(self.content in known, f"`content` must be one of {', '.join(known)}", self.content)
        patch_side(self.area, self.shape, (224, 224))
        places = ("free", "fixed", "aligned", "unaligned")
        require(self.where in places, f"`where` must be one of {', '.join(places)}", self.where)
        require(0 <= self.rotation <= 180, "`rotation` must be in [0, 180] degrees", self.rotation)
        low, high = self.scale
        require(0 < low <= high, "`scale` must be (smallest, largest), both positive", self.scale)
        on_grid = self.where in ("aligned", "unaligned")
        straight = self.rotation == 0 and self.scale == (1.0, 1.0) and self.shape == "square"
        must = f"`where = {self.where}` needs a square that is neither turned nor scaled"
        got = (self.shape, self.rotation, self.scale)
        require(straight or not on_grid, must, got, "Give `shape = square`, `rotation = 0`.")
        require(self.target >= -1, "`target` must be an output's index, or -1 for none", self.target)
        require(self.epochs > 0, "`epochs` must be positive", self.epochs)
        require(self.training > 0, "`training` must be positive", self.training)
        require(0 < self.lr <= 1, "`lr` is on the scale of pixel values in [0, 1], so it must be in (0, 1]", self.lr)
        require(self.run >= 0, "`run` must not be negative", self.run)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: a circle of 15 %, trained and both controls, five runs, 64 training images. default: circles of 5, 15 and 25 % with both
    controls, five runs; squares of 15 % on and off the patch grid; a target; the transfer matrix. paper: circles of 5, 15 and 25 %
    at any rotation, five runs, 2,000 training images, 20 epochs; and the same squares.
    """
    if preset == "quick":
        return [
            Condition(content=content, training=64, run=run)
            for content in ("trained", "noise", "gray")
            for run in range(5)
        ]
    areas, runs = (0.05, 0.15, 0.25), range(5)
    if preset == "paper":
        bases = [
            Condition(area=area, shape=shape, rotation=180.0, training=2000, epochs=20)
            for shape in ("circle", "square")
            for area in areas
        ]
        return [replace(c, content=content, run=run) for c in bases for content in ("trained", "noise") for run in runs]
    sizes = [
        Condition(content=content, area=area, run=run)
        for content in ("trained", "noise", "gray")
        for area in areas
        for run in runs
    ]
    grid = [
        Condition(content=content, shape="square", where=where, rotation=0.0, run=run)
        for content in ("trained", "noise")
        for where in ("aligned", "unaligned")
        for run in runs
    ]
    others = [Condition(run=run, **own) for own in ({"target": 0}, {"source": BackboneSpec("*")}) for run in runs]
    return [*sizes, *grid, *others]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The patch must fit; alignment needs a patch grid; there must be a class to go to, and two images to tell apart."""
    size = backbone.preprocess.size
    if backbone.outputs < 2:
        return f"a patch needs at least 2 classes; {backbone.architecture} has {backbone.outputs}"
    if backbone.inference_only and condition.content == "trained" and not condition.source:
        return f"a patch is trained with gradients; {backbone.architecture} has none (`source` names another network)"
    if images.stands_for:
        return f"a patch is trained against one right output; classes of {images.spec} mean several outputs"
    if images.n == 1:
        return "a patch needs images to train on and others to score; there is one"
    if condition.target >= backbone.outputs:
        return f"`target` {condition.target} is not among the {backbone.outputs} outputs of {backbone.architecture}"
    if condition.where in ("aligned", "unaligned"):
        cell = _cell(backbone)
        if cell is None:
            return f"`where = {condition.where}` needs square patches of the network; {backbone.architecture} has none"
        room = cell + (cell // 2 if condition.where == "unaligned" else 0)
        if _side(condition, backbone) < cell or room > min(size):
            return f"a patch of {condition.area:.0%} is smaller than the network's own patches of {cell} px"
    side = _side(condition, backbone)
    needed = extent(side, condition.shape, rotation=condition.rotation, scale=condition.scale[1])
    needed += _cell(backbone) or 0 if condition.where == "unaligned" else 0
    if needed > min(size):
        return f"the patch needs up to {needed} px and is larger than the {size[0]}x{size[1]} image"
    return None


def unfit(condition: Condition, backbone: BackboneCard, other: BackboneCard) -> str | None:
    """The labels of a trained patch are outputs, so both networks need the same ones, in the same order."""
    if condition.content == "trained" and other.inference_only:
        return f"a patch is trained with gradients; `source` {other.spec} has none"
    reordered = other.classes != backbone.classes and set(other.classes or ()) == set(backbone.classes or ())
    if condition.content != "trained" or (other.outputs == backbone.outputs and not reordered):
        return None
    got = "no classifier" if other.outputs == 0 else "others"
    return (
        f"a patch's labels need the same outputs, in the same order, in both networks; `source` {other.spec} has {got}"
    )


def passes(condition: Condition) -> float:
    """At most: half of the images train, the others are seen clean and with the patch."""
    return 1 + (1.5 * condition.epochs if condition.content == "trained" else 0)


def _cell(backbone: BackboneCard) -> int | None:
    """Side of the network's own patches in pixels."""
    if backbone.patch_grid is None:
        return None
    (h, w), (rows, columns) = backbone.preprocess.size, backbone.patch_grid
    return h // rows if h % rows == 0 and w % columns == 0 and h // rows == w // columns else None


def _side(c: Condition, backbone: BackboneCard) -> int:
    side = patch_side(c.area, c.shape, backbone.preprocess.size)
    cell = _cell(backbone) if c.where in ("aligned", "unaligned") else None
    return side // cell * cell if cell else side


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import adversarial_patch as patches

    c: Condition = job.condition
    training, scored = parts(job, most=c.training, run=c.run)
    patch = _patch(job, training).to(job.backbone.device)
    hand_over(job, patch, c.shape)
    placement = _placement(c, job.backbone.card, patch.shape[-1])
    for batch in job.batches():
        rows = [k for k, item in enumerate(batch.ids) if item in scored and int(batch.labels[k]) != c.target]
        job.progress(len(batch.ids))
        if not rows:
            continue
        ids, images, labels = [batch.ids[k] for k in rows], batch.images[rows], batch.labels[rows]
        keys = randomness.stream(job.seed, ids, f"adversarial_patch/score/run={c.run}", device=images.device)
        poses = patches.poses(keys, placement, job.backbone.card.preprocess.size)
        with torch.inference_mode():
            right = answers(job.backbone.logits(images).float(), labels)["top1"] == 1
            seen, inside = patches.paste(images, patch, poses, c.shape)
            out = job.backbone.logits(seen).float()
            best = out.argmax(dim=1)
            done = best != labels if c.target < 0 else best == c.target
            own = {"attack_success": done.double(), "covered": inside.double().mean(dim=(1, 2))}
            broken = ~out.isfinite().all(dim=1)
            own = {metric: column.masked_fill(broken, float("nan")) for metric, column in own.items()}
            measured = answers(out, labels) | own
        for k, item in enumerate(ids):
            if item in job.exhibits:
                job.keep(item, seen[k])
        yield Scores(ids, measured, ("all",))
        first = right.nonzero()[:, 0].tolist()
        yield Scores([ids[k] for k in first], {m: column[first] for m, column in measured.items()}, ("first-correct",))


def _placement(c: Condition, backbone: BackboneCard, side: int) -> "Placement":
    from visionvitals.perturb.adversarial_patch import Placement

    cell = _cell(backbone) or 1
    return Placement(shape=c.shape, side=side, where=c.where, rotation=c.rotation, scale=c.scale, cell=cell)


def _patch(job: Job, training: np.ndarray) -> "Tensor":
    """The patch as the job's backbone sees it, float (3, s, s)."""
    import torch
    from torch.nn import functional

    from visionvitals import randomness

    c: Condition = job.condition
    side = _side(c, job.backbone.card)
    if c.content == "gray":
        return torch.full((3, side, side), 0.5)
    if c.content == "noise":
        key = randomness.stream(job.seed, ["patch"], f"adversarial_patch/noise/run={c.run}")
        return randomness.uniform(key, 3 * side * side).view(3, side, side)
    source = job.companion(c.source) if c.source else job.backbone
    placement = _placement(c, source.card, _side(c, source.card))
    plan = Training(placement=placement, target=c.target, epochs=c.epochs, lr=c.lr, run=c.run)
    patch = torch.from_numpy(train(job, source, training, plan))
    if patch.shape[-1] == side:
        return patch
    return functional.interpolate(patch[None], (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)
