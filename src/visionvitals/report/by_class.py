"""A study's answers class by class, where its cells keep them (`files/classes.json`): the classes on which two backbones differ most, and
each backbone's worst classes with what they are taken for.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionvitals.results.run import Run
from visionvitals.run.cell import Stored

FILE = "classes.json"
ROWS = 8
"""Classes in each list."""


@dataclass(frozen=True)
class Change:
    """One class on which the second backbone differs from the first, by shares of its n images that are right."""

    name: str
    n: int
    first: float
    second: float


@dataclass(frozen=True)
class Worst:
    """One of a backbone's worst classes; `taken_for` is a phrase, `picture` the content of a webp file or None."""

    name: str
    n: int
    right: float
    taken_for: str
    picture: bytes | None


@dataclass(frozen=True)
class ByClass:
    """Of one image set.

    Attributes:
        images: the image set.
        pair: the first two backbones, or empty where there is one.
        changes: the classes with the largest differences between them, the largest first.
        worst: backbone -> its worst classes, the worst first; classes without a mistake are left out.
    """

    images: str
    pair: tuple[str, ...]
    changes: tuple[Change, ...]
    worst: Mapping[str, tuple[Worst, ...]]


def by_class(run: Run, study: str) -> list[ByClass]:
    """One entry for each image set of which a cell keeps its classes."""
    found = []
    for images in run.images:
        known = {b: held for b in run.backbones if (held := _kept(run, study, images, b))}
        if not known:
            continue
        pair = tuple(known)[:2] if len(known) > 1 else ()
        changes = []
        if pair:
            first, second = ({e["class"]: e for e in known[b][1]} for b in pair)
            shared = [
                (first[name], second[name])
                for name in first
                if name in second and first[name]["n"] == second[name]["n"]
            ]
            changes = [Change(a["class"], a["n"], _share(a), _share(b)) for a, b in shared if a["right"] != b["right"]]
            changes.sort(key=lambda c: (-abs(c.second - c.first), c.name))
        worst = {b: _worst(*held) for b, held in known.items()}
        found.append(ByClass(images, pair, tuple(changes[:ROWS]), worst))
    return found


def _kept(run: Run, study: str, images: str, backbone: str) -> tuple[Stored, list[dict[str, Any]]] | None:
    """(cell, content) of the first cell of a backbone that has some."""
    for point in run.of(study):
        if (point.images, point.backbone) == (images, backbone):
            for cell in point.cells:
                if f"files/{FILE}" in cell.facts["sha256"]:
                    return cell, json.loads(cell.read(f"files/{FILE}"))
    return None


def _worst(cell: Stored, entries: list[dict[str, Any]]) -> tuple[Worst, ...]:
    missed = sorted((e for e in entries if e["right"] < e["n"]), key=lambda e: (_share(e), e["class"]))
    return tuple(
        Worst(
            name=e["class"],
            n=e["n"],
            right=_share(e),
            taken_for=", ".join(f"{name} {count}" for name, count in e["taken_for"]),
            picture=cell.read(f"files/{e['picture']}") if e["picture"] else None,
        )
        for e in missed[:ROWS]
    )


def _share(entry: Mapping[str, Any]) -> float:
    return float(entry["right"] / entry["n"])
