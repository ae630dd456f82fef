"""From the parts of a cell to a cell in the store: what is missing is measured, the whole is judged, and then it counts as complete."""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from visionvitals import stats
from visionvitals.core import Cell
from visionvitals.errors import Unreachable, VitalsError
from visionvitals.plan.identity import cell_id
from visionvitals.run import grown, order, parts
from visionvitals.run.cell import Stored
from visionvitals.run.checks import WrongOrder, check_chance, check_order
from visionvitals.run.measure import Kept, Running, Work, counted, marks_of, measured
from visionvitals.run.shelf import Unwritable
from visionvitals.study import BASELINE, Study


def keep(run: Running, work: Work, cell: Cell) -> None:
    """Measure what this process measures of a cell; keep the cell where all its parts are there. A failure of whatever kind is recorded."""
    new: list[Kept] = []
    try:
        earlier = grown.find(run.store, cell, run.planned.studies[cell.study], run.earlier)
        if found := _parts(run, work, cell, earlier, new):
            _finish(run, work, cell, found, earlier)
    except (Unwritable, Unreachable, WrongOrder):
        raise
    except (Exception, SystemExit) as error:
        run.state.advance(-sum(kept.counted for kept in new), run.passes(cell))
        run.fail(cell, error)
        return
    unmeasured = run.images(cell) - sum(kept.images for kept in new)
    run.state.finish_cell(unmeasured=unmeasured, passes=run.passes(cell))
    run.milestone(False)


def _parts(run: Running, work: Work, cell: Cell, earlier: grown.Earlier | None, new: list[Kept]) -> list[Stored]:
    """All parts of a cell; those of this process are measured where they are missing, and what that left goes into `new`. None where
    those of other processes lack, or one of these has kept the cell."""
    store, identifier, images = run.store, cell_id(cell), len(work.data.ids)
    every = parts.of(run.planned.studies[cell.study], images)
    found: dict[range, Stored] = {}
    for rows in run.parts(cell, images):
        if store.has(identifier):  # another process was faster
            return []
        if (there := store.part(identifier, rows)) is None:
            there, kept = _part(run, work, cell, rows, earlier)
            new.append(kept)
            if len(every) > 1:
                store.keep_part(there, rows)
        found[rows] = there
    if not all(rows in found or store.has_part(identifier, rows) for rows in every):
        return []
    whole = [found[rows] if rows in found else store.part(identifier, rows) for rows in every]
    return [part for part in whole if part is not None] if None not in whole else []


def _part(run: Running, work: Work, cell: Cell, rows: range, earlier: grown.Earlier | None) -> tuple[Stored, Kept]:
    """Measure a part of a cell, and write its files."""
    started = time.perf_counter()
    study, here = run.planned.studies[cell.study], work.some(rows)
    numbers, kept = measured(run, here, cell, rows, earlier)
    spent = time.perf_counter() - started
    said, marks = marks_of(here, cell, study, numbers, kept) if kept.pictures else ({}, {})
    laid = run.store.lay(
        cell,
        numbers,
        axes=study.axes,
        facts={
            "provenance": dataclasses.asdict(dataclasses.replace(work.provenance, batch_size=run.batch_size)),
            "skipped": [list(pair) for pair in here.data.skipped],
            "n": len(here.data.ids),
            "seconds": round(spent, 4),
            "warnings": kept.said,
            **({"broken": numbers.broken} if numbers.broken else {}),
        },
        exhibits={(i, kept.says[i, at] or said.get(i, ""), at): shown for (i, at), shown in kept.pictures.items()},
        marks=marks,
        files=kept.files,
    )
    return laid, kept


def _finish(run: Running, work: Work, cell: Cell, found: Sequence[Stored], earlier: grown.Earlier | None) -> None:
    """Judge the whole cell, and let it count as complete. A store that cannot be written ends the run: nothing could be kept."""
    study = run.planned.studies[cell.study]
    try:
        whole = counted(parts.together(found), study, earlier)
        if cell.study == BASELINE:  # before the cell is kept: a kill in between must not lose the warning
            check_order(run, work, cell, whole)
            check_chance(run, cell, whole)
    except (Unwritable, Unreachable):
        raise
    except VitalsError:
        run.store.drop_parts(cell_id(cell))  # another try measures them again
        raise
    say_skipped(run, cell.images.spec, [(item, reason) for item, reason in whole.facts["skipped"]])
    for warning in whole.facts["warnings"]:
        run.warn(f"{cell.study} on {cell.backbone.spec}: {warning}")
    width = _width(study, whole)
    run.store.finish(whole)
    run.widths[order.work_of(cell)] = max(width, run.widths.get(order.work_of(cell), 0.0))


def say_skipped(run: Running, spec: str, skipped: Sequence[tuple[str, str]]) -> None:
    """Name the pictures of a set that cannot be read; of a set in shards they are known when the shards have been decoded."""
    if skipped:
        limit, n = run.planned.plan.limit, len(run.planned.sets[spec])
        named = ", ".join(f"{item} ({reason})" for item, reason in skipped[:3])
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        of = f"{len(skipped)} of {n if limit is None else min(limit, n)} images"
        run.warn(f"{spec}: {of} cannot be read and are left out: {named}{more}.")


def _width(study: Study, cell: Stored) -> float:
    """Of the interval of a cell's first share: how little is known of it yet."""
    shares = [m for ms in cell.points.values() for m in ms if study.metrics[m].share and study.metrics[m].averaged]
    if not shares:
        return 0.0
    at = next(at for at, metrics in cell.points.items() if shares[0] in metrics)
    values = cell.values(shares[:1], at)[shares[0]]
    if len(values := values[np.isfinite(values)]) < 2:
        return 0.0
    e = stats.estimate(values, bounds=study.metrics[shares[0]].bounds)
    return e.high - e.low
