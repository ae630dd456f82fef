"""The numbers of a run as arrays, read from its columns when they are asked for: means over runs, their intervals, common items.

Whatever is read is kept only while it fits into `CAPACITY`; estimates, which are small, are kept. The sampling unit is the item: runs are
averaged within it, over those in which it could be scored.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from visionvitals import stats
from visionvitals.core import Place
from visionvitals.figure import Metric
from visionvitals.run.cell import DamagedCell, Stored
from visionvitals.study import REPEATS

CAPACITY = 160e6
"""Bytes of arrays and item lists that are kept."""

Values = tuple[str, np.ndarray]
"""(key of the items, float64 (n,) with NaN where an item has no value): equal keys mean the same items in the same order."""
NO_VALUES: Values = "", np.zeros(0)
Block = Mapping[Place, tuple[Values, list[float]]]
"""place on the axes -> the values of one metric there, and the mean of each run where there are several."""


class Summary(NamedTuple):
    """Mean over items with its interval, and standard deviations (n - 1), NaN with fewer than two: of the items, each averaged over its
    runs, and of the means of the runs."""

    estimate: stats.Estimate
    over_items: float
    over_runs: float


NO_SUMMARY = Summary(stats.NOTHING, float("nan"), float("nan"))


@dataclass(frozen=True, eq=False)
class Group:
    """Cells that differ in their run only, in its order; every place on the axes of such a group is one point.

    Attributes:
        cells: of the runs.
        metrics: those whose values are averaged, with what they mean.
        shared: as in `figure.Record`.
    """

    cells: tuple[Stored, ...]
    metrics: Mapping[str, Metric]
    shared: bool = False

    @cached_property
    def early(self) -> stats.Early | None:
        """How far all cells were measured, where one of them may have ended early."""
        ends = (cell.facts["stopped"] for cell in self.cells if "stopped" in cell.facts)
        return min((stats.Early(*(end[k] for k in stats.Early._fields)) for end in ends), default=None)

    @cached_property
    def alike(self) -> bool:
        """Whether all cells hold the same items at the same places, in the same order."""
        first, *others = ([part["points"] for part in cell.facts["parts"]] for cell in self.cells)
        return all(other == first for other in others)

    @cached_property
    def points(self) -> Mapping[Place, tuple[str, ...]]:
        """place on the axes -> the metrics that have values there."""
        found: dict[Place, dict[str, None]] = {}
        for cell in self.cells:
            for at, metrics in cell.points.items():
                found.setdefault(at, {}).update(dict.fromkeys(metrics))
        return {at: tuple(metrics) for at, metrics in found.items()}


class Frame:
    """Reads groups. `damaged` holds the errors of cells that could not be read; they are left out of all numbers."""

    def __init__(self) -> None:
        self.damaged: dict[str, DamagedCell] = {}
        self._arrays = Kept(CAPACITY)
        self._summaries: dict[Group, dict[tuple[Place, str], Summary]] = {}
        self._where: dict[str, tuple[Stored, Place]] = {}
        self._united: dict[str, list[str]] = {}
        self._within: dict[tuple[Group, Collection[str]], Group] = {}

    def within(self, group: Group, ids: Collection[str]) -> Group | None:
        """A group with those cells only that are among some ids; None where none is."""
        cells = tuple(cell for cell in group.cells if cell.id in ids)
        if len(cells) == len(group.cells):
            return group
        return self._within.setdefault((group, ids), Group(cells, group.metrics, group.shared)) if cells else None

    def whole(self, group: Group) -> tuple[Stored, ...]:
        """The cells of a group without those that are known to be damaged."""
        return tuple(c for c in group.cells if c.id not in self.damaged) if self.damaged else group.cells

    def values(self, group: Group, at: Place, metric: str) -> Values:
        """One value per item, averaged over its runs."""
        block: Block | None = self._arrays.get((group, metric))
        block = self._read(group, [metric])[metric] if block is None else block
        return block[at][0] if at in block else NO_VALUES

    def summary(self, group: Group, at: Place, metric: str) -> Summary:
        """Of one metric at one place; all of the group are computed at once."""
        if group not in self._summaries:
            self._summaries[group] = {
                (place, name): Summary(self._estimate(group, place, name, array), stats.std(array), deviation(runs))
                for name, block in self._read(group, list(group.metrics)).items()
                for place, ((_, array), runs) in block.items()
                if name in group.points[place]
            }
        return self._summaries[group].get((at, metric), NO_SUMMARY)

    def _estimate(self, group: Group, at: Place, metric: str, values: np.ndarray) -> stats.Estimate:
        bounds = group.metrics[metric].bounds
        e = stats.estimate(values, bounds=bounds, early=group.early)
        if not group.shared:
            return e
        level = stats.at_look(stats.LEVEL, group.early)
        return stats.over_draws(e, np.array([*self.by_run(group, at, metric).values()]), bounds=bounds, level=level)

    def by_run(self, group: Group, at: Place, metric: str) -> dict[int, float]:
        """run -> its mean over items, of those that have the metric there."""
        return {
            cell.cell["condition"].get(REPEATS, 0): mean(cell.place(at, cell.columns([metric])[metric]))
            for cell in self.whole(group)
            if metric in cell.points.get(at, ())
        }

    def items(self, key: str) -> list[str]:
        """The items that a key of `values` stands for."""
        if key in self._united:
            return self._united[key]
        found: list[str] | None = self._arrays.get(key)
        if found is None:
            cell, at = self._where[key]
            found = cell.items(at)
            self._arrays.put(key, found, 80 * len(found))
        return found

    def aligned(self, several: Sequence[Values]) -> np.ndarray:
        """Values of the items that all have, float64 (items, len(several)), in the order of the first."""
        columns = self._rows([key for key, _ in several], common=True)[1]
        return np.stack([v if rows is None else v[rows] for rows, (_, v) in zip(columns, several, strict=True)], axis=1)

    def common(self, keys: Sequence[str]) -> list[str]:
        """The items that all keys share, in the order of the first."""
        items, rows = self._rows(keys, common=True)
        return self.items(keys[0]) if keys[0] and rows[0] is None else items

    def _rows(self, keys: Sequence[str], *, common: bool) -> tuple[list[str], list[np.ndarray | None]]:
        """The items that all keys share, or that any has, and where they stand under each key: rows, -1 where it lacks one;
        None where the items are just those of the key."""
        if len(set(keys)) == 1:
            return [], [None] * len(keys)
        if "" in keys:
            return [], [np.zeros(0, dtype=np.int64)] * len(keys)
        index = {key: {item: row for row, item in enumerate(self.items(key))} for key in dict.fromkeys(keys)}
        united = dict.fromkeys(item for key in (keys[:1] if common else keys) for item in index[key])
        items = [item for item in united if not common or all(item in rows for rows in index.values())]
        found = {key: np.array([rows.get(item, -1) for item in items], np.int64) for key, rows in index.items()}
        return items, [found[key] for key in keys]

    def _read(self, group: Group, metrics: Sequence[str]) -> dict[str, Block]:
        """metric -> its block, which is kept for later."""
        cells = self.whole(group)
        try:
            if len(cells) == 1 or group.alike:
                found = self._columns(cells, metrics)
            else:
                ended = group.early is not None
                found = {m: {at: self._united_values(cells, at, m, ended) for at in group.points} for m in metrics}
        except DamagedCell as error:
            self.damaged[error.id] = error
            return self._read(group, metrics)
        for metric, block in found.items():
            self._arrays.put((group, metric), block, sum(array.nbytes for (_, array), _ in block.values()))
        return found

    def _columns(self, cells: Sequence[Stored], metrics: Sequence[str]) -> dict[str, Block]:
        """Of cells with the same rows: whole columns are averaged, and the places are views of them."""
        if not cells:
            return {metric: {} for metric in metrics}
        first = cells[0]
        keys = {at: first.items_key(at) for at in first.points}
        runs: dict[tuple[str, Place], list[float]] = {(metric, at): [] for metric in metrics for at in keys}
        averages = {metric: Average() for metric in metrics}
        for cell in cells:
            for metric, column in cell.columns(metrics).items():
                averages[metric].add(column)
                for at in keys if len(cells) > 1 else ():
                    runs[metric, at].append(mean(cell.place(at, column)))
        for at, key in keys.items():
            self._where.setdefault(key, (first, at))
        columns = {metric: average.result() for metric, average in averages.items()}
        return {
            metric: {at: ((key, first.place(at, column)), runs[metric, at]) for at, key in keys.items()}
            for metric, column in columns.items()
        }

    def _united_values(
        self, cells: Sequence[Stored], at: Place, metric: str, common: bool
    ) -> tuple[Values, list[float]]:
        """Of cells with other rows: averaged over all items that any of them has; over the `common` ones where cells ended early."""
        parts = []
        for cell in (c for c in cells if metric in c.points.get(at, ())):
            key = cell.items_key(at)
            self._where.setdefault(key, (cell, at))
            parts.append((key, cell.place(at, cell.columns([metric])[metric])))
        if not parts:
            return NO_VALUES, []
        items, rows = self._rows([key for key, _ in parts], common=common)
        average = Average()
        for (_, values), chosen in zip(parts, rows, strict=True):
            average.add(values if chosen is None else np.append(values, np.nan)[chosen])
        key = parts[0][0] if rows[0] is None else hashlib.sha256("\0".join(items).encode()).hexdigest()
        if rows[0] is not None:
            self._united.setdefault(key, items)
        return (key, average.result()), [mean(values) for _, values in parts]


class Average:
    """The mean of arrays of one shape, over those that are not NaN; NaN where all are."""

    def __init__(self) -> None:
        self._sum: np.ndarray | None = None
        self._count: int | np.ndarray = 0

    def add(self, values: np.ndarray) -> None:
        lacking = np.isnan(values)
        some = bool(lacking.any())
        if self._sum is None and not some:
            self._sum = values  # of the file, read-only: a single run is not copied
        else:
            here = np.where(lacking, 0.0, values) if some else values
            self._sum = here if self._sum is None else self._sum + here
        self._count = self._count + (~lacking if some else 1)

    def result(self) -> np.ndarray:
        assert self._sum is not None
        if isinstance(self._count, int):
            return self._sum if self._count == 1 else self._sum / self._count
        found = np.full(self._sum.shape, np.nan)
        np.divide(self._sum, self._count, out=found, where=self._count > 0)
        return found


class Kept:
    """What was used last, up to a number of bytes."""

    def __init__(self, capacity: float) -> None:
        self._capacity, self._bytes = capacity, 0.0
        self._held: OrderedDict[Any, tuple[Any, float]] = OrderedDict()

    def get(self, key: Any) -> Any:
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: Any, value: Any, size: float) -> None:
        self._bytes += size - self._held.pop(key, (None, 0.0))[1]
        self._held[key] = value, size
        while self._bytes > self._capacity and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]


def mean(values: np.ndarray) -> float:
    """Over what is not NaN; NaN where nothing is."""
    total = float(np.add.reduce(values))
    if total == total:
        return total / len(values) if len(values) else float("nan")
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if len(scored) else float("nan")


def deviation(means: Sequence[float]) -> float:
    """Standard deviation (n - 1); NaN with fewer than two."""
    if len(means) < 2:
        return float("nan")
    middle = math.fsum(means) / len(means)
    return math.sqrt(math.fsum((m - middle) ** 2 for m in means) / (len(means) - 1))
