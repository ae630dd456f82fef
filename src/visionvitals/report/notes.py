"""What a reader must know before believing a number: what was skipped, what failed, what could not be read, what to mind."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionvitals.figure import tupled
from visionvitals.results import remarks, words
from visionvitals.results.fields import strength
from visionvitals.results.run import Point, Run

FEW = 100
"""Fewer images than this are pointed out: the interval of a proportion is then wider than about 20 points."""


@dataclass(frozen=True)
class Left:
    """Points that were not measured for one reason.

    Attributes:
        studies: whose they are.
        backbones: on which.
        count: how many cells.
        conditions: which, as one phrase.
        reason: why.
        detail: the traceback of a failure, or "".
    """

    studies: tuple[str, ...]
    backbones: tuple[str, ...]
    count: int
    conditions: str
    reason: str
    detail: str = ""


def skips(run: Run) -> list[Left]:
    """What the plan left out, the same reason once."""
    records = [(s["study"], s["backbone"], s["condition"], s["reason"], "") for s in run.plan.get("skips", ())]
    return _gathered(records)


def failures(run: Run) -> list[Left]:
    """What was tried and failed, the same error once."""
    return _gathered(
        (r["cell"]["study"], r["cell"]["backbone"]["spec"], r["cell"]["condition"], r["error"], r["traceback"])
        for r in run.failures
    )


def missing(run: Run) -> int:
    """How many planned cells have neither been measured nor failed: the run was interrupted, they are damaged, or their content changed."""
    known = {r["id"] for r in run.failures} | run.finished - run.frame.damaged.keys()
    return len(run.plan.get("again", ())) + sum(cell["id"] not in known for cell in run.plan.get("cells", ()))


def unreadable(run: Run) -> dict[str, dict[str, str]]:
    """image set -> {image id: why it cannot be read}."""
    found: dict[str, dict[str, str]] = {}
    for p in run.points:
        for cell in p.cells:
            for item, reason in cell.facts.get("skipped", ()):
                found.setdefault(p.images, {})[item] = reason
    return found


def label_sentences(run: Run) -> list[str]:
    """How the labels of each image set were mapped to the outputs of each backbone."""
    return [note for note in run.plan.get("notes", ()) if note.startswith(_pairs(run))]


def warnings(run: Run) -> list[str]:
    """Everything to mind, most specific first."""
    others = [note for note in run.plan.get("notes", ()) if not note.startswith(_pairs(run))]
    return list(dict.fromkeys([*run.warned, *run.damage, *_few(run), *_misaligned(run), *others]))


def _pairs(run: Run) -> tuple[str, ...]:
    asked = run.plan.get("plan", {})
    return tuple(f"{b} on {d}: " for b in asked.get("backbones", ()) for d in asked.get("data", ()))


def _few(run: Run) -> list[str]:
    result = []
    for images in run.images:
        n = max((run.estimate(p, m).n for p in run.points if p.images == images for m in _of_images(run, p)), default=0)
        if 0 < n < FEW:
            scored = (
                "1 image was scored; it says nothing about others"
                if n == 1
                else f"{n} images were scored; intervals are wide"
            )
            result.append(f"{images}: only {scored}.")
    return result


def _of_images(run: Run, p: Point) -> list[str]:
    """The metrics whose items are images: a few classes or episodes say nothing about how many images there were."""
    return [m for m in p.metrics if run.metric(p.study, m).over == "images"]


def _misaligned(run: Run) -> list[str]:
    """A cell of such a grid cuts through the network's own patches, which changes what a removed or moved cell means."""
    found: dict[tuple[str, str], set[tuple[int, ...]]] = {}
    for p in run.points:
        if remarks.cut(run, p):
            found.setdefault((p.backbone, p.study), set()).add(p.condition["grid"])
    merged: dict[tuple[str, str], list[str]] = {}
    for (backbone, study), grids in found.items():
        named = words.listed(words.short(g) for g in sorted(grids, key=strength))
        merged.setdefault((backbone, named), []).append(study)
    result = []
    for (backbone, named), studies in merged.items():
        patches = words.short(tuple(run.backbones[backbone]["patch_grid"]))
        one = " and " not in named
        result.append(
            f"{words.listed(studies)}: the {'grid' if one else 'grids'} {named} {'cuts' if one else 'cut'} through the {patches} "
            f"patches of {backbone}; compare with grids that divide {patches}."
        )
    return result


def _gathered(records: Iterable[tuple[str, str, Mapping[str, Any], str, str]]) -> list[Left]:
    found: dict[str, list[tuple[str, str, Mapping[str, Any], str]]] = {}
    for study, backbone, condition, reason, detail in records:
        found.setdefault(reason, []).append((study, backbone, condition, detail))
    return [
        Left(
            studies=tuple(dict.fromkeys(study for study, *_ in members)),
            backbones=tuple(dict.fromkeys(backbone for _, backbone, *_ in members)),
            count=len(members),
            conditions=_phrase([condition for study, _, condition, _ in members if study == members[0][0]])
            if len({study for study, *_ in members}) == 1
            else "",
            reason=reason,
            detail=members[0][3],
        )
        for reason, members in found.items()
    ]


def _phrase(conditions: Sequence[Mapping[str, Any]]) -> str:
    """`fraction 0, 0.5 and 0.9; fill token`."""
    parts = []
    for name in conditions[0]:
        values = {tupled(c.get(name)) for c in conditions}
        parts.append(f"{name} {words.listed(words.short(v) for v in sorted(values, key=strength))}")
    return "; ".join(parts)
