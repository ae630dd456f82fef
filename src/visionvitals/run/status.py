"""How far a run is, and what of it is no longer asked for. Loads no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionvitals.files import alone, write_safely
from visionvitals.remote import AnyPath
from visionvitals.run import requests
from visionvitals.run.cell import Stored
from visionvitals.run.shelf import Unwritable
from visionvitals.run.store import Store


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


def of(out: AnyPath) -> tuple[list[Progress], list[dict[str, Any]], int]:
    """(how far each study is on each backbone, the records of the cells whose last try failed, how many superseded cells are still there).

    Raises:
        VitalsError: not a run folder.
    """
    whole_plan = requests.content_of(out)
    content = requests.asked_of(whole_plan)
    store = Store(out / "store")
    whole, _ = store.survey(every_byte=False)
    failures = {record["id"]: record for record in store.failures()}
    counts: dict[tuple[str, str, str], dict[str, int]] = {}

    names = content["names"]

    def count(point: Mapping[str, Any], what: str) -> None:
        key = (point["study"], *(names.get(point[what], point[what]) for what in ("backbone", "images")))
        counts.setdefault(key, dict.fromkeys(("done", "missing", "failed", "skipped"), 0))[what] += 1

    for cell in content["cells"]:
        done = cell["id"] in whole
        count(cell, "done" if done else "failed" if cell["id"] in failures else "missing")
    for cell in content["again"]:
        count(cell, "missing")
    for skip in content["skips"]:
        count(skip, "skipped")
    found = [Progress(study=k[0], backbone=k[1], images=k[2], **v) for k, v in counts.items()]
    gone = frozenset(whole_plan.get("superseded", ()))
    failed = [record for identifier, record in failures.items() if identifier not in whole | gone]
    return found, failed, len(gone & set(store.ids()))


def stopped(out: AnyPath) -> list[str]:
    """Which cells ended early, and at how many images: a sentence for each study, backbone and image set."""
    whole_plan, store = requests.content_of(out), Store(out / "store")
    if not any({"half_width", "minutes"} & request["plan"].keys() for request in requests.each(whole_plan)):
        return []
    content, found = requests.asked_of(whole_plan), dict[tuple[str, str], list[tuple[int, int]]]()
    asked = {cell["id"]: cell for cell in content["cells"]}
    for stored in store.tried(sorted(store.held(asked))):
        if isinstance(stored, Stored) and (end := stored.facts.get("stopped", {"by": ""}))["by"]:
            study, *names = (asked[stored.id][key] for key in ("study", "backbone", "images"))
            where = f"{study} on {', '.join(content['names'].get(name, name) for name in names)}"
            how = "by time" if end["by"] == "minutes" else "early"
            found.setdefault((where, how), []).append((end["images"], end["of"]))
    said = []
    for (where, how), n in found.items():
        (least, _), (most, of) = min(n), max(n)
        at = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        said.append(f"{where}: {len(n)} stopped {how}, at {at} of {of:,} images")
    return said


def look(out: AnyPath) -> tuple[int, int] | None:
    """(images of the look at which a run stands that grows until its rules are decided, of the last one); None for another run."""
    asked = requests.content_of(out)["plan"]
    return None if asked.get("until") is None else (asked["limit"], asked["until"]["most"])


def clean(out: AnyPath) -> tuple[int, int]:
    """Remove the superseded cells of a run, and what was set aside as damaged: (how many cells, bytes freed in all).

    Raises:
        VitalsError: not a run folder, or the files cannot be removed.
    """
    requests.content_of(out)
    store = Store(out / "store")
    try:
        with alone(out):  # what another command asks for meanwhile is added before, or after
            content = requests.content_of(out)
            superseded = content.get("superseded", ())
            gone = store.held(superseded)
            freed = sum(map(store.remove, superseded)) + store.remove_damaged()
            write_safely(out / "plan.json", json.dumps({**content, "superseded": []}, indent=1))
    except OSError as error:
        raise Unwritable(out, error) from error
    return len(gone), freed
