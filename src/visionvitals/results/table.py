"""A run as tidy rows, for the terminal and for files: one row per point and metric."""

import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals.errors import VitalsError, as_text, require
from visionvitals.files import write_safely
from visionvitals.results import asked, derived, signs, slices, words
from visionvitals.results.fields import readable
from visionvitals.results.frame import Summary
from visionvitals.results.run import Point, Run, early

if TYPE_CHECKING:
    import pyarrow

_FIXED = ("study", "backbone", "data", "metric", "n", "runs", "value", "low", "high", "std_over_items", "std_over_runs")


def rows(
    run: Run, *, study: str | None = None, metric: str | None = None, by: str | None = None
) -> list[dict[str, Any]]:
    """One row per point and metric, of one study or metric where it is named; with `by`, one for each group of that column. What is no mean
    over images (`derived_metrics.METRICS`) is computed where it is named.

    Columns: study, backbone, data, with `by` that column (`class`, or a further column of a csv), every field that occurs in a condition
    (None where a study has no such field), metric, n (items), runs, value, low, high (95 %; NaN for a property of what was done, which is no
    sample), std_over_items (of the items, each averaged over its runs), std_over_runs (of the means of the runs);
    where measuring might stop early also stopped (at how many of all images, in words).

    Raises:
        VitalsError: the run has no such study, metric or column.
    """
    points = [p for p in run.points if study in (None, p.study)]
    known = {m for p in points for m in p.metrics} | _derived(points)
    asked.refuse_unknown(metric, known, study=study, studies=run.studies)
    fields = {name for p in points for name in p.condition}
    any_early = early(*points) is not None
    if by is None:
        return _rows(run, study, metric, {}, fields, any_early)
    called = f"{by} of the image" if by in {*_FIXED, "stopped", *fields} else by
    return [
        row
        for value, part in slices.by(run, by)
        for row in _rows(part, study, metric, {called: value}, fields, any_early)
    ]


def of_signs(run: Run) -> list[dict[str, Any]]:
    """The vital signs, one row per backbone, image set and sign: backbone, data, study, sign, n, value, low, high; shares are in [0, 1]."""
    names = ("n", "value", "low", "high")
    return [
        {"backbone": run.spelled(b), "data": run.spelled_set(i), "study": c.study, "sign": c.sign.title}
        | {name: getattr(c.readings[b, i].estimate, name) for name in names}
        for b, i in signs.pairs(run)
        for c in signs.columns(run)
        if (b, i) in c.readings
    ]


def _derived(points: Sequence[Point]) -> set[str]:
    """The numbers that can be computed for some point."""
    return {name for name, each in derived.DERIVED.items() if any(derived.has(p, each) for p in points)}


def _rows(
    run: Run, study: str | None, metric: str | None, group: Mapping[str, str], fields: Collection[str], any_early: bool
) -> list[dict[str, Any]]:
    """The rows of a run, or of a part of it, which may lack points: the columns are those of the whole, `fields` and whether any ended early."""
    points = [p for p in run.points if study in (None, p.study)]
    for p in points:  # what is damaged is known before the rows are
        if p.metrics:
            run.summary(p, p.metrics[0])
    spelled = {name: run.spelled(name) for name in run.backbones}
    result = []
    for p in (p for p in points if run.frame.whole(p.group)):
        head: dict[str, Any] = {"study": p.study, "backbone": spelled[p.backbone]}
        head["data"] = run.spelled_set(p.images)
        head |= group
        head |= {name: readable(p.condition.get(name)) for name in sorted(fields)}
        for name, (e, over_items, over_runs) in _summaries(run, p, metric):
            low, high = (e.low, e.high) if run.metric(p.study, name).interval else (float("nan"), float("nan"))
            result.append(
                head
                | {"metric": name, "n": e.n, "runs": p.runs, "value": e.value, "low": low, "high": high}
                | {"std_over_items": over_items, "std_over_runs": over_runs}
                | ({"stopped": words.n(e) if e.early and e.early.by else ""} if any_early else {})
            )
    return result


def _summaries(run: Run, p: Point, metric: str | None) -> list[tuple[str, Summary]]:
    """(metric, its summary) of a point: all that it has, or the one that is asked for."""
    found = [(m, run.summary(p, m)) for m in p.metrics if metric in (None, m)]
    if metric is not None and metric in derived.DERIVED and not found:
        nothing = float("nan")
        found = [(metric, Summary(e, nothing, nothing)) for _, e in derived.of(run, [p], metric)]
    return found


def columns(table: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns of one kind each."""
    return {name: _alike([row[name] for row in table]) for name in (table[0] if table else ())}


def write(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to `path`, see `save`."""
    import pyarrow as pa

    save(pa.table(columns(table)), path)


def save(content: "pyarrow.Table", path: Path) -> None:
    """Write a table to `path`, as CSV or Parquet by its suffix. In a CSV, what a spreadsheet would compute is made text.

    Raises:
        VitalsError: another suffix, or the file cannot be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    require(path.suffix in (".csv", ".parquet"), "A table's file must end in .csv or .parquet", path.name)
    held = io.BytesIO()
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(_safe(content), held)
    else:
        pyarrow.parquet.write_table(content, held)
    try:
        write_safely(path, held.getvalue())
    except OSError as error:
        raise VitalsError(f"The table must be written to {path}. Got: {error}. Name another file.") from error


def _safe(content: "pyarrow.Table") -> "pyarrow.Table":
    """The same table, of which a spreadsheet computes neither a text nor the head of a column."""
    import pyarrow as pa

    columns = [
        pa.array([None if text is None else as_text(text) for text in column.to_pylist()], pa.string())
        if pa.types.is_string(column.type)
        else column
        for column in content.columns
    ]
    return pa.Table.from_arrays(columns, names=[as_text(name) for name in content.column_names])


def _alike(values: list[Any]) -> list[Any]:
    """A column of words where one study has a word where another has a number."""
    kinds = {str if isinstance(v, str) else float for v in values if v is not None}
    return [None if v is None else str(v) for v in values] if len(kinds) > 1 else values
