"""Runs the cells that are missing: decode once, load each backbone once, measure, store. A cell that fails stops nothing else."""

import dataclasses
import functools
import gc
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from visionvitals import registry
from visionvitals.core import Backbone, Cell, Preprocess
from visionvitals.errors import require
from visionvitals.job import Embeddings
from visionvitals.numerics import FP32
from visionvitals.plan import cards, planner
from visionvitals.plan.planner import Planned
from visionvitals.remote import AnyPath
from visionvitals.run import devices, exhibits, folder, groups, grown, keeping, memory, order, provenance, taking
from visionvitals.run.measure import Held, Running, Work
from visionvitals.run.precision import calibrated
from visionvitals.run.progress import cells, duration, meter
from visionvitals.run.stopping import seeded

if TYPE_CHECKING:
    import torch

    from visionvitals.datasets.base.cache import Decoded


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        measured: cells of this call.
        found: cells that the store held already.
        failures: id -> why the cell failed, in a sentence.
        warnings: what the run noticed.
    """

    measured: int
    found: int
    failures: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """A sentence for each failed cell."""
        return tuple(self.failures.values())


def execute(
    planned: Planned,
    *,
    out: AnyPath,
    device: "torch.device",
    batch_size: int | None = None,
    workers: int | None = None,
    command: Sequence[str] = (),
    reuse: Sequence[AnyPath] = (),
    mine: Mapping[str, Collection[int]] | None = None,
    by: str = "",
    rates: Mapping[str, float] = MappingProxyType({}),
    milestone: Callable[[bool], None] = lambda headline: None,
    studies: Collection[str] | None = None,
    held: Held | None = None,
) -> Outcome:
    """Measure every cell of a plan that `out` does not hold yet.

    Args:
        planned: from `planner.make`.
        out: the run folder, new or begun by the same plan.
        device: where to compute.
        batch_size: images a forward pass; None for the device's default. Results do not depend on it.
        workers: decoding threads; None for one per core.
        command: what the user typed, as words; kept as provenance.
        reuse: run folders whose equal cells are taken instead of measuring them.
        mine: id -> the numbers of the parts (see `run.parts`) of the cells of this process, of a run that was planned and that others
            measure too; None for all. Nothing of the folder but cells, groups and warnings is written then.
        by: what to call this process beside the others.
        rates: backbone -> images per second of a forward pass; with it the expected time is said where it is over a minute.
        milestone: called after each cell; with True once, when the cells that signs are read from are all there (see `run.order`), and
            more are to come.
        studies: names of the studies whose cells are measured now; None for all.
        held: what the call before has kept, of a process that is called for a few cells at a time; who calls it clears the store.

    Raises:
        VitalsError: the folder holds another plan, or results cannot be written. A failing cell is recorded and does not raise.
    """
    require(batch_size is None or batch_size > 0, "`--batch-size` must be positive", batch_size)
    require(workers is None or workers > 0, "`--workers` must be positive", workers)
    store = folder.claim(out, planned, command=command) if mine is None else folder.join(out, planned, frozenset(mine))
    groups.keep_known(out, planned.sets.values())
    memory.keep()
    chosen = planned.by_id.items() if mine is None else ((i, c) for i, c in planned.by_id.items() if i in mine)
    cells = {i: cell for i, cell in chosen if studies is None or cell.study in studies}
    by = by or (grown.look(planned.plan.limit) if planned.plan.until and planned.plan.limit else "")
    there, damaged = store.survey(cells)
    missing = {identifier: cell for identifier, cell in cells.items() if identifier not in there}
    with meter(cells=len(missing), images=0) as state:
        run = Running(
            planned=planned,
            out=out,
            store=store,
            state=state,
            device=device,
            batch_size=(held and held.batch_size) or batch_size or devices.default_batch_size(device),
            workers=workers,
            command=tuple(command),
            warnings=folder.warn(out, (), by=by),
            milestone=milestone,
            by=by,
            mine=mine,
            held=held or Held(),
        )
        state.images = sum(map(run.images, missing.values()))
        state.passes = sum(run.images(cell) * run.passes(cell) for cell in missing.values())
        _set_aside(run, damaged)
        left = taking.take(run, missing, reuse)
        _measure_all(run, left, rates)
    _clear(run, cells, held)
    return Outcome(
        measured=len(left) - len(run.failures),
        found=len(cells) - len(left),
        failures=run.failures,
        warnings=tuple(run.warnings),
    )


def _clear(run: Running, cells: Mapping[str, Cell], held: Held | None) -> None:
    """Keep what the next call needs; where there is none, remove what finished cells no longer need: parts that are in them, and what looks
    before held and noticed."""
    if held is not None:
        held.batch_size = run.batch_size
        return
    run.store.clear()
    grown.drop(run.out, run.store, cells)
    if run.planned.plan.until is not None:
        grown.forget(run.out, run.by)


def _set_aside(run: Running, damaged: Mapping[str, str]) -> None:
    for name, what in damaged.items():
        run.store.set_aside(name)
        run.warn(f"the cell {name} was not as it was written ({what}); it was set aside and counts as missing")


def _measure_all(run: Running, left: Mapping[str, Cell], rates: Mapping[str, float]) -> None:
    """Measure cells, by id, in the order of `run.order`; of those that the time may end the first looks, and then as long as there is time."""
    minutes = run.planned.plan.minutes
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    cost = order.headline(run.planned)
    first = [left[identifier] for identifier in sorted((i for i in left if i in cost), key=cost.__getitem__)]
    rest = [cell for identifier, cell in left.items() if identifier not in cost]
    _say_time(run, first, rest, rates)
    _measure(run, first)
    if first and rest:
        run.milestone(True)
    _measure(run, order.widest_first(rest, run.widths))
    while run.open and time.monotonic() < end:
        _measure(run, [left[max(run.open, key=run.open.__getitem__)]])
    run.over = True
    _measure(run, [left[identifier] for identifier in run.open])


def _say_time(run: Running, first: Sequence[Cell], rest: Sequence[Cell], rates: Mapping[str, float]) -> None:
    """How long it will take, where that is over a minute."""
    if not rates:
        return
    times = [sum(run.images(c) * run.passes(c) / rates[c.backbone.spec] for c in some) for some in (first, rest)]
    if sum(times) > 60:
        early = f", of the vital signs about {duration(times[0])}" if first and rest else ""
        run.state.say(f"{cells(len(first) + len(rest))}, about {duration(sum(times))} of forward passes{early}")


def _measure(run: Running, cells: Sequence[Cell]) -> None:
    """Measure cells, backbone by backbone, each in their order."""
    for spec in run.planned.plan.backbones:
        if mine := [cell for cell in cells if cell.backbone.spec == spec]:
            _visit(run, spec, mine)


def _load(run: Running, spec: str) -> Backbone:
    """The backbone of the plan; the last one is kept."""
    held = run.held
    if held.loaded is None or held.loaded.card.spec != spec:
        held.forget()
        gc.collect()  # the memory of the one before
        run.state.say(f"Loading {run.planned.plan.names.get(spec, spec)}")
        held.loaded = planner.load_backbone(spec, device=run.device)
    return held.loaded


def _visit(run: Running, spec: str, cells: Sequence[Cell]) -> None:
    """Measure the cells of one backbone, image set by image set, in their order."""
    try:
        backbone = _load(run, spec)
        planned, card = run.planned.backbones[spec], backbone.card
        answers = None if card.answers is None or planned.answers is None else planned.answers.differs(card.answers)
        if card != planned or answers is not None:
            cards.forget(spec, str(run.device))
        require(card.digest == planned.digest, f"`{spec}` must stay what it was when planned", "other weights or code")
        require(
            answers is None, f"`{spec}` must answer as it did when planned", answers, "Give the same command again."
        )
    except Exception as error:  # it could be loaded for the plan; now its file is gone, or memory is full
        for cell in cells:
            run.fail(cell, error)
        return
    weights = next(backbone.module.parameters(), None)
    facts = provenance.collect(
        device=run.device,
        dtype=None if weights is None else weights.dtype,
        shares=backbone.shares,
        batch_size=run.batch_size,
        command=run.command,
    )
    companion = functools.lru_cache(maxsize=1)(functools.partial(planner.load_backbone, device=run.device))
    for images in run.planned.sets:
        mine = [cell for cell in cells if cell.images.spec == images]
        if not mine:
            continue
        aligned = run.planned.alignments.get((spec, images))
        if (
            aligned is not None
            and aligned.guessed
            and any(run.planned.studies[c.study].labels == "outputs" for c in mine)
        ):
            as_is = "" if registry.in_memory(spec) else " or `?order=as-is`"
            run.warn(f"{spec} on {images}: {aligned.how}; {registry.way(spec, 'classes', value='FILE')}{as_is} says it")
        for cut, same in _by_cut(run, backbone.card.preprocess, mine).items():
            try:
                seeing, data, embeddings = _shown(run, backbone, images, cut)
            except Exception as error:
                for cell in same:
                    run.fail(cell, error)
                continue
            work = run.held.work = Work(
                backbone=seeing,
                data=data,
                aligned=aligned,
                shown=exhibits.choose(data.ids, seed=run.planned.plan.seed),
                companion=companion,
                provenance=facts,
                embeddings=embeddings,
                scorer=run.held.scorer,
                order=seeded(data.ids, run.planned.plan.seed) if any(cell.may_stop for cell in same) else None,
            )
            for cell in same:
                keeping.keep(run, work, cell)


def _shown(run: Running, backbone: Backbone, images: str, cut: Preprocess) -> "tuple[Backbone, Decoded, Embeddings]":
    """A backbone as it is shown an image set in some cut, the set, and the embeddings: of the work before where that was on the same. A first
    time makes the scorer too."""
    held, numerics = run.held, run.planned.plan.numerics
    if held.work is not None and held.shown == (images, cut):
        return held.work.backbone, held.work.data, held.work.embeddings
    held.work = None
    seeing = dataclasses.replace(backbone, card=dataclasses.replace(backbone.card, preprocess=cut))
    data = _decode(run, seeing, images)
    if held.scorer is None and numerics != FP32:
        held.scorer, slower = calibrated(run.out, backbone, numerics, data, images, run.batch_size)
        if slower:
            run.warn(slower)
    held.shown = images, cut
    return seeing, data, Embeddings(seeing, data.pixels)


def _by_cut(run: Running, usual: Preprocess, cells: Sequence[Cell]) -> dict[Preprocess, list[Cell]]:
    """The cells by how their studies want the pictures cut; one whose study cannot say fails."""
    found: dict[Preprocess, list[Cell]] = {}
    for cell in cells:
        try:
            cut = run.planned.studies[cell.study].cut(cell.condition, usual)
            must = f"`cut` of `{cell.study}` must return a Preprocess of the network's own size"
            require(isinstance(cut, Preprocess) and cut.size == usual.size, must, cut)
        except Exception as error:
            run.fail(cell, error)
        else:
            found.setdefault(cut, []).append(cell)
    return found


def _decode(run: Running, backbone: Backbone, spec: str) -> "Decoded":
    """The image set at the backbone's size, from the cache or decoded now."""
    from visionvitals.datasets.base import cache as _cache

    plan = run.planned.plan
    images = run.planned.sets[spec]
    done, total, last = 0, len(images) if plan.limit is None else min(plan.limit, len(images)), time.monotonic()

    def count(decoded: int) -> None:
        nonlocal done, last
        done += decoded
        if time.monotonic() - last >= 5:
            last = time.monotonic()
            run.state.say(f"Decoding {spec}: {done:,}/{total:,} images")

    data = _cache.opened(
        images,
        backbone.card.preprocess,
        decoder=plan.decoder,
        limit=plan.limit,
        seed=plan.seed,
        workers=run.workers,
        progress=count,
    )
    if groups.of_set(images) is None:
        groups.keep(
            out=run.out, digest=images.card.digest, groups=groups.of_labels(images.card, data.ids, data.labels.tolist())
        )
    keeping.say_skipped(run, spec, data.skipped)
    return data
