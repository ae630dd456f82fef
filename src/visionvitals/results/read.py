"""A run folder as points: every condition of every study on every backbone and image set. Made from the cells' descriptions alone; the
numbers are read when they are asked for.

A point is all repetitions (the condition's field `run`) of one piece of work. What differs in anything else that decides a number is never
averaged: weights, preprocessing, data, companions, version and source of the study, decoder, limit, and the seed, since another seed
draws other images and other perturbations. Where one of these varies within a study, it is shown as a field of the condition.
"""

import contextlib
import gc
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from visionvitals import registry, short_names, study
from visionvitals.errors import VitalsError, escaped, require
from visionvitals.figure import Record, read, tupled
from visionvitals.files import lexists
from visionvitals.numerics import said as said_numerics
from visionvitals.remote import AnyPath
from visionvitals.results.fields import rank
from visionvitals.results.frame import Group
from visionvitals.results.known import Known
from visionvitals.results.run import CUTS, SETTINGS, Lacking, Point, Run, left_out, metric_of
from visionvitals.run.cell import Stored
from visionvitals.run.documents import STUDIES, spared
from visionvitals.run.folder import warned
from visionvitals.run.requests import asked_of, content_of, each
from visionvitals.run.store import SCHEMA, Store

Read = tuple[list[Point], dict[str, Mapping[str, Any]], dict[str, Mapping[str, Any]]]
"""Points, backbones by name, image sets by name."""


def load(*folders: AnyPath) -> Run:
    """Read a run folder, or several as one. A cell that several hold counts once.

    Raises:
        VitalsError: a folder holds neither a plan nor a store, or only cells of the first edition.
    """
    must, do = "A run folder must hold `plan.json` or `store/`", "Name the folder that was given to `--out`."
    require(len(folders) > 0, "A run folder must be named", None, do)
    for folder in folders:
        there = any(map(lexists, (folder / "plan.json", folder / "store")))
        require(there, must, str(folder), f"{_another(str(folder))}{do}")
    with _no_collection():
        return _load(folders)


def _another(text: str) -> str:
    """What was given in place of a run folder, where that can be told."""
    if text.endswith(".toml"):
        return "This is a file of rules or a plan; the run folder comes first. "
    family = text.partition(":")[0]
    kinds = {"backbones": "a backbone", "datasets": "an image set"}
    what = next((said for kind, said in kinds.items() if ":" in text and family in registry.names(kind)), "")  # type: ignore[arg-type]
    return f"This is {what}; the run folder comes first. " if what else ""


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Descriptions are many small objects without a cycle, which Python's collector would walk again and again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _load(folders: Sequence[AnyPath]) -> Run:
    stores = [Store(folder / "store") for folder in folders]
    noticed: list[str] = []
    contents = [content_of(folder) if lexists(folder / "plan.json") else None for folder in folders]
    planned = [content for content in contents if content is not None]
    plan = asked_of(*planned) if planned else {}
    gone = [frozenset((content or {}).get("superseded", ())) for content in contents]
    held = tuple(frozenset(store.ids()) - each for store, each in zip(stores, gone, strict=True))
    cells = _cells(stores, held, noticed)
    asked = plan.get("plan", {})
    order = [study.name_of(section["name"]) for section in asked.get("studies", ())]
    written: dict[str, Any] = {}
    for folder in reversed(folders):
        written |= spared(folder / "studies.json", STUDIES, noticed) or {}
    said = [sentence for folder in folders for sentence in warned(folder, noticed)]
    versions: dict[str, set[tuple[int, str]]] = {}
    for cell in cells.values():
        versions.setdefault(cell.cell["study"], set()).add((cell.cell["version"], cell.cell["source"]))
    settled = cells.keys() | frozenset().union(*gone)
    measured = _in_order({name: name for name in versions}, order, first=study.BASELINE)
    records = {name: _record(name, versions[name], written.get(name), noticed) for name in measured}
    read = _points(cells.values(), records, _spelled(planned), plan.get("names", {}))
    points, backbones, images = read
    return Run(
        folder=folders[0],
        all_points=tuple(sorted(points, key=lambda p: _position(p, records))),
        studies=records,
        backbones=_sorted(backbones, asked.get("backbones", ())),
        images=_sorted(images, asked.get("data", ())),
        failures=tuple(record for store in stores for record in store.failures() if record["id"] not in settled),
        plan=plan,
        finished=frozenset(cells),
        held=held,
        lacking=tuple(_lacking(content, ids, read) for content, ids in zip(contents, held, strict=True)),
        warned=tuple(said),
        noticed=tuple(dict.fromkeys(noticed)),
        known=Known(folders),
    )


def _spelled(planned: Sequence[Mapping[str, Any]]) -> dict[str, tuple[int, str, str]]:
    """id -> (how late it was asked for, its backbone and image set as they were spelled then); of several folders the first counts most."""
    every = [request for content in reversed(planned) for request in each(content)]
    return {
        cell["id"]: (k, cell["backbone"], cell["images"])
        for k, request in enumerate(every)
        for cell in request["cells"]
    }


def _lacking(content: Mapping[str, Any] | None, ids: Collection[str], read: Read) -> tuple[Lacking, ...]:
    """See `Run.lacking`. A spelling that stands for the content of one name has this name."""
    if content is None:
        return ()
    asked = asked_of(content)
    called: dict[str, str] = dict(asked["names"])
    for request in each(content):
        called |= _called(request["digests"], read)
    found: dict[str, Lacking] = {}
    again = ({**what, "id": ""} for what in asked["again"])
    for what in (*asked["cells"], *again, *asked["skips"]):
        if what.get("id") not in ids:
            backbone, images = (escaped(called.get(text, text)) for text in (what["backbone"], what["images"]))
            condition = {k: tupled(v) for k, v in what["condition"].items()}
            each_ = Lacking(what["study"], backbone, images, condition, what.get("id"))
            found.setdefault(each_.id or repr(each_), each_)
    return tuple(found.values())


def _called(digests: Mapping[str, Mapping[str, Any]], read: Read) -> dict[str, str]:
    """Spelling -> the name of what it stood for in a request, where one has this content."""
    _, backbones, images = read
    cuts = {text: _plain(cut) for text, cut in digests.get("preprocess", {}).items()}
    wanted = {text: (digest, cuts.get(text)) for text, digest in digests.get("weights", {}).items()}
    wanted |= {text: (digest, None) for text, digest in digests.get("images", {}).items()}
    names: dict[tuple[str, str | None], list[str]] = {}
    for cards in (backbones, images):
        for name, card in cards.items():
            cut = _plain(card["preprocess"]) if "preprocess" in card else None
            names.setdefault((card["digest"], cut), []).append(name)
    return {text: names[key][0] for text, key in wanted.items() if len(names.get(key, ())) == 1}


def _cells(stores: Sequence[Store], held: Sequence[Collection[str]], noticed: list[str]) -> dict[str, Stored]:
    """Every whole cell that counts in a store, by its id; what is wrong with the others is noticed."""
    found: dict[str, Stored] = {}
    old = 0
    for store, ids in zip(stores, held, strict=True):
        for each_ in store.tried([identifier for identifier in sorted(ids) if identifier not in found]):
            if isinstance(each_, Stored):
                found[each_.id] = each_
            else:
                old += each_.old
                noticed += [] if each_.old else [left_out(each_)]
    do = "`vitals run` on the folder measures them again; the edition of visionvitals that wrote them can still show them."
    require(found != {} or not old, f"A run folder must hold cells of this edition (schema {SCHEMA})", "older ones", do)
    if old:
        noticed.append(f"Left out, since an older edition of visionvitals wrote them: {old} of the cells. {do}")
    return found


def _points(
    cells: Iterable[Stored],
    records: Mapping[str, Record | str],
    spelled: Mapping[str, tuple[int, str, str]],
    names: Mapping[str, str],
) -> Read:
    """The points of some cells. One content is one backbone, or image set, however it was spelled; its latest spelling names it."""
    work: dict[tuple[Any, ...], list[Stored]] = {}
    backbones: dict[tuple[str, ...], Mapping[str, Any]] = {}
    images: dict[tuple[str, ...], Mapping[str, Any]] = {}
    cells = list(cells)
    for stored in sorted(cells, key=lambda each: spelled.get(each.id, (-1,))[0]):
        cell = stored.cell
        _, *texts = spelled.get(stored.id, (-1, cell["backbone"]["spec"], cell["images"]["spec"]))
        backbones[_content(cell["backbone"])] = {**cell["backbone"], "spec": texts[0]}
        images[_content(cell["images"])] = {**cell["images"], "spec": texts[1]}
    for stored in cells:
        cell = stored.cell
        backbone, data = _content(cell["backbone"]), _content(cell["images"])
        condition = _condition(cell["condition"], records[cell["study"]])
        held_by = {**cell, "numerics": said_numerics(cell.get("numerics"))}
        settings = tuple(tupled(held_by.get(name)) for name in SETTINGS)
        work.setdefault((cell["study"], backbone, data, condition, settings), []).append(stored)
    named, sets = _named(backbones, names), _named(images, names)
    apart = [(key, twin, group) for key, several in work.items() for twin, group in _told_apart(several)]
    varying = _varying((key[0], (*key[4], twin)) for key, twin, _ in apart)
    points = []
    for (name, backbone, data, condition, settings), twin, several in apart:
        metrics = dict.fromkeys(m for cell in several for at in cell.points.values() for m in at)
        known = {m: metric_of(records[name], m) for m in metrics}
        record = records[name]
        shared = isinstance(record, Record) and record.shared
        group = Group(tuple(several), {m: metric for m, metric in known.items() if metric.averaged}, shared)
        held = dict(zip(SETTINGS, settings, strict=True))
        shown = {k: v for k, v in _shown(held, twin).items() if k in varying.get(name, ())}
        axes = several[0].axes
        for at, here in group.points.items():
            fields = dict(condition) | dict(zip(axes, at, strict=True))
            whole = fields | {f"{k} of the run" if k in fields else k: v for k, v in shown.items()}
            averaged = tuple(m for m in here if m in group.metrics)
            points.append(Point(name, named[backbone], sets[data], whole, fields, held, at, group, averaged))
    cards = {named[key]: card for key, card in backbones.items()}
    return points, cards, {sets[key]: card for key, card in images.items()}


def _condition(kept: Mapping[str, Any], record: Record | str) -> tuple[tuple[str, Any], ...]:
    """The fields of a cell but for the repetition; those that its study got after it was measured have their default."""
    later = record.defaults if isinstance(record, Record) else {}
    return tuple((k, tupled(v)) for k, v in {**later, **kept}.items() if k != study.REPEATS)


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
    cuts = {name: "none" if settings[name] is None else settings[name] for name in CUTS}
    others = ", ".join(f"{spec} {digest[:8]}" for spec, digest in settings["companions"])
    short = {**cuts, "companions": others, "source": settings["source"][:8], "cell": twin}
    return {**settings, **short}


def _content(card: Mapping[str, Any]) -> tuple[str, ...]:
    """What makes two cards one backbone, or one image set. Older cells do not tell their classes: these are one where they are spelled alike."""
    found = card["digest"], card.get("classes", card["spec"])
    return (*found, _plain(card["preprocess"])) if "preprocess" in card else found


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


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


def _named(cards: Mapping[tuple[str, ...], Mapping[str, Any]], given: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """Content -> a name: the one that the user gave, or the spelling, shortened as far as the names stay apart; where one name had two
    contents, what tells them apart joins it."""
    specs = {key: card["spec"] for key, card in cards.items()}
    short = {**short_names.labels(dict.fromkeys(specs.values())), **given}
    names: dict[tuple[str, ...], str] = {}
    for key in cards:
        same = [other for other in cards if short[specs[other]] == short[specs[key]]]
        marks = (
            [f"{'weights' if len(key) > 2 else 'data'} {key[0][:8]}"] if len({other[0] for other in same}) > 1 else []
        )
        for k, what in zip(range(1, len(key)), ("classes", "input"), strict=False):
            values = list(dict.fromkeys(other[k] for other in same if other[0] == key[0]))
            marks += [f"{what} {values.index(key[k]) + 1}"] if len(values) > 1 else []
        name = escaped(f"{short[specs[key]]} ({', '.join(marks)})" if marks else short[specs[key]])
        names[key] = escaped(specs[key]) if name in names.values() else name
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
