"""A run folder as points: every condition of every study on every backbone and image set. Made from the cells' descriptions alone; the
numbers are read when they are asked for.

A point is all repetitions (the condition's field `run`) of one piece of work. What differs in anything else that decides a number is never
averaged: weights, preprocessing, data, companions, version and source of the study, decoder, limit, and the seed, since another seed
draws other images and other perturbations. Where one of these varies within a study, it is shown as a field of the condition.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from visionvitals import registry, stats, study
from visionvitals.core import Place
from visionvitals.errors import VitalsError, require
from visionvitals.figure import COMMON, Metric, Record, read, tupled
from visionvitals.results.fields import rank
from visionvitals.results.frame import Frame, Group, Summary, Values
from visionvitals.run.store import SCHEMA, DamagedCell, Store, Stored

SETTINGS = ("version", "source", "companions", "seed", "limit", "decoder")
"""What else decides a number, beside condition, backbone and images."""


@dataclass(frozen=True, eq=False)
class Point:
    """One condition of one study on one backbone and one image set.

    Attributes:
        study, backbone, images: names, unique within the run.
        condition: the fields without `run`, the place on the axes, and the settings that vary within the study.
        settings: see `SETTINGS`.
        at: the place on the study's axes.
        group: its cells, which it shares with the other places on the axes.
        metrics: those that have values here and are averaged.
    """

    study: str
    backbone: str
    images: str
    condition: Mapping[str, Any]
    settings: Mapping[str, Any]
    at: Place
    group: Group
    metrics: tuple[str, ...]

    @property
    def cells(self) -> tuple[Stored, ...]:
        return self.group.cells

    @property
    def runs(self) -> int:
        """How many repetitions were averaged."""
        return len(self.group.cells)

    def rest(self, *without: str | None) -> tuple[tuple[str, Any], ...]:
        """The condition's fields other than those named, as a key."""
        return tuple((k, v) for k, v in self.condition.items() if k not in without)


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder, or several together, read.

    Attributes:
        folder: the first of them.
        all_points: everything that was measured.
        studies: name -> what is known of the study, or the reason why nothing is; in the order of the report.
        backbones, images: short name -> card as plain values, with the whole spelling in it; in the order of the report.
        failures: records of the cells whose last try failed.
        plan: content of `plan.json`.
        finished: ids of all finished cells.
        warned: content of `warnings.json`.
        noticed: what was noticed on reading, a sentence each.
    """

    folder: Path
    all_points: tuple[Point, ...]
    studies: Mapping[str, Record | str]
    backbones: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Mapping[str, Any]]
    failures: tuple[Mapping[str, Any], ...]
    plan: Mapping[str, Any]
    finished: frozenset[str]
    warned: tuple[str, ...]
    noticed: tuple[str, ...]
    frame: Frame = field(default_factory=Frame, repr=False)

    @property
    def points(self) -> Sequence[Point]:
        """Everything that was measured, without what turned out to be damaged."""
        return [p for p in self.all_points if self.frame.whole(p.group)] if self.frame.damaged else self.all_points

    @property
    def damage(self) -> list[str]:
        """What is left out, a sentence each: cells that are damaged or older, signs that need a study that is not here."""
        return [*self.noticed, *(_left_out(error) for error in self.frame.damaged.values())]

    def of(self, name: str) -> list[Point]:
        """The points of a study."""
        return [p for p in self.points if p.study == name]

    def record(self, name: str) -> Record | None:
        """What is known of a study, or None."""
        found = self.studies[name]
        return found if isinstance(found, Record) else None

    def metric(self, name: str, metric: str) -> Metric:
        """What a metric of a study means; one that nothing is known of is a plain number."""
        return _metric(self.studies[name], metric)

    def values(self, point: Point, metric: str) -> Values:
        """(key of the items, one value per item averaged over its runs, float64 (n,))."""
        return self.frame.values(point.group, point.at, metric)

    def summary(self, point: Point, metric: str) -> Summary:
        """The mean over items with its interval, and the deviation over runs; computed once."""
        return self.frame.summary(point.group, point.at, metric)

    def estimate(self, point: Point, metric: str) -> stats.Estimate:
        return self.summary(point, metric).estimate

    def items(self, key: str) -> list[str]:
        """The items that a key of `values` stands for."""
        return self.frame.items(key)

    def aligned(self, several: Sequence[tuple[Point, str]]) -> np.ndarray:
        """Values at (point, metric) of the items that all have, float64 (items, len(several))."""
        return self.frame.aligned([self.values(*one) for one in several])

    def summarise(self) -> None:
        """Read everything, so that what is damaged is known."""
        for group in dict.fromkeys(p.group for p in self.points):
            self.frame.summary(group, (), "")

    def spelled(self, backbone: str) -> str:
        """The whole spelling of a backbone; its name where two contents share one spelling."""
        spec: str = self.backbones[backbone]["spec"]
        return spec if sum(card["spec"] == spec for card in self.backbones.values()) == 1 else backbone


def load(*folders: Path) -> Run:
    """Read a run folder, or several as one. A cell that several hold counts once.

    Raises:
        VitalsError: a folder holds neither a plan nor a store, or only cells of the first edition.
    """
    must, do = "A run folder must hold `plan.json` or `store/`", "Name the folder that was given to `--out`."
    require(len(folders) > 0, "A run folder must be named", None, do)
    for folder in folders:
        require((folder / "plan.json").is_file() or (folder / "store").is_dir(), must, str(folder), do)
    stores = [Store(folder / "store") for folder in folders]
    noticed: list[str] = []
    cells = _cells(stores, noticed)
    plan = _json(folders[0] / "plan.json", {})
    asked = plan.get("plan", {})
    sections = [s if isinstance(s, str) else s["name"] for s in asked.get("studies", ())]
    order = [study.name_of(name) for name in sections]
    written: dict[str, Any] = {}
    for folder in reversed(folders):
        written |= _json(folder / "studies.json", {})
    versions: dict[str, set[tuple[int, str]]] = {}
    for cell in cells.values():
        versions.setdefault(cell.cell["study"], set()).add((cell.cell["version"], cell.cell["source"]))
    measured = _in_order({name: name for name in versions}, order, first=study.BASELINE)
    records = {name: _record(name, versions[name], written.get(name), noticed) for name in measured}
    points, backbones, images = _points(cells.values(), records)
    return Run(
        folder=folders[0],
        all_points=tuple(sorted(points, key=lambda p: _position(p, records))),
        studies=records,
        backbones=_sorted(backbones, asked.get("backbones", ())),
        images=_sorted(images, asked.get("data", ())),
        failures=tuple(record for store in stores for record in store.failures()),
        plan=plan,
        finished=frozenset(cells),
        warned=tuple(sentence for folder in folders for sentence in _json(folder / "warnings.json", [])),
        noticed=tuple(dict.fromkeys(noticed)),
    )


def _cells(stores: Sequence[Store], noticed: list[str]) -> dict[str, Stored]:
    """Every whole cell by its id; what is wrong with the others is noticed."""
    found: dict[str, Stored] = {}
    old = 0
    for store in stores:
        for identifier in store.ids():
            try:
                if identifier not in found:
                    found[identifier] = store.cell(identifier)
            except DamagedCell as error:
                old += error.old
                noticed += [] if error.old else [_left_out(error)]
    do = "`vitals run` on the folder measures them anew; the edition of visionvitals that wrote them can still show them."
    require(found != {} or not old, f"A run folder must hold cells of this edition (schema {SCHEMA})", "older ones", do)
    if old:
        noticed.append(f"Left out, since an older edition of visionvitals wrote them: {old} of the cells. {do}")
    return found


def _points(
    cells: Iterable[Stored], records: Mapping[str, Record | str]
) -> tuple[list[Point], dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]:
    """(points, backbones by name, image sets by name) of some cells."""
    work: dict[tuple[Any, ...], list[Stored]] = {}
    backbones: dict[tuple[str, ...], Mapping[str, Any]] = {}
    images: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for stored in cells:
        cell = stored.cell
        backbone, data = _backbone_key(cell["backbone"]), (cell["images"]["spec"], cell["images"]["digest"])
        backbones.setdefault(backbone, cell["backbone"])
        images.setdefault(data, cell["images"])
        condition = tuple((k, tupled(v)) for k, v in cell["condition"].items() if k != study.REPEATS)
        settings = tuple(tupled(cell[name]) for name in SETTINGS)
        work.setdefault((cell["study"], backbone, data, condition, settings), []).append(stored)
    named, sets = _named(backbones), _named(images)
    apart = [(key, twin, group) for key, several in work.items() for twin, group in _told_apart(several)]
    varying = _varying((key[0], (*key[4], twin)) for key, twin, _ in apart)
    points = []
    for (name, backbone, data, condition, settings), twin, several in apart:
        metrics = tuple(dict.fromkeys(m for cell in several for at in cell.points.values() for m in at))
        group = Group(tuple(several), tuple(m for m in metrics if _metric(records[name], m).averaged))
        held = dict(zip(SETTINGS, settings, strict=True))
        shown = {k: v for k, v in _shown(held, twin).items() if k in varying.get(name, ())}
        axes = several[0].axes
        for at, here in group.points.items():
            fields = dict(condition) | dict(zip(axes, at, strict=True))
            fields |= {f"{k} of the run" if k in fields else k: v for k, v in shown.items()}
            averaged = tuple(m for m in here if m in group.metrics)
            points.append(Point(name, named[backbone], sets[data], fields, held, at, group, averaged))
    cards = {named[key]: card for key, card in backbones.items()}
    return points, cards, {sets[key]: card for key, card in images.items()}


def _told_apart(cells: Sequence[Stored]) -> list[tuple[str, list[Stored]]]:
    """(mark, repetitions in order): cells of one repetition that still have two ids differ in what their description leaves out, such as
    the order of the classes, and are never averaged."""
    by_run: dict[Any, list[Stored]] = {}
    for cell in cells:
        by_run.setdefault(cell.cell["condition"].get(study.REPEATS, 0), []).append(cell)
    if all(len(same) == 1 for same in by_run.values()):
        return [("", [by_run[run][0] for run in sorted(by_run)])]
    return [(cell.id.rpartition("-")[2], [cell]) for cell in cells]


def _varying(found: Iterable[tuple[str, tuple[Any, ...]]]) -> dict[str, set[str]]:
    """study -> the settings that vary within it."""
    by_study: dict[str, set[tuple[Any, ...]]] = {}
    for name, settings in found:
        by_study.setdefault(name, set()).add(settings)
    return {
        name: {
            k for k, values in zip((*SETTINGS, "cell"), zip(*several, strict=True), strict=True) if len(set(values)) > 1
        }
        for name, several in by_study.items()
        if len(several) > 1
    }


def _shown(settings: Mapping[str, Any], twin: str) -> dict[str, Any]:
    """Settings as values of a condition's fields."""
    limit = "none" if settings["limit"] is None else settings["limit"]
    others = ", ".join(f"{spec} {digest[:8]}" for spec, digest in settings["companions"])
    short = {"limit": limit, "companions": others, "source": settings["source"][:8], "cell": twin}
    return {**settings, **short}


def _backbone_key(card: Mapping[str, Any]) -> tuple[str, str, str]:
    return card["spec"], card["digest"], json.dumps(card["preprocess"], sort_keys=True)


def _metric(record: Record | str, metric: str) -> Metric:
    known = record.metrics if isinstance(record, Record) else COMMON
    plain = Metric(title=metric, meaning="nothing is known of it", unit="none", better=None)
    return known.get(metric) or COMMON.get(metric) or plain


def _record(name: str, measured: set[tuple[int, str]], written: Any, noticed: list[str]) -> Record | str:
    """The installed study where it is the one that measured; else what the run says of it; a study of which nothing is known costs its
    charts and not the report. No file is executed that the run names by its path."""
    try:
        if name in study.names():
            installed = study.load(name)
            if {(installed.version, installed.source)} == measured:
                return installed
    except VitalsError as error:
        if written is None:
            return str(error)
    if written is None:
        return "The study is not installed in this version, and the run holds no description of it."
    try:
        found = read(written, source=f"`studies.json` on `{name}`")
    except VitalsError as error:
        return str(error)
    lost = [sign["title"] for sign in written["signs"] if sign["kind"] == "index"]
    if lost:
        noticed.append(f"{name}: {', '.join(lost)} left out: a formula, which needs the study itself in its version.")
    return found


def _named(cards: Mapping[tuple[str, ...], Mapping[str, Any]]) -> dict[tuple[str, ...], str]:
    """(spelling, digest, ...) -> a name: the spelling, shortened as far as the names stay apart; where one spelling had two contents,
    what tells them apart joins it."""
    short = registry.labels(dict.fromkeys(spec for spec, *_ in cards))
    names = {}
    for key in cards:
        same = [other for other in cards if other[0] == key[0]]
        digests, inputs = {other[1] for other in same}, [other for other in same if other[1] == key[1]]
        marks = [f"{'weights' if len(key) > 2 else 'data'} {key[1][:8]}"] if len(digests) > 1 else []
        marks += [f"input {inputs.index(key) + 1}"] if len(inputs) > 1 else []
        names[key] = f"{short[key[0]]} ({', '.join(marks)})" if marks else short[key[0]]
    return names


def _in_order(names: Mapping[str, str], asked: Sequence[str], *, first: str = "") -> list[str]:
    """The names, each with what the plan calls it, in the order of the plan, then by name."""
    position = {name: i for i, name in enumerate(asked)}
    return sorted(names, key=lambda name: (name != first, position.get(names[name], len(position)), name))


def _sorted(cards: Mapping[str, Mapping[str, Any]], asked: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    return {name: cards[name] for name in _in_order({name: card["spec"] for name, card in cards.items()}, asked)}


def _position(point: Point, records: Mapping[str, Record | str]) -> tuple[Any, ...]:
    found = records[point.study]
    record = found if isinstance(found, Record) else None
    return (
        list(records).index(point.study),
        *(rank(record, f, v) for f, v in point.condition.items()),
        point.images,
        point.backbone,
    )


def _left_out(error: DamagedCell) -> str:
    return f"Left out: {error}"


def _json(path: Path, otherwise: Any) -> Any:
    try:
        return json.loads(path.read_bytes()) if path.is_file() else otherwise
    except ValueError as error:
        raise VitalsError(f"{path} must be JSON as visionvitals wrote it. Got: {error}.") from error
