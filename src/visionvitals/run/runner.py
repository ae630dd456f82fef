"""Runs the cells that are missing: decode once, load each backbone once, measure, store. A cell that fails stops nothing else."""

import dataclasses
import functools
import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionvitals.core import Backbone, Cell, Preprocess
from visionvitals.errors import VitalsError, require
from visionvitals.plan import planner
from visionvitals.plan.identity import cell_id
from visionvitals.plan.planner import Planned
from visionvitals.run import devices, exhibits, folder, memory, provenance, wide
from visionvitals.run.calibrate import images_of
from visionvitals.run.measure import Kept, Running, Work, marks_of, measured
from visionvitals.run.progress import meter
from visionvitals.run.shelf import Unwritable
from visionvitals.study import BASELINE, Study

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
        run = Running(
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
                gc.collect()  # the memory of the one before
                _visit(run, spec, cells)
    return Outcome(
        measured=len(missing) - len(run.failed),
        found=len(planned.cells) - len(missing),
        failed=tuple(run.failed),
        warnings=tuple(run.warnings),
    )


def _visit(run: Running, spec: str, cells: Sequence[Cell]) -> None:
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
        aligned = run.planned.alignments.get((spec, images))
        if (
            aligned is not None
            and aligned.guessed
            and any(run.planned.studies[c.study].labels == "outputs" for c in mine)
        ):
            run.warn(f"{spec} on {images}: {aligned.how}; `?classes=FILE` or `?order=as-is` says it")
        outputs = None if aligned is None else np.asarray(aligned.indices, dtype=np.int64)
        for cut, same in _by_cut(run, backbone.card.preprocess, mine).items():
            seeing = dataclasses.replace(backbone, card=dataclasses.replace(backbone.card, preprocess=cut))
            try:
                data = _decode(run, seeing, images)
            except Exception as error:
                for cell in same:
                    run.fail(cell, error)
                continue
            work = Work(
                backbone=seeing,
                data=data,
                outputs=None if outputs is None else outputs[data.labels],
                shown=exhibits.choose(data.ids, seed=run.planned.plan.seed),
                companion=companion,
                provenance=facts,
            )
            for cell in same:
                _cell(run, work, cell)


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


def _cell(run: Running, work: Work, cell: Cell) -> None:
    """Measure one cell and keep it; a failure of whatever kind is recorded."""
    study = run.planned.studies[cell.study]
    kept = Kept()
    try:
        started = time.perf_counter()
        numbers, kept = measured(run, work, cell, study)
        seconds = time.perf_counter() - started
        if cell.study == BASELINE:  # before the cell is kept: a kill in between must not lose the warning
            _check_order(run, work, cell, numbers)
            _check_chance(run, cell, numbers)
        _keep(run, work, cell, study, numbers, kept, seconds)
    except (Unwritable, WrongOrder):
        raise
    except (Exception, SystemExit) as error:
        run.state.advance(-kept.counted)
        run.fail(cell, error)
        return
    run.state.finish_cell(unmeasured=images_of(cell) - len(work.data.ids))


def _keep(run: Running, work: Work, cell: Cell, study: Study, numbers: wide.Wide, kept: Kept, seconds: float) -> None:
    """Write a measured cell. A store that cannot be written ends the run: nothing could be kept."""
    for warning in kept.said:
        run.warn(f"{cell.study} on {cell.backbone.spec}: {warning}")
    n = len(work.data.ids)
    said, marks = marks_of(work, cell, study, numbers, kept) if kept.pictures else ({}, {})
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


class WrongOrder(VitalsError):
    """A guessed order of the outputs is not the one that the network was trained in: going on would measure something else."""


def _check_order(run: Running, work: Work, cell: Cell, numbers: wide.Wide) -> None:
    """Judge a guessed order of the outputs by what the network says.

    Raises:
        WrongOrder: under another order it is right on over ten points more.
    """
    from visionvitals.datasets.base import labels

    card, images = cell.backbone, cell.images
    aligned = run.planned.alignments[card.spec, images.spec]
    if not aligned.guessed:
        return
    block = numbers.blocks[()]
    labelled = dict(zip(work.data.ids, work.labels(run.planned.studies[cell.study]).tolist(), strict=True))
    wanted = np.array([labelled[item] for item in block.items])
    scored = np.isfinite(block.values["prediction"])
    scored &= [item not in work.data.copies for item in block.items]  # a copy would choose the order and judge it
    found = labels.better_order(block.values["prediction"][scored].astype(np.int64), wanted[scored])
    if found is None:
        return
    order, gain = found
    known = [(name, k) for name, k in zip(images.class_names, aligned.indices, strict=True) if k < len(order)]
    names = ", ".join(f"{name} = output {order[k]}" for name, k in known[:8])
    raise WrongOrder(
        f"The outputs of `{card.spec}` have no names, and the order in which the classes of `{images.spec}` were taken is not theirs: "
        f"under another order it is right on {gain.value:.0%} more of the images ({gain.low:.0%} to {gain.high:.0%}, n = {gain.n}): {names}"
        f"{', ...' if len(known) > 8 else ''}. Nothing of it was kept. Give the order of its outputs with `?classes=FILE`, or say "
        "`?order=as-is` where the classes are in the right order all the same."
    )


def _check_chance(run: Running, cell: Cell, numbers: wide.Wide) -> None:
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
    said = numbers.blocks[()].values["prediction"]
    same = np.unique(said[np.isfinite(said)])
    if len(same) == 1 and len(said) >= 10:
        one = f"output {int(same[0])}" if card.class_names is None else card.class_names[int(same[0])]
        run.warn(
            f"{card.spec} on {cell.images.spec}: it answers `{one}` for every image: what it keeps under a perturbation says nothing"
        )
