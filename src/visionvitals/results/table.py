"""A run as tidy rows, for the terminal and for files: one row per point and metric."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals.errors import VitalsError, near, require
from visionvitals.files import write_safely
from visionvitals.results.fields import readable
from visionvitals.results.run import Run

if TYPE_CHECKING:
    import pyarrow


def rows(run: Run, *, study: str | None = None, metric: str | None = None) -> list[dict[str, Any]]:
    """One row per point and metric, of one study or metric where it is named.

    Columns: study, backbone, data, every field that occurs in a condition (None where a study has no such field), metric, n (items),
    runs, value, low, high (95 %; NaN for a property of what was done, which is no sample), std_over_items (of the items, each averaged over
    its runs), std_over_runs (of the means of the runs).

    Raises:
        VitalsError: the run has no such study or metric.
    """
    points = [p for p in run.points if study in (None, p.study)]
    for name, wanted, known in (
        ("study", study, set(run.studies)),
        ("metric", metric, {m for p in points for m in p.metrics}),
    ):
        require(wanted is None or wanted in known, f"`--{name}` must be in the run", wanted, near(str(wanted), known))
    for p in points:  # what is damaged is known before the rows are
        if p.metrics:
            run.summary(p, p.metrics[0])
    fields = sorted({name for p in points for name in p.condition})
    spelled = {name: run.spelled(name) for name in run.backbones}
    result = []
    for p in (p for p in points if run.frame.whole(p.group)):
        head: dict[str, Any] = {"study": p.study, "backbone": spelled[p.backbone]}
        head["data"] = run.images[p.images]["spec"]
        head |= {name: readable(p.condition.get(name)) for name in fields}
        for name in (m for m in p.metrics if metric in (None, m)):
            e, over_items, over_runs = run.summary(p, name)
            low, high = (e.low, e.high) if run.metric(p.study, name).interval else (float("nan"), float("nan"))
            result.append(
                head
                | {"metric": name, "n": e.n, "runs": p.runs, "value": e.value, "low": low, "high": high}
                | {"std_over_items": over_items, "std_over_runs": over_runs}
            )
    return result


def columns(table: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Rows as columns of one kind each."""
    return {name: _alike([row[name] for row in table]) for name in (table[0] if table else ())}


def write(table: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to `path`, see `save`."""
    import pyarrow as pa

    save(pa.table(columns(table)), path)


def save(content: "pyarrow.Table", path: Path) -> None:
    """Write a table to `path`, as CSV or Parquet by its suffix.

    Raises:
        VitalsError: another suffix, or the file cannot be written.
    """
    import pyarrow.csv
    import pyarrow.parquet

    require(path.suffix in (".csv", ".parquet"), "A table's file must end in .csv or .parquet", path.name)
    held = io.BytesIO()
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(content, held)
    else:
        pyarrow.parquet.write_table(content, held)
    try:
        write_safely(path, held.getvalue())
    except OSError as error:
        raise VitalsError(f"The table must be written to {path}. Got: {error}. Name another file.") from error


def _alike(values: list[Any]) -> list[Any]:
    """A column of words where one study has a word where another has a number."""
    kinds = {str if isinstance(v, str) else float for v in values if v is not None}
    return [None if v is None else str(v) for v in values] if len(kinds) > 1 else values
