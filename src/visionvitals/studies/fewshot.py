"""Few-shot: how well do a handful of labelled images per class teach the set's own classes, on frozen features?

An episode is a task of its own: some classes, a few labelled images of each, a linear classifier trained on those, and its accuracy on other
images of the same classes. `fixed` draws n-way k-shot episodes, `variable` draws way and shots as Meta-Dataset does, and `related`
draws variable episodes whose classes are of one group, for sets whose class keys read `group/class` (alphabets). All three
classifiers (L2-normalised logistic regression with C = 1, ridge, nearest centroid) see the same episodes, and so do all backbones.

Conventions. Features are the backbone's pre-logit features, scaled to length 1. Where the set has parts, the support is drawn from train and
the queries from test; else from all images. Episodes are those of (seed, number): curves over shots are paired. Classes that are too
small for an episode, images whose features are not finite, and all copies of a picture but one (the one that is asked, then the first)
take no part, which is said. The episodes are kept beside the numbers
(`files/episodes.json`). A backbone that was trained on the set's own
classes has not met new ones: the plan and the report name how many of them it knows.

What it means for a product. The number to look at when a product gets new classes from a handful of examples, with no training.

Pitfalls. Classes that the network was trained on are not new; the run says which. Episodes of other ways and shots are other tasks.

Source: Naseer et al. 2021, section 3.5; Triantafillou et al. 2020 (episodes); Tian et al. 2020 (the classifier). Deviations: the paper
gives a figure only and names neither its queries nor its number of episodes; 600 and at most 10 a class are Meta-Dataset's.

Metrics: `episode_accuracy`, whose items are episodes, for each `solver`. The interval is over episodes: it says how far another draw of
episodes from these images could lie, not how far another set of images could.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from visionvitals.study import (
    BackboneCard,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Scores,
    Sign,
    require,
)

if TYPE_CHECKING:
    from visionvitals.probes.episodes import Episode

VERSION = 2
TITLE = "Few-shot"
AXES = ("solver",)
LABELS = "own"
_METRIC = "episode_accuracy"
METRICS = {
    _METRIC: Metric(
        title="accuracy on the queries",
        meaning="share of a few-shot episode's queries whose predicted class is theirs",
        unit="share",
        better="high",
        over="episodes",
    )
}
CHARTS = (
    Chart(
        x="shot",
        x_title="labelled images per class",
        facet=("way", "solver", "c"),
        metric=_METRIC,
        where={"sampler": "fixed"},
        title="Fixed ways and shots",
        reads="Higher is better; guessing gives 1 / way. Bands are 95 % intervals over episodes, which are the same for all.",
    ),
    Chart(
        x="solver",
        x_title="classifier",
        facet=("sampler", "c"),
        metric=_METRIC,
        where={"way": 0},
        title="Ways and shots as Meta-Dataset draws them",
        reads="5 to 50 classes, up to 500 labelled images, unevenly many of each class. `related`: all classes of one group.",
    ),
)
SIGNS = (
    Sign(
        title="5-way 5-shot",
        kind="mean",
        metric=_METRIC,
        where={"sampler": "fixed", "way": 5, "shot": 5, "solver": "logistic"},
    ),
    Sign(
        title="Meta-Dataset episodes", kind="mean", metric=_METRIC, where={"sampler": "variable", "solver": "logistic"}
    ),
)

Sampler = Literal["fixed", "variable", "related"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One kind of episode.

    Attributes:
        sampler: `fixed` ways and shots, or those of Meta-Dataset's sampler, from all classes or from `related` ones.
        way: classes of a fixed episode; 0 for the others, which draw it.
        shot: labelled images per class of a fixed episode; 0 for the others.
        queries: of a fixed episode, at most so many per class, as many for every class.
        episodes: how many.
        c: weight of the logistic loss against its penalty; the larger, the closer the fit.
    """

    sampler: Sampler = "fixed"
    way: int = 5
    shot: int = 5
    queries: int = 10
    episodes: int = 600
    c: float = 1.0

    def __post_init__(self) -> None:
        require(
            self.sampler in get_args(Sampler), f"`sampler` must be one of {', '.join(get_args(Sampler))}", self.sampler
        )
        require(self.way >= 0, "`way` must not be negative", self.way)
        require(self.shot >= 0, "`shot` must not be negative", self.shot)
        require(self.queries >= 1, "`queries` must be at least 1", self.queries)
        require(self.episodes >= 1, "`episodes` must be at least 1", self.episodes)
        require(0 < self.c <= 1e6, "`c` must be above 0 and at most 1e6", self.c)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: 5-way with 1 and 5 shots. default: 5-way with 1, 2, 5 and 10 shots, and variable episodes of all and of related
    classes. paper: variable episodes.
    """
    drawn = [Condition(sampler=sampler, way=0, shot=0) for sampler in ("variable", "related")]
    if preset == "quick":
        return [Condition(shot=shot) for shot in (1, 5)]
    if preset == "default":
        return [*(Condition(shot=shot) for shot in (1, 2, 5, 10)), *drawn]
    return drawn


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """Episodes need features, as many classes as ways, enough images, and groups for related classes."""
    least, count = condition.way or 5, len(images.classes)
    if condition.sampler == "fixed" and (condition.way < 2 or condition.shot < 1):
        return "`fixed` needs a `way` of at least 2 and a `shot` of at least 1"
    if condition.sampler != "fixed" and (condition.way or condition.shot):
        return f"`{condition.sampler}` draws `way` and `shot` itself; both must be 0"
    if "features" not in backbone.provides:
        return f"it needs features; {backbone.architecture} provides none"
    if count < least:
        return f"an episode needs at least {least} classes; the set has {count}"
    shot = max(1, condition.shot)
    if images.n < least * (shot + 1):
        return f"an episode needs at least {least * (shot + 1)} images; the set has {images.n}"
    related = groups(images.classes) if condition.sampler == "related" else [""] * count
    if related is None:
        return "`related` needs classes in groups (class keys that read `group/class`)"
    if images.per_class:
        able = _able(images.per_class, shot)
        if able is None:
            return "a set with parts must have images in train and in test (or val)"
        most = max(Counter(related[k] for k in able).values(), default=0)
        if most < least:
            of = " of one group" if condition.sampler == "related" else ""
            return f"an episode needs {least} classes{of} with {shot} different images to show and one to ask; there are {most}"
    return None


def _able(per_class: Mapping[str, tuple[int, ...]], shot: int) -> list[int] | None:
    """The classes that have `shot` images to show and another one to ask; None without both parts."""
    if "" in per_class:
        return [k for k, n in enumerate(per_class[""]) if n > shot]
    asked = per_class.get("test", per_class.get("val"))
    if asked is None or "train" not in per_class:
        return None
    return [k for k, n in enumerate(per_class["train"]) if n >= shot and asked[k]]


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes import episode_solvers
    from visionvitals.probes.episodes import dumps

    pooled = pooled_features(job)
    episodes = draw(job, pooled)
    job.attach("episodes.json", dumps(episodes, job.ids, job.images.classes).encode())
    used = torch.from_numpy(np.array(pooled)).to(job.backbone.device)
    items = [f"{episode.number:05d}" for episode in episodes]
    for solver in episode_solvers.SOLVERS:
        accuracy = episode_solvers.solve(used, episodes, solver, c=job.condition.c).accuracy
        yield Scores(items, {_METRIC: accuracy}, (solver,))


def draw(job: Job, pooled: np.ndarray) -> "Sequence[Episode]":
    """The episodes of a job, the same for every backbone whose features are all finite."""
    from visionvitals.probes import episodes as sampler

    c: Condition = job.condition
    length = np.linalg.norm(pooled.astype(np.float64), axis=1)
    usable = np.isfinite(length) & (length > 0)
    if not usable.all():
        job.warn(f"{(~usable).sum()} of {len(usable)} images have no usable features and take no part")
    labels = np.full(len(job.ids), -1)
    taking = _taking(job, np.flatnonzero(usable))
    labels[taking] = np.asarray(job.labels)[taking]
    pool = sampler.pools(labels, job.splits, ids=job.ids)
    shot = max(1, c.shot)
    small = sorted(set(range(len(job.images.classes))) - set(pool.able(shot)))
    if small:
        named = ", ".join(job.images.classes[k] for k in small[:3]) + (", ..." if len(small) > 3 else "")
        job.warn(
            f"{len(small)} of {len(job.images.classes)} classes lack {shot} images to show and one to ask: {named}"
        )
    if c.sampler == "fixed":
        one = partial(sampler.fixed, pool, way=c.way, shot=c.shot, queries=c.queries, seed=job.seed)
    else:
        related = groups(job.images.classes) if c.sampler == "related" else None
        one = partial(sampler.variable, pool, groups=related, seed=job.seed)
    return sampler.draw(one, c.episodes)


def _taking(job: Job, usable: np.ndarray) -> np.ndarray:
    """The rows that may be shown or asked, each picture once: what is shown and asked is learnt by heart. Copies are counted."""
    from visionvitals.probes.episodes import asked_part

    if job.splits is None:
        sides = [usable]
        found = [job.different(usable)]
    else:
        parts = np.asarray(job.splits)[usable]
        sides = [usable[parts == part] for part in (asked_part(job.splits), "train")]
        found = [job.different(sides[0]), job.different(sides[1], besides=sides[0])]
    if copies := sum(map(len, sides)) - sum(map(len, found)):
        job.warn(f"{copies} images are copies of others and take no part: a picture must not be both shown and asked")
    return np.concatenate(found)


def pooled_features(job: Job) -> np.ndarray:
    """The pre-logit features of all images, float32 (n, d), from the store that the other studies of features share.

    A network without blocks or stages has nothing else to keep, and its features are computed alone.
    """
    from visionvitals.probes import features

    known = {"tokens", "maps"} & set(job.backbone.card.provides)
    return features.features(job)["pooled"] if known else _alone(job)


def _alone(job: Job) -> np.ndarray:
    import torch

    extract, size = job.backbone.features, job.backbone.card.preprocess.size
    assert extract is not None, "refused without features"
    with torch.inference_mode():
        width = extract(torch.zeros(1, 3, *size, device=job.backbone.device)).shape[1]
    computed = 0

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        nonlocal computed
        for batch in job.batches(start):
            with torch.inference_mode():
                arrays["pooled"][batch.rows] = extract(batch.images).float().cpu().numpy()
            computed += len(batch.ids)
            job.progress(len(batch.ids))
        yield len(job.ids)

    found = job.memo_rows("pooled features", {}, {"pooled": ((width,), "float32")}, fill)
    job.progress(len(job.ids) - computed)
    return found["pooled"]


def groups(classes: Sequence[str]) -> list[str] | None:
    """What stands before the first `/` of each class key, or None where a key has none."""
    return [key.partition("/")[0] for key in classes] if all("/" in key for key in classes) else None
