"""The run group by group, where its image sets have groups: the further columns of a csv, such as weather or camera."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from visionvitals.report.charts import Multiple, Plot, counted, plots
from visionvitals.results import signs, slices
from visionvitals.results.run import Run
from visionvitals.results.signs import Column, Reading
from visionvitals.run.groups import CLASS

MOST = 12
"""As many groups of a column are shown, those with most pictures; all of them are in `vitals table --by`."""
SMALLEST = 2
"""Pictures in a group: the mean of fewer has no interval."""
SECTION = "by-group"
"""The anchor of the section; no study can have a name with a hyphen."""


@dataclass(frozen=True)
class Grouping:
    """One column of the image sets of a run.

    Attributes:
        column: its name.
        parts: value -> the run with the pictures of this value only.
        left_out: how many values have too few pictures, or are beyond the `MOST`.
    """

    column: str
    parts: Mapping[str, Run]
    left_out: int


@dataclass(frozen=True)
class SignsOf:
    """The vital signs by the groups of one column.

    Attributes:
        grouping: the column.
        rows: (backbone, images) -> value -> its reading under each sign, None where it could not be measured.
    """

    grouping: Grouping
    rows: Mapping[tuple[str, str], Mapping[str, tuple[Reading | None, ...]]]


def groupings(run: Run) -> list[Grouping]:
    """The columns with at least two groups that can be shown; classes are told in the studies that know them."""
    found = []
    for column, values in slices.columns(run).items():
        pictures = Counter[str]()
        for images in run.images:
            known = run.known.of(run.images[images]["digest"])
            pictures.update(known.value(column).values() if known and column in known.columns else ())
        shown = sorted(value for value, n in pictures.most_common(MOST) if n >= SMALLEST)
        if column != CLASS and len(shown) > 1:
            parts = {value: slices.only(run, {column: value}) for value in shown}
            found.append(
                Grouping(
                    column, {value: part for value, part in parts.items() if part.points}, len(values) - len(shown)
                )
            )
    return found


def signs_of(grouping: Grouping, columns: Sequence[Column]) -> SignsOf:
    """The signs under `columns` of every backbone in every group."""
    read = {}
    for value, part in grouping.parts.items():
        known = [(c, part.record(c.study)) for c in columns]
        read[value] = [signs.column_of(part, record, c.sign).readings if record else {} for c, record in known]
    pairs = dict.fromkeys(pair for part in grouping.parts.values() for pair in signs.pairs(part))
    rows = {pair: {value: tuple(r.get(pair) for r in known) for value, known in read.items()} for pair in pairs}
    return SignsOf(grouping, {pair: {v: r for v, r in own.items() if any(r)} for pair, own in rows.items()})


def chart(run: Run, study: str, grouping: Grouping) -> Plot | None:
    """The study's first chart with a small multiple for each group; None for charts that have one for each backbone already."""
    whole = next(iter(plots(run, study)), None)
    if whole is None or whole.kind in ("heat", "scatter"):
        return None
    drawn = {
        value: {m.title: m for p in plots(part, study)[:1] for m in p.multiples}
        for value, part in grouping.parts.items()
    }
    multiples = [
        Multiple(
            " · ".join(filter(None, (m.title, f"{value}, {counted(found[m.title].records)}"))), found[m.title].records
        )
        for m in whole.multiples
        for value, found in drawn.items()
        if m.title in found
    ]
    return replace(whole, multiples=tuple(multiples)) if multiples else None
