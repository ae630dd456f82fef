"""What a name means: a metric, a vital sign, a study, a recipe, a preset, a family of backbones or image sets. All is read from where it is declared;
nothing is said here a second time."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from visionvitals import registry, study
from visionvitals.core import PRESETS
from visionvitals.errors import VitalsError, near, shortened
from visionvitals.figure import COMMON, KINDS, UNITS, Metric, Sign
from visionvitals.results import words
from visionvitals.results.derived_metrics import METRICS
from visionvitals.training import recipe

HEADS = ("What it means", "Pitfalls")
"""How the paragraphs of a study's docstring begin that are told beside the first two: the question, and what is done."""
PLURALS = {
    "study": "studies",
    "vital sign": "vital signs",
    "metric": "metrics",
    "preset": "presets",
    "family of backbones": "backbones",
    "family of image sets": "datasets",
    "recipe": "recipes",
}
"""What can be explained, as one and as many."""
SIZE = (224, 224)
"""The input for which conditions are counted."""
_LETTERS = 380
"""Of a paragraph at most, so that a study fits on a screen; its page has the whole."""
_MOST = 12
"""Names that a miss lists."""


@dataclass(frozen=True)
class Entry:
    """Something that has a name.

    Attributes:
        kind: one of `PLURALS`.
        name: how users spell it.
        brief: one line of it.
        tell: its explanation, as paragraphs.
    """

    kind: str
    name: str
    brief: str
    tell: Callable[[], Iterator[str]]


def explained(name: str) -> list[str]:
    """The lines that explain a name, in 80 columns; of several things with this name all. Of a spelling `family:name` its family, of a `.py` file
    the study in it, which is executed.

    Raises:
        VitalsError: nothing has this name; near names are listed.
    """
    if name.endswith(".py"):
        return _page(_of_study(name)).split("\n")
    known = entries()
    for wanted in (name.casefold(), name.partition(":")[0].casefold()):
        found = [entry for entry in known if entry.name.casefold() == wanted]
        if found:
            return "\n\n".join(map(_page, found)).split("\n")
    names = {entry.name: entry.name.casefold() for entry in known}
    inside = [each for each, folded in names.items() if name and name.casefold() in folded]
    do = f"Names that contain it: {', '.join(inside[:_MOST])}." if inside else near(name, names)
    see = "`vitals list` shows what there is; `vitals list WORD` finds names that contain a word."
    must = "`vitals explain` must name a metric, a vital sign, a study, a recipe, a preset or a family"
    raise VitalsError(" ".join(filter(None, (f"{must}. Got {shortened(repr(name))}.", do, see))))


def entries() -> list[Entry]:
    """All that can be explained. Imports the studies, which takes less than a second, and no torch."""
    found = [_of_study(name) for name in study.names()]
    found += [*_signs(), *_metrics()]
    found += [Entry("preset", name, said, partial(_preset, name)) for name, said in PRESETS.items()]
    families: tuple[tuple[registry.Kind, str], ...] = (
        ("backbones", "family of backbones"),
        ("datasets", "family of image sets"),
    )
    for kind, what in families:
        for name in registry.names(kind):
            found.append(Entry(what, name, registry.summary(kind, name), partial(_family, kind, name)))
    for name in recipe.recipes():
        found.append(Entry("recipe", name, registry.summary("recipes", name), partial(_recipe, name)))
    return found


def _page(entry: Entry) -> str:
    lines = [f"{entry.name}: a {entry.kind}"]
    for paragraph in entry.tell():
        for line in paragraph.split("\n"):
            start = "  " + line[: len(line) - len(line.lstrip())]
            lines += words.wrapped(line.strip(), first=start, rest=start + "  " * bool(line.strip()))
    return "\n".join(lines)


def _paragraphs(of: object) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in (inspect.getdoc(of) or "").split("\n\n")]


def _short(paragraph: str) -> str:
    return textwrap.shorten(paragraph, _LETTERS, placeholder=" ...")


def _of_study(spelled: str) -> Entry:
    of = study.load(spelled)
    return Entry("study", of.name, of.asks, partial(_study, of, spelled))


def _study(of: study.Study, spelled: str) -> Iterator[str]:
    module = registry.load("studies", spelled)
    first, *rest = _paragraphs(module)
    yield _short(first)
    yield from map(_short, [each for k, each in enumerate(rest) if k == 0 or each.startswith(HEADS)])
    if of.charts and of.charts[0].reads:
        yield _short(f"To read its chart: {of.charts[0].reads}")
    fields = [f"{name} = {words.short(value) or 'empty'}" for name, value in of.defaults.items()]
    yield f"Condition: {', '.join(fields) or 'no field'}."
    for name, known in of.choices.items():
        yield f"  {name}: {', '.join(known)}"
    counts = [f"{preset} {len(of.conditions(preset, SIZE))}" for preset in PRESETS]
    yield f"Presets, in conditions on a 224 x 224 input: {', '.join(counts)}."
    yield _short("  " + " ".join(_paragraphs(module.conditions)))
    if of.signs:
        yield f"Vital signs: {'; '.join(sign.title for sign in of.signs)}."
    own = [name for name in of.metrics if name not in COMMON]
    if own:
        yield f"Its own metrics: {', '.join(own)}."
    if spelled == of.name:
        yield f"More: docs/studies/{of.name}.md; `vitals explain` of a vital sign or a metric."


def _signs() -> Iterator[Entry]:
    for of in map(study.load, study.names()):
        for sign in of.signs:
            yield Entry("vital sign", sign.title, f"{of.name}: {KINDS[sign.kind]}", partial(_sign, of, sign))


def _sign(of: study.Study, sign: Sign) -> Iterator[str]:
    metric = of.metrics[sign.metric]
    yield f"One number that sums up the study {of.name}, in the first table of the report, or below it where the run makes it mean little alone."
    yield f"{KINDS[sign.kind][0].upper()}{KINDS[sign.kind][1:]}."
    yield f"Metric {sign.metric}: {metric.meaning}."
    where = words.condition(sign.where)
    over = f"over {sign.x}" if sign.x else ""
    if where or over:
        yield f"Condition: {', '.join(filter(None, (where, over)))}."
    yield _end(metric.better if sign.better is None else sign.better)
    yield f"More: vitals explain {of.name}"


def _metrics() -> Iterator[Entry]:
    found: dict[tuple[str, Metric], list[str]] = {}
    for of in map(study.load, study.names()):
        for name, metric in of.metrics.items():
            if name not in COMMON:
                found.setdefault((name, metric), []).append(of.name)
    every = [(name, metric, "Studies that ask for the class may have it.") for name, metric in COMMON.items()]
    every += [(name, metric, f"Of the study {words.listed(of)}.") for (name, metric), of in found.items()]
    every += [
        (name, metric, "Computed from the answers of a run when it is asked for.") for name, metric in METRICS.items()
    ]
    for name, metric, said in every:
        yield Entry("metric", name, metric.meaning, partial(_metric, name, metric, said))


def _metric(name: str, metric: Metric, said: str) -> Iterator[str]:
    yield f"{metric.title}: {metric.meaning}."
    ends = "" if metric.ends is None else f"; from {metric.ends[0]:g} to {metric.ends[1]:g}"
    yield f"Unit: {UNITS[metric.unit]}{ends}."
    yield _end(metric.better)
    yield f"Its interval is over {metric.over}." if metric.interval and metric.averaged else "It has no interval."
    yield said
    yield f"To print it: vitals table RUN --metric {name}"


def _end(better: str | None) -> str:
    return {"high": "Higher is better.", "low": "Lower is better."}.get(better or "", "Neither end is better.")


def _preset(name: str) -> Iterator[str]:
    yield f"{PRESETS[name].capitalize()}."  # type: ignore[index]  # a name of these
    counts = [f"{of.name} {len(of.conditions(name, SIZE))}" for of in map(study.load, study.names())]  # type: ignore[arg-type]
    yield f"Conditions of each study on a 224 x 224 input: {', '.join(counts)}."
    yield f"To use it: --preset {name}. What one of them is: vitals explain STUDY"


def _family(kind: registry.Kind, name: str) -> Iterator[str]:
    module = registry.load(kind, name)
    yield from map(_short, _paragraphs(module)[:2])
    options = getattr(module, "Options", None)
    if options is not None:
        yield "Options, as `?key=value`:"
        for key, default, meaning in registry.described(options):
            yield f"  {key}: {meaning}{f' [{default}]' if default else ''}"


def _recipe(name: str) -> Iterator[str]:
    first, *rest = (inspect.getdoc(registry.load("recipes", name)) or "").split("\n\n")
    yield " ".join(first.split())
    yield from rest[:1]
    fields = recipe.facts(recipe.load_recipe(name)).items()
    texts = [
        f"{key} = {','.join(map(str, v)) if isinstance(v, tuple) else words.short(v) or 'empty'}" for key, v in fields
    ]
    yield f"Sets: {'; '.join(texts)}."
    yield "To change a value: vitals train RECIPE --set key=value"
