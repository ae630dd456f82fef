"""The run folder: what was asked of it, its store, its warnings. It grows: a later request adds backbones, image sets or studies.

plan.json       the first request (its plan, what it resolved to: cells, skips, digests; the command), and under `later` those that came
                after it; written before anything is computed
studies.json    the records of its studies, so that a reader needs none of their files
store/          the finished cells, see `run.store`
warnings.json   what the run noticed, a list of sentences
report.html     made from the above alone
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionvitals import figure, study
from visionvitals.answers import Answers
from visionvitals.core import Cell
from visionvitals.errors import VitalsError, require
from visionvitals.files import write_safely
from visionvitals.plan import plan_file
from visionvitals.plan.identity import cell_id, plain
from visionvitals.plan.planner import Plan, Planned
from visionvitals.plan.stamp import stamp
from visionvitals.run import documents, trust
from visionvitals.run.calibrate import images_of
from visionvitals.run.provenance import now, versions
from visionvitals.run.shelf import Unwritable
from visionvitals.run.store import Store

SCHEMA = 2
ALIKE = ("seed", "limit", "decoder")
"""What all requests of a run must share, so that its numbers can be compared."""
_ROW_BYTES = 30  # of one image's rows in a cell, compressed: measured 24 with float64 cross-entropies
_CELL_BYTES = 60_000  # of cell.json and four exhibits


def claim(out: Path, planned: Planned, *, command: Sequence[str]) -> Store:
    """Make `out` the run folder of a plan, go on with it where it is already, or add the plan to a run of others.

    Args:
        out: a new or empty folder, or a run folder.
        planned: the resolved plan.
        command: what the user typed, as words; the first one of a plan stays.

    Raises:
        VitalsError: a run of another seed, limit or decoder, other contents behind the same names, foreign files, no right to write, no
            room.
    """
    content = document(
        plan_file.to_dict(planned.plan),
        command=command,
        digests=_digests(planned),
        answers={s: plain(card.answers) for s, card in planned.backbones.items() if card.answers is not None},
        cells=[planned_cell(cell) for cell in planned.cells],
        skips=[plain(skip) for skip in planned.skips],
        notes=list(planned.notes),
        stamp=stamp(planned.plan),
        token=secrets.token_hex(16),
    )
    known = requests(there) if (there := refuse_another(out, planned.plan)) is not None else []
    for request in known:
        _refuse_changed(out, request, content)
    same = next((k for k, request in enumerate(known) if request["plan"] == content["plan"]), len(known))
    if same < len(known):
        content |= {key: known[same][key] for key in ("command", "versions", "started", "token")}
    asked = [*known[:same], content, *known[same + 1 :]]
    whole = {**asked[0], "later": asked[1:]}
    inside = (out / "store").resolve().is_relative_to(out.resolve())
    require(
        inside, "The store of a run must lie in its folder", str(out / "store"), "It is a link: give another --out."
    )
    store = Store(out / "store")
    missing = [cell for cell in planned.cells if not store.has(cell_id(cell))]
    try:
        (out / "store").mkdir(parents=True, exist_ok=True)
        begun = not known or trust.is_ours(out, there or {})
        write_safely(out / "plan.json", json.dumps(whole, indent=1))
        if begun:
            trust.record(out, whole)
        store.shelf.sweep()
    except OSError as error:
        raise VitalsError(
            f"`--out` must be a folder that can be written. Got {out}: {error.strerror or error}. Give another --out."
        ) from error
    describe(out, planned.studies.values())
    needed = sum(images_of(cell) * _ROW_BYTES + _CELL_BYTES for cell in missing)
    free = shutil.disk_usage(out).free
    require(
        free > needed,
        f"The disk of {out} must have room for about {needed / 1e6:,.1f} MB of results",
        f"{free / 1e6:,.1f} MB free",
        "Free some, or give another --out.",
    )
    return store


def document(plan: Mapping[str, Any], *, command: Sequence[str], **resolved: Any) -> dict[str, Any]:
    """The content of a `plan.json`: a plan as plain values, and what it resolved to (see `documents.PLAN`), empty where it is not given."""
    empty = {"digests": {}, "answers": {}, "cells": [], "skips": [], "notes": [], "stamp": "", "token": ""}
    known = {"command": list(command), "versions": versions(), "started": now()}
    return {"schema": SCHEMA, "plan": dict(plan), **empty, **resolved, **known}


def planned_cell(cell: Cell) -> dict[str, Any]:
    """A cell as `plan.json` lists it."""
    where = {"backbone": cell.backbone.spec, "images": cell.images.spec}
    return {"id": cell_id(cell), "study": cell.study, "condition": plain(cell.condition), **where}


def requests(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was asked of a run, one after the other, each in the form of `document`."""
    return [{key: value for key, value in content.items() if key != "later"}, *content.get("later", ())]


def refuse_another(out: Path, plan: Plan) -> Mapping[str, Any] | None:
    """Refuse a folder that cannot take a plan, before anything is loaded.

    Returns:
        The content of its `plan.json`; None for a new or empty folder.

    Raises:
        VitalsError: the folder holds a run of another seed, limit or decoder, or foreign files.
    """
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            out.stat()  # a name that is too long, links in a circle
        if not os.path.lexists(out / "plan.json"):
            foreign = os.path.lexists(out) and (not out.is_dir() or any(out.iterdir()))
            require(
                not foreign, "`--out` must be a new or empty folder, or a run folder", str(out), "Give another --out."
            )
            return None
    except OSError as error:
        raise VitalsError(f"`--out` must be a folder that can be read. Got {out}: {error.strerror}.") from error
    there, here = content_of(out), plan_file.to_dict(plan)
    apart = [(key, there["plan"].get(key), here.get(key)) for key in ALIKE if there["plan"].get(key) != here.get(key)]
    if apart:
        listed = "\n  ".join(f"{key}: {_short(a)} there, {_short(b)} here" for key, a, b in apart)
        raise VitalsError(
            f"The numbers of the run in {out} must stay comparable with each other. It has another:\n  {listed}\n"
            "Ask with the same, or give another --out."
        )
    return there


def finished(out: Path, plan: Plan) -> int | None:
    """How many cells a run holds that has all of them, with the files and the libraries of its plan unchanged; else None. No torch."""
    content, store, asked = refuse_another(out, plan), Store(out / "store"), plan_file.to_dict(plan)
    there = next((r for r in requests(content) if r["plan"] == asked), None) if content is not None else None
    if there is None or there["versions"] != versions() or there["stamp"] != stamp(plan):
        return None
    if not {cell["id"] for cell in there["cells"]} <= set(store.ids()):
        return None  # before every byte is read
    noticed: list[str] = []
    known = documents.spared(out / "studies.json", documents.STUDIES, noticed) or {}
    documents.spared(out / "warnings.json", documents.WARNINGS, noticed)
    described = {study.name_of(section.name) for section in plan.studies} <= known.keys()
    if noticed or not described or store.survey()[1]:
        return None
    return len(there["cells"])


def report_is_current(out: Path) -> bool:
    """Whether `report.html` is there and younger than every cell, warning and record of the run."""
    try:
        made = (out / "report.html").stat().st_mtime_ns
        beside = [path.stat().st_mtime_ns for path in out.glob("*.json") if path.name != "plan.json"]
    except OSError:
        return False
    return max([*beside, Store(out / "store").shelf.youngest()], default=0) <= made


def read_plans(out: Path, *, trusted: bool) -> list[Plan]:
    """What was asked of a run folder. Its studies are loaded, so that those that are files are executed.

    Args:
        out: the run folder.
        trusted: the user says that its code may be executed.

    Raises:
        VitalsError: not a run folder, or it names code, this user has not begun it here, and it is not trusted.
    """
    content = content_of(out)
    if not trusted:
        trust.check(out, content)
    return [plan_file.from_dict(request["plan"], source=str(out / "plan.json")) for request in requests(content)]


def asked_of(out: Path) -> Mapping[str, Any]:
    """All requests as one, in the form of `document`: names, cells and skips each once, notes and commands one after the other."""
    every = requests(content_of(out))
    plans = [request["plan"] for request in every]
    names = {key: list(dict.fromkeys(name for plan in plans for name in plan[key])) for key in ("backbones", "data")}
    studies = {section["name"]: section for plan in reversed(plans) for section in plan["studies"]}
    order = dict.fromkeys(section["name"] for plan in plans for section in plan["studies"])
    presets = ", ".join(dict.fromkeys(plan["preset"] for plan in plans))
    plan = {**plans[0], **names, "studies": [studies[name] for name in order], "preset": presets}
    cells = {cell["id"]: cell for request in every for cell in request["cells"]}
    skips = {json.dumps(skip, sort_keys=True): skip for request in every for skip in request["skips"]}
    notes = list(dict.fromkeys(note for request in every for note in request["notes"]))
    commands = [request["command"] for request in every]
    listed = {"cells": list(cells.values()), "skips": list(skips.values()), "notes": notes, "commands": commands}
    return {**every[0], "plan": plan, **listed}


def describe(out: Path, records: Iterable[figure.Record]) -> None:
    """Add the records of studies to the run, for readers that lack their files. What is damaged there is lost, with a warning."""
    noticed: list[str] = []
    known = documents.spared(out / "studies.json", documents.STUDIES, noticed)
    _add(out / "studies.json", known, (known or {}) | {record.name: figure.written(record) for record in records})
    if noticed:
        warn(out, ["studies.json was damaged and is written anew."])


def warn(out: Path, warnings: Iterable[str]) -> list[str]:
    """Add sentences to the run's warnings, each once, and return all of them. What is damaged there is lost, with a warning."""
    noticed: list[str] = []
    known = documents.spared(out / "warnings.json", documents.WARNINGS, noticed) or []
    lost = ["warnings.json was damaged: the warnings of before are lost."] if noticed else []
    merged = list(dict.fromkeys([*known, *lost, *warnings]))
    _add(out / "warnings.json", known, merged)
    return merged


def _add(path: Path, known: Any, content: Any) -> None:
    text = json.dumps(content, indent=1)
    if text == json.dumps(known, indent=1):
        return
    try:
        write_safely(path, text)
    except OSError as error:
        raise Unwritable(path.parent, error) from error


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far one study is on one backbone and one image set."""

    study: str
    backbone: str
    images: str
    done: int
    missing: int
    failed: int
    skipped: int


def status(out: Path) -> tuple[list[Progress], list[dict[str, Any]]]:
    """(how far each study is on each backbone, the records of the cells whose last try failed). Loads no torch.

    Raises:
        VitalsError: not a run folder.
    """
    content = asked_of(out)
    store = Store(out / "store")
    whole, _ = store.survey()
    failures = {record["id"]: record for record in store.failures()}
    counts: dict[tuple[str, str, str], dict[str, int]] = {}

    def count(point: Mapping[str, Any], what: str) -> None:
        key = (point["study"], point["backbone"], point["images"])
        counts.setdefault(key, dict.fromkeys(("done", "missing", "failed", "skipped"), 0))[what] += 1

    for cell in content["cells"]:
        done = cell["id"] in whole
        count(cell, "done" if done else "failed" if cell["id"] in failures else "missing")
    for skip in content["skips"]:
        count(skip, "skipped")
    found = [Progress(study=k[0], backbone=k[1], images=k[2], **v) for k, v in counts.items()]
    return found, [record for identifier, record in failures.items() if identifier not in whole]


def content_of(out: Path) -> Mapping[str, Any]:
    """The content of a run's `plan.json`.

    Raises:
        VitalsError: there is none, it is damaged, or another edition of visionvitals wrote it.
    """
    path = out / "plan.json"
    do = "Name the folder that was given to `--out`."
    require(os.path.lexists(path), "A run folder must hold a `plan.json`", str(out), do)
    found: Mapping[str, Any] = documents.read(path, {"schema": int})
    if found["schema"] != SCHEMA:
        raise VitalsError(
            f"The folder {out} holds a run of another edition of visionvitals, whose cells have other identities. Give another --out: "
            "everything is measured anew there. The old report.html still shows the old numbers."
        )
    must = f"{path} must be JSON as visionvitals wrote it"
    require(documents.fits(found, documents.PLAN), must, "another content", "Give another --out.")
    return found


def _digests(planned: Planned) -> dict[str, Any]:
    """What the spellings and names of a plan stood for."""
    return {
        "weights": {spec: card.digest for spec, card in planned.backbones.items()},
        "preprocess": {spec: plain(card.preprocess) for spec, card in planned.backbones.items()},
        "images": {spec: images.card.digest for spec, images in planned.sets.items()},
        "version of the study": {name: each.version for name, each in planned.studies.items()},
        "source of the study": {name: each.source for name, each in planned.studies.items() if each.source},
        "content": {spec: digest for cell in planned.cells for spec, digest in cell.companions},
    }


def _refuse_changed(out: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    changed = [
        f"{what} of {key}: {_short(a)} there, {_short(b)} now"
        for what in here["digests"]
        for key, a, b in _differences(there["digests"].get(what, {}), here["digests"][what])
        if a is not None and b is not None  # what was not available then, or is no longer asked for, mixes with nothing
    ]
    for spec, kept in there.get("answers", {}).items():
        if spec in here["answers"]:
            apart = Answers.read(kept).differs(Answers.read(here["answers"][spec]))
            changed += [f"{spec}: {apart}"] if apart else []
    if changed:
        listed = "\n  ".join(changed)
        raise VitalsError(
            f"The run in {out} was begun with other contents behind the same names:\n  {listed}\n"
            "Results of both must not mix: restore the old ones, or give another --out."
        )


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    keys = dict.fromkeys([*a, *b])
    return [(key, a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
