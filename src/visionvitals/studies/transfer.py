"""Transfer: how good a network's frozen features are for the classes of an image set, and which tokens to use.

Linear and nearest-neighbour probes on features of one pass (`probes.features`). Block sets: `last`; `ensemble`, the last few; `all`;
`single`, each on its own; `pooled`, what the network's own classifier reads. Tokens: `class`, the class token of each block of the set;
`class + mean`, the same and the mean patch token of the last block, as the authors have it; `mean`, the mean over patches or places of
each block. Probes: `logistic`, `ridge`, `neighbours`.

Conventions. The network is in evaluation mode. Each block's features are divided by one number, the root mean square of their
deviations from the mean over the training images (fit and validation), so that their variance is 1 on average.
The strength of a penalty and the number of neighbours are chosen on validation images (ridge: by exact leave-one-out on all training
images), then the probe is fitted to all training images. `chosen` is the combination of probe, blocks and tokens of the highest
validation accuracy, the fewer features of two equal ones. The test images decide nothing. Of copies of a picture one takes part, on
one side. Penalties: `_transfer_probes`.

With `protocol = paper` a linear layer is trained as the authors did: AdamW, 5e-4, weight decay 0.05, 10 epochs, batches of 256, and
the epoch that is BEST ON TEST is reported, so its accuracy is too high; it is there to compare with published numbers. Deviations: the
network's own resize and crop, the last short batch is kept, and BatchNorm is in evaluation mode (theirs never was, which very likely
explains the published ResNet50).

What it means for a product. Says which network, and which of its blocks, to build a classifier of other classes on, before any fine-tuning.

Pitfalls. A linear probe favours features that are already sorted by class; fine-tuning may turn the order. Classes that the network was trained on
are not new; the run says which.

Source: Naseer et al. 2021, section 3.5 and Table 5.

Metrics, at (probe, blocks, tokens, block), block 0 but for `single`: `top1` of every test image, `validation_top1` of every validation
image; at `chosen`, also `prediction`, in the set's classes. At (projection, pooled, a class, 0): `component_1` and `component_2` of its
test images.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from visionvitals.studies._by_class import attach as attach_classes
from visionvitals.studies._partition import partition
from visionvitals.studies._transfer_probes import Answer, Data, as_published, logistic, neighbours, ridge
from visionvitals.study import (
    BackboneCard,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Place,
    Preset,
    Published,
    Scores,
    Sign,
    require,
)

VERSION = 2
TITLE = "Transfer"
AXES = ("probe", "blocks", "tokens", "block")
LABELS = "own"
METRICS = {
    "validation_top1": Metric(
        title="top-1 on validation images",
        meaning="the class predicted for a validation image, by a probe fitted without it, is the label (0 or 1)",
        unit="share",
        better="high",
    ),
    **{
        f"component_{k}": Metric(
            title=f"{word} principal component",
            meaning=f"place along the {word} principal component of the features of all test images, in its standard deviations",
            unit="none",
            better=None,
        )
        for k, word in ((1, "first"), (2, "second"))
    },
}
ADAMW = "adamw, best epoch on test"
PROJECTION = "projection"
_SHOWN = 8  # classes of the projection
CHOSEN = ("chosen", "chosen", "chosen", 0)
CHARTS = (
    Chart(
        x="blocks",
        x_title="block set",
        where={"block": 0, "probe": "logistic"},
        facet=("tokens",),
        title="Block sets, logistic regression",
        reads="Test accuracy with 95 % intervals. Which set to use was decided on validation images; the notes above name it. Ridge and "
        "nearest neighbours are in the table.",
    ),
    Chart(
        x="block",
        x_title="block",
        where={"blocks": "single", "probe": "ridge"},
        facet=("tokens",),
        title="Each block on its own",
        reads="Ridge classifier on the tokens of one block. Bands are 95 % intervals over test images.",
    ),
    Chart(
        x="tokens",
        x_title="first principal component",
        where={"probe": PROJECTION},
        metric="component_2",
        across="component_1",
        title="Where the classes lie",
        reads="The pooled features of the test images of up to eight classes. Classes that overlap in two of many directions may still be "
        "told apart by a probe.",
    ),
)
SIGNS = (Sign(title="transfer accuracy", kind="mean", where=dict(zip(AXES, CHOSEN, strict=True))),)
_TABLE_5 = {
    ("last", "class"): (0.6816, 0.8258, 0.3828),
    ("last", "class + mean"): (0.7066, 0.8658, 0.4122),
    ("all", "class"): (0.7290, 0.9138, 0.4403),
    ("all", "class + mean"): (0.7316, 0.9127, 0.4333),
    ("ensemble", "class"): (0.7358, 0.9000, 0.4515),
    ("ensemble", "class + mean"): (0.7337, 0.9033, 0.4512),
}
_TABLE_5_DATA = (("cub", "CUB-200-2011"), ("flowers", "Flowers-102"), ("inaturalist", "iNaturalist 2019"))
PUBLISHED = tuple(
    Published(
        model="DeiT-S",
        architectures=("deit_small_patch16_224",),
        where={"protocol": "paper", "probe": ADAMW, "blocks": blocks, "tokens": tokens},
        value=value,
        families=(family,),
        data=data,
        source="Naseer et al. 2021, Table 5",
    )
    for (blocks, tokens), values in _TABLE_5.items()
    for (family, data), value in zip(_TABLE_5_DATA, values, strict=True)
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """How the probes are fitted.

    Attributes:
        protocol: `validated`, or `paper` (chosen on test, as the authors did).
        last: how many blocks the block set `ensemble` takes.
    """

    protocol: Literal["validated", "paper"] = "validated"
    last: int = 4

    def __post_init__(self) -> None:
        require(self.protocol in ("validated", "paper"), "`protocol` must be `validated` or `paper`", self.protocol)
        require(self.last >= 1, "`last` must be positive", self.last)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick and default: validated. paper: that, and what the authors did."""
    return [Condition(), *([Condition(protocol="paper")] if preset == "paper" else [])]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """Blocks must be known, and there must be classes to tell apart."""
    if not {"tokens", "maps"} & set(backbone.provides):
        return f"{backbone.architecture} has neither blocks of tokens nor stages of maps that could be found"
    if condition.last > backbone.blocks:
        return f"`last` must be at most the number of blocks; {backbone.architecture} has {backbone.blocks}, got {condition.last}"
    if len(images.classes) < 2:
        return f"there must be at least two classes to tell apart; {images.spec or 'the set'} has {len(images.classes)}"
    train, test = (images.per_class.get(part, images.per_class.get("")) for part in ("train", "test"))
    test = test or images.per_class.get("val")
    if images.per_class and not (train and test):
        return "a set with parts must have images in train and in test (or val)"
    if train and (sum(n > 0 for n in train) < 2 or ("" in images.per_class and max(train) < 3)):
        return f"there must be two classes with images to train on and three different images of one; there are {sum(train)} images"
    return None


def passes(condition: Condition) -> float:
    return 1.1


class _Subset(NamedTuple):
    """Features to fit a probe on, (n, d), with their place on the axes `blocks`, `tokens`, `block`."""

    blocks: str
    tokens: str
    block: int
    values: np.ndarray


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes.features import features

    c: Condition = job.condition
    found = features(job)
    usable = np.logical_and.reduce([np.isfinite(x).reshape(len(x), -1).all(axis=1) for x in found.values()])
    parts = partition(job, usable, keep_duplicates=c.protocol == "paper")
    for note in parts.notes:
        job.warn(note)
    classes, labels = np.unique(np.asarray(job.labels)[parts.fit], return_inverse=True)
    everywhere = np.full(len(job.ids), -1)
    everywhere[parts.fit] = labels
    for part in (parts.validation, parts.test):
        everywhere[part] = np.searchsorted(classes, np.asarray(job.labels)[part])
    fit, validation, test = ([int(k) for k in part] for part in parts[:3])
    y = torch.from_numpy(everywhere).to(job.backbone.device)
    best: tuple[tuple[float, int], tuple[str, str, str], Answer] | None = None
    for subset in _subsets(found, c, np.concatenate([parts.fit, parts.validation])):
        x = torch.from_numpy(subset.values).to(job.backbone.device)
        data = Data(x, y, fit, validation, test, len(classes))
        place = (subset.blocks, subset.tokens, subset.block)
        if c.protocol == "paper":
            if subset.blocks != "single":
                right = as_published(data, job.seed).test == everywhere[test]
                yield _scores(job, test, {"top1": right}, (ADAMW, *place))
            continue
        for name, probe in {"logistic": logistic, "ridge": ridge, "neighbours": neighbours}.items():
            if subset.blocks == "single" and name == "logistic":
                continue  # a curve of closed forms is enough, and twenty times faster
            answer = probe(data)
            right = answer.validation == everywhere[validation]
            yield _scores(job, test, {"top1": answer.test == everywhere[test]}, (name, *place))
            yield _scores(job, validation, {"validation_top1": right}, (name, *place))
            merit = float(right.mean()), -x.shape[1]
            if subset.blocks != "single" and (best is None or merit > best[0]):
                best = merit, (name, subset.blocks, subset.tokens), answer
    if best is not None:
        (accuracy, _), words, answer = best
        how = "{}, blocks `{}`, tokens `{}`".format(*words)
        job.warn(f"chosen on {len(validation)} validation images ({accuracy:.1%} right): {how}")
        said = classes[answer.test]
        yield _scores(job, test, {"top1": answer.test == everywhere[test], "prediction": said}, CHOSEN)
        yield _scores(job, validation, {"validation_top1": answer.validation == everywhere[validation]}, CHOSEN)
        attach_classes(job, test, said)
        yield from _projected(job, found["pooled"], parts.test)


def _projected(job: Job, pooled: np.ndarray, test: np.ndarray) -> Iterator[Scores]:
    """Two principal components of the test images, kept for the classes that have the most of them."""
    import torch

    from visionvitals.probes.components import projection

    places = projection(torch.from_numpy(np.array(pooled[test]))).numpy()
    labels = np.asarray(job.labels)[test]
    names, counts = np.unique(labels, return_counts=True)
    for label in names[np.argsort(-counts, kind="stable")[:_SHOWN]].tolist():
        own = labels == label
        components = {"component_1": places[own, 0], "component_2": places[own, 1]}
        yield _scores(job, test[own], components, (PROJECTION, "pooled", job.images.class_names[label], 0))


def _scores(job: Job, rows: Sequence[int] | np.ndarray, values: Mapping[str, np.ndarray], at: Place) -> Scores:
    return Scores([job.ids[k] for k in rows], values, at)


def _subsets(found: Mapping[str, np.ndarray], c: Condition, train: np.ndarray) -> Iterator[_Subset]:
    """All subsets of the features, each block brought to a mean variance of 1 over the training images but for `paper`."""
    from visionvitals.probes.features import columns

    def scaled(x: np.ndarray) -> np.ndarray:
        x = columns(np.array(x))
        if c.protocol == "paper":  # as they are, for AdamW's rate is an absolute one
            return x
        spread = float(np.sqrt(np.square(x[train] - x[train].mean(axis=0, dtype=np.float64)).mean()))
        return x / np.float32(spread or 1)

    depth = found["patch_mean"].shape[1]
    has_class = found["prefix"].shape[2] > 0
    means = [scaled(found["patch_mean"][:, k]) for k in range(depth)]
    own = [scaled(found["prefix"][:, k, 0]) for k in range(depth)] if has_class else means
    kind = "class" if has_class else "mean"
    yield _Subset("pooled", "pooled", 0, scaled(found["pooled"]))
    for name, count in {"last": 1, "ensemble": c.last, "all": depth}.items():
        chosen = own[depth - count :]
        yield _Subset(name, kind, 0, np.concatenate(chosen, axis=1))
        if has_class:
            yield _Subset(name, "class + mean", 0, np.concatenate([*chosen, means[-1]], axis=1))
    for k in range(depth):
        yield _Subset("single", kind, k + 1, own[k])
        if has_class:
            yield _Subset("single", "mean", k + 1, means[k])
