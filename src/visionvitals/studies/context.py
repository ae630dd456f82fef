"""Context: does the network recognise the object, or what surrounds it?

The masks of a set part each picture into object and background. Noise is put on one of the two, or one of them is replaced; what is lost
tells on which of them the answer depends. `object only` is a grey background and `background only` a grey object: accuracy that is kept without the
object was never about it. Noise needs no replacement: its relative foreground sensitivity is (b - f) / (2 min(a, 1 - a)), where f and b are
the accuracies with noise on the object and on the background, both averaged over the strengths, and a is their mean. It is the gap as a share of the
largest gap that is possible at that mean: 1 relies on the object alone, -1 on the background alone; it has no value where a is 0 or 1.

Conventions. Pixels that nobody labelled (255) belong to neither region and never change. All kinds of objects in a picture are the object. The
noise of a pixel is the same on both regions and at all strengths. Pictures in which one of the two regions is missing are left out and counted.
Strengths of noise are standard deviations in levels of 8 bits, as published; with `budget = norm` the noise of a picture has this Euclidean norm over
all its values in [0, 1], the same on a small object and on a large background. With `fill = swap` the background is that of another picture of the
set, drawn by a hash and of any class; where that picture has its object, its background runs on, blurred. Which picture it is depends on the
pictures that are measured, as with other limits.

What it means for a product. A network that keeps its answer without the object will be right for the wrong reason, and wrong where the object
turns up elsewhere: a new site, season or camera. One that loses it without the background needs pictures of every place where it is to work. Compare
networks on the same masks; a value near 0 of one network says little by itself.

Pitfalls. Equal strength puts more noise into the larger region: see `mask_area`, and use `budget = norm`. Near accuracies of 0 or 1 the sensitivity
jumps: it is not given where fewer than five pictures are right, or wrong. The published strengths, 30 to 210, are heavy for heads of a
thousand classes, so the default begins at 10. A grey object still has the outline of the object, so `background only` may keep
what the outline says; grey itself is unusual to a network (see `missingness`). `blur` takes colours of the object into the background beside it.
Contradictions: by noise, Moayeri et al. find that transformers turn to the object the more, the stronger the noise is, and that adversarially
and contrastively trained networks lean on the background; Singla et al. 2022 (Salient ImageNet) find transformers more sensitive to
regions that do not belong to the object. More accurate networks depend less on backgrounds in Xiao et al. 2020.

Source: Moayeri et al. 2022, "A Comprehensive Study of Image Classification Model Sensitivity to Foregrounds, Backgrounds, and Visual Attributes";
their heads are refitted on ten classes, ours are the networks' own. Per-picture sensitivity from probabilities is left out. Backgrounds of other
pictures after Xiao et al. 2020, "Noise or Signal", whose released pictures `imagenet9:` reads.

Metrics: those of `clean`, `mask_area`. `vitals table RUN --study context --metric unchanged` adds how often the answer to the whole picture stays.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    Preset,
    Scores,
    Sign,
    require,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Object and background"
METRICS = {
    "mask_area": Metric(
        title="object's area",
        meaning="share of the pixels of the input that are object; a property of the mask",
        unit="share",
        better=None,
        interval=False,
    )
}
Where = Literal["object", "background", "both"]
Fill = Literal["noise", "gray", "blur", "swap"]
Budget = Literal["pixel", "norm"]
LEVELS = (30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0)
NORMS = (25.0, 50.0, 75.0, 100.0, 125.0, 150.0, 175.0, 200.0)
_NOISE = "Noise on the object, left, and on the background, right. What falls faster is what the network depends on."


def sensitivity(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    """Relative foreground sensitivity, in [-1, 1], over the strengths that both regions have; None where there are none.

    Args:
        points: fields of conditions with noise of one budget.
        means: accuracies, (..., points).
    """
    pair = _accuracies(points, means)
    if pair is None:
        return None
    f, b = pair
    most = np.minimum(f + b, 2 - f - b)
    most = np.where(most <= 1e-12, np.nan, most)  # nothing is right, or all is
    found: np.ndarray = np.clip((b - f) / most, -1, 1)
    return found


def _room(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> float:
    """The share of the images that are right, or wrong, whichever are fewer: what the sensitivity is a share of."""
    pair = _accuracies(points, means)
    a = 0.0 if pair is None else float(np.mean(pair))
    return min(a, 1 - a)


def _accuracies(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Under noise on the object and on the background, (...) each: means over the strengths that both have."""
    place = {(p["where"], p["strength"]): k for k, p in enumerate(points) if p["strength"] > 0}
    both = [s for where, s in place if where == "object" and ("background", s) in place]
    if not both:
        return None
    f, b = (means[..., [place[where, s] for s in both]].mean(axis=-1) for where in ("object", "background"))
    return f, b


def _weakest(points: Sequence[Mapping[str, Any]]) -> int:
    """The point that is nearest to the clean pictures: where even that is guessed, nothing is sensitive to anything."""
    return min(range(len(points)), key=lambda k: (points[k]["strength"], points[k]["where"] != "background", k))


def _sensitivity(budget: Budget, title: str) -> Sign:
    return Sign(
        title=title,
        kind="index",
        where={"fill": "noise", "budget": budget},
        index=sensitivity,
        base=_weakest,
        room=_room,
        unit="none",
        bounds=(-1.0, 1.0),
        better="high",
    )


CHARTS = (
    Chart(
        x="where",
        x_title="what is gray",
        where={"fill": "gray"},
        title="One of the two alone",
        reads="Gray object: only the background is left. Gray background: only the object is left.",
    ),
    Chart(
        x="strength",
        x_title="standard deviation of the noise, 8-bit levels",
        facet=("where",),
        where={"fill": "noise", "budget": "pixel"},
        title="Noise of equal strength",
        reads=_NOISE,
    ),
    Chart(
        x="strength",
        x_title="norm of the noise",
        facet=("where",),
        where={"fill": "noise", "budget": "norm"},
        title="Noise of equal energy",
        reads=_NOISE,
    ),
    Chart(x="where", x_title="what is blurred", where={"fill": "blur"}, title="One of the two blurred"),
    Chart(x="", where={"fill": "swap"}, title="Before the background of another picture"),
)
_GRAY = {"fill": "gray", "strength": 0.0, "budget": "pixel"}
SIGNS = (
    _sensitivity("pixel", "relative foreground sensitivity"),
    _sensitivity("norm", "relative foreground sensitivity, equal energy"),
    Sign(
        title="kept, object only",
        kind="kept",
        where={"where": "background", **_GRAY},
        at="with a gray background",
    ),
    Sign(
        title="kept, background only",
        kind="kept",
        where={"where": "object", **_GRAY},
        better="neither",
        at="with a gray object",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One change of one region.

    Attributes:
        where: the region that is changed: `object`, `background`, or `both`.
        fill: `noise`: Gaussian noise is added; `gray`: it becomes 0.5; `blur`: it is blurred, by a Gaussian of 1/20 of the shorter side; `swap`,
            of the background only: it becomes the background of another picture.
        strength: of the noise; 0 or more, 0 changes nothing. 0 for the other fills.
        budget: what `strength` is: `pixel`: standard deviation in levels of 8 bits (1/255); `norm`: Euclidean norm of the noise of a picture.
        run: repetition of what is drawn; each has its own noise, or partners.
    """

    where: Where = "background"
    fill: Fill = "gray"
    strength: float = 0.0
    budget: Budget = "pixel"
    run: int = 0

    def __post_init__(self) -> None:
        for name, known in (("where", get_args(Where)), ("fill", get_args(Fill)), ("budget", get_args(Budget))):
            value = getattr(self, name)
            require(value in known, f"`{name}` must be one of {', '.join(known)}", value)
        require(0 <= self.strength < math.inf, "`strength` must be a number from 0", self.strength)
        plain = self.strength == 0 and self.budget == "pixel"
        require(self.fill == "noise" or plain, "`strength` and `budget` are those of `fill = noise`", self.fill)
        must = "`fill = swap` must have `where = background`: an object has no place in another picture"
        require(self.fill != "swap" or self.where == "background", must, self.where)
        require(self.run >= 0, "`run` must not be negative", self.run)
        must = f"`run` of `fill = {self.fill}` must be 0: nothing is drawn"
        require(self.fill in ("noise", "swap") or self.run == 0, must, self.run)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """Object only and background only (gray), and noise on each of the two: quick: of strength 30; default: 10, 30, 90; paper: the published
    seven strengths and eight norms, the background blurred and another picture's too."""
    found = [Condition(where="background"), Condition(where="object")]
    if preset == "paper":
        found += [Condition(fill="blur"), Condition(fill="swap")]
    noises: dict[Budget, tuple[float, ...]] = {"pixel": (30.0,) if preset == "quick" else (10.0, 30.0, 90.0)}
    if preset == "paper":
        noises = {"norm": NORMS, "pixel": LEVELS}
    regions: tuple[Where, ...] = ("background", "object")
    return found + [
        Condition(where=where, fill="noise", strength=strength, budget=budget)
        for budget, strengths in noises.items()
        for where in regions
        for strength in strengths
    ]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs masks; `swap` needs a second picture."""
    if "mask" not in images.provides:
        return "object and background need an image set with masks (`masks:`, `shapes:`)"
    if condition.fill == "swap" and images.n < 2:
        return "`fill = swap` needs two pictures or more, to take the background of another one"
    return None


def changed(condition: Condition, batch: Batch, seed: int, mask: "Tensor", others: "Tensor | None" = None) -> "Tensor":
    """The images with one region changed.

    Args:
        condition: what is changed.
        batch: b images.
        seed: root of all randomness.
        mask: uint8 (b, h, w): 0 background, 1 to 254 object, 255 neither.
        others: for `swap`, a whole background for each image, float (b, 3, h, w).
    """
    from visionvitals import randomness
    from visionvitals.perturb import patches, regions

    c = condition
    of = {"object": (mask > 0) & (mask < 255), "background": mask == 0, "both": mask < 255}
    region = of[c.where][:, None].to(batch.images.device)
    if c.fill == "swap":
        assert others is not None
        return patches.occlude(batch.images, region, others)
    keys = randomness.stream(seed, batch.ids, f"context/noise/run={c.run}", device=batch.images.device)
    if c.fill == "noise":
        norm = c.budget == "norm"
        return regions.add_noise(batch.images, region, keys, c.strength / (1 if norm else 255), norm=norm)
    fill = patches.fill_pixels(c.fill, batch.images, keys, mean=batch.card.preprocess.mean)
    return patches.occlude(batch.images, region, fill)


def measure(job: Job) -> Iterator[Scores]:
    import torch

    c: Condition = job.condition
    assert job.masks is not None, "`refusal` asks for masks"
    masks = job.masks
    areas = _areas(masks)
    fit: np.ndarray = np.all(areas > 0, axis=1)
    require(bool(fit.any()), "One of the pictures at least must show an object and a background", f"{len(fit)} others")
    if not fit.all():
        lost = f"{len(fit) - int(fit.sum())} of {len(fit)} images"
        job.warn(f"{lost} show no object, or no background, and are left out")
    backgrounds = _backgrounds(job, fit) if c.fill == "swap" else None
    known = {item for item, good in zip(job.ids, fit, strict=True) if good and item in job.exhibits}

    def shown(condition: Condition, batch: Batch, seed: int) -> "Tensor":
        mask = torch.from_numpy(np.array(masks[batch.rows]))
        return changed(condition, batch, seed, mask, None if backgrounds is None else backgrounds(batch))

    row = 0
    for block in score(dataclasses.replace(job, exhibits=frozenset(known)), shown):
        rows = slice(row, row + len(block.items))
        row = rows.stop
        good = np.flatnonzero(fit[rows]).tolist()
        columns = {name: torch.as_tensor(column) for name, column in block.values.items()}
        columns["mask_area"] = torch.from_numpy(areas[rows, 0])
        at = torch.tensor(good, dtype=torch.int64)
        yield Scores(
            [block.items[k] for k in good], {n: v.index_select(0, at.to(v.device)) for n, v in columns.items()}
        )


def _areas(masks: np.ndarray) -> np.ndarray:
    """The shares of object and of background in each mask, float64 (n, 2)."""
    found = np.empty((len(masks), 2))
    for row in range(len(masks)):
        count = np.bincount(np.asarray(masks[row]).ravel(), minlength=256)
        found[row] = count[1:255].sum(), count[0]
    return found / max(1, math.prod(masks.shape[1:]))


def _backgrounds(job: Job, fit: np.ndarray) -> "Callable[[Batch], Tensor]":
    """Batch -> for each of its images the background of another picture of the job; never of a copy of itself.

    The pictures stand in a ring, in the order of a hash, and each takes the background of the next; those that are not `fit` have no place in it and
    are shown as they are.

    Raises:
        VitalsError: all pictures of the job are the same one.
    """
    from visionvitals import randomness
    from visionvitals.perturb import regions
    from visionvitals.pixels import to_float

    assert job.masks is not None
    masks = job.masks
    pictures = [job.copies.get(item, item) for item in job.ids]
    rows = {
        pictures[row]: row for row in sorted(np.flatnonzero(fit).tolist(), key=lambda row: job.ids[row], reverse=True)
    }
    must = "`fill = swap` must have two different pictures with an object and a background"
    require(len(rows) > 1, must, f"{len(rows)}, {int(fit.sum())} times")
    keys = randomness.stream(job.seed, [*rows], f"context/swap/run={job.condition.run}").tolist()
    ring = [picture for _, picture in sorted(zip(keys, rows, strict=True))]
    follows = {picture: rows[after] for picture, after in zip(ring, ring[1:] + ring[:1], strict=True)}

    def backgrounds(batch: Batch) -> "Tensor":
        import torch

        whole = range(batch.rows.start, batch.rows.stop)
        taken = [follows.get(pictures[row], row) if fit[row] else row for row in whole]
        images = to_float(np.stack([job.pixels[row] for row in taken]), job.backbone.device)
        free = torch.from_numpy(np.stack([masks[row] for row in taken]) == 0)[:, None].to(images.device)
        return regions.without_object(images, free | ~free.flatten(1).any(dim=1).view(-1, 1, 1, 1))

    return backgrounds
