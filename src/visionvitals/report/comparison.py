"""A comparison as one self-contained page: the verdicts first, then every sign with its interval drawn, what flips with classes and
pictures, error consistency, and what was not compared and why. No script runs on it.
"""

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionvitals import stats
from visionvitals.core import ImageSet
from visionvitals.errors import UnreadableImage, VitalsError
from visionvitals.files import write_safely
from visionvitals.report import first as first_screen
from visionvitals.report import templates
from visionvitals.results import compared, words
from visionvitals.results.compare import Difference, Pair
from visionvitals.results.compared import Compared
from visionvitals.results.flips import Flips
from visionvitals.results.run import Run
from visionvitals.run.cell import DamagedCell

SIDE = 112
"""Pixels of the longer side of a thumbnail."""
MOST = 96
"""Thumbnails on a page."""
Opened = Callable[[str], ImageSet | None]
"""The image set of a name in the run, where it is still there and has the same content; else None."""


@dataclass(frozen=True)
class Picture:
    """A picture whose answer flips: its id, its class or "", and a webp file as a data URI, or "" where no picture is left."""

    item: str
    named: str
    uri: str


@dataclass(frozen=True)
class Shown:
    """What flips at one condition, with the pictures of each side."""

    flips: Flips
    title: str
    lost: tuple[Picture, ...]
    gained: tuple[Picture, ...]


@dataclass(frozen=True)
class Forest:
    """Differences on one scale, from -end to end, which holds all of their intervals.

    Attributes:
        title: of the table.
        rows: (what it is of, the difference).
        end: of the scale, in the unit of the values.
        unit: after a number.
    """

    title: str
    rows: tuple[tuple[str, Difference], ...]
    end: float
    share: bool

    def at(self, x: float) -> float:
        """Where a value lies, in percent of the width."""
        return 50 + 50 * max(-1.0, min(1.0, x / self.end))

    def ticks(self) -> list[tuple[float, str]]:
        """(place in percent, text) of the marks of the axis."""
        scale = 100 if self.share else 1
        return [
            (self.at(x), f"{scale * x:+.3g}".replace("-", "\N{MINUS SIGN}") if x else "0")
            for x in (-self.end, 0, self.end)
        ]


def write(found: Sequence[Compared], page: Path, *, opened: Opened = lambda name: None) -> None:
    """Write comparisons of one command (pairs, or groups of one) as a page.

    Args:
        found: see `compared.compared`.
        page: the file.
        opened: gives the image sets from which thumbnails are made where the run kept no picture.

    Raises:
        VitalsError: the file cannot be written.
    """
    from markupsafe import Markup

    album = _Album(opened)
    pairs: dict[tuple[str, str], list[Compared]] = {}
    for each in found:
        pairs.setdefault((each.pair.a, each.pair.b), []).append(each)
    sections = [_section(several, album) for several in pairs.values()]
    style = Markup(
        "".join((templates.HERE / name).read_text(encoding="utf-8") for name in ("page.css", "comparison.css"))
    )
    text = _template().render(
        sections=sections, style=style, words=words, flipped=compared.flipped, missing=album.missing
    )
    try:
        write_safely(page, text)
    except OSError as error:
        raise VitalsError(f"The page must be writable. Got {page}: {error.strerror}. Give another --html.") from error


def _section(several: Sequence[Compared], album: "_Album") -> dict[str, Any]:
    """One pair, as a whole or group by group."""
    first, run = several[0], several[0].pair.run
    signs = [("", d) for d in first.signs] if not first.group else []
    conditions = [(_called(d), d) for d in first.conditions] if not first.group else []
    sets = dict.fromkeys(a for each in several for a, _ in each.pair.sets)
    names = {images: first_screen.measured(first.pair.comparable, images) for images in sets}
    return {
        "pair": first.pair,
        "cards": [run.backbones[name] for name in (first.pair.a, first.pair.b)],
        "images": names,
        "first": first,
        "summary": compared.summary([d for each in several for d in each.signs]),
        "groups": [(words.condition(each.group), each.signs) for each in several],
        "grouped": bool(first.group),
        "forests": _by_group(several) if first.group else _forests("Vital signs", [(d.title, d) for _, d in signs]),
        "conditions": _forests("Conditions", conditions),
        "flips": [_shown(run, first.pair, each, album) for each in first.flips],
    }


def _forests(title: str, rows: Sequence[tuple[str, Difference]]) -> list[Forest]:
    """Shares on one scale; every other metric on one of its own."""
    scales: dict[str, list[tuple[str, Difference]]] = {}
    for name, d in rows:
        if not math.isnan(d.value.value):
            scales.setdefault("" if d.share else d.metric.head, []).append((name, d))
    return [
        Forest(f"{title}{', in points' if not unit else f': {unit}'}", tuple(several), _end(several), not unit)
        for unit, several in scales.items()
    ]


def _by_group(several: Sequence[Compared]) -> list[Forest]:
    """A table for each sign, with a row for each group."""
    found: dict[tuple[str, str], list[tuple[str, Difference]]] = {}
    for each in several:
        for d in each.signs or each.conditions:
            key = ", ".join(filter(None, (d.title, words.condition(d.condition)))), d.images
            found.setdefault(key, []).append((", ".join(each.group.values()), d))
    return [forest for (title, images), rows in found.items() for forest in _forests(f"{title}, {images}", rows)]


def _end(rows: Sequence[tuple[str, Difference]]) -> float:
    """A round number that no interval exceeds."""
    ends = [abs(x) for _, d in rows for x in (d.value.value, d.value.low, d.value.high) if not math.isnan(x)]
    largest = max(ends, default=0.0) or 1.0
    step = 10 ** math.floor(math.log10(largest))
    return float(next(step * k for k in (1, 2, 5, 10) if step * k >= largest * 0.999))


def _called(d: Difference) -> str:
    return ", ".join(filter(None, (d.study, d.title, words.condition(d.condition))))


def _shown(run: Run, pair: Pair, found: Flips, album: "_Album") -> Shown:
    title = ", ".join(filter(None, (found.study, words.condition(found.condition), found.images)))
    kept = _exhibits(pair, found)
    known = run.known.of(run.images[found.images]["digest"])
    classes = known.classes if known is not None else {}
    lost, gained = (
        tuple(
            Picture(item, classes.get(item, ""), album.picture(found.images, item, kept))
            for item in items[: compared.PICTURES]
        )
        for items in (found.lost, found.gained)
    )
    return Shown(found, title, lost, gained)


def _exhibits(pair: Pair, found: Flips) -> Mapping[str, bytes]:
    """item -> the picture that the run kept of it at this condition, as the first network saw it."""
    kept: dict[str, bytes] = {}
    wanted = {*found.lost[: compared.PICTURES], *found.gained[: compared.PICTURES]}
    for p, _ in pair.matched[0]:
        if (p.study, p.images, p.fields) == (found.study, found.images, found.condition):
            for each in (
                e
                for cell in p.cells[:1]
                for e in cell.facts["exhibits"]
                if e["item"] in wanted and tuple(e["at"]) in ((), p.at)
            ):
                try:
                    kept.setdefault(each["item"], p.cells[0].read(each["file"]))
                except DamagedCell:
                    continue
    return kept


class _Album:
    """Thumbnails of pictures, up to `MOST`. `missing` says of which image sets there are none."""

    def __init__(self, opened: Opened) -> None:
        self.missing: dict[str, None] = {}
        self._opened, self._left = opened, MOST
        self._sets: dict[str, tuple[ImageSet, dict[str, int]] | None] = {}

    def picture(self, images: str, item: str, kept: Mapping[str, bytes]) -> str:
        """A data URI, or "" where there is no picture left."""
        if self._left <= 0:
            return ""
        data = kept.get(item) or self._thumbnail(images, item)
        if data is None:
            return ""
        self._left -= 1
        return f"data:image/webp;base64,{base64.b64encode(data).decode()}"

    def _thumbnail(self, images: str, item: str) -> bytes | None:
        if images not in self._sets:
            there = self._opened(images)
            ids = getattr(there, "ids", None)
            self._sets[images] = None if there is None or ids is None else (there, {id: k for k, id in enumerate(ids)})
        known = self._sets[images]
        if known is None or item not in known[1]:
            self.missing[images] = None
            return None
        try:
            image = known[0][known[1][item]].image.convert("RGB")
        except UnreadableImage:
            return None
        image.thumbnail((SIDE, SIDE))
        held = io.BytesIO()
        image.save(held, "webp", quality=80)
        return held.getvalue()


def _template() -> Any:
    environment = templates.environment()
    environment.globals |= {"isnan": math.isnan, "FEWEST": stats.FEWEST}
    return environment.get_template("comparison.html.jinja")
