"""Runs the cells that are missing: decode once, load each backbone once, measure, store. A cell that fails stops nothing else."""

import dataclasses
import functools
import gc
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from visionvitals import registry
from visionvitals.core import Backbone, Cell, Job
from visionvitals.errors import VitalsError, require
from visionvitals.metrics import METRICS
from visionvitals.run import devices, exhibits, folder, memory, planner, products, provenance
from visionvitals.run.calibrate import images_of
from visionvitals.run.identity import cell_id, plain
from visionvitals.run.planner import Planned
from visionvitals.run.progress import Meter, meter
from visionvitals.run.rows import Place, Rows
from visionvitals.run.store import Store

if TYPE_CHECKING:
    import torch

    from visionvitals.datasets.base.cache import Decoded


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended.

    Attributes:
        measured: cells of this call.
        found: cells that the store held already.
        failed: one sentence per failed cell.
        warnings: what the run noticed.
    """

    measured: int
    found: int
    failed: tuple[str, ...]
    warnings: tuple[str, ...]


def execute(
    planned: Planned,
    *,
    out: Path,
    device: "torch.device",
    batch_size: int | None = None,
    workers: int | None = None,
    command: Sequence[str] = (),
) -> Outcome:
    """Measure every cell of a plan that `out` does not hold yet.

    Args:
        planned: from `planner.make`.
        out: the run folder, new or begun by the same plan.
        device: where to compute.
        batch_size: images a forward pass; None for the device's default. Results do not depend on it.
        workers: decoding threads; None for one per core.
        command: what the user typed, as words; kept as provenance.

    Raises:
        VitalsError: the folder holds another plan, or results cannot be written. A failing cell is recorded and does not raise.
    """
    require(batch_size is None or batch_size > 0, "`--batch-size` must be positive", batch_size)
    store = folder.claim(out, planned, command=command)
    store.sweep()
    memory.keep()
    missing = [cell for cell in planned.cells if not store.has(cell_id(cell))]
    failed: list[str] = []
    warnings = folder.warn(out, ())
    with meter(cells=len(missing), images=sum(map(images_of, missing))) as state:

        def warn(text: str) -> None:
            if text not in warnings:
                state.say(f"Warning: {text}")
                warnings[:] = folder.warn(out, [text])

        for spec in planned.plan.backbones:
            cells = [cell for cell in missing if cell.backbone.spec == spec]
            if not cells:
                continue
            state.say(f"Loading {spec}")
            try:
                backbone = planner.load_backbone(spec, device=device)
            except Exception as error:  # it could be loaded for the plan; now its file is gone, or memory is full
                failed += [_fail(store, state, cell, error) for cell in cells]
                continue
            run = _Run(
                planned=planned,
                store=store,
                backbone=backbone,
                workers=workers,
                command=tuple(command),
                state=state,
                warn=warn,
                companion=functools.lru_cache(maxsize=1)(functools.partial(planner.load_backbone, device=device)),
            )
            failed += _run_backbone(run, cells, batch_size or devices.default_batch_size(device))
            del run, backbone
            gc.collect()
    return Outcome(
        measured=len(missing) - len(failed),
        found=len(planned.cells) - len(missing),
        failed=tuple(failed),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, kw_only=True)
class _Run:
    """One backbone's part of a run."""

    planned: Planned
    store: Store
    backbone: Backbone
    workers: int | None
    command: tuple[str, ...]
    state: Meter
    warn: Callable[[str], None]
    companion: Callable[[str], Backbone]


def _run_backbone(run: _Run, cells: Sequence[Cell], batch_size: int) -> list[str]:
    """Measure the cells of one backbone, image set by image set, `clean` first; returns a sentence per failed cell."""
    failed: list[str] = []
    card = run.backbone.card
    weights = next(run.backbone.module.parameters(), None)
    facts = provenance.collect(
        device=run.backbone.device,
        dtype=None if weights is None else weights.dtype,
        batch_size=batch_size,
        command=run.command,
    )
    for spec in run.planned.sets:
        mine = sorted((c for c in cells if c.images.spec == spec), key=lambda c: c.study != "clean")
        if not mine:
            continue
        try:
            data = _decode(run, spec)
        except Exception as error:
            failed += [_fail(run.store, run.state, cell, error) for cell in mine]
            continue
        aligned = run.planned.alignments.get((card.spec, spec))
        outputs = None if aligned is None else np.asarray(aligned.indices, dtype=np.int64)[data.labels]
        shown = exhibits.choose(data.ids, seed=run.planned.plan.seed)
        for cell in mine:
            module = _study_of(run.planned, cell.study)
            labels = outputs if module.LABELS == "outputs" else data.labels
            assert labels is not None, "the planner refuses labels that do not fit"
            task = _Task(cell=cell, study=module, data=data, labels=labels, exhibits=shown)
            try:
                measured = _measure(run, task, batch_size)
            except Exception as error:
                failed.append(_fail(run.store, run.state, cell, error))
                continue
            batch_size = measured.batch_size
            if cell.study == "clean":  # before the cell is kept: a kill in between must not lose the warning
                _check_chance(run, cell, measured.rows)
            try:
                _keep(run, task, measured, facts)
            except VitalsError:  # the store cannot be written
                raise
            except Exception as error:  # what the study gave cannot be stored, e.g. places of two types on one axis
                run.state.advance(-len(data.ids))
                failed.append(_fail(run.store, run.state, cell, error))
                continue
            run.state.finish_cell(unmeasured=images_of(cell) - len(data.ids))
    return failed


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A cell with what it is measured on."""

    cell: Cell
    study: Any
    data: "Decoded"
    labels: np.ndarray
    exhibits: frozenset[str]


class _Measured(NamedTuple):
    rows: Rows
    pictures: dict[tuple[str, Place], Image.Image]
    seconds: float
    batch_size: int
    warnings: tuple[str, ...]
    files: dict[str, bytes]


def _measure(run: _Run, task: _Task, batch_size: int) -> _Measured:
    """Measure one cell; where memory runs out, again with half the batch, down to one image."""
    import torch

    began_with = batch_size
    first_run = plain(task.cell.condition).get("run", 0) == 0
    while True:
        pictures: dict[tuple[str, Place], Image.Image] = {}
        said: list[str] = []
        files: dict[str, bytes] = {}
        counted = 0

        def count(images: int) -> None:
            nonlocal counted
            counted += images
            run.state.advance(images)

        def keep(item: str, image: "torch.Tensor", at: Place = ()) -> None:
            pictures[item, at] = exhibits.picture(image)  # noqa: B023  consumed within this turn of the loop

        job = Job(
            backbone=run.backbone,
            condition=task.cell.condition,
            ids=task.data.ids,
            pixels=task.data.pixels,
            labels=task.labels,
            images=task.cell.images,
            textures=task.data.textures,
            masks=task.data.masks,
            splits=task.data.splits,
            seed=task.cell.seed,
            batch_size=batch_size,
            exhibits=task.exhibits if first_run else frozenset(),
            keep=keep,
            progress=count,
            companion=run.companion,
            product=functools.partial(products.product, _product_facts(task.cell)),
            warn=said.append,
            attach=files.__setitem__,
        )
        start = time.perf_counter()
        try:
            with run.state.measuring(), torch.no_grad():
                rows = Rows(task.study.measure(job))
            break
        except Exception as error:
            run.state.advance(-counted)
            if batch_size == 1 or not devices.out_of_memory(error):
                raise
        batch_size = batch_size // 2  # below the handler, whose traceback would hold the memory
        run.state.say(f"Out of memory: {task.cell.study} goes on with batches of {batch_size}")
        gc.collect()
        if run.backbone.device.type == "cuda":
            torch.cuda.empty_cache()
    unknown = set(rows.metrics) - METRICS.keys()
    require(not unknown, "A study's metrics must stand in `metrics.METRICS`", sorted(unknown))
    axes = len(task.study.AXES)
    require(
        all(len(at) == axes for at in rows.places), f"Every row must say where it stands on {task.study.AXES}", "others"
    )
    warnings = list(dict.fromkeys(said))
    if batch_size != began_with:
        warnings.append(f"out of memory with batches of {began_with}; measured with {batch_size}")
    broken = len({row.item for row in rows if not math.isfinite(row.value)})
    if broken:
        warnings.append(f"{broken} of {len(task.data.ids)} images gave values that are not finite")
    return _Measured(rows, pictures, time.perf_counter() - start, batch_size, tuple(warnings), files)


def _product_facts(cell: Cell) -> dict[str, Any]:
    """What decides the images of a cell and their order, for everything that is computed once from them."""
    p = cell.backbone.preprocess
    return {
        "images": cell.images.digest,
        "cut": [plain(p.size), p.resize, p.interpolation],
        "decoder": cell.decoder,
        "limit": cell.limit,
        "seed": cell.seed,
    }


def _keep(run: _Run, task: _Task, measured: _Measured, facts: provenance.Provenance) -> None:
    """Write a measured cell. A store that cannot be written ends the run: nothing could be kept."""
    card = run.backbone.card
    predicted = {
        row.item: int(row.value) for row in measured.rows if row.metric == "prediction" and row.item in task.exhibits
    }
    wanted = {item: int(label) for item, label in zip(task.data.ids, task.labels, strict=True) if item in task.exhibits}
    images = task.cell.images
    names = card if task.study.LABELS == "outputs" else images
    answers = images if task.study.LABELS == "own" else card
    for warning in measured.warnings:
        run.warn(f"{task.cell.study} on {card.spec}: {warning}")
    n = len(task.data.ids)
    run.store.write(
        task.cell,
        measured.rows,
        facts={
            "provenance": plain(dataclasses.replace(facts, batch_size=measured.batch_size)),
            "skipped": [list(pair) for pair in task.data.skipped],
            "n": n,
            "seconds": round(measured.seconds, 4),
            "images_per_second": round(n / measured.seconds, 2),
            "warnings": list(measured.warnings),
        },
        exhibits={
            (item, exhibits.class_name(predicted[item], answers) if item in predicted else "", at): shown
            for (item, at), shown in measured.pictures.items()
        },
        axes=task.study.AXES,
        marks={
            item: {"label": exhibits.class_name(wanted[item], names) if item in wanted else ""}
            | ({"correct": predicted[item] == wanted[item]} if item in predicted and item in wanted else {})
            for item, _ in measured.pictures
        },
        files=measured.files,
    )


def _decode(run: _Run, spec: str) -> "Decoded":
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

    data = _cache.decoded(
        images,
        run.backbone.card.preprocess,
        decoder=plan.decoder,
        limit=plan.limit,
        seed=plan.seed,
        workers=run.workers,
        progress=count,
    )
    if data.skipped:
        named = ", ".join(f"{item} ({reason})" for item, reason in data.skipped[:3])
        more = f" and {len(data.skipped) - 3} more" if len(data.skipped) > 3 else ""
        run.warn(f"{spec}: {len(data.skipped)} of {total} images cannot be read and are left out: {named}{more}.")
    return data


def _fail(store: Store, state: Meter, cell: Cell, error: Exception) -> str:
    """Record why a cell failed, and say it in a sentence."""
    said = str(error) if isinstance(error, VitalsError) else f"{type(error).__name__}: {error}"
    values = ", ".join(f"{k}={v}" for k, v in plain(cell.condition).items())
    sentence = f"{cell.study} ({values}) on {cell.backbone.spec}, {cell.images.spec}: {said}"
    try:
        store.write_failure(cell, error=said, traceback="".join(traceback.format_exception(error)))
    except OSError as full:
        raise VitalsError(f"Results must be writable under {store.root}. Got: {full}. Free some space.") from full
    state.say(f"Failed: {sentence}")
    state.finish_cell(unmeasured=images_of(cell))
    return sentence


def _check_chance(run: _Run, cell: Cell, rows: Rows) -> None:
    """Warn where the clean accuracy is that of guessing: something is misread then."""
    from visionvitals.datasets.base import labels as _labels

    card = run.backbone.card
    correct = [row.value for row in rows if row.metric == "top1"]
    warning = _labels.chance_warning(
        sum(correct) / max(1, len(correct)),
        len(correct),
        card.outputs,
        how=run.planned.alignments[card.spec, cell.images.spec].how,
        preprocess=card.preprocess,
    )
    if warning is not None:
        run.warn(f"{card.spec} on {cell.images.spec}: {warning}")


def _study_of(planned: Planned, name: str) -> Any:
    spelled = next(s.name for s in planned.plan.studies if planner.study_name(s.name) == name)
    return registry.load("studies", spelled)
