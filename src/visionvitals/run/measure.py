"""Measuring one cell: the job that a study gets, what it leaves beside its numbers, and what happens where memory runs out."""

import dataclasses
import gc
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
from visionvitals.plan.identity import plain
from visionvitals.plan.planner import Planned
from visionvitals.run import devices, exhibits, folder, grown, provenance, wide
from visionvitals.run.calibrate import images_of
from visionvitals.run.memo import DiskMemos, code
from visionvitals.run.progress import Meter
from visionvitals.run.store import Store
from visionvitals.study import REPEATS, Study

if TYPE_CHECKING:
    import torch

    from visionvitals.datasets.base.cache import Decoded


UNSCORED = 0.01
"""With more images than this share without a finite answer, a cell fails."""
ANSWERS = ("top1", "prediction")
"""The metrics that every image has which was asked for its class."""


@dataclass(kw_only=True)
class Running:
    """A run of one process. What changes while it goes on: the batch size, where memory ran out, what was noticed, the backbone that is
    loaded, and how wide the intervals of each (study, backbone, images) are. `earlier` are the limits of looks before, see `grown`."""

    planned: Planned
    out: Path
    store: Store
    state: Meter
    device: "torch.device"
    batch_size: int
    workers: int | None
    command: tuple[str, ...]
    warnings: list[str]
    milestone: Callable[[bool], None]
    by: str = ""
    earlier: Sequence[int] = ()
    failed: list[str] = field(default_factory=list)
    loaded: Backbone | None = None
    widths: dict[tuple[str, str, str], float] = field(default_factory=dict)

    def passes(self, cell: Cell) -> float:
        """Forward passes an image of a cell."""
        return self.planned.studies[cell.study].passes(cell.condition)

    def warn(self, text: str) -> None:
        """Say a sentence and keep it with the run, once."""
        if text not in self.warnings:
            self.state.say(f"Warning: {text}")
            self.warnings[:] = folder.warn(self.out, [text], by=self.by)

    def fail(self, cell: Cell, error: BaseException) -> None:
        """Record why a cell failed, and say it in a sentence."""
        said = str(error) if isinstance(error, VitalsError) else f"{type(error).__name__}: {error}"
        values = ", ".join(f"{k}={v}" for k, v in plain(cell.condition).items())
        sentence = f"{cell.study} ({values}) on {cell.backbone.spec}, {cell.images.spec}: {said}"
        self.store.write_failure(cell, error=said, traceback="".join(traceback.format_exception(error)))
        self.state.say(f"Failed: {sentence}")
        self.state.finish_cell(unmeasured=images_of(cell), passes=self.passes(cell))
        self.failed.append(sentence)


@dataclass(frozen=True, kw_only=True)
class Work:
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
class Kept:
    """What one pass of a study leaves beside its numbers."""

    pictures: dict[tuple[str, Place], Image.Image] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    counted: int = 0
    images: int = 0
    seconds: float = 0.0
    """Of a cell of fewer images, whose numbers were taken."""


def measured(run: Running, work: Work, cell: Cell, study: Study) -> tuple[wide.Wide, Kept]:
    """Measure one cell, or of one that has grown the images that are new; where memory runs out, again with half the batch, down to one image."""
    import torch

    began_with, ids = run.batch_size, work.data.ids
    earlier = grown.find(run.store, cell, study, run.earlier)
    if earlier is not None:
        work = _some(work, earlier.rest(ids, work.shown))
    while True:
        kept = Kept()
        try:
            with run.state.measuring(), torch.no_grad():
                job = _job(run, work, cell, study, kept)
                if earlier is not None:
                    job = dataclasses.replace(job, facts={**job.facts, "besides": earlier.id})
                numbers = wide.gather(
                    study.measure(job),
                    study=study.name,
                    axes=study.axes,
                    metrics=study.metrics,
                    ids=list(dict.fromkeys(map(study.item, work.data.ids))),
                    none=earlier is not None,
                )
            break
        except Exception as error:
            run.state.advance(-kept.counted, study.passes(cell.condition))
            if run.batch_size == 1 or not devices.out_of_memory(error):
                raise
        run.batch_size //= 2  # below the handler, whose traceback would hold the memory
        run.state.say(f"Out of memory: {cell.study} goes on with batches of {run.batch_size}")
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    kept.images = len(work.data.ids)
    if earlier is not None:
        before = [said for said in earlier.facts.get("warnings", ()) if said not in _unscored(study, earlier.numbers)]
        new = [f"of {kept.images} images more: {said}" for said in kept.said if said not in before]
        kept.said, kept.seconds = before + new, earlier.facts.get("seconds", 0.0)
        numbers = wide.joined(earlier.numbers, numbers, ids)
    if run.batch_size != began_with:
        kept.said.append(f"out of memory with batches of {began_with}; measured with {run.batch_size}")
    kept.said += _unscored(study, numbers)
    return numbers, kept


def _some(work: Work, rows: np.ndarray) -> Work:
    """The work on some of the images."""
    outputs = None if work.outputs is None else work.outputs[rows]
    return dataclasses.replace(work, data=grown.some(work.data, rows), outputs=outputs)


def _unscored(study: Study, numbers: wide.Wide) -> list[str]:
    """A sentence for each kind of item of which some gave no finite value.

    Raises:
        VitalsError: more than `UNSCORED` of the images gave no finite answer: what is left is no longer the image set.
    """
    said = []
    for over in dict.fromkeys(study.metrics[metric].over for metric in numbers.broken):
        lost = sorted({i for m, some in numbers.broken.items() if study.metrics[m].over == over for i in some})
        named = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        said.append(f"{len(lost)} {over} gave values that are not finite and are not counted: {named}")
    must = f"At most {UNSCORED:.0%} of the images may have no finite answer"
    for metric in ANSWERS:
        if silent := numbers.broken.get(metric):
            asked = {item for block in numbers.blocks.values() if metric in block.values for item in block.items}
            got, do = f"{len(silent)} of {len(asked)}", "Look at the network's outputs: NaN or Inf."
            require(len(silent) <= UNSCORED * len(asked), must, got, do)
    return said


def _job(run: Running, work: Work, cell: Cell, study: Study, kept: Kept) -> Job:
    def count(images: int) -> None:
        kept.counted += images
        run.state.advance(images, study.passes(cell.condition))

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
        copies=work.data.copies,
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


def marks_of(
    work: Work, cell: Cell, study: Study, numbers: wide.Wide, kept: Kept
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
