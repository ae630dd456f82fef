"""A run that several processes share, which have a folder in common and nothing else: each measures its share of the cells and of their parts.

What belongs to a share follows from the list of cells in `plan.json` and from I/N alone, so that nobody has to ask anybody. What two
processes measure all the same (two N, a process started twice) is kept once. What a dead one left is missing, and `vitals run DIR` measures it.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visionvitals.errors import VitalsError, require, shortened
from visionvitals.plan import plan_file
from visionvitals.plan.request import Plan
from visionvitals.run import requests

_SCHEDULERS = (
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
    ("RANK", "WORLD_SIZE", ""),
)
"""(index, count, the first index) in the environment of SLURM arrays and steps, indexed jobs of Kubernetes, and torchrun."""


@dataclass(frozen=True)
class Shard:
    """The `index`-th (from 0) of `count` equal shares of a run."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def read(text: str) -> Shard:
    """`I/N` with I from 0, or `auto`: what the scheduler that started this process says.

    Raises:
        VitalsError: neither, I is not below N, or there is no scheduler that we know.
    """
    if text == "auto":
        return _of_scheduler(os.environ)
    index, _, count = text.partition("/")
    place = _place(index, count)
    must = "`--shard` must read I/N with I from 0 to N - 1 and N at most 999,999, or auto"
    require(place is not None, must, text, "The first of four is 0/4.")
    assert place is not None
    return Shard(*place)


def _place(index: str, count: str, first: str = "0") -> tuple[int, int] | None:
    """(the index from 0, how many there are) of numbers as they are written; None where they are none, or do not fit."""
    if not all(re.fullmatch("[0-9]{1,6}", number) for number in (index, count, first)):
        return None
    place = int(index) - int(first)
    return (place, int(count)) if 0 <= place < int(count) else None


def _of_scheduler(environment: Mapping[str, str]) -> Shard:
    known = [(i, n, f) for i, n, f in _SCHEDULERS if i in environment]
    for index, count, first in known:
        place = _place(environment[index], environment.get(count, ""), environment.get(first, "0"))
        if place is not None:
            return Shard(*place)
    names = ", ".join(f"{i} and {n}" for i, n, _ in known or _SCHEDULERS)
    got = ", ".join(
        f"{name}={shortened(environment[name])}" for i, n, _ in known for name in (i, n) if name in environment
    )
    do = "Kubernetes does not tell how many there are: set JOB_COMPLETIONS in the pod. Or give --shard I/N."
    raise VitalsError(f"`--shard auto` needs {names} in the environment. Got {got or 'none of them'}. {do}")


@dataclass(frozen=True)
class Share:
    """What a process measures of a cell: its backbone, and the numbers of the parts (see `run.parts`)."""

    backbone: str
    parts: frozenset[int]


def share_of(content: Mapping[str, Any], plan: Plan, shard: Shard) -> dict[str, Share]:
    """id -> share of the cells of one request of a run: together a range of equal cost of all cells of the run by backbone and image set,
    so that few backbones are loaded; where it begins or ends within a cell, that cell is divided if it has several parts.

    Args:
        content: of `plan.json`.
        plan: the request.
        shard: which range.

    Raises:
        VitalsError: the run holds no such request.
    """
    every, asked = requests.each(content), plan_file.to_dict(plan)
    here = [request["cells"] for request in every if request["plan"] == asked]
    require(bool(here), "A share is one of a request that was planned", "none", "Plan it: `vitals plan ... --out DIR`.")
    divided = {cell["id"]: cell for request in every for cell in request["cells"]}
    mine = _range(list(divided.values()), shard)
    return {cell["id"]: mine[cell["id"]] for cell in here[0] if cell["id"] in mine}


def _range(cells: Sequence[Mapping[str, Any]], shard: Shard) -> dict[str, Share]:
    order = {key: list(dict.fromkeys(cell[key] for cell in cells)) for key in ("backbone", "images")}
    cells = sorted(cells, key=lambda cell: [order[key].index(cell[key]) for key in ("backbone", "images")])
    costs = [float(cell.get("cost", 1.0)) for cell in cells]
    total, before, mine = sum(costs) or 1.0, 0.0, {}
    for cell, cost in zip(cells, costs, strict=True):
        count = cell.get("parts", 1)
        middles = [(before + cost * (part + 0.5) / count) / total for part in range(count)]
        before += cost
        own = [min(int(middle * shard.count), shard.count - 1) == shard.index for middle in middles]
        if any(own):
            mine[cell["id"]] = Share(cell["backbone"], frozenset(part for part in range(count) if own[part]))
    return mine
