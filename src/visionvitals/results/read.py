"""What a run folder holds, as points: every condition of every study on every backbone, its runs averaged within the image."""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

import numpy as np
from visionvitals.run.rows import Place

from visionvitals import registry, stats
from visionvitals.errors import require
from visionvitals.run import table
from visionvitals.run.store import Store, Stored


@dataclass(frozen=True)
class Point:
    """One condition of one study on one backbone and one image set.

    Attributes:
        study, backbone, images: names, unique within the run.
        condition: the condition's fields without `run`.
        runs: how many repetitions were averaged.
        cells: the stored cells.
        at: the place on the study's axes, whose values are in `condition` too.
        estimates: metric -> mean over images with its interval.
        scores: metric -> (image ids, one value per image averaged over its runs).
    """

    study: str
    backbone: str
    images: str
    condition: Mapping[str, Any]
    runs: int
    cells: tuple[Stored, ...]
    at: Place
    estimates: Mapping[str, stats.Estimate]
    scores: Mapping[str, tuple[list[str], np.ndarray]]

    def rest(self, *without: str | None) -> tuple[tuple[str, Any], ...]:
        """The condition's fields other than those named, as a key."""
        return tuple((k, v) for k, v in self.condition.items() if k not in without)


@dataclass(frozen=True)
class Run:
    """A run folder, read.

    Attributes:
        folder: where it lies.
        points: everything that was measured.
        studies: name -> the study's module, or the reason why it cannot be loaded; in the order of the report.
        backbones, images: short name -> card as plain values, with the whole spelling in it; in the order of the report.
        failures: records of the cells whose last try failed.
        plan: content of `plan.json`.
        warnings: content of `warnings.json`.
    """

    folder: Path
    points: tuple[Point, ...]
    studies: Mapping[str, ModuleType | str]
    backbones: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, Mapping[str, Any]]
    failures: tuple[Mapping[str, Any], ...]
    plan: Mapping[str, Any]
    warnings: tuple[str, ...]

    def of(self, study: str) -> list[Point]:
        return [p for p in self.points if p.study == study]

    def module(self, study: str) -> ModuleType | None:
        """The study's module, or None where it cannot be loaded."""
        found = self.studies[study]
        return found if isinstance(found, ModuleType) else None


def load(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        VitalsError: the folder holds neither a plan nor a store.
    """
    plan = folder / "plan.json"
    require(
        plan.is_file() or (folder / "store").is_dir(),
        "A run folder must hold `plan.json` or `store/`",
        str(folder),
        "Name the folder that was given to `--out`.",
    )
    store = Store(folder / "store")
    groups = table.groups(store.cells())
    backbones = _named((g.cells[0].cell["backbone"] for g in groups), "weights")
    images = _named((g.cells[0].cell["images"] for g in groups), "data")
    known: dict[str, list[str]] = {}
    points = [
        _point(
            group,
            backbone=_name_of(backbones, group.cells[0].cell["backbone"]),
            images=_name_of(images, group.cells[0].cell["images"]),
            known=known,
        )
        for group in groups
    ]
    content = _json(plan, {})
    asked = content.get("plan", {})
    sections = [s if isinstance(s, str) else s["name"] for s in asked.get("studies", ())]
    files = {_study_name(name): name for name in sections}
    measured = _in_order({p.study: p.study for p in points}, list(files), first="clean")
    studies = {name: _module(files.get(name, name)) for name in measured}
    return Run(
        folder=folder,
        points=tuple(sorted(points, key=lambda p: _position(p, studies))),
        studies=studies,
        backbones=_sorted(backbones, asked.get("backbones", ())),
        images=_sorted(images, asked.get("data", ())),
        failures=tuple(store.failures()),
        plan=content,
        warnings=tuple(_json(folder / "warnings.json", [])),
    )


def aligned(scores: Sequence[tuple[list[str], np.ndarray]]) -> np.ndarray:
    """Scores of the images that all have, float (n, len(scores)), in the order of the first."""
    first = scores[0][0]
    if all(items is first for items, _ in scores):
        return np.stack([values for _, values in scores], axis=1)
    maps = [dict(zip(items, values.tolist(), strict=True)) for items, values in scores]
    common = [item for item in first if all(item in m for m in maps)]
    return np.array([[m[item] for m in maps] for item in common], dtype=np.float64).reshape(len(common), len(maps))


def strength(v: Any) -> tuple[int, float, str]:
    """Sort key of a condition's value: numbers by size, grids by their number of cells, words after them as they are."""
    if isinstance(v, bool | int | float):
        return 0, float(v), ""
    if is_grid(v):
        return 1, float(math.prod(v)), str(v)
    return 2, 0.0, str(v)


def rank(module: ModuleType | str, field: str, v: Any) -> tuple[int, float, str]:
    """As `strength`, with words in the order in which the type of the condition's field lists them."""
    if isinstance(v, str) and isinstance(module, ModuleType):
        named = get_args(get_type_hints(module.Condition).get(field))
        if v in named:
            return 2, float(named.index(v)), v
    return strength(v)


def usual(module: ModuleType, fields: Iterable[tuple[str, Any]]) -> int:
    """How many of a condition's fields have their default: what to show first where others are measured as often."""
    default = module.Condition()
    return sum(getattr(default, name, None) == v for name, v in fields)


def is_grid(v: Any) -> bool:
    """Whether a value is a tuple of integers, such as (14, 14)."""
    return isinstance(v, tuple) and bool(v) and all(isinstance(side, int) for side in v)


def _point(group: table.Group, *, backbone: str, images: str, known: dict[str, list[str]]) -> Point:
    """Arrow averages over the runs: a group of the paper's preset on ImageNet has a million rows."""
    import pyarrow as pa

    rows = pa.concat_tables([_rows(c, group.at) for c in group.cells])
    means = rows.group_by(["metric", "item"]).aggregate([("value", "mean")]).sort_by("item")
    scores = {}
    for metric in table.AVERAGED:
        chosen = means.filter(pa.compute.equal(means["metric"], metric))
        if len(chosen):
            items = chosen["item"].to_pylist()
            if known.setdefault(images, items) == items:
                items = known[images]  # one list for all: less memory, and `aligned` sees at once that they are equal
            scores[metric] = (items, chosen["value_mean"].to_numpy())
    estimates = {metric: stats.estimate(values) for metric, (_, values) in scores.items()}
    return Point(group.study, backbone, images, group.condition, group.runs, group.cells, group.at, estimates, scores)


def _rows(cell: Stored, at: Place) -> Any:
    """The rows of a cell at one place on its axes, as an Arrow table of item, metric, value."""
    table = _table(cell.path / "rows.parquet")
    import pyarrow.compute as pc

    for axis, value in zip(cell.axes, at, strict=True):
        table = table.filter(pc.equal(table[f"at_{axis}"], value))
    return table.select(["item", "metric", "value"])


@functools.lru_cache(maxsize=8)  # the points of one cell follow each other
def _table(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    for name in ("item", "metric"):
        table = table.set_column(table.column_names.index(name), name, table[name].cast(pa.string()))
    return table


def _module(name: str) -> ModuleType | str:
    """A study whose file has gone, or no longer imports, costs its chart and not the report."""
    try:
        return registry.load("studies", name)
    except Exception as error:
        return str(error)


def _named(cards: Iterable[Mapping[str, Any]], what: str) -> dict[str, Mapping[str, Any]]:
    """The spelling, shortened as far as the names stay apart -> card; where one spelling had two contents, the digest joins it."""
    by_digest = {(card["spec"], card["digest"]): card for card in cards}
    specs = [spec for spec, _ in by_digest]
    short = registry.labels(specs)
    return {
        short[spec] if specs.count(spec) == 1 else f"{short[spec]} ({what} {digest[:8]})": card
        for (spec, digest), card in by_digest.items()
    }


def _name_of(named: Mapping[str, Mapping[str, Any]], card: Mapping[str, Any]) -> str:
    key = (card["spec"], card["digest"])
    return next(name for name, other in named.items() if (other["spec"], other["digest"]) == key)


def _in_order(names: Mapping[str, str], asked: Sequence[str], *, first: str = "") -> list[str]:
    """The names, each with what the plan calls it, in the order of the plan, then by name."""
    position = {name: i for i, name in enumerate(asked)}
    return sorted(names, key=lambda name: (name != first, position.get(names[name], len(position)), name))


def _sorted(cards: Mapping[str, Mapping[str, Any]], asked: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    return {name: cards[name] for name in _in_order({name: card["spec"] for name, card in cards.items()}, asked)}


def _study_name(name: str) -> str:
    """A study that was named by its path goes by the name of its file."""
    return Path(name).stem if name.endswith(".py") else name


def _position(point: Point, studies: Mapping[str, ModuleType | str]) -> tuple[Any, ...]:
    module = studies[point.study]
    return list(studies).index(point.study), *(rank(module, f, v) for f, v in point.condition.items())


def _json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise
