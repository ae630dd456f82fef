"""Geometry: does the network give the same answer when the picture is shifted, turned, resized or mirrored, and is it still right?

A camera that is mounted a little lower, a phone held askew, an object that is further away: what is to be seen stays the same, and so should the
answer. `same_answer` asks for no labels, so that it can be measured on any pictures of the place of use. It is 100 % for a network that always gives
one answer, so read accuracy beside it.

Protocol. `shift` moves the picture right and down by `amount` pixels of the input; what comes in at the other side is the picture's other end (`roll`), the
network's mean colour (`fill`), or what the picture shows there (`margin`). `turn` makes exact quarter turns; `rotate` turns by any angle and
shows the largest window without black corners, which would be a cue. `scale` resizes the picture about its centre: smaller ones stand on the mean
colour, larger ones are cut: the apparent size of the objects. `flip` mirrors left and right.

Conventions. What the answer is compared with is the unchanged picture, but for `rotate` and `margin` the same window of the picture that is not moved, so that
resampling and cut are alike on both sides. `margin` decodes the picture so that its shorter side is the input's, shows 7/8 of that, and moves
that window: a true shift of up to 1/14 of the input, in pixels that are resampled once more. A roll joins ends that never met; a fill hides a part.

What it means for a product. Where a camera moves, answers that flip from frame to frame are seen by users before any drop of accuracy is.
`same_answer` on unlabelled pictures of the place of use is the cheapest gate there is.

Pitfalls. A turned 6 is a 9: some turns change what the picture shows. Pictures of ImageNet are upright, and their networks have seen nothing else;
people on 0, 90, 180 and 270 degrees reach .891, .841, .802 and .846 (model-vs-human, 16 classes). A roll by whole patches changes nothing for a
transformer only if nothing in it knows positions. How fine the input is sampled is no condition but another network: spell `?size=`
(docs/case_geometry.md), and vary size and crop one at a time.

The literature. Zhang 2019 (arXiv 1904.11486) shows networks two random crops of 224 of 256 px: 78.2 % same answers of AlexNet, 89.2 % of ResNet50, 91.3 %
with blurred downsampling. `margin` is of that kind, but moves by a given amount and from the centre: the numbers do not compare. Azulay & Weiss 2019 find
that a shift by one pixel changes answers of modern networks; the effect is smaller where training augments by crops.

Metrics: `same_answer`, `prediction` and `confidence`; where the classes of the image set are outputs of the network also the others of `clean`.
"""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preprocess,
    Preset,
    Scores,
    Sign,
    answers,
    require,
)

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Geometry"
LABELS = "none"
PER_IMAGE = True
METRICS = {
    "same_answer": Metric(
        title="same answer",
        meaning="the predicted class is that of the picture that is not moved (0 or 1), right or wrong",
        unit="share",
        better="high",
    )
}
Move = Literal["shift", "turn", "rotate", "scale", "flip"]
Edge = Literal["none", "roll", "fill", "margin"]
_MOVES: tuple[tuple[Move, str, str], ...] = (
    ("shift", "pixels to the right and down", "Teeth are patches or strides: a shift by whole ones costs less."),
    ("turn", "degrees, counterclockwise", "Exact quarter turns."),
    ("rotate", "degrees, counterclockwise", "Against the same window of the picture that is not turned."),
    ("scale", "apparent size, relative to the usual one", "Smaller pictures stand on the network's mean colour."),
    ("flip", "", "Mirrored left and right."),
)
CHARTS = tuple(
    Chart(
        x="" if move == "flip" else "amount",
        x_title=words,
        metric=metric,
        facet=("edge",),
        where={"move": move},
        title=f"{move}: {METRICS[metric].title if metric in METRICS else 'accuracy'}",
        reads=reads,
    )
    for move, words, reads in _MOVES
    for metric in ("same_answer", "top1")
)
SIGNS = tuple(
    Sign(title=title, kind="mean", metric="same_answer", where={"move": move, "amount": amount, "edge": edge})
    for title, move, amount, edge in (
        ("same answer, shifted by 8 px", "shift", 8.0, "margin"),
        ("same answer, rotated by 15 degrees", "rotate", 15.0, "none"),
        ("same answer at half the size", "scale", 0.5, "none"),
        ("same answer, mirrored", "flip", 0.0, "none"),
    )
)
WINDOW = 7 / 8
"""Side of the window of a `margin`, relative to the picture."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One movement.

    Attributes:
        move: `shift`, `turn` (quarters), `rotate` (any angle), `scale` or `flip`.
        amount: of a shift, whole pixels of the input to the right and down, left and up where negative; of a turn, 0, 90, 180 or 270 degrees
            against the clock; of a rotation, degrees between -180 and 180; of a scale, the factor, over 0 up to 4; of a flip, 0.
        edge: of a shift, what comes in: `roll`, `fill` (mean colour) or `margin` (the picture); `none` for all others.
    """

    move: Move = "flip"
    amount: float = 0.0
    edge: Edge = "none"

    def __post_init__(self) -> None:
        require(self.move in get_args(Move), f"`move` must be one of {', '.join(get_args(Move))}", self.move)
        a = self.amount
        require(math.isfinite(a), "`amount` must be a finite number", a)
        if self.move == "shift":
            require(a == int(a), "`amount` of a shift must be a whole number of pixels", a)
            require(
                self.edge in ("roll", "fill", "margin"), "`edge` of a shift must be roll, fill or margin", self.edge
            )
            return
        require(self.edge == "none", f"`edge` must be none for `{self.move}`; only a shift has one", self.edge)
        if self.move == "turn":
            require(a in (0, 90, 180, 270), "`amount` of a turn must be 0, 90, 180 or 270 degrees", a, "See `rotate`.")
        elif self.move == "rotate":
            require(-180 < a <= 180, "`amount` of a rotation must be over -180 and up to 180 degrees", a)
        elif self.move == "scale":
            require(0 < a <= 4, "`amount` of a scale must be over 0 and up to 4", a)
        else:
            require(a == 0, "`amount` must be 0 for `flip`", a)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: mirrored, a shift by 8 px, 15 degrees, upside down, half the size. default: that, three quarter turns, 15 and 30 degrees to both
    sides, four sizes, shifts by 1, 8 and 16 px with each edge. paper: finer rows of the same, as nothing published is of this protocol: every
    5 to 15 degrees up to 45, sizes from 0.5 to 1.5, shifts by 1 to 16 px.
    """
    if preset == "quick":
        return _listed(size, (180,), (15,), (0.5,), (8,), ("margin",))
    if preset == "default":
        return _listed(size, (90, 180, 270), (-30, -15, 15, 30), (0.5, 0.75, 1.25, 1.5), (1, 8, 16))
    angles = (-45, -30, -20, -15, -10, -5, 5, 10, 15, 20, 30, 45)
    factors = (0.5, 0.625, 0.75, 0.875, 1.125, 1.25, 1.375, 1.5)
    return _listed(size, (90, 180, 270), angles, factors, (1, 2, 4, 8, 12, 16))


def _listed(
    size: tuple[int, int],
    turns: Sequence[float],
    angles: Sequence[float],
    factors: Sequence[float],
    pixels: Sequence[float],
    edges: Sequence[Edge] = ("roll", "fill", "margin"),
) -> list[Condition]:
    """The flip, and each movement by each amount; of the shifts those that fit, or else the largest that does."""
    rows: tuple[tuple[Move, Sequence[float]], ...] = (("turn", turns), ("rotate", angles), ("scale", factors))
    return [
        Condition(),
        *(Condition(move=move, amount=float(a)) for move, amounts in rows for a in amounts),
        *(
            Condition(move="shift", amount=float(a), edge=edge)
            for edge in edges
            for a in ([a for a in pixels if a <= _most(edge, size)] or [_most(edge, size)])
        ),
    ]


def _most(edge: Edge, size: tuple[int, int]) -> int:
    """The farthest shift in pixels."""
    return int(min(size) * (1 / WINDOW - 1) / 2 + 1e-9) if edge == "margin" else min(size) - 1


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """There must be answers to compare, and the movement must be possible within the input."""
    c, (h, w) = condition, backbone.preprocess.size
    if backbone.outputs < 2:
        return f"{backbone.architecture} has {backbone.outputs} outputs, and an answer is a choice between two or more"
    if c.move == "turn" and c.amount in (90, 270) and h != w:
        return f"the {h}x{w} input is not square and cannot make a quarter turn"
    most = _most(c.edge, (h, w))
    if c.move == "shift" and abs(c.amount) > most:
        return f"a shift by {c.amount:g} px is more than the {most} px that `{c.edge}` has in a {h}x{w} input"
    return None


def cut(condition: Condition, preprocess: Preprocess) -> Preprocess:
    """For a margin, all of the picture's shorter side is decoded; what is shown of it is a window."""
    if condition.edge != "margin" or preprocess.resize is None:
        return preprocess
    return dataclasses.replace(preprocess, resize=max(preprocess.size))


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The pictures, moved."""
    from visionvitals.perturb import geometry

    c, images, mean = condition, batch.images, batch.card.preprocess.mean
    if c.edge == "roll":
        return geometry.roll(images, int(c.amount))
    if c.edge == "fill":
        return geometry.push(images, int(c.amount), mean)
    if c.edge == "margin":
        return geometry.window(images, WINDOW, pixels=float(c.amount))
    if c.move == "turn":
        return geometry.turn(images, int(c.amount) // 90)
    if c.move == "rotate":
        return geometry.window(images, _share(c, batch), degrees=float(c.amount))
    return geometry.scale(images, float(c.amount), mean) if c.move == "scale" else images.flip(3)


def still(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The pictures that the moved ones are compared with: as they are, or the same window of them."""
    from visionvitals.perturb import geometry

    share = _share(condition, batch)
    return batch.images if share == 1 else geometry.window(batch.images, share)


def _share(condition: Condition, batch: Batch) -> float:
    """Side of the window that is shown, relative to the picture."""
    from visionvitals.perturb import geometry

    if condition.move == "rotate":
        return geometry.inscribed(float(condition.amount), (batch.images.shape[2], batch.images.shape[3]))
    return WINDOW if condition.edge == "margin" else 1.0


def measure(job: Job) -> Iterator[Scores]:
    import torch

    before = _answered(job)
    for batch in job.batches():
        with torch.inference_mode():
            seen, out = job.answered(batch, perturb)
        known = job.targets is not None
        right = (
            torch.from_numpy(job.targets[batch.rows]).to(out.device) if job.targets is not None else out.argmax(dim=1)
        )
        values = answers(out.float(), right)
        was = torch.from_numpy(before[batch.rows].copy()).to(out.device)
        lost = values["prediction"].isnan() | (was < 0)
        values["same_answer"] = (values["prediction"] == was).double().masked_fill(lost, float("nan"))
        kept = values if known else {k: values[k] for k in ("same_answer", "prediction", "confidence")}
        for position in sorted(map(batch.ids.index, job.exhibits.intersection(batch.ids))):
            job.keep(batch.ids[position], seen[position])
        yield Scores(batch.ids, kept)
        job.progress(len(batch.ids))


def _answered(job: Job) -> np.ndarray:
    """The predicted class of each picture that is not moved, -1 where it has none: int64 (n,), computed once for all movements."""
    import torch

    c: Condition = job.condition

    def fill(arrays: Any, start: int) -> Iterator[int]:
        plain = dataclasses.replace(job, exhibits=frozenset())
        for batch in plain.batches(start):
            with torch.inference_mode():
                out = plain.answered(batch, still)[1].float()
            found = out.argmax(dim=1).masked_fill(~out.isfinite().all(dim=1), -1)
            arrays["answer"][batch.rows] = found.cpu().numpy()
            yield batch.rows.stop

    # the key of a memo does not know the cut of a study
    window = [c.edge, 0.0] if c.edge == "margin" else [c.move, abs(c.amount)] if c.move == "rotate" else ["", 0.0]
    return job.memo_answers("answers", {"window": window}, {"answer": ((), "int64")}, fill)["answer"]
