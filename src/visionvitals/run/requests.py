"""What was asked of a run folder, as `plan.json` holds it: the first request and, under `later`, those that came after it; each is a plan
and what it resolved to. Under `superseded` stand the cells that a request once named and none names now: readers leave them out.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from visionvitals import registry
from visionvitals.core import Cell
from visionvitals.errors import VitalsError, require
from visionvitals.files import lexists
from visionvitals.plan import plan_file
from visionvitals.plan.identity import plain
from visionvitals.plan.request import Plan
from visionvitals.remote import AnyPath
from visionvitals.run import documents, trust
from visionvitals.run.calibrate import images_of
from visionvitals.run.provenance import now
from visionvitals.source import versions

SCHEMA = 2
Request = Mapping[str, Any]


def content_of(out: AnyPath) -> Mapping[str, Any]:
    """The content of a run's `plan.json`.

    Raises:
        VitalsError: there is none, it is damaged, or another edition of visionvitals wrote it.
    """
    path = out / "plan.json"
    do = "Name the folder that was given to `--out`."
    require(lexists(path), "A run folder must hold a `plan.json`", str(out), do)
    found: Mapping[str, Any] = documents.read(path, {"schema": int})
    if found["schema"] != SCHEMA:
        raise VitalsError(
            f"The folder {out} holds a run of another edition of visionvitals, whose cells have other identities. Give another --out: "
            "everything is measured again there. The old report.html still shows the old numbers."
        )
    must = f"{path} must be JSON as visionvitals wrote it"
    require(documents.fits(found, documents.PLAN), must, "another content", "Give another --out.")
    return found


def document(plan: Mapping[str, Any], *, command: Sequence[str], **resolved: Any) -> dict[str, Any]:
    """The content of a `plan.json`: a plan as plain values, and what it resolved to (see `documents.PLAN`), empty where it is not given."""
    empty = {"digests": {}, "answers": {}, "cells": [], "skips": [], "notes": [], "stamp": "", "token": ""}
    known = {"command": list(command), "versions": versions(), "started": now()}
    return {"schema": SCHEMA, "plan": dict(plan), **empty, **resolved, **known}


def planned_cell(identifier: str, cell: Cell, *, passes: float = 1.0, parts: int = 1) -> dict[str, Any]:
    """A cell of an id as `plan.json` lists it: its work, what it costs in forward passes, in how many parts it is measured."""
    cost = images_of(cell) * passes
    work = {"backbone": cell.backbone.spec, "images": cell.images.spec, "cost": cost, "parts": parts}
    return {"id": identifier, "study": cell.study, "condition": plain(cell.condition), **work}


def each(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What was asked of a run, one after the other, each in the form of `document`."""
    whole = ("later", "superseded", "answered")
    return [{key: value for key, value in content.items() if key not in whole}, *content.get("later", ())]


def together(
    every: Sequence[Request], superseded: Collection[str], answered: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of a `plan.json` of several requests; ids that one of them lists are not superseded."""
    left = sorted(set(superseded) - listed(every))
    return {**every[0], "later": list(every[1:]), "superseded": left, "answered": answered}


def same(there: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether two plans, as plain values, are one request. The limit of a run that grows until its rules are decided is where it stands, and
    cells of which more or fewer images are asked for take the place of those before."""
    free = ("limit",) if "until" in here else ("half_width", "minutes")
    return {**there, **dict.fromkeys(free)} == {**here, **dict.fromkeys(free)}


def answered(content: Request) -> dict[str, Mapping[str, Any]]:
    """`network` -> what it has answered to the two fixed pictures, now or before it was superseded."""
    found = dict(content.get("answered", {}))
    for request in each(content):
        seen = {spec: network(request["digests"], spec) for spec in request["answers"]}
        found |= {seen[spec]: answers for spec, answers in request["answers"].items() if seen[spec]}
    return found


def network(digests: Mapping[str, Any], spec: str) -> str:
    """What answers to pictures depend on, of the digests of a request: weights and how pictures are brought to them; "" where it is not known."""
    weights, look = (digests.get(kind, {}).get(spec) for kind in ("weights", "preprocess"))
    return f"{weights} {json.dumps(look, sort_keys=True)}" if weights else ""


def listed(every: Sequence[Mapping[str, Any]]) -> set[str]:
    """The ids of all cells that are asked for."""
    return {cell["id"] for request in every for cell in request["cells"]}


def without(request: Mapping[str, Any], changed: Mapping[str, Collection[str]]) -> Mapping[str, Any]:
    """A request less the cells that depend on what has other contents now, see `folder._digests`: they stand under `again`, to be planned anew when
    the run goes on.

    Args:
        request: in the form of `document`.
        changed: kind of content -> the names whose content has changed.
    """
    if not any(changed.values()):
        return request
    weights = {*changed["weights"], *changed["preprocess"], *changed["content"], *changed["order of the classes"]}
    studies = {*changed["version of the study"], *changed["source of the study"]}

    def stays(cell: Mapping[str, Any]) -> bool:
        named = {cell["backbone"], *(value for value in cell["condition"].values() if isinstance(value, str))}
        return not (named & weights or cell["images"] in changed["images"] or cell["study"] in studies)

    digests = {
        kind: {k: v for k, v in found.items() if k not in changed[kind]} for kind, found in request["digests"].items()
    }
    left, gone = ([c for c in request["cells"] if stays(c) == stay] for stay in (True, False))
    again = [{key: cell[key] for key in ("study", "condition", "backbone", "images")} for cell in gone]
    return {**request, "cells": left, "digests": digests, "stamp": "", "again": [*request.get("again", ()), *again]}


def calls(content: Request) -> list[str]:
    """The calls from Python among the commands that asked: a command of one word is one."""
    return [request["command"][0] for request in each(content) if len(request["command"]) == 1]


def _work(cell: Mapping[str, Any]) -> str:
    return json.dumps([cell[key] for key in ("study", "condition", "backbone", "images")], sort_keys=True)


def asked_of(*contents: Request) -> Mapping[str, Any]:
    """All requests of some `plan.json` as one, in the form of `document`, with `names`, spelling -> short name: names, cells and skips each once, notes
    and commands one after the other."""
    every = [request for content in contents for request in each(content)]
    plans = [dict(request["plan"]) for request in every]
    names: dict[str, str] = {}
    for plan in plans:
        sets = [*plan["data"], *(text for section in plan["studies"] for text in section.get("data", ()))]
        for key, texts in (("backbones", plan["backbones"]), ("data", sets)):
            given = [registry.named(text) for text in texts]
            names |= {spelling: name for name, spelling in given if name}
            plan[key] = [spelling for _, spelling in given]
    spelt = {key: list(dict.fromkeys(text for plan in plans for text in plan[key])) for key in ("backbones", "data")}
    studies = {section["name"]: section for plan in reversed(plans) for section in plan["studies"]}
    order = dict.fromkeys(section["name"] for plan in plans for section in plan["studies"])
    presets = ", ".join(dict.fromkeys(plan["preset"] for plan in plans))
    plan = {**plans[0], **spelt, "studies": [studies[name] for name in order], "preset": presets}
    cells = {cell["id"]: cell for request in every for cell in request["cells"]}
    skips = {json.dumps(skip, sort_keys=True): skip for request in every for skip in request["skips"]}
    again = {_work(cell): cell for request in every for cell in request.get("again", ())}
    for work in map(_work, cells.values()) if again else ():
        again.pop(work, None)
    notes = list(dict.fromkeys(note for request in every for note in request["notes"]))
    commands = [request["command"] for request in every]
    found = {
        "cells": list(cells.values()),
        "again": list(again.values()),
        "skips": list(skips.values()),
        "notes": notes,
        "commands": commands,
    }
    return {**every[0], "plan": plan, **found, "names": names}


def read_plans(out: AnyPath, *, trusted: bool) -> list[Plan]:
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
    return [plan_file.from_dict(request["plan"], source=str(out / "plan.json")) for request in each(content)]
