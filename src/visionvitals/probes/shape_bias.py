"""Shape bias from cue-conflict pictures: 1,000 ImageNet outputs to 16 entry classes, decisions, and the numbers made of them.

A picture shows the shape of one class in the texture of another. What is answered is the shape, the texture, or neither:

    shape bias = hits of shape / (hits of shape + hits of texture)

The ratio alone hides how often either was seen at all, so it comes with shape accuracy, texture accuracy and coverage (either hit,
of all). Pooled, every answer counts the same; the class mean averages the bias of each shape class. They differ by points.

Source: Geirhos et al. 2019, "ImageNet-trained CNNs are biased towards texture"; the mean over a class' outputs, after the softmax
over all of them, is that of the authors' published code, and so is the table (texture-vs-shape, model-vs-human: 207 outputs).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from visionvitals import stats
from visionvitals.stats import Estimate

_RANGES: dict[str, str] = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898 899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385 386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}


def _indices(ranges: str) -> tuple[int, ...]:
    ends = [part.split("-") for part in ranges.split()]
    return tuple(i for first, *last in ends for i in range(int(first), int(last[0] if last else first) + 1))


ENTRY_CLASSES: Mapping[str, tuple[int, ...]] = {name: _indices(ranges) for name, ranges in _RANGES.items()}
"""The 16 entry classes -> indices of their ImageNet-1k outputs, 207 in all."""


def class_probabilities(logits: Float[Tensor, "b k"], members: Sequence[Sequence[int]]) -> Float[Tensor, "b c"]:
    """The mean softmax probability over the outputs that belong to each class.

    Args:
        logits: over all k outputs.
        members: for each of the c classes, its output indices, at least one.

    Convention: a mean and not a sum, so that a class with 109 outputs has no head start over a class with one; the values of a
        picture do not add up to one.
    """
    probabilities = logits.double().softmax(dim=1)
    columns = [probabilities[:, torch.tensor(list(m), device=logits.device)].mean(dim=1) for m in members]
    return torch.stack(columns, dim=1)


def decide(probabilities: Float[Tensor, "b c"]) -> Int64[Tensor, " b"]:
    """The most probable class; the first one where several are (as in texture-vs-shape)."""
    best = probabilities == probabilities.max(dim=1, keepdim=True).values
    return best.int().argmax(dim=1)  # of several ones, the first


class Summary(NamedTuple):
    """What is said of an observer; intervals are Wilson's at 95 %.

    Attributes:
        bias: pooled; n counts the pictures answered by shape or texture.
        class_mean: mean of the bias over the shape classes that have one; the interval is over classes, n counts them.
        shape_accuracy, texture_accuracy, coverage: shares of all n pictures with a conflict.
        per_class: shape class -> its bias; NaN and n = 0 where none of its pictures was answered by either.
    """

    bias: Estimate
    class_mean: Estimate
    shape_accuracy: Estimate
    texture_accuracy: Estimate
    coverage: Estimate
    per_class: Mapping[int, Estimate]


def summary(
    decisions: Int64[np.ndarray, " n"], shapes: Int64[np.ndarray, " n"], textures: Int64[np.ndarray, " n"]
) -> Summary:
    """Shape bias of one observer.

    Args:
        decisions: the class answered for each picture; -1 for no answer, which counts as neither.
        shapes, textures: the classes shown. Pictures where they are equal, or whose texture is unknown (-1), are left out.
    """
    conflict = (shapes != textures) & (textures >= 0)
    decisions, shapes, textures = decisions[conflict], shapes[conflict], textures[conflict]
    by_shape, by_texture = decisions == shapes, decisions == textures
    either = by_shape | by_texture
    per_class = {int(c): _share(by_shape[either & (shapes == c)]) for c in np.unique(shapes)}
    return Summary(
        bias=_share(by_shape[either]),
        class_mean=stats.estimate(np.array([e.value for e in per_class.values()])),
        shape_accuracy=_share(by_shape),
        texture_accuracy=_share(by_texture),
        coverage=_share(either),
        per_class=per_class,
    )


def _share(hits: np.ndarray) -> Estimate:
    return stats.wilson(int(hits.sum()), len(hits))
