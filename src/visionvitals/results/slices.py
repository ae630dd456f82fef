"""A run as it would be with some of its pictures only: those of a class, or of one value of a further column of a csv.

Every number, interval and pairing of the part is computed by what computes those of the whole, since only the cells answer otherwise.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from visionvitals.core import Place
from visionvitals.errors import near, require
from visionvitals.results.frame import Frame, Group
from visionvitals.results.known import Known
from visionvitals.results.run import Run
from visionvitals.run.cell import Stored

Chosen = Mapping[str, str]
"""column -> value."""


@dataclass(frozen=True)
class _Part:
    """What is left of an image set, and the rows that were found of it."""

    mark: str
    chosen: frozenset[str]
    rows: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Sliced(Stored):
    """A cell that answers as if it had been measured on a part of its items."""

    _part: _Part = field(repr=False)
    _known: Known = field(repr=False)

    def items_key(self, at: Place = ()) -> str:
        return f"{super().items_key(at)}|{self._part.mark}"

    def items(self, at: Place = ()) -> list[str]:
        return [item for item in self._known.items(self, at) if item in self._part.chosen]

    def columns(self, metrics: Sequence[str]) -> dict[str, np.ndarray]:
        return self._known.column(self, metrics)

    def place(self, at: Place, column: np.ndarray) -> np.ndarray:
        whole = super().place(at, column)
        return whole[self._rows(at)] if at in self.points else whole

    def _rows(self, at: Place) -> np.ndarray:
        key = super().items_key(at)
        if key not in self._part.rows:
            there = [item in self._part.chosen for item in self._known.items(self, at)]
            self._part.rows[key] = np.flatnonzero(there)
        return self._part.rows[key]


def columns(run: Run, sets: Collection[str] | None = None) -> dict[str, dict[str, list[str]]]:
    """column -> value -> the image sets, of those named or of the run, that have pictures of it; `class` first."""
    found: dict[str, dict[str, list[str]]] = {}
    for images in run.images if sets is None else sets:
        known = run.known.of(run.images[images]["digest"])
        for column, (values, _) in known.columns.items() if known else ():
            for value in values:
                found.setdefault(column, {}).setdefault(value, []).append(images)
    return found


def by(run: Run, column: str, *, option: str = "--by") -> Iterator[tuple[str, Run]]:
    """(value, the run with the pictures of this value only) for every value of a column, in their order.

    Raises:
        VitalsError: no image set of the run has such a column.
    """
    known = columns(run)
    do = near(column, known) if known else "The run was made before groups were kept: `vitals run` writes them."
    require(column in known, f"`{option}` must be `class` or a column of a csv of the run", column, do)
    for value in sorted(known[column]):
        yield value, only(run, {column: value})


def only(run: Run, chosen: Chosen) -> Run:
    """The run with those pictures only that have all the values; image sets that lack one of the columns are left out.

    Args:
        run: the run.
        chosen: column -> value.
    """
    found = {images: _part(run, images, chosen) for images in run.images}
    parts = {images: part for images, part in found.items() if part is not None}
    groups: dict[int, Group] = {}

    def sliced(group: Group, images: str) -> Group:
        if id(group) not in groups:
            cells = tuple(_sliced(cell, parts[images], run.known) for cell in group.cells)
            groups[id(group)] = Group(cells, group.metrics, group.shared)
        return groups[id(group)]

    points = [replace(p, group=sliced(p.group, p.images)) for p in run.points if p.images in parts]
    frame = Frame()
    frame.damaged = run.frame.damaged
    left = replace(run, all_points=tuple(points), frame=frame)
    kept = [p for p in points if any(left.values(p, m)[1].size for m in p.metrics[:1])]
    return replace(left, all_points=tuple(kept))


def _sliced(cell: Stored, part: _Part, known: Known) -> Stored:
    return Sliced(**{f.name: getattr(cell, f.name) for f in fields(Stored)}, _part=part, _known=known)


def _part(run: Run, images: str, chosen: Chosen) -> _Part | None:
    """The pictures of an image set with all the values; None where it lacks a column."""
    known = run.known.of(run.images[images]["digest"])
    if known is None or not chosen.keys() <= known.columns.keys():
        return None
    left: Collection[str] = known.items
    for column, value in chosen.items():
        values = known.value(column)
        left = [item for item in left if values.get(item) == value]
    return _Part("|".join(f"{column}={value}" for column, value in sorted(chosen.items())), frozenset(left))
