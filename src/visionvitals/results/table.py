"""From stored cells to tidy tables: images first, summaries derived.

A `Group` is all runs of one condition on one backbone and one image set. Its numbers are averaged within the image over runs, then
over images (`stats.estimate`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from visionvitals.metrics import METRICS
from visionvitals.run.rows import Place

from visionvitals import stats
from visionvitals.errors import require
from visionvitals.run.store import Store, Stored

REPEATS = "run"  # the condition field that counts repetitions
AVERAGED = tuple(m for m in METRICS if m != "prediction")


@dataclass(frozen=True)
class Group:
    """The cells that differ in their run, seed or shard only, at one place on the study's axes.

    Attributes:
        study, backbone, images: names as the user spelled them.
        condition: the condition's fields without `run`, and the place on the axes.
        cells: the stored cells.
        at: that place.
    """

    study: str
    backbone: str
    images: str
    condition: Mapping[str, Any]
    cells: tuple[Stored, ...]
    at: Place = ()

    @cached_property
    def _values(self) -> dict[str, dict[str, list[float]]]:
        """metric -> item -> one value per run."""
        merged: dict[str, dict[str, list[float]]] = {}
        for cell in self.cells:
            for metric, items in cell.values(self.at).items():
                for item, value in items.items():
                    merged.setdefault(metric, {}).setdefault(item, []).append(value)
        return merged

    @property
    def runs(self) -> int:
        """How many repetitions were averaged."""
        return len({(c.cell["condition"].get(REPEATS, 0), c.cell["seed"]) for c in self.cells})

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(m for m in AVERAGED if m in self._values)

    def per_image(self, metric: str) -> dict[str, float]:
        """item -> mean over its runs."""
        return {item: float(np.mean(v)) for item, v in self._values.get(metric, {}).items()}

    def estimate(self, metric: str) -> stats.Estimate:
        return stats.estimate(np.array(list(self.per_image(metric).values())))

    def std_over_runs(self, metric: str) -> float:
        """Standard deviation (n - 1) of the per-run means, as the paper quotes it; NaN with fewer than two runs."""
        by_run: dict[tuple[int, int], list[float]] = {}
        for cell in self.cells:
            key = (cell.cell["condition"].get(REPEATS, 0), cell.cell["seed"])
            by_run.setdefault(key, []).extend(cell.values(self.at).get(metric, {}).values())
        means = [np.mean(v) for v in by_run.values() if v]
        return float(np.std(means, ddof=1)) if len(means) > 1 else float("nan")


def read(run_folders: Sequence[Path]) -> list[Group]:
    """All that some run folders hold.

    Raises:
        VitalsError: no folder is named, or one is not a run folder.
    """
    do = "Name the folder that was given to `--out`."
    require(len(run_folders) > 0, "A run folder must be named", None, do)
    for path in run_folders:
        require((path / "store").is_dir(), "A run folder must hold `store/`", str(path), do)
    return groups(cell for path in run_folders for cell in Store(path / "store").cells())


def groups(cells: Iterable[Stored]) -> list[Group]:
    """Cells gathered into groups, in order of first appearance."""
    found: dict[tuple[Any, ...], list[Stored]] = {}
    for stored, at in ((one, place) for one in cells for place in one.points):
        cell = stored.cell
        condition = {k: _hashable(v) for k, v in cell["condition"].items() if k != REPEATS}
        condition |= dict(zip(stored.axes, at, strict=True))
        # The digests keep apart what shares a spelling (a file that changed between two runs), the rest what must never be averaged.
        key = (
            cell["study"],
            cell["backbone"]["spec"],
            cell["images"]["spec"],
            cell["backbone"]["digest"],
            cell["images"]["digest"],
            _hashable(cell.get("companions", [])),
            cell["version"],
            cell["decoder"],
            at,
            tuple(condition.items()),
        )
        found.setdefault(key, []).append(stored)
    return [Group(k[0], k[1], k[2], dict(k[-1]), tuple(v), k[-2]) for k, v in found.items()]


def rows(found: Sequence[Group]) -> list[dict[str, Any]]:
    """One row per group and metric.

    Columns: study, backbone, data, every condition field that occurs (None where a study has no such field), metric, n (images),
    runs, value, low, high (95 %), std_over_runs.
    """
    fields = sorted({name for g in found for name in g.condition})
    result = []
    for group in sorted(found, key=_order):
        for metric in group.metrics:
            e = group.estimate(metric)
            result.append(
                {"study": group.study, "backbone": group.backbone, "data": group.images}
                | {name: readable(group.condition.get(name)) for name in fields}
                | {"metric": metric, "n": e.n, "runs": group.runs, "value": e.value, "low": e.low, "high": e.high}
                | {"std_over_runs": group.std_over_runs(metric)}
            )
    return result


def differences(found: Sequence[Group], a: str, b: str) -> list[dict[str, Any]]:
    """Backbone `b` minus backbone `a` for every condition and metric that both have, paired over their common images.

    Columns: study, data, condition, metric, n (images), difference, low, high (95 %).
    """
    others = {(g.study, g.images, tuple(g.condition.items())): g for g in found if g.backbone == b}
    result = []
    for first in sorted(found, key=_order):
        second = others.get((first.study, first.images, tuple(first.condition.items())))
        if first.backbone != a or second is None:
            continue
        condition = ", ".join(f"{k}={readable(v)}" for k, v in first.condition.items())
        for metric in first.metrics:
            left, right = first.per_image(metric), second.per_image(metric)
            common = [item for item in left if item in right]
            if common:
                pairs = np.array([(right[item], left[item]) for item in common])
                e = stats.paired_difference(pairs[:, 0], pairs[:, 1])
                row = {"study": first.study, "data": first.images, "condition": condition, "metric": metric}
                result.append(row | {"n": e.n, "difference": e.value, "low": e.low, "high": e.high})
    return result


def write(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to `path`, as CSV or Parquet by its suffix."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    require(path.suffix in (".csv", ".parquet"), "A table's file must end in .csv or .parquet", path.name)
    columns = {name: [row[name] for row in table] for name in (table[0] if table else ())}
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(pa.table(columns), path)
    else:
        pyarrow.parquet.write_table(pa.table(columns), path)


def readable(value: Any) -> Any:
    """A grid (14, 14) as `14x14`; everything else as it is."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def _hashable(value: Any) -> Any:
    return tuple(_hashable(v) for v in value) if isinstance(value, list) else value


def _order(group: Group) -> tuple[Any, ...]:
    """`clean` first, then by study, condition (numbers by size, grids by their number of cells), image set and backbone."""
    values = [
        (0, float(v), "")
        if isinstance(v, int | float)
        else (1, float(np.prod(v)), str(v))
        if _is_grid(v)
        else (2, 0.0, str(v))
        for v in group.condition.values()
    ]
    return group.study != "clean", group.study, values, group.images, group.backbone


def _is_grid(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(side, int) for side in value)
