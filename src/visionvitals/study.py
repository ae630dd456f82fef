"""What the author of a study imports. A study is one file: it changes images, or measures in its own way, and says what to show.

The shortest study is a docstring, a `Condition`, `conditions` and `perturb`; everything else has a default. `load` makes the file into a
`Study`, once per file, and names all that is missing or misspelt in one error. A study imports torch only inside its functions.
"""

import dataclasses
import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from visionvitals import registry, source
from visionvitals.core import BackboneCard, BackboneSpec, FolderSpec, ImageSetCard, Place, Preprocess, Preset, Scores
from visionvitals.errors import VitalsError, blamed, guarded, near, require
from visionvitals.figure import COMMON, KINDS, Chart, Metric, Published, Record, Sign
from visionvitals.job import Batch, Job
from visionvitals.scoring import answers, score

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BASELINE", "BackboneCard", "BackboneSpec", "Batch", "COMMON", "Chart", "FolderSpec", "ImageSetCard", "Job", "Metric", "Place",
    "Preprocess", "Preset", "Published", "Record", "Scores", "Sign", "Study", "VitalsError", "answers", "load", "name_of", "names", "near",
    "require", "score",
]  # fmt: skip

BASELINE = "clean"
"""The study of the unchanged images: what is `kept` is measured against it."""
_ROOT = Path(__file__).parent
MOST_CONDITIONS = 100_000
"""Points of one study; more are a mistake that would fill the memory."""
REPEATS = "run"
"""The condition's field that counts independent repetitions, which are averaged within each image."""


@dataclass(frozen=True, kw_only=True)
class Study(Record):
    """A study, made from its file by `load`. In capitals: the name in the file, where it is not that of the field.

    Attributes:
        version: VERSION, bumped when the meaning of a number changes. Default 1.
        title: TITLE, a few words for the report. Default: the name of the file.
        axes: AXES, names of what is told apart within one cell, because one pass measures it all (blocks, heads, thresholds);
            `Scores.at` says where a block stands. To tables, charts and signs an axis is as good as a field of the condition.
        labels: LABELS, what `Job.labels` are: `outputs` of the backbone (an image set whose classes are none of its outputs is
            refused), the set's `own` classes, or `none`: they are not looked at. Default `outputs`.
        metrics: METRICS, the study's own, beside the `COMMON` ones.
        shared: SHARED, whether all images of a run share what it draws (a patch, a split): intervals are then over runs too, and one run
            has none. Default: each image has its own draw.
        per_image: PER_IMAGE, whether what is measured of an image (values, pictures) depends on no other image, and nothing is attached:
            then more images are measured without measuring the first ones again, and many in parts. Default: only where the file defines no `measure`.
        on_request: ON_REQUEST, whether it is measured only where it is named: too many passes for a run of everything. Default: no.
        needs_all: condition -> whether its numbers are of several images nevertheless, so that its cell is measured whole. Default: never.
        charts, signs, published: CHARTS, SIGNS, PUBLISHED; pictures are laid out along the first chart's x.
        Condition: a frozen, keyword-only dataclass of plain values (numbers, strings, tuples) that validates itself and has a
            default for every field; a field named `run` counts independent repetitions and is averaged over in tables.
        conditions: (preset, size) -> the points of the experiment for a network input of `size` (height, width).
        refusal: (condition, backbone card, image set card) -> why this condition cannot be measured on that backbone and image set,
            as one sentence, or None. Default: never.
        unfit: (condition, backbone card, card of a backbone that the condition names) -> why that other one cannot be used, or None.
        passes: condition -> forward passes per image, for the estimate of time; a backward pass counts as two. Default 1.
        cut: (condition, preprocess of the backbone) -> how the pictures are brought to the size of its input, which stays. Default: as
            the backbone says.
        perturb: (condition, batch, seed) -> the images to show, float (b, 3, h, w) in [0, 1]; the one place where images change.
            None for a study that shows no changed images.
        item: image id -> the item that its scores are of, where several images are forms of one picture, told apart by their
            places. Default: the id itself.
        measure: job -> blocks of scores, at most one value per item, metric and place. Default: `score` over `perturb`.
        file: where it stands.
        source: digest of that file where it is not one of ours; it is part of the identity of the cells.
    """

    Condition: type
    conditions: Callable[[Preset, tuple[int, int]], list[Any]]
    refusal: Callable[[Any, BackboneCard, ImageSetCard], str | None]
    unfit: Callable[[Any, BackboneCard, BackboneCard], str | None]
    passes: Callable[[Any], float]
    cut: Callable[[Any, Preprocess], Preprocess]
    perturb: "Callable[[Any, Batch, int], Tensor] | None"
    item: Callable[[str], str]
    measure: Callable[[Job], Iterator[Scores]]
    per_image: bool
    on_request: bool
    needs_all: Callable[[Any], bool]
    file: str
    source: str = ""

    def splits(self, condition: Any) -> bool:
        """Whether some of the images can be measured without the others."""
        return self.per_image and self.item is str and not self.needs_all(condition)


PARTS = (
    "VERSION",
    "TITLE",
    "AXES",
    "LABELS",
    "SHARED",
    "PER_IMAGE",
    "ON_REQUEST",
    "METRICS",
    "CHARTS",
    "SIGNS",
    "PUBLISHED",
)
"""The names in capitals that a file may define."""
_TYPES = {
    "VERSION": int,
    "TITLE": str,
    "AXES": tuple,
    "SHARED": bool,
    "PER_IMAGE": bool,
    "ON_REQUEST": bool,
    "METRICS": Mapping,
    "CHARTS": tuple,
    "SIGNS": tuple,
    "PUBLISHED": tuple,
}
_ARGUMENTS = {"conditions": 2, "refusal": 3, "unfit": 3, "passes": 1, "needs_all": 1, "cut": 2, "perturb": 3, "item": 1,
              "measure": 1}  # fmt: skip


def names() -> list[str]:
    """Every installed study, the baseline first."""
    return sorted(registry.names("studies"), key=lambda name: (name != BASELINE, name))


def name_of(where: str) -> str:
    """What a study is called in cells and tables: its name, or the name of its file."""
    return Path(where).stem if where.endswith(".py") else where


def load(where: str | Path) -> Study:
    """The study of a name, or of the path of its file; made once per content.

    Raises:
        VitalsError: no such study (near names are listed), a file that hides one of ours, or all that is wrong in it.
    """
    text = str(where)
    if text.endswith(".py"):
        text = str(Path(text).expanduser().resolve())
        hidden = name_of(text) in registry.names("studies")
        require(not hidden, "The file of a new study must have a name of its own", str(where), "Rename it.")
    return _made(registry.load("studies", text), name_of(text))


@functools.cache
def _made(module: ModuleType, name: str) -> Study:
    file = str(module.__file__)
    ours = _ROOT in Path(file).parents
    with blamed(f"`{file}` must be a study", file):
        faults = _faults(module)
    if faults:
        raise VitalsError("\n  ".join([f"`{file}` is no study yet:", *faults]))
    own: Mapping[str, Metric] = getattr(module, "METRICS", {})
    perturb = getattr(module, "perturb", None)
    with blamed(f"`Condition()` of `{file}` must be a condition", file):
        condition = module.Condition()

    def part(name: str, default: Callable[..., Any] | None = None) -> Any:
        found = getattr(module, name, default)
        return found if ours else guarded(found, f"`{name}` of `{file}` must work", file)  # type: ignore[arg-type]

    return Study(
        name=name,
        version=getattr(module, "VERSION", 1),
        title=getattr(module, "TITLE", name.replace("_", " ").capitalize()),
        asks=" ".join((inspect.getdoc(module) or "").partition("\n\n")[0].split()),
        axes=getattr(module, "AXES", ()),
        labels=getattr(module, "LABELS", "outputs"),
        shared=getattr(module, "SHARED", False),
        metrics={**COMMON, **own},
        charts=getattr(module, "CHARTS", ()),
        signs=getattr(module, "SIGNS", ()),
        published=getattr(module, "PUBLISHED", ()),
        choices=_choices(module.Condition),
        defaults={f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)},
        Condition=module.Condition,
        conditions=_listed(part("conditions"), module),
        refusal=_sentence(part("refusal", lambda condition, backbone, images: None), "refusal", file),
        unfit=_sentence(part("unfit", lambda condition, backbone, other: None), "unfit", file),
        passes=part("passes", lambda condition: 1),
        cut=part("cut", lambda condition, preprocess: preprocess),
        perturb=perturb,
        item=getattr(module, "item", str),
        measure=getattr(module, "measure", lambda job: score(job, perturb)),
        per_image=getattr(module, "PER_IMAGE", not hasattr(module, "measure")),
        on_request=getattr(module, "ON_REQUEST", False),
        needs_all=part("needs_all", lambda condition: False),
        file=file,
        source="" if ours else source.digest(file),
    )


def _listed(function: Callable[..., Any], module: ModuleType) -> Callable[[Preset, tuple[int, int]], list[Any]]:
    """A study's `conditions`, of which at most `MOST_CONDITIONS` are taken and each is one of its own.

    Raises:
        VitalsError: another thing, or too many.
    """

    def conditions(preset: Preset, size: tuple[int, int]) -> list[Any]:
        found = function(preset, size)
        require(isinstance(found, Iterable), f"`conditions` of `{module.__file__}` must return a list", found)
        with blamed(f"`conditions` of `{module.__file__}` must return a list", str(module.__file__)):
            listed = list(itertools.islice(found, MOST_CONDITIONS + 1))
        few = len(listed) <= MOST_CONDITIONS
        require(few, f"`conditions` of `{module.__file__}` must be at most {MOST_CONDITIONS:,}", "more")
        other = next((each for each in listed if not isinstance(each, module.Condition)), None)
        require(other is None, f"`conditions` of `{module.__file__}` must return a list of its `Condition`", other)
        return listed

    return conditions


def _sentence(function: Callable[..., Any], name: str, file: str) -> Callable[[Any, BackboneCard, Any], str | None]:
    """A study's `refusal` or `unfit`, which must return a sentence or None."""

    def refused(condition: Any, backbone: BackboneCard, other: Any) -> str | None:
        said = function(condition, backbone, other)
        require(said is None or isinstance(said, str), f"`{name}` of `{file}` must return a sentence or None", said)
        return said or None

    return refused


def _faults(module: ModuleType) -> list[str]:
    """All that keeps a module from being a study, a sentence each."""
    here = vars(module)
    found = [f"it must define `{name}`" for name in ("Condition", "conditions") if name not in here]
    if "perturb" not in here and "measure" not in here:
        found.append("it must define `perturb` or `measure`")
    if not (inspect.getdoc(module) or "").strip():
        found.append("it must begin with a docstring that says what it asks")
    found += [f"`{name}` is no part of a study. Did you mean {meant}?" for name in here if (meant := _meant(name))]
    found += [
        f"`{n}` must be of type {t.__name__}. Got {here[n]!r}"
        for n, t in _TYPES.items()
        if n in here and not isinstance(here[n], t)
    ]
    if here.get("LABELS", "own") not in ("outputs", "own", "none"):
        found.append(f"`LABELS` must be outputs, own or none. Got {here['LABELS']!r}")
    found += [
        fault for name, count in _ARGUMENTS.items() if name in here and (fault := _arity(name, here[name], count))
    ]
    if "Condition" in here:
        found += _condition_faults(here["Condition"])
    if all(
        isinstance(here.get(name, kind()), kind)
        for name, kind in (("METRICS", dict), ("CHARTS", tuple), ("SIGNS", tuple))
    ):
        found += _figure_faults(here)
    return found


def _meant(name: str) -> str:
    """The part of a study that a name in capitals misses by one letter, or ""; other constants are the author's own."""
    if not name.isupper() or name in PARTS:
        return ""
    return next((part for part in PARTS if len(name) > 3 and name in (part[:-1], f"{part}S")), "")


def _arity(name: str, function: object, count: int) -> str:
    if not callable(function):
        return f"`{name}` must be a function. Got {function!r}"
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError as error:
        return f"`{name}` must take {count} argument{'s' if count > 1 else ''}. Got: {error}"
    return ""


def _condition_faults(condition: Any) -> list[str]:
    if not (isinstance(condition, type) and dataclasses.is_dataclass(condition)):
        return ["`Condition` must be a dataclass: `@dataclass(frozen=True, kw_only=True)`"]
    found = [] if condition.__dataclass_params__.frozen else ["`Condition` must be frozen"]  # type: ignore[attr-defined]
    open_ = [f.name for f in dataclasses.fields(condition) if f.default is f.default_factory is dataclasses.MISSING]
    return found + [f"the field `{name}` of `Condition` must have a default" for name in open_]


def _figure_faults(here: Mapping[str, Any]) -> list[str]:
    """Metrics that are none, and charts or signs that name a metric or a field which the study has not."""
    metrics = {**COMMON, **here.get("METRICS", {})}
    condition = here.get("Condition")
    fields = [f.name for f in dataclasses.fields(condition)] if dataclasses.is_dataclass(condition) else []
    fields += [*here["AXES"]] if isinstance(here.get("AXES"), tuple) else []
    found = [
        f"`METRICS[{n!r}]` must be a `study.Metric`. Got {m!r}" for n, m in metrics.items() if not isinstance(m, Metric)
    ]
    found += [f"`METRICS[{n!r}]` is a common metric already" for n in here.get("METRICS", {}) if n in COMMON]
    shown: list[tuple[str, type[Chart | Sign | Published]]] = [
        ("CHARTS", Chart),
        ("SIGNS", Sign),
        ("PUBLISHED", Published),
    ]
    for part, kind in shown:
        for entry in here.get(part, ()):
            if not isinstance(entry, kind):
                found.append(f"`{part}` must hold `study.{kind.__name__}` only. Got {entry!r}")
                continue
            if entry.metric not in metrics:
                found.append(f"`{part}` names the metric `{entry.metric}`. {near(entry.metric, metrics)}")
            if isinstance(entry, Sign) and entry.kind not in KINDS:
                found.append(f"`{part}` has a sign of the kind `{entry.kind}`. {near(entry.kind, KINDS)}")
            found += [f"`{part}` names the field `{n}`. {near(n, fields)}" for n in _named(entry) if n not in fields]
    return found


def _named(entry: Chart | Sign | Published) -> list[str]:
    """Fields of the condition, or axes, that a chart, a sign or a published number names."""
    named = [getattr(entry, "x", ""), getattr(entry, "y", ""), *getattr(entry, "facet", ()), *entry.where]
    return [name for name in dict.fromkeys(named) if name]


def _choices(condition: type) -> dict[str, tuple[str, ...]]:
    """field -> the words of its `Literal` type."""
    return {n: get_args(t) for n, t in get_type_hints(condition).items() if get_origin(t) is Literal}
