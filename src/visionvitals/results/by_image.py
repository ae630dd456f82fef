"""A run image by image: a row per backbone and image, a column per metric at each condition, averaged over its runs as everywhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.errors import require
from visionvitals.results import words
from visionvitals.results.asked import refuse_unknown
from visionvitals.results.run import Point, Run
from visionvitals.run.groups import CLASS

if TYPE_CHECKING:
    import pyarrow


OWN = ("backbone", "data", "item", "label")
"""Columns that every table by image begins with."""


@dataclass(frozen=True, eq=False)
class Part:
    """The images of one set as one backbone saw them.

    Attributes:
        backbone, images: names in the run.
        items: ids, in the order in which they were measured.
        groups: `label`, and every further column of a csv -> the value of each, None where the run does not say.
        columns: (point, metric) -> float64 (n,), NaN where an image has no value.
    """

    backbone: str
    images: str
    items: Sequence[str]
    groups: Mapping[str, Sequence[str | None]]
    columns: dict[tuple[Point, str], np.ndarray]

    def at(self, study: str, metric: str, item: str) -> dict[tuple[tuple[str, Any], ...], float]:
        """condition -> the value of an image; nothing where it was not measured."""
        if item not in self.items:
            return {}
        row = self.items.index(item)
        asked = {p.rest(): values for (p, m), values in self.columns.items() if (p.study, m) == (study, metric)}
        return {condition: float(values[row]) for condition, values in asked.items()}


def refuse_groups(by: str | None) -> None:
    """A row by image stands in every group that its image is in.

    Raises:
        VitalsError: a column of groups is asked for.
    """
    require(by is None, "A row by image has no groups, so `by` must be left out", by)


def parts(run: Run, *, study: str | None = None, metric: str | None = None) -> list[Part]:
    """Every metric of images, of one study or metric where it is named. An identifier, such as `prediction`, has no mean: it is there where a
    condition was run once.

    Raises:
        VitalsError: the run has no such study or metric of images.
    """
    chosen = [p for p in run.points if study in (None, p.study)]
    refuse_unknown(metric, {m for p in chosen for m in _metrics(run, p)}, study=study, studies=run.studies)
    found = []
    for pair in dict.fromkeys((p.backbone, p.images) for p in chosen):
        own = [p for p in chosen if (p.backbone, p.images) == pair]
        asked = [(p, m) for p in own for m in _metrics(run, p) if metric in (None, m)]
        values = {one: run.values(*one) for one in asked}
        values = {one: each for one, each in values.items() if each[0]}  # without what turned out to be damaged
        items = list(dict.fromkeys(item for key, _ in values.values() for item in run.items(key))) if values else []
        index = {item: row for row, item in enumerate(items)}
        rows = {key: np.array([index[i] for i in run.items(key)], np.int64) for key, _ in values.values()}
        columns = {}
        for one, (key, array) in values.items():
            columns[one] = np.full(len(items), np.nan)
            columns[one][rows[key]] = array
        found.append(Part(*pair, items, _groups(run, pair[1], items), columns))
    return [part for part in found if part.items]


def table(run: Run, *, study: str | None = None, metric: str | None = None) -> "pyarrow.Table":
    """All parts as one table: backbone, data, item, label, further columns of a csv, then `STUDY (CONDITION) METRIC`; null where there is no value.

    Raises:
        VitalsError: see `parts`.
    """
    import pyarrow as pa

    def told(texts: Sequence[str | None]) -> "pyarrow.Array":
        return pa.array(texts, pa.string())

    empty = pa.table({name: told([]) for name in OWN})
    tables = [empty]
    for part in parts(run, study=study, metric=metric):
        n = len(part.items)
        names = {"backbone": [run.spelled(part.backbone)] * n, "data": [run.spelled_set(part.images)] * n}
        heads = {name: told(texts) for name, texts in {**names, "item": part.items, **part.groups}.items()}
        numbers = {name_of(p, m): pa.array(values, from_pandas=True) for (p, m), values in part.columns.items()}
        tables.append(pa.table(heads | numbers))
    return pa.concat_tables(tables, promote_options="default")


def name_of(p: Point, metric: str) -> str:
    """The column of a metric at a condition, which no other condition of the run changes: `occlusion (fraction 0.5, fill black) top1`."""
    where = words.condition(p.condition)
    return f"{p.study} ({where}) {metric}" if where else f"{p.study} {metric}"


def _metrics(run: Run, p: Point) -> list[str]:
    """What a point knows of single images."""
    known = {m: run.metric(p.study, m) for m in p.group.points[p.at]}
    return [m for m, k in known.items() if k.over == "images" and (k.averaged or p.runs == 1)]


def _groups(run: Run, images: str, items: Sequence[str]) -> dict[str, list[str | None]]:
    """What the run knows of pictures; a column of a csv that is called as one of ours is one `of the image`."""
    known = run.known.of(run.images[images]["digest"])
    found: dict[str, list[str | None]] = {"label": [None] * len(items)}
    for column in known.columns if known else ():
        values = known.value(column) if known else {}
        name = "label" if column == CLASS else f"{column} of the image" if column in OWN else column
        found[name] = [values.get(item) for item in items]
    return found
