"""From the blocks that a study yields to the rows of a cell: one row per (item, place), one column per metric, checked as they come."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from visionvitals.core import Place, Scores
from visionvitals.errors import VitalsError, near, require
from visionvitals.figure import Metric


@dataclass(frozen=True)
class Block:
    """All items of one place: `items` in the order of the image set (others in the order in which they came), `values` float64
    (n,) by metric, NaN where an item has none."""

    items: list[str]
    values: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Wide:
    """The numbers of a range of images.

    Attributes:
        start, stop: the range, positions in the image set.
        blocks: place on the axes -> its block.
        broken: metric -> the items whose value, at some place, is not finite, where there are any.
    """

    start: int
    stop: int
    blocks: Mapping[Place, Block]
    broken: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(metric for block in self.blocks.values() for metric in block.values))

    def table(self, axes: Sequence[str]) -> Any:
        """As an Arrow table: `item`, one column per metric, `at_<axis>` for each axis."""
        import pyarrow as pa

        lengths = [len(block.items) for block in self.blocks.values()]
        columns: dict[str, Any] = {
            "item": pa.array([item for b in self.blocks.values() for item in b.items], pa.string())
        }
        for metric in self.metrics:
            parts = [b.values.get(metric, np.full(len(b.items), np.nan)) for b in self.blocks.values()]
            columns[metric] = pa.array(np.concatenate(parts))
        for k, axis in enumerate(axes):
            values = pa.array([at[k] for at in self.blocks])
            columns[f"at_{axis}"] = values.take(pa.array(np.repeat(np.arange(len(lengths)), np.array(lengths, int))))
        return pa.table(columns)

    def points(self) -> list[dict[str, Any]]:
        """Where each place stands in the table: {at, rows, items, metrics}; see `store.Stored`."""
        found, row, seen = [], 0, dict[int, str]()
        for at, block in self.blocks.items():
            digest = seen.get(id(block.items)) or hashlib.sha256("\0".join(block.items).encode()).hexdigest()[:24]
            seen[id(block.items)] = digest
            rows = [row, row + len(block.items)]
            found.append({"at": list(at), "rows": rows, "items": digest, "metrics": list(block.values)})
            row = rows[1]
        return found


def gather(
    blocks: Iterable[Scores],
    *,
    study: str,
    axes: Sequence[str],
    metrics: Mapping[str, Metric],
    ids: Sequence[str],
    start: int = 0,
    none: bool = False,
) -> Wide:
    """The rows of a cell from what `measure` yields.

    Args:
        blocks: what it yields.
        study: its name, for errors.
        axes: its axes.
        metrics: all that it may yield.
        ids: the image ids of the job, in order.
        start: position of the first of them in the image set.
        none: whether it may yield nothing, e.g. where the other images of the cell gave something.

    Raises:
        VitalsError: no block at all, an unknown metric or item, a place of the wrong length, arrays of another length than the items,
            two values for one (item, metric, place), a value beyond the bounds of its metric.
    """
    found: dict[Place, dict[str, list[tuple[Sequence[str], Any]]]] = {}
    for block in blocks:
        must = f"`{study}` must say where a block stands on its axes {tuple(axes)}"
        require(isinstance(block, Scores), f"`{study}` must yield `study.Scores`", block)
        require(isinstance(block.at, tuple) and len(block.at) == len(axes), must, block.at)
        for metric, values in block.values.items():
            must = f"`{study}` must declare its metrics in METRICS"
            require(metric in metrics, must, metric, partial(near, metric, metrics))
            must = f"`{study}` must give as many values of `{metric}` as items"
            require(len(values) == len(block.items), must, (len(values), len(block.items)))
            if len(values):
                found.setdefault(block.at, {}).setdefault(metric, []).append((block.items, values))
    require(bool(found) or none, f"`{study}` must yield at least one value", "none")
    whole = list(ids)
    position = {item: k for k, item in enumerate(whole)}
    broken: dict[str, set[str]] = {}
    result = {at: _block(study, by_metric, metrics, whole, position, broken) for at, by_metric in found.items()}
    return Wide(start, start + len(whole), result, {metric: sorted(items) for metric, items in broken.items()})


def joined(first: Wide, second: Wide, ids: Sequence[str], start: int = 0) -> Wide:
    """The numbers of a range of images from those of two groups of images; of an image in both, those of the second.

    Args:
        first: of the same study, over images; those that are not among `ids` are left out.
        second: of images among `ids`.
        ids: of all images of the range, in order.
        start: position of the first of them in the image set.
    """
    whole = list(ids)
    position = {item: k for k, item in enumerate(whole)}
    made: dict[tuple[int, ...], tuple[list[str], list[np.ndarray]]] = {}  # places share their items
    blocks: dict[Place, Block] = {}
    for at in dict.fromkeys([*first.blocks, *second.blocks]):
        two = [numbers.blocks[at] for numbers in (first, second) if at in numbers.blocks]
        key = tuple(id(block.items) for block in two)
        if key not in made:
            known = {item for block in two for item in block.items if item in position}
            items = sorted(known, key=position.__getitem__)
            row = {item: k for k, item in enumerate(items)}
            rows = [np.array([row.get(item, -1) for item in block.items], dtype=np.int64) for block in two]
            made[key] = whole if items == whole else items, rows
        items, rows = made[key]
        columns: dict[str, np.ndarray] = {}
        for block, own in zip(two, rows, strict=True):
            for metric, values in block.values.items():
                columns.setdefault(metric, np.full(len(items), np.nan))[own[own >= 0]] = values[own >= 0]
        if items:
            blocks[at] = Block(items, columns)
    lost = {m: {*first.broken.get(m, ()), *second.broken.get(m, ())} for m in sorted({*first.broken, *second.broken})}
    broken = {metric: sorted(items & position.keys()) for metric, items in lost.items()}
    return Wide(start, start + len(whole), blocks, {metric: items for metric, items in broken.items() if items})


def _block(
    study: str,
    by_metric: Mapping[str, list[tuple[Sequence[str], Any]]],
    metrics: Mapping[str, Metric],
    whole: list[str],
    position: Mapping[str, int],
    broken: dict[str, set[str]],
) -> Block:
    columns: dict[str, tuple[list[str], np.ndarray]] = {}
    joined: dict[tuple[int, ...], list[str]] = {}  # the metrics of a block share its items
    for metric, parts in by_metric.items():
        key = tuple(id(some) for some, _ in parts)
        if key not in joined:
            items = [item for some, _ in parts for item in some]
            joined[key] = whole if items == whole else items
        items = joined[key]
        values = _array([some for _, some in parts])
        if items is not whole:
            _check_items(study, metric, metrics[metric], items, position)
        _check_values(study, metric, metrics[metric], values)
        values = np.clip(values, *metrics[metric].bounds)  # what rounding put beyond them
        if not (fine := np.isfinite(values)).all():
            broken.setdefault(metric, set()).update(items[k] for k in np.flatnonzero(~fine))
        columns[metric] = items, values
    if all(items is whole for items, _ in columns.values()):
        return Block(whole, {metric: values for metric, (_, values) in columns.items()})
    union = dict.fromkeys(item for items, _ in columns.values() for item in items)
    order = sorted(union, key=lambda item: position.get(item, len(position)))
    row = {item: k for k, item in enumerate(order)}
    spread = {}
    for metric, (items, values) in columns.items():
        spread[metric] = np.full(len(order), np.nan)
        spread[metric][[row[item] for item in items]] = values
    return Block(order, spread)


def _array(parts: Sequence[Any]) -> np.ndarray:
    """All values of a metric, float64 (n,). What a study left on its device is joined there, and copied once."""
    if all(hasattr(values, "detach") for values in parts):
        import torch

        return np.asarray(torch.cat([values.detach().double() for values in parts]).cpu().numpy())
    return np.concatenate([np.asarray(v.cpu() if hasattr(v, "detach") else v, dtype=np.float64) for v in parts])


def _check_items(study: str, metric: str, declared: Metric, items: list[str], position: Mapping[str, int]) -> None:
    if len(set(items)) < len(items):
        seen: set[str] = set()
        twice = next(item for item in items if item in seen or seen.add(item))  # type: ignore[func-returns-value]
        raise VitalsError(f"`{study}` must give one value of `{metric}` to an item and place. Got two for {twice!r}.")
    if declared.over == "images":
        unknown = [item for item in items if item not in position]
        require(not unknown, f"`{study}` must give `{metric}` to images of the set only", unknown[:3])


def _check_values(study: str, metric: str, declared: Metric, values: np.ndarray) -> None:
    low, high = declared.bounds
    slack = 1e-6 * max(1.0, abs(low) if np.isfinite(low) else 0.0)
    beyond = values[(values < low - slack) | (values > high + slack)]
    must = f"`{study}` must keep `{metric}` in [{low:g}, {high:g}], as its unit `{declared.unit}` says"
    require(not len(beyond), must, float(beyond[0]) if len(beyond) else None)
