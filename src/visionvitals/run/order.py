"""What is measured first. The order decides no number; it decides when there is something to read.

First the baseline, then of each study the cells that its signs are read from, the cheapest first, for every backbone; then the rest, the
study with the widest interval first, repetitions last.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from visionvitals.core import Cell
from visionvitals.figure import Sign
from visionvitals.plan.identity import cell_id
from visionvitals.plan.planner import Planned
from visionvitals.study import BASELINE, REPEATS, Study

Work = tuple[str, str, str]


def work_of(cell: Cell) -> Work:
    """(study, backbone, images)."""
    return cell.study, cell.backbone.spec, cell.images.spec


def headline(planned: Planned) -> dict[str, float]:
    """id -> how much it costs, for the cells that are measured first: the baseline's, and of each study one run of those that its signs
    are read from. A cell costs the passes an image of all cells that its sign needs; of several signs, of the cheapest."""
    by_work: dict[Work, list[Cell]] = {}
    for cell in planned.cells:
        by_work.setdefault(work_of(cell), []).append(cell)
    first: dict[str, float] = {}
    for (name, _, _), cells in by_work.items():
        study = planned.studies[name]
        once = [cell for cell in cells if getattr(cell.condition, REPEATS, 0) == 0]
        together = [cells] if name == BASELINE else [_read(sign, study, once) for sign in study.signs]
        for several in filter(None, together if any(together) else [once[:1]]):
            cost = 0 if name == BASELINE else sum(study.passes(cell.condition) for cell in several)
            first |= {(key := cell_id(cell)): min(cost, first.get(key, cost)) for cell in several}
    return first


def _read(sign: Sign, study: Study, cells: Sequence[Cell]) -> list[Cell]:
    """The cells of one backbone and image set that a sign is read from: at the most planned values of the fields that it leaves open."""
    fields = [f.name for f in dataclasses.fields(study.Condition)]
    where = {name: value for name, value in sign.where.items() if name in fields}
    matching = [cell for cell in cells if all(getattr(cell.condition, k) == v for k, v in where.items())]
    if sign.kind == "index":
        return matching
    free = [name for name in fields if name not in {*where, sign.x, REPEATS}]

    def rest(cell: Cell) -> tuple[Any, ...]:
        return tuple(getattr(cell.condition, name) for name in free)

    planned = Counter(map(rest, cells))
    usual = max(map(rest, matching), key=lambda values: planned[values], default=())
    return [cell for cell in matching if rest(cell) == usual]


def widest_first(cells: Iterable[Cell], widths: Mapping[Work, float]) -> list[Cell]:
    """By repetition, then the study whose first interval is the widest, then as planned."""
    return sorted(cells, key=lambda cell: (getattr(cell.condition, REPEATS, 0), -widths.get(work_of(cell), 0.0)))
