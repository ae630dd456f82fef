"""Runs the cells that are missing: decode once, load each backbone once, measure, store. A cell that fails stops nothing else."""

import dataclasses
import functools
import gc
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visionvitals.core import Backbone, Cell, Place
from visionvitals.errors import VitalsError, require
from visionvitals.job import Job
from visionvitals.plan import planner
from visionvitals.plan.identity import cell_id, plain
from visionvitals.plan.planner import Planned
from visionvitals.run import devices, exhibits, folder, memory, provenance, wide
from visionvitals.run.calibrate import images_of
from visionvitals.run.memo import DiskMemos, code
from visionvitals.run.progress import Meter, meter
from visionvitals.run.store import Store, Unwritable
from visionvitals.study import BASELINE, REPEATS, Study

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
    require(workers is None or workers > 0, "`--workers` must be positive", workers)
    store = folder.claim(out, planned, command=command)
    memory.keep()
    there, damaged = store.survey()
    missing = [cell for cell in planned.cells if cell_id(cell) not in there]
    with meter(cells=len(missing), images=sum(map(images_of, missing))) as state:
        run = _Run(
            planned=planned,
            out=out,
            store=store,
            state=state,
            device=device,
            batch_size=batch_size or devices.default_batch_size(device),
            workers=workers,
            command=tuple(command),
            warnings=folder.warn(out, ()),
        )
        for identifier, what in damaged.items():
            store.set_aside(identifier)
            run.warn(
                f"the cell {identifier} was not as it was written ({what}); it was set aside and counts as missing"
            )
        for spec in planned.plan.backbones:
            cells = [cell for cell in missing if cell.backbone.spec == spec]
            if cells:
                _visit(run, spec, cells)
                gc.collect()
    return Outcome(
        measured=len(missing) - len(run.failed),
        found=len(planned.cells) - len(missing),
        failed=tuple(run.failed),
        warnings=tuple(run.warnings),
    )


@dataclass(kw_only=True)
class _Run:
    """A run of one process. What changes while it goes on: the batch size, where memory ran out, and what was noticed."""

    planned: Planned
    out: Path
    store: Store
    state: Meter
    device: "torch.device"
    batch_size: int
    workers: int | None
    command: tuple[str, ...]
    warnings: list[str]
    failed: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Say a sentence and keep it with the run, once."""
        if text not in self.warnings:
            self.state.say(f"Warning: {text}")
            self.warnings[:] = folder.warn(self.out, [text])

    def fail(self, cell: Cell, error: BaseException) -> None:
        """Record why a cell failed, and say it in a sentence."""
        said = str(error) if isinstance(error, VitalsError) else f"{type(error).__name__}: {error}"
        values = ", ".join(f"{k}={v}" for k, v in plain(cell.condition).items())
        sentence = f"{cell.study} ({values}) on {cell.backbone.spec}, {cell.images.spec}: {said}"
        self.store.write_failure(cell, error=said, traceback="".join(traceback.format_exception(error)))
        self.state.say(f"Failed: {sentence}")
        self.state.finish_cell(unmeasured=images_of(cell))
        self.failed.append(sentence)


def _visit(run: _Run, spec: str, cells: Sequence[Cell]) -> None:
    """Measure the cells of one backbone, image set by image set, the baseline first."""
    run.state.say(f"Loading {spec}")
    try:
        backbone = planner.load_backbone(spec, device=run.device)
        planned = run.planned.backbones[spec].digest
        require(
            backbone.card.digest == planned, f"`{spec}` must stay what it was when planned", "other weights or code"
        )
    except Exception as error:  # it could be loaded for the plan; now its file is gone, or memory is full
        for cell in cells:
            run.fail(cell, error)
        return
    weights = next(backbone.module.parameters(), None)
    facts = provenance.collect(
        device=run.device,
        dtype=None if weights is None else weights.dtype,
        batch_size=run.batch_size,
        command=run.command,
    )
    companion = functools.lru_cache(maxsize=1)(functools.partial(planner.load_backbone, device=run.device))
    for images in run.planned.sets:
        mine = sorted((c for c in cells if c.images.spec == images), key=lambda c: c.study != BASELINE)
        if not mine:
            continue
        try:
            data = _decode(run, backbone, images)
        except Exception as error:
            for cell in mine:
                run.fail(cell, error)
            continue
        aligned = run.planned.alignments.get((spec, images))
        work = _Work(
            backbone=backbone,
            data=data,
            outputs=None if aligned is None else np.asarray(aligned.indices, dtype=np.int64)[data.labels],
            shown=exhibits.choose(data.ids, seed=run.planned.plan.seed),
            companion=companion,
            provenance=facts,
        )
        for cell in mine:
            _cell(run, work, cell)


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A backbone and the images that it is shown.

    Attributes:
        outputs: int64 (n,), the labels as outputs of the backbone; None where they do not fit.
        shown: ids of the images whose pictures are kept.
    """

    backbone: Backbone
    data: "Decoded"
    outputs: np.ndarray | None
    shown: frozenset[str]
    companion: Callable[[str], Backbone]
    provenance: provenance.Provenance

    def labels(self, study: Study) -> np.ndarray:
        """As the study reads them."""
        if study.labels != "outputs":
            return self.data.labels
        assert self.outputs is not None, "the planner skips labels that do not fit"
        return self.outputs


@dataclass
class _Kept:
    """What one pass of a study leaves beside its numbers."""

    pictures: dict[tuple[str, Place], Image.Image] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    counted: int = 0


def _cell(run: _Run, work: _Work, cell: Cell) -> None:
    """Measure one cell and keep it; a failure of whatever kind is recorded."""
    study = run.planned.studies[cell.study]
    kept = _Kept()
    try:
        started = time.perf_counter()
        numbers, kept = _measure(run, work, cell, study)
        seconds = time.perf_counter() - started
        if cell.study == BASELINE:  # before the cell is kept: a kill in between must not lose the warning
            _check_chance(run, cell, numbers)
        _keep(run, work, cell, study, numbers, kept, seconds)
    except Unwritable:
        raise
    except (Exception, SystemExit) as error:
        run.state.advance(-kept.counted)
        run.fail(cell, error)
        return
    run.state.finish_cell(unmeasured=images_of(cell) - len(work.data.ids))


def _measure(run: _Run, work: _Work, cell: Cell, study: Study) -> tuple[wide.Wide, _Kept]:
    """Measure one cell; where memory runs out, again with half the batch, down to one image."""
    import torch

    began_with = run.batch_size
    while True:
        kept = _Kept()
        try:
            with run.state.measuring(), torch.no_grad():
                blocks = study.measure(_job(run, work, cell, study, kept))
                items = list(dict.fromkeys(map(study.item, work.data.ids)))
                numbers = wide.gather(blocks, study=study.name, axes=study.axes, metrics=study.metrics, ids=items)
            break
        except Exception as error:
            run.state.advance(-kept.counted)
            if run.batch_size == 1 or not devices.out_of_memory(error):
                raise
        run.batch_size //= 2  # below the handler, whose traceback would hold the memory
        run.state.say(f"Out of memory: {cell.study} goes on with batches of {run.batch_size}")
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    if run.batch_size != began_with:
        kept.said.append(f"out of memory with batches of {began_with}; measured with {run.batch_size}")
    for over, count in numbers.broken.items():
        kept.said.append(f"{count} {over} gave values that are not finite and are not counted")
    return numbers, kept


def _job(run: _Run, work: _Work, cell: Cell, study: Study, kept: _Kept) -> Job:
    def count(images: int) -> None:
        kept.counted += images
        run.state.advance(images)

    def keep(item: str, image: "torch.Tensor", at: Place = ()) -> None:
        kept.pictures[item, at] = exhibits.picture(image)

    first_run = getattr(cell.condition, REPEATS, 0) == 0
    return Job(
        backbone=work.backbone,
        condition=cell.condition,
        ids=work.data.ids,
        pixels=work.data.pixels,
        labels=work.labels(study),
        images=cell.images,
        textures=work.data.textures,
        masks=work.data.masks,
        splits=work.data.splits,
        seed=cell.seed,
        batch_size=run.batch_size,
        exhibits=work.shown if first_run else frozenset(),
        keep=keep,
        progress=count,
        companion=work.companion,
        warn=lambda text: kept.said.append(text) if text not in kept.said else None,
        attach=kept.files.__setitem__,
        memos=DiskMemos(),
        facts={"decoder": cell.decoder, "limit": cell.limit, "code": {**code(), "study": cell.source}},
    )


def _keep(run: _Run, work: _Work, cell: Cell, study: Study, numbers: wide.Wide, kept: _Kept, seconds: float) -> None:
    """Write a measured cell. A store that cannot be written ends the run: nothing could be kept."""
    for warning in kept.said:
        run.warn(f"{cell.study} on {cell.backbone.spec}: {warning}")
    n = len(work.data.ids)
    said, marks = _marks(work, cell, study, numbers, kept) if kept.pictures else ({}, {})
    run.store.write(
        cell,
        [numbers],
        axes=study.axes,
        facts={
            "provenance": dataclasses.asdict(dataclasses.replace(work.provenance, batch_size=run.batch_size)),
            "skipped": [list(pair) for pair in work.data.skipped],
            "n": n,
            "seconds": round(seconds, 4),
            "images_per_second": round(n / seconds, 2),
            "warnings": kept.said,
        },
        exhibits={(item, said.get(item, ""), at): shown for (item, at), shown in kept.pictures.items()},
        marks=marks,
        files=kept.files,
    )


def _marks(
    work: _Work, cell: Cell, study: Study, numbers: wide.Wide, kept: _Kept
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Of the pictures that are kept: the predicted class in words; the true one, and whether they agree."""
    shown = {item for item, _ in kept.pictures}
    predicted: dict[str, int] = {}
    for block in numbers.blocks.values():
        values = block.values.get("prediction", np.empty(0))
        predicted |= {
            item: int(v) for item, v in zip(block.items, values, strict=False) if item in shown and np.isfinite(v)
        }
    names = cell.backbone if study.labels == "outputs" else cell.images
    answers = cell.images if study.labels == "own" else cell.backbone
    wanted = {i: int(v) for i, v in zip(work.data.ids, work.labels(study), strict=True) if i in shown}
    marks: dict[str, dict[str, Any]] = {}
    for item in shown:
        marks[item] = {"label": exhibits.class_name(wanted[item], names) if item in wanted else ""}
        if item in predicted and item in wanted:
            marks[item]["correct"] = predicted[item] == wanted[item]
    return {item: exhibits.class_name(k, answers) for item, k in predicted.items()}, marks


def _decode(run: _Run, backbone: Backbone, spec: str) -> "Decoded":
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
        backbone.card.preprocess,
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


def _check_chance(run: _Run, cell: Cell, numbers: wide.Wide) -> None:
    """Warn where the clean accuracy is that of guessing: something is misread then."""
    from visionvitals.datasets.base import labels as _labels

    card = cell.backbone
    correct = numbers.blocks[()].values["top1"]
    scored = correct[np.isfinite(correct)]
    warning = _labels.chance_warning(
        float(scored.mean()) if len(scored) else 0.0,
        len(scored),
        card.outputs,
        how=run.planned.alignments[card.spec, cell.images.spec].how,
        preprocess=card.preprocess,
    )
    if warning is not None:
        run.warn(f"{card.spec} on {cell.images.spec}: {warning}")
