"""What is measured first. The order decides no number; it decides when there is something to read.

First the baseline, then of each study the cells that its signs are read from, the cheapest first, for every backbone; then the rest, the
study with the widest interval first, repetitions last.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from visionvitals.core import Cell
from visionvitals.figure import Sign
from visionvitals.plan.planner import Planned
from visionvitals.study import BASELINE, REPEATS, Study

Work = tuple[str, str, str]
Cells = dict[str, Cell]
"""id -> cell."""


def work_of(cell: Cell) -> Work:
    """(study, backbone, images)."""
    return cell.study, cell.backbone.spec, cell.images.spec


def headline(planned: Planned) -> dict[str, float]:
    """id -> how much it costs, for the cells that are measured first: the baseline's, and of each study one run of those that its signs
    are read from. A cell costs the passes an image of all cells that its sign needs; of several signs, of the cheapest."""
    by_work: dict[Work, Cells] = {}
    for identifier, cell in planned.by_id.items():
        by_work.setdefault(work_of(cell), {})[identifier] = cell
    first: dict[str, float] = {}
    for (name, _, _), cells in by_work.items():
        study = planned.studies[name]
        once = {i: cell for i, cell in cells.items() if getattr(cell.condition, REPEATS, 0) == 0}
        together = [cells] if name == BASELINE else [_read(sign, study, once) for sign in study.signs]
        for several in filter(None, together if any(together) else [dict([*once.items()][:1])]):
            cost = 0 if name == BASELINE else sum(study.passes(cell.condition) for cell in several.values())
            first |= {identifier: min(cost, first.get(identifier, cost)) for identifier in several}
    return first


def _read(sign: Sign, study: Study, cells: Cells) -> Cells:
    """The cells of one backbone and image set that a sign is read from: at the most planned values of the fields that it leaves open."""
    fields = [f.name for f in dataclasses.fields(study.Condition)]
    where = {name: value for name, value in sign.where.items() if name in fields}
    matching = {i: cell for i, cell in cells.items() if all(getattr(cell.condition, k) == v for k, v in where.items())}
    if sign.kind == "index":
        return matching
    free = [name for name in fields if name not in {*where, sign.x, REPEATS}]

    def rest(cell: Cell) -> tuple[Any, ...]:
        return tuple(getattr(cell.condition, name) for name in free)

    planned = Counter(map(rest, cells.values()))
    usual = max(map(rest, matching.values()), key=lambda values: planned[values], default=())
    return {i: cell for i, cell in matching.items() if rest(cell) == usual}


def widest_first(cells: Iterable[Cell], widths: Mapping[Work, float]) -> list[Cell]:
    """By repetition, then the study whose first interval is the widest, then as planned."""
    return sorted(cells, key=lambda cell: (getattr(cell.condition, REPEATS, 0), -widths.get(work_of(cell), 0.0)))
