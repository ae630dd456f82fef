"""The run folder: what was asked of it, its store, its warnings. It grows: a later request adds backbones, image sets or studies.

plan.json       the first request (its plan, what it resolved to: cells, skips, digests; the command), and under `later` those that came
                after it; written before anything is computed
studies.json    the records of its studies, so that a reader needs none of their files
store/          the finished cells, see `run.store`
groups/         the class of each picture and its further columns, see `run.groups`
warnings.json   what the run noticed, a list of sentences; `warnings.<I-of-N>.json` what its shards did
report.html     made from the above alone
"""

import contextlib
import hashlib
import json
import math
import secrets
import shlex
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from visionvitals import figure, study
from visionvitals.answers import Answers
from visionvitals.core import Cell
from visionvitals.errors import VitalsError, require
from visionvitals.files import alone, is_temporary, lexists, matching, read_regular, write_safely
from visionvitals.numerics import NAMES
from visionvitals.plan import plan_file
from visionvitals.plan.identity import order_of, plain
from visionvitals.plan.planner import Planned
from visionvitals.plan.request import Plan
from visionvitals.plan.stamp import stamp
from visionvitals.remote import AnyPath, RemotePath
from visionvitals.run import documents, groups, parts, requests, trust
from visionvitals.run.calibrate import images_of
from visionvitals.run.progress import say
from visionvitals.run.shelf import Unwritable
from visionvitals.run.store import Store
from visionvitals.source import versions

ALIKE = ("seed", "limit", "decoder", *NAMES, "until")
"""What all requests of a run must share, so that its numbers can be compared. One that grows until its rules are decided is alone."""
_ROW_BYTES = 30  # of one image's rows in a cell, compressed: measured 24 with float64 cross-entropies
_CELL_BYTES = 60_000  # of cell.json and four exhibits


def claim(out: AnyPath, planned: Planned, *, command: Sequence[str]) -> Store:
    """Make `out` the run folder of a plan, go on with it where it is already, or add the plan to a run of others.

    Where a name has another content than before, its old cells are superseded: readers leave them out.

    Args:
        out: a new or empty folder, or a run folder.
        planned: the resolved plan.
        command: what the user typed, as words; the first one of a plan stays.

    Raises:
        VitalsError: a run of another seed, limit, decoder or numerics, a network that answers otherwise with the same weights, foreign files, no
            right to write, no room.
    """
    refuse_another(out, planned.plan)  # before anything is made there
    content = requests.document(
        plan_file.to_dict(planned.plan),
        command=command,
        digests=_digests(planned),
        answers=_answers(planned),
        cells=[_planned(identifier, cell, planned.studies[cell.study]) for identifier, cell in planned.by_id.items()],
        skips=[plain(skip) for skip in planned.skips],
        notes=list(planned.notes),
        stamp=stamp(planned.plan),
        token=secrets.token_hex(16),
    )
    inside = isinstance(out, RemotePath) or (out / "store").resolve().is_relative_to(out.resolve())
    do = "It is a link: give another --out."
    require(inside, "The store of a run must lie in its folder", str(out / "store"), do)
    store = Store(out / "store")
    try:
        with alone(out):  # of two that ask at once, each adds to what the other one wrote
            _ask(out, planned, content, store)
        if isinstance(out, Path):
            (out / "store").mkdir(exist_ok=True)
        store.shelf.sweep()
    except OSError as error:
        raise VitalsError(
            f"`--out` must be a folder that can be written. Got {out}: {error.strerror or error}. Give another --out."
        ) from error
    describe(out, planned.studies.values())
    missing = planned.by_id.keys() - store.held(planned.by_id)
    needed = sum(images_of(planned.by_id[identifier]) * _ROW_BYTES + _CELL_BYTES for identifier in missing)
    free = shutil.disk_usage(out).free if isinstance(out, Path) else math.inf
    must = f"The disk of {out} must have room for about {needed / 1e6:,.1f} MB of results"
    require(free > needed, must, f"{free / 1e6:,.1f} MB free", "Free some, or give another --out.")
    return store


def _ask(out: AnyPath, planned: Planned, content: dict[str, Any], store: Store) -> None:
    """Add a request, in the form of `requests.document`, to those of a run, or go on with it where it is one of them."""
    known = requests.each(there) if (there := refuse_another(out, planned.plan)) is not None else []
    answered = requests.answered(there) if there is not None else {}
    _refuse_other_answers(out, answered, content)
    _refuse_other_names(known, planned.plan.names, content["digests"])
    asked = [requests.without(request, _changed(request, content)) for request in known]
    same = next((k for k, r in enumerate(known) if requests.same(r["plan"], content["plan"])), len(known))
    if same < len(known):
        content |= {key: known[same][key] for key in ("command", "versions", "started", "token")}
    asked[same : same + 1] = [content]
    gone = requests.listed(known) - requests.listed(asked)
    superseded = gone.union((there or {}).get("superseded", ()))
    whole = requests.together(asked, superseded, {**answered, **requests.answered(content)})
    finished = store.held(gone)
    if finished and (same == len(known) or known[same]["plan"] == content["plan"]):  # else others take their place
        say(_superseded(out, known, content, len(finished)))
    begun = not known or trust.is_ours(out, there or {})
    write_safely(out / "plan.json", json.dumps(whole, indent=1))
    if begun:
        trust.record(out, whole)


def join(out: AnyPath, planned: Planned, mine: frozenset[str]) -> Store:
    """The store of a run that others measure too. Nothing of the folder is written here.

    Args:
        out: the run folder.
        planned: the request, or a part of it, as it resolves in this process.
        mine: the ids of the cells that this process measures.

    Raises:
        VitalsError: one of them is another work here: weights, pictures or a study differ from those that were planned.
    """
    content = requests.content_of(out)
    here = {"digests": _digests(planned), "answers": _answers(planned)}
    if lacking := mine - planned.by_id.keys():
        apart = [
            f"{kind} of {name}: {_short(a)} planned, {_short(b)} here"
            for request in requests.each(content)
            for kind, names in _changed(request, here).items()
            for name, (a, b) in names.items()
        ]
        listed = "".join(f"\n  {each}" for each in dict.fromkeys(apart))
        raise VitalsError(
            f"{len(lacking)} cells of this share are other work here than where the run in {out} was planned:{listed or ' other versions?'}\n"
            "Bring the same files and versions here, or plan the run again."
        )
    _refuse_other_answers(out, requests.answered(content), here)
    return Store(out / "store")


def refuse_another(out: AnyPath, plan: Plan) -> Mapping[str, Any] | None:
    """Refuse a folder that cannot take a plan, before anything is loaded.

    Returns:
        The content of its `plan.json`; None for a new or empty folder.

    Raises:
        VitalsError: the folder holds a run of another seed, limit, decoder or numerics, or foreign files.
    """
    try:
        if isinstance(out, Path):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                out.stat()  # a name that is too long, links in a circle
        if not lexists(out / "plan.json"):
            if isinstance(out, RemotePath):
                foreign = bool(out.files())  # a store that does not exist says so when it is listed
            else:
                foreign = lexists(out) and not (out.is_dir() and all(map(is_temporary, out.iterdir())))
            require(
                not foreign, "`--out` must be a new or empty folder, or a run folder", str(out), "Give another --out."
            )
            return None
    except OSError as error:
        raise VitalsError(f"`--out` must be a folder that can be read. Got {out}: {error.strerror}.") from error
    there, here = requests.content_of(out), plan_file.to_dict(plan)
    alike = [key for key in {**there["plan"], **here} if key != "limit"] if "until" in here else ALIKE
    apart = [(key, there["plan"].get(key), here.get(key)) for key in alike if there["plan"].get(key) != here.get(key)]
    if apart:
        listed = "\n  ".join(f"{key}: {_short(a)} there, {_short(b)} here" for key, a, b in apart)
        raise VitalsError(
            f"The numbers of the run in {out} must stay comparable with each other. It has another:\n  {listed}\n"
            "Ask with the same, or give another --out."
        )
    return there


def finished(out: AnyPath, plan: Plan) -> int | None:
    """How many cells a run holds that has all of them, with the files and the libraries of its plan unchanged; else None. No torch."""
    content, store, asked = refuse_another(out, plan), Store(out / "store"), plan_file.to_dict(plan)
    there = next((r for r in requests.each(content) if r["plan"] == asked), None) if content is not None else None
    if there is None or there["versions"] != versions() or there["stamp"] != stamp(plan):
        return None
    if not {cell["id"] for cell in there["cells"]} <= set(store.ids()):
        return None  # before every byte is read
    noticed: list[str] = []
    known = documents.spared(out / "studies.json", documents.STUDIES, noticed) or {}
    warned(out, noticed)
    described = {study.name_of(section.name) for section in plan.studies} <= known.keys()
    if (
        noticed
        or not described
        or not groups.whole(out, there["digests"].get("images", {}).values())
        or store.left_over()
        or store.survey()[1]
    ):
        return None
    return len(there["cells"])


def report_is_current(out: AnyPath) -> bool:
    """Whether `report.html` is there and shows every cell, warning and record of the run. It says what it shows: times would be those of
    several machines."""
    cells = set(Store(out / "store").ids()) - set(requests.content_of(out).get("superseded", ()))
    try:
        return state(out, cells).encode() in read_regular(out / "report.html")[:2_000]
    except OSError:
        return False


def state(out: AnyPath, cells: Iterable[str]) -> str:
    """A digest of all that a report of the run shows: the ids of these cells, and the documents beside the store."""
    beside = [path for path in matching(out, "*.json") if path.name != "plan.json" and not path.is_symlink()]
    shown = ["\0".join(sorted(cells)).encode()]
    for path in beside:
        with contextlib.suppress(OSError):  # what cannot be read is not shown
            shown.append(read_regular(path))
    return hashlib.sha256(b"".join(hashlib.sha256(each).digest() for each in shown)).hexdigest()


def describe(out: AnyPath, records: Iterable[figure.Record]) -> None:
    """Add the records of studies to the run, for readers that lack their files. What is damaged there is lost, with a warning."""
    noticed: list[str] = []
    known = documents.spared(out / "studies.json", documents.STUDIES, noticed)
    _add(out / "studies.json", known, (known or {}) | {record.name: figure.written(record) for record in records})
    if noticed:
        warn(out, ["studies.json was damaged and is written again."])


def warn(out: AnyPath, warnings: Iterable[str], *, by: str = "") -> list[str]:
    """Add sentences to the run's warnings, each once, and return all of them. What is damaged there is lost, with a warning.

    Args:
        out: the run folder.
        warnings: sentences.
        by: the share of the run that noticed them, `I-of-N`, or the `grown.look`, which has a file of its own; "" for a process that measures all.
    """
    noticed: list[str] = []
    path = out / (f"warnings.{by}.json" if by else "warnings.json")
    known = documents.spared(path, documents.WARNINGS, noticed) or []
    lost = [f"{path.name} was damaged: the warnings of before are lost."] if noticed else []
    merged = list(dict.fromkeys([*known, *lost, *warnings]))
    _add(path, known, merged)
    return merged


def warned(out: AnyPath, noticed: list[str]) -> list[str]:
    """The warnings of all processes of a run, each once; what is damaged is noticed."""
    found = [documents.spared(path, documents.WARNINGS, noticed) or [] for path in matching(out, "warnings*.json")]
    return list(dict.fromkeys(sentence for sentences in found for sentence in sentences))


def _add(path: AnyPath, known: Any, content: Any) -> None:
    text = json.dumps(content, indent=1)
    if text == json.dumps(known, indent=1):
        return
    try:
        write_safely(path, text)
    except OSError as error:
        raise Unwritable(path.parent, error) from error


def _digests(planned: Planned) -> dict[str, Any]:
    """What the spellings and names of a plan stood for."""
    return {
        "weights": {spec: card.digest for spec, card in planned.backbones.items()},
        "order of the classes": {spec: order_of(card.classes) for spec, card in planned.backbones.items()},
        "preprocess": {spec: plain(card.preprocess) for spec, card in planned.backbones.items()},
        "images": {spec: images.card.digest for spec, images in planned.sets.items()},
        "version of the study": {name: each.version for name, each in planned.studies.items()},
        "source of the study": {name: each.source for name, each in planned.studies.items() if each.source},
        "content": {spec: digest for cell in planned.cells for spec, digest in cell.companions},
    }


def _planned(identifier: str, cell: Cell, of: study.Study) -> dict[str, Any]:
    count = len(parts.of(of, cell.condition, images_of(cell), may_stop=cell.may_stop))
    return requests.planned_cell(identifier, cell, passes=of.passes(cell.condition), parts=count)


def _answers(planned: Planned) -> dict[str, Any]:
    return {spec: plain(card.answers) for spec, card in planned.backbones.items() if card.answers is not None}


def _changed(there: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, dict[str, tuple[Any, Any]]]:
    """kind of content -> name -> (content there, content here), where both are known and differ."""
    kinds = here["digests"]
    return {
        kind: {
            name: (there["digests"][kind][name], now)
            for name, now in found.items()
            if there["digests"].get(kind, {}).get(name, now) != now
        }
        for kind, found in kinds.items()
    }


def _refuse_other_names(known: Sequence[Mapping[str, Any]], given: Mapping[str, str], now: Mapping[str, Any]) -> None:
    """Refuse a short name that stood for another content in an earlier request: two networks of one name could not be told apart."""
    for request in known:
        for spelling, name in requests.asked_of(request)["names"].items():
            for kind in ("weights", "images"):
                before = request["digests"].get(kind, {}).get(spelling)
                others = [text for text, each in given.items() if each == name and text != spelling]
                other = next((text for text in others if now[kind].get(text, before) != before), None)
                must = f"`{name}` must mean the same content in all requests of a run"
                require(before is None or other is None, must, f"{spelling} and {other}", "Give another name.")


def _superseded(out: AnyPath, known: Sequence[Mapping[str, Any]], here: Mapping[str, Any], finished: int) -> str:
    found = {
        f"{kind} of {name}: {_short(a)} before, {_short(b)} now"
        for request in known
        for kind, names in _changed(request, here).items()
        for name, (a, b) in names.items()
    }
    why = "".join(f"\n  {each}" for each in sorted(found) or ["its studies ask for other conditions now"])
    return (
        f"Superseded, and left out of the numbers: {finished} finished cells of the run in {out}, since there is now another{why}\n"
        f"To measure again what was asked before: `vitals run {shlex.quote(str(out))}`, or the same call where it lives in Python; `vitals clean` "
        "removes the old cells."
    )


def _refuse_other_answers(out: AnyPath, answered: Mapping[str, Mapping[str, Any]], here: Mapping[str, Any]) -> None:
    """A network that answers otherwise with the same weights and preprocessing: its cells have the same ids, so that old and new would mix."""
    changed = []
    for spec, now in here["answers"].items():
        kept = answered.get(requests.network(here["digests"], spec))
        apart = Answers.read(kept).differs(Answers.read(now)) if kept is not None else None
        changed += [f"{spec}: {apart}"] if apart else []
    if changed:
        listed = "\n  ".join(changed)
        raise VitalsError(
            f"The run in {out} was begun with networks that answered otherwise:\n  {listed}\n"
            "Results of both must not mix: restore the old ones, or give another --out."
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
