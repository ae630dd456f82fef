"""From the parts of a cell to a cell in the store: what is missing is measured, the whole is judged, and then it counts as complete."""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from visionvitals import stats
from visionvitals.core import Cell
from visionvitals.errors import Unreachable, VitalsError
from visionvitals.plan.identity import cell_id, plain
from visionvitals.run import exhibits, grown, order, parts, stopping, wide
from visionvitals.run.cell import DamagedCell, Stored, base_of
from visionvitals.run.checks import WrongOrder, check_chance, check_order
from visionvitals.run.measure import Kept, Running, Work, counted, marks_of, measured
from visionvitals.run.shelf import Unwritable
from visionvitals.study import BASELINE


def keep(run: Running, work: Work, cell: Cell) -> None:
    """Measure what this process measures of a cell; keep the cell where all its parts are there. A failure of whatever kind is recorded."""
    new: list[Kept] = []
    turn = run.open.pop(identifier := cell_id(cell), None) is not None and not run.over
    try:
        earlier = grown.find(run.earlier, cell, run.planned.studies[cell.study])
        if cell.may_stop:
            _grow(run, work, cell, earlier, new, turn)
        elif found := _parts(run, work, cell, earlier, new):
            _finish(run, work, cell, parts.together(found), earlier)
    except (Unwritable, Unreachable, WrongOrder):
        raise
    except (Exception, SystemExit) as error:
        if not (
            isinstance(error, DamagedCell) and run.store.has(identifier)
        ):  # else another process kept it, and has removed its parts
            run.state.advance(-sum(kept.counted for kept in new), run.passes(cell))
            run.fail(cell, error)
            return
    run.measured[identifier] += sum(kept.images for kept in new)
    if identifier not in run.open:
        run.state.finish_cell(unmeasured=run.images(cell) - run.measured[identifier], passes=run.passes(cell))
    run.milestone(False)


def _grow(run: Running, work: Work, cell: Cell, earlier: grown.Earlier | None, new: list[Kept], turn: bool) -> None:
    """Look at a cell, and keep it where it ends: its interval is narrow enough, all is measured, or the time is over. One that the time may
    end is left open after its first look, what is known beyond it, and one more where it is its turn. What looks left goes into `new`."""
    assert work.order is not None, "it is there where a cell may end early"
    store, identifier, study = run.store, cell_id(cell), run.planned.studies[cell.study]
    ids, rows = work.data.ids, work.order
    looks, found, width, half = stats.prefixes(len(rows)), list[Stored](), stopping.Width(study), 0.0
    shown = exhibits.choose([ids[row] for row in rows[: looks[0].images]], seed=cell.seed)
    work = dataclasses.replace(work, shown=shown)
    for k, look in enumerate(looks):
        part = range(looks[k - 1].images if k else 0, look.images)
        if store.has(identifier):  # another process was faster
            return
        there, here = store.part(identifier, part), np.sort(rows[part.start : part.stop])
        known = earlier is not None and not len(earlier.rest([ids[row] for row in here], frozenset()))
        if there is None and found and cell.minutes is not None and not known and not turn:
            look = looks[k - 1]
            break
        if there is None:
            there, kept = _part(run, work.some(here), cell, part, earlier)
            new.append(kept)
            turn = turn and known
            store.keep_part(there, part)
        found.append(there)
        half = width.after(there, look)
        if stopping.narrow(cell, half):
            break
    if cell.minutes is not None and look.images < look.most and not (run.over or stopping.narrow(cell, half)):
        run.open[identifier] = half
        return
    several = parts.together(found)
    by = "" if look.images == look.most else "half_width" if stopping.narrow(cell, half) else "minutes"
    end = {"images": look.images, "of": look.most, "look": look.number, "looks": look.of, "by": by}
    facts = {**several.facts, "stopped": end}
    if not any("provenance" in part for part in several.facts["parts"]):  # one machine measured all: one file
        prefix = [ids[row] for row in np.sort(rows[: look.images])]
        one = store.lay(cell, wide.joined(grown.numbers_of(several), wide.Wide(0, 0, {}), prefix), axes=study.axes)
        gone = {part["file"] for part in several.facts["parts"]}
        facts["parts"] = one.facts["parts"]
        for key in ("sha256", "bytes"):
            facts[key] = {n: v for n, v in several.facts[key].items() if n not in gone} | one.facts[key]
    _finish(run, work, cell, dataclasses.replace(several, facts=facts), earlier)
    named = store.cell(identifier).facts["sha256"]
    for name in {part["file"] for part in several.facts["parts"]} - named.keys():
        store.shelf.remove(f"{base_of(identifier)}/{name}")


def _parts(run: Running, work: Work, cell: Cell, earlier: grown.Earlier | None, new: list[Kept]) -> list[Stored]:
    """All parts of a cell; those of this process are measured where they are missing, and what that left goes into `new`. None where
    those of other processes lack, or one of these has kept the cell."""
    store, identifier, images = run.store, cell_id(cell), len(work.data.ids)
    every = parts.of(run.planned.studies[cell.study], cell.condition, images)
    found: dict[range, Stored] = {}
    for rows in run.parts(cell, images):
        if store.has(identifier):  # another process was faster
            return []
        if (there := store.part(identifier, rows)) is None:
            there, kept = _part(run, work.some(rows), cell, rows, earlier)
            new.append(kept)
            if len(every) > 1:
                store.keep_part(there, rows)
        found[rows] = there
    if not all(rows in found or store.has_part(identifier, rows) for rows in every):
        return []
    whole = [found[rows] if rows in found else store.part(identifier, rows) for rows in every]
    return [part for part in whole if part is not None] if None not in whole else []


def _part(run: Running, here: Work, cell: Cell, rows: range, earlier: grown.Earlier | None) -> tuple[Stored, Kept]:
    """Measure a part of a cell, and write its files."""
    started = time.perf_counter()
    study = run.planned.studies[cell.study]
    numbers, kept = measured(run, here, cell, rows, earlier)
    spent = time.perf_counter() - started
    said, marks = marks_of(here, cell, study, numbers, kept) if kept.pictures else ({}, {})
    laid = run.store.lay(
        cell,
        numbers,
        axes=study.axes,
        facts={
            "provenance": plain(dataclasses.replace(here.provenance, batch_size=run.batch_size)),
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


def _finish(run: Running, work: Work, cell: Cell, found: Stored, earlier: grown.Earlier | None) -> None:
    """Judge the whole cell, and let it count as complete. A store that cannot be written ends the run: nothing could be kept."""
    study = run.planned.studies[cell.study]
    try:
        whole = counted(found, study, earlier)
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
    width = stopping.Width(study).after(whole)
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
