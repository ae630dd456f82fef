"""The pictures of a study: what the network saw, for a few images at rising strength, with what each backbone said.

Backbones whose pictures look the same share a panel, so that they can be compared on it, however their preprocessing differs; only
where what a network saw differs to the eye it gets a panel of its own.
"""

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from visionvitals.figure import Chart
from visionvitals.results import words
from visionvitals.results.fields import usual
from visionvitals.results.run import Point, Run
from visionvitals.run.cell import Stored

COLUMNS, ROWS, SPEAKERS = 6, 4, 12
PARTS, APART = 8, 24
"""Two pictures look the same where their colours, averaged over `PARTS` x `PARTS` parts, differ by no more than `APART` of 255: another
interpolation, another size of the input, or a crop of 90 in place of 88 % stay below it; another mask does not."""
Records = Mapping[str, Mapping[str, Any]]
"""Image id -> what the cell says of its picture."""


class Answer(NamedTuple):
    """What one backbone said to one picture: `prediction` is a class name, `correct` None where it was not scored."""

    backbone: str
    prediction: str
    correct: bool | None


class Picture(NamedTuple):
    """One picture, the content of a webp file, with the answers to it."""

    data: bytes
    answers: tuple[Answer, ...]


class Row(NamedTuple):
    """One image: its id, its true class or "", and its pictures in the order of the panel's heads."""

    item: str
    label: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Panel:
    """Rows of pictures, one row per image.

    Attributes:
        images: the image set.
        heads: the conditions as they are written, in order of strength.
        rows: one per image.
        fixed: the condition's fields that are not on the chart's axis.
        backbones: who was shown these pictures, as many as are listed.
        left_out: how many more backbones were shown them.
        alike: whether some of them were shown pictures that only look the same; those are of the first.
    """

    images: str
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    fixed: Mapping[str, Any]
    backbones: tuple[str, ...]
    left_out: int
    alike: bool

    @property
    def answered(self) -> bool:
        """Whether a backbone's answer to a picture is judged; other pictures have captions."""
        return any(a.correct is not None for row in self.rows for p in row.pictures for a in p.answers)


def panels(run: Run, study: str) -> list[Panel]:
    """The panels of a study: of each image set, the combination of the open fields with most pictures."""
    record = run.record(study)
    if record is None:
        return []
    found = []
    for images in run.images:
        chart = record.charts[0] if record.charts else Chart(x="")
        points = [p for p in run.of(study) if p.images == images and _shown(p)]
        if not points:
            continue
        if not _told_apart(points[0]):  # pictures of whole cells: one point of each cell stands for all
            points = list({p.group: p for p in reversed(points)}.values())[::-1]
            if chart.x in record.axes:
                chart = Chart(x="")
        x = chart.x
        popularity = Counter[tuple[Any, ...]]()
        for p in points:
            popularity[p.rest(x)] += 1
        by_backbone: dict[str, tuple[tuple[Any, ...], list[Point]]] = {}
        for backbone in run.backbones:
            own = [p for p in points if p.backbone == backbone]
            if own:
                fixed = max(
                    {p.rest(x) for p in own}, key=lambda rest: (popularity[rest], usual(record, rest), str(rest))
                )
                by_backbone[backbone] = fixed, _spread([p for p in own if p.rest(x) == fixed])
        found += _merged(images, chart, by_backbone)
    return found


class _Seen(NamedTuple):
    """What one backbone saw: the content of its pictures, and what it said, one `Records` for each head."""

    backbone: str
    pixels: tuple[bytes, ...]
    records: list[Records]


def _merged(images: str, chart: Chart, by_backbone: Mapping[str, tuple[tuple[Any, ...], list[Point]]]) -> list[Panel]:
    """One panel for each set of backbones whose pictures look the same as those of its first."""
    groups: list[tuple[tuple[tuple[Any, ...], tuple[str, ...], tuple[str, ...]], list[_Seen]]] = []
    for backbone, (fixed, points) in by_backbone.items():
        cells = [_shown(p)[0] for p in points]
        records: list[Records] = [
            {r["item"]: r for r in _exhibits(cell, p)} for cell, p in zip(cells, points, strict=True)
        ]
        items = [item for item in records[0] if all(item in r for r in records)][:ROWS]
        pixels = tuple(cell.read(r[item]["file"]) for cell, r in zip(cells, records, strict=True) for item in items)
        shown = (fixed, tuple(_head(chart, p) for p in points), tuple(items))
        seen = _Seen(backbone, pixels, records)
        for others, members in groups:
            if others == shown and _look_the_same(members[0].pixels, pixels):
                members.append(seen)
                break
        else:
            groups.append((shown, [seen]))
    return [_panel(images, *shown, members) for shown, members in groups]


def _panel(
    images: str, fixed: tuple[Any, ...], heads: tuple[str, ...], items: tuple[str, ...], members: Sequence[_Seen]
) -> Panel:
    names, pixels = tuple(seen.backbone for seen in members), members[0].pixels
    rows = []
    for r, item in enumerate(items):
        pictures = tuple(
            Picture(
                pixels[c * len(items) + r],
                tuple(_answer(seen.backbone, seen.records[c][item]) for seen in members[:SPEAKERS]),
            )
            for c in range(len(heads))
        )
        rows.append(Row(item, str(members[0].records[0][item].get("label", "")), pictures))
    alike = any(seen.pixels != pixels for seen in members)
    return Panel(images, heads, tuple(rows), dict(fixed), names[:SPEAKERS], len(names[SPEAKERS:]), alike)


def _look_the_same(some: Sequence[bytes], others: Sequence[bytes]) -> bool:
    """Whether each picture looks like the one at its place in the other list; see `APART`."""
    return all(
        a == b or float(np.abs(_parts(a) - _parts(b)).mean(2).max()) <= APART for a, b in zip(some, others, strict=True)
    )


def _parts(picture: bytes) -> np.ndarray:
    """The mean colours of a picture's parts, of 255, float64 (PARTS, PARTS, 3)."""
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as opened:
        small = opened.convert("RGB").resize((PARTS, PARTS), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)


def _shown(p: Point) -> list[Stored]:
    """The cells of a point that kept pictures, first run first."""
    return [c for c in p.cells if _exhibits(c, p)]


def _spread(points: Sequence[Point]) -> list[Point]:
    """At most `COLUMNS` of them, evenly, with the first and the last."""
    if len(points) <= COLUMNS:
        return list(points)
    return [points[round(i * (len(points) - 1) / (COLUMNS - 1))] for i in range(COLUMNS)]


def _head(chart: Chart, p: Point) -> str:
    return words.short(p.condition.get(chart.x), share=chart.x_unit == "share") if chart.x else ""


def _exhibits(cell: Stored, p: Point) -> list[Mapping[str, Any]]:
    """The pictures that a cell kept at the place of a point, or of the whole cell."""
    return [r for r in cell.facts.get("exhibits", ()) if tuple(r.get("at", ())) in ((), p.at)]


def _told_apart(p: Point) -> bool:
    """Whether pictures belong to one place on the axes."""
    return all(r.get("at") for r in _exhibits(_shown(p)[0], p)) if p.at else True


def _answer(backbone: str, record: Mapping[str, Any]) -> Answer:
    return Answer(backbone, record["caption"], record.get("correct"))
