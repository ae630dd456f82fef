"""What is written down of a study, as data: its metrics, charts, vital signs and published numbers. One renderer draws all of them alike.

A `Record` is all that a reader of results needs; it goes into the run as JSON, so that a run can be read where the study is missing.
"""

import dataclasses
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import numpy as np

from visionvitals.errors import VitalsError, require

Unit = Literal["share", "nats", "cosine", "distance", "count", "identifier", "none"]
UNITS: Mapping[Unit, str] = {
    "share": "a share from 0 to 1, written in percent",
    "cosine": "a number from -1 to 1",
    "distance": "a number that is not negative",
    "nats": "nats, not negative",
    "count": "a whole number that is not negative",
    "identifier": "an index, never averaged",
    "none": "any number",
}
"""What values of a unit are, and how they are written."""
Better = Literal["high", "low"]
BOUNDS: Mapping[Unit, tuple[float, float]] = {
    "share": (0.0, 1.0),
    "cosine": (-1.0, 1.0),
    "nats": (0.0, np.inf),
    "distance": (0.0, np.inf),
    "count": (0.0, np.inf),
    "identifier": (0.0, np.inf),
    "none": (-np.inf, np.inf),
}


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a number means. There is no default for `unit` and `better`: what was forgotten must not become an answer.

    Attributes:
        title: a few words for axes and tables, without a unit.
        meaning: one sentence for the list of metrics.
        unit: how it is written and what values are possible.
        better: which end is good; None where neither is.
        over: what its items are; intervals are over these.
        interval: False where the number is a property of what was done, not a sample, so that it is shown without an interval.
        ends: the smallest and the largest possible value, where the unit does not say them.
    """

    title: str
    meaning: str
    unit: Unit
    better: Better | None
    over: Literal["images", "classes", "episodes", "epochs"] = "images"
    interval: bool = True
    ends: tuple[float, float] | None = None

    @property
    def share(self) -> bool:
        """Whether it is written in percent."""
        return self.unit == "share"

    @property
    def averaged(self) -> bool:
        return self.unit != "identifier"

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest possible value."""
        return self.ends or BOUNDS[self.unit]

    @property
    def head(self) -> str:
        """The title with its unit, for the head of a column."""
        units = {"share": " %", "nats": ", nats"}
        return self.title + units.get(self.unit, "")


COMMON: Mapping[str, Metric] = types.MappingProxyType(
    {
        "top1": Metric(
            title="top-1",
            meaning="the predicted class is the label (0 or 1; 1/k where k classes share the highest logit)",
            unit="share",
            better="high",
        ),
        "top5": Metric(
            title="top-5",
            meaning="the label is among the five highest logits (0 or 1; only with more than five outputs)",
            unit="share",
            better="high",
        ),
        "cross_entropy": Metric(
            title="cross-entropy",
            meaning="minus the natural logarithm of the softmax probability of the label",
            unit="nats",
            better="low",
        ),
        "prediction": Metric(
            title="predicted class", meaning="index of the predicted class", unit="identifier", better=None
        ),
        "confidence": Metric(
            title="confidence",
            meaning="the largest softmax probability, of any class",
            unit="share",
            better=None,
        ),
        "brier": Metric(
            title="Brier score",
            meaning="sum over the classes of the squared difference between softmax probability and truth (0 to 2)",
            unit="distance",
            better="low",
        ),
        "top1_present": Metric(
            title="top-1 among the set's classes",
            meaning="as top-1, where only the outputs whose classes the image set has may be answered; published numbers of "
            "ImageNet-A, ImageNet-R and ObjectNet are read so",
            unit="share",
            better="high",
        ),
        "information_loss": Metric(
            title="pixels removed",
            meaning="share of the input pixels that were removed; a property of the mask",
            unit="share",
            better=None,
            interval=False,
        ),
    }
)
"""Metrics that every study may yield; a study adds its own as `METRICS`."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What the report draws of a study: one line (or group of bars) per backbone, or one heat map per backbone.

    `field` means a condition's field or one of the study's `AXES`.

    Attributes:
        x: the field on the horizontal axis. Numbers give a line; grids give a line in order of their number of cells;
            words give bars; empty: there is no axis, one bar a backbone.
        x_title: axis title.
        x_unit: of the values on that axis; a `share` is written in percent.
        x_metric: the metric whose mean is the true place on that axis where the field can only ask for it, such as the share of the pixels that
            were removed; empty: the field's own value.
        facet: fields that split the chart into small multiples, one per combination of their values.
        metric: the metric on the vertical axis.
        y_title: its title; empty: the metric's own.
        reads: one or two sentences under the chart that tell how to read it.
        y: the field on the vertical axis of a heat map, whose colour is the metric; empty: no heat map.
        across: the metric on the horizontal axis of a scatter, which shows every image where the others show means; its colour
            is the field `x`, one small multiple a backbone; empty: no scatter.
        where: only points whose fields have these values are drawn.
        title: over the chart, where a study has several.
    """

    x: str
    x_title: str = ""
    x_unit: Unit = "none"
    x_metric: str = ""
    facet: tuple[str, ...] = ()
    metric: str = "top1"
    y_title: str = ""
    reads: str = ""
    y: str = ""
    across: str = ""
    where: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""


Index = Callable[[Sequence[Mapping[str, Any]], np.ndarray], "np.ndarray | None"]
"""(the m points' fields, means (..., m)) -> (...): a formula over means, vectorised, since it is applied to every bootstrap sample of
the images; None in place of values where the points are not enough for it."""


FEWEST = 5
"""Images that a share must rest on."""


SignKind = Literal["mean", "kept", "area", "lowest", "highest", "index"]
KINDS: Mapping[SignKind, str] = {
    "mean": "the mean of the metric",
    "kept": "the mean of the metric as a share of its mean on the unchanged images, on the same images",
    "area": "the area under the curve of the mean",
    "lowest": "the smallest mean, corrected for having been chosen",
    "highest": "the largest mean, corrected for having been chosen",
    "index": "a formula of the means at several conditions",
}
"""How a vital sign is computed; `stats` says which interval each has."""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One column of the report's table of vital signs.

    Attributes:
        title: the column's head.
        kind: see `KINDS`; `area`, `lowest` and `highest` are over `x`, `index` of the means at all points that match.
        where: fields that must have these values. Where several combinations of the other fields remain, the one
            with the most cells counts.
        x: for `area`, `lowest` and `highest`, the field that varies.
        metric: whose means are taken.
        index: for `index`.
        unit: of an `index`; the other kinds take that of the metric, and `kept` is a share.
        bounds: what an `index` can give at all; None for the bounds of its unit.
        base: for an `index` that is relative to an accuracy, which of the points has it. Where that is no better than guessing, nothing
            can be lost, and the sign has no value.
        room: for an `index` that is a share of a share of the images, how large that is, from points and means as for `index`. Where it is
            less than `FEWEST` images, the sign has no value.
        better: which end is good; None: as for the metric, `neither`: none.
        at: where it was measured, in the words of a sentence, e.g. `at 50 % occlusion`.
    """

    title: str
    kind: SignKind
    where: Mapping[str, Any] = field(default_factory=dict)
    x: str | None = None
    metric: str = "top1"
    index: Index | None = None
    unit: Unit | None = None
    bounds: tuple[float, float] | None = None
    base: Callable[[Sequence[Mapping[str, Any]]], int] | None = None
    room: Callable[[Sequence[Mapping[str, Any]], np.ndarray], float] | None = None
    better: Literal["high", "low", "neither"] | None = None
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that was published, shown beside ours of the same condition.

    Attributes:
        architectures: names of `BackboneCard.architecture` that are this model (its weights must be the published ones too;
            the report says that it cannot check that).
        where: the condition's fields and places on the axes.
        size: (height, width) of the network's input in pixels.
        families: of image sets that hold this data, such as `voc`; empty where a folder of any kind may hold it.
        value: on the metric's own scale (accuracy in [0, 1]).
        data: the data it was measured on.
        source: the publication and place.
    """

    model: str
    architectures: tuple[str, ...]
    where: Mapping[str, Any]
    value: float
    metric: str = "top1"
    size: tuple[int, int] = (224, 224)
    families: tuple[str, ...] = ()
    data: str = "ImageNet-1k validation"
    source: str = "Naseer et al. 2021"


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a reader of results knows of a study: of its cells, of a training's curves, of people's answers.

    Attributes:
        name: of the study.
        version: of the meaning of its numbers.
        title: a few words for the report.
        asks: the question it answers, one paragraph.
        axes: names of what is told apart within one cell.
        labels: what its labels are, see `study.Study`.
        shared: whether all images of a run share what it draws (a patch, a split): intervals are then over runs too, and one run has none.
        metrics: all that its cells may hold, the common ones too.
        charts, signs, published: what the report shows.
        choices: field -> the words it may be, in their order.
        defaults: field -> the default of the condition.
    """

    name: str
    version: int = 1
    title: str = ""
    asks: str = ""
    axes: tuple[str, ...] = ()
    labels: Literal["outputs", "own", "none"] = "outputs"
    shared: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=lambda: dict(COMMON))
    charts: tuple[Chart, ...] = ()
    signs: tuple[Sign, ...] = ()
    published: tuple[Published, ...] = ()
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


def written(record: Record) -> dict[str, Any]:
    """A record as JSON values; a sign's formula is code and stays behind."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            pairs = ((f.name, f.default, getattr(value, f.name)) for f in dataclasses.fields(value))
            return {name: plain(v) for name, default, v in pairs if not (v is default or callable(v))}
        if isinstance(value, Mapping):
            return {str(k): plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple | list) else value

    names = [f.name for f in dataclasses.fields(Record)]
    return {name: plain(getattr(record, name)) for name in names}


def read(content: Mapping[str, Any], *, source: str) -> Record:
    """The record that `written` wrote; no code is loaded, and signs that need a formula are left out.

    Raises:
        VitalsError: it is no such record.
    """
    try:
        parts = {
            "metrics": {name: _made(Metric, m) for name, m in content["metrics"].items()},
            "charts": tuple(_made(Chart, c) for c in content["charts"]),
            "signs": tuple(_made(Sign, s) for s in content["signs"] if s["kind"] != "index"),
            "published": tuple(_made(Published, p) for p in content["published"]),
            "choices": {name: tuple(words) for name, words in content["choices"].items()},
            "defaults": {name: tupled(v) for name, v in content["defaults"].items()},
        }
        record: Record = _made(Record, {**content, **parts})
        return record
    except (KeyError, TypeError, AttributeError, VitalsError) as error:
        raise VitalsError(f"{source} must describe a study as visionvitals writes it. Got: {error!r}.") from error


def tupled(value: Any) -> Any:
    """Lists of JSON as the tuples that they were."""
    if isinstance(value, list | tuple):
        return tuple(tupled(v) for v in value)
    return {k: tupled(v) for k, v in value.items()} if isinstance(value, dict) else value


def _made(kind: Any, content: Mapping[str, Any]) -> Any:
    """A dataclass from its fields, whose closed choices and types are checked."""
    known = {f.name: f for f in dataclasses.fields(kind)}
    require(set(content) <= known.keys(), f"A {kind.__name__} has the fields {', '.join(known)}", sorted(content))
    for name, value in content.items():
        allowed = known[name].type
        if get_origin(allowed) is Literal:
            require(value in get_args(allowed), f"`{name}` must be one of {', '.join(get_args(allowed))}", value)
        elif isinstance(allowed, type) and allowed in (str, int, bool):
            require(isinstance(value, allowed), f"`{name}` must be of type {allowed.__name__}", value)
    return kind(**{name: tupled(v) if name != "metrics" else v for name, v in content.items()})
