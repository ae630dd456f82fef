"""What the report shows of a study, as data: charts, vital signs, published numbers. One renderer draws all of them alike."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What the report draws of a study: one line (or group of bars) per backbone, or one heat map per backbone.

    `field` means a condition's field or one of the study's `AXES`.

    Attributes:
        x: the field on the horizontal axis. Numbers give a line; grids give a line in order of their number of cells;
            words give bars; empty: there is no axis, one bar a backbone.
        x_title, y_title: axis titles with units.
        facet: fields that split the chart into small multiples, one per combination of their values.
        metric: key of `METRICS` on the vertical axis.
        reads: one or two sentences under the chart that tell how to read it.
        y: the field on the vertical axis of a heat map, whose colour is the metric; empty: no heat map.
        across: key of `METRICS` on the horizontal axis of a scatter, which shows every image where the others show means; its colour
            is the field `x`, one small multiple a backbone; empty: no scatter.
        where: only points whose fields have these values are drawn.
        title: over the chart, where a study has several.
    """

    x: str
    x_title: str
    facet: tuple[str, ...] = ()
    metric: str = "top1"
    y_title: str = "top-1 accuracy"
    reads: str = ""
    y: str = ""
    across: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One column of the report's table of vital signs.

    Attributes:
        title: the column's head.
        kind: `mean` of the metric; `kept`: its mean over that of `clean`, paired; `area`: under the curve over `x`; `index`: `index`
            of the means at all points that match.
        where: fields that must have these values. Where several combinations of the other fields remain, the one
            with the most cells counts.
        x: for `area`, the field on the horizontal axis.
        index: for `index`, (the m points' fields, means (..., m)) -> (...): a formula over means, vectorised, since it is applied to
            every bootstrap sample of the images; None in place of values where the points are not enough for it.
        share: whether the value reads as percent; None: as the metric says.
        better: which end is marked as the best.
    """

    title: str
    kind: Literal["mean", "kept", "area", "index"]
    where: Mapping[str, Any] = field(default_factory=dict)
    x: str | None = None
    metric: str = "top1"
    index: Callable[[Sequence[Mapping[str, Any]], np.ndarray], np.ndarray | None] | None = None
    share: bool | None = None
    better: Literal["high", "low", "neither"] = "high"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that was published for the same condition on the same data, shown beside ours.

    Attributes:
        architectures: names of `BackboneCard.architecture` that are this model (its weights must be the published ones too;
            the report says that it cannot check that).
        where: the condition's fields and places on the axes.
        value: on the metric's own scale (accuracy in [0, 1]).
        data: the data it was measured on.
        source: the publication and place.
    """

    model: str
    architectures: tuple[str, ...]
    where: Mapping[str, Any]
    value: float
    metric: str = "top1"
    data: str = "ImageNet-1k validation"
    source: str = "Naseer et al. 2021"
