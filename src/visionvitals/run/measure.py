"""Measuring one cell or a part of it: the job that a study gets, what it leaves beside its numbers, and what happens where memory runs out."""

import dataclasses
import functools
import gc
import hashlib
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from visionvitals import source
from visionvitals.core import Backbone, Cell, Place, Preprocess
from visionvitals.errors import VitalsError, require
from visionvitals.job import Embeddings, Job
from visionvitals.plan import plan_file
from visionvitals.plan.identity import cell_id, plain
from visionvitals.plan.planner import Planned
from visionvitals.remote import AnyPath
from visionvitals.run import devices, exhibits, folder, grown, parts, provenance, requests, wide
from visionvitals.run.calibrate import images_of
from visionvitals.run.cell import Stored
from visionvitals.run.memo import DiskMemos
from visionvitals.run.progress import Meter
from visionvitals.run.store import Store
from visionvitals.study import REPEATS, Study

if TYPE_CHECKING:
    import torch

    from visionvitals.datasets.base.cache import Decoded
    from visionvitals.datasets.base.labels import Alignment


UNSCORED = 0.01
"""With more images than this share without a finite answer, a cell fails."""
ANSWERS = ("top1", "prediction")
"""The metrics that every image has which was asked for its class."""


@dataclass
class Held:
    """What a process keeps from one visit of a backbone to the next: the backbone, the one that answers by other numerics, the (image set, cut)
    that it was shown last, and the work on that; the batch that memory allows."""

    loaded: Backbone | None = None
    scorer: Backbone | None = None
    shown: tuple[str, Preprocess] | None = None
    work: "Work | None" = None
    batch_size: int | None = None

    def forget(self) -> None:
        """Free the memory of the backbone."""
        self.loaded = self.scorer = self.shown = self.work = None


@dataclass(kw_only=True)
class Running:
    """A run of one process. What changes while it goes on: the batch size, where memory ran out, what was noticed, what is
    held, how wide the intervals of each (study, backbone, images) are, and of each cell (by id) that may get another look, how many
    images of each were measured, whether its time is over. `mine` are the numbers of the parts of each cell (by id) that this process
    measures, None for all."""

    planned: Planned
    out: AnyPath
    store: Store
    state: Meter
    device: "torch.device"
    batch_size: int
    workers: int | None
    command: tuple[str, ...]
    warnings: list[str]
    milestone: Callable[[bool], None]
    by: str = ""
    mine: Mapping[str, Collection[int]] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    held: Held = field(default_factory=Held)
    widths: dict[tuple[str, str, str], float] = field(default_factory=dict)
    open: dict[str, float] = field(default_factory=dict)
    measured: Counter[str] = field(default_factory=Counter)
    over: bool = False

    def passes(self, cell: Cell) -> float:
        """Forward passes an image of a cell."""
        return self.planned.studies[cell.study].passes(cell.condition)

    def parts(self, cell: Cell, images: int) -> list[range]:
        """The parts of a cell over so many images that this process measures."""
        every = parts.of(self.planned.studies[cell.study], cell.condition, images, may_stop=cell.may_stop)
        return every if self.mine is None else [rows for k, rows in enumerate(every) if k in self.mine[cell_id(cell)]]

    def images(self, cell: Cell) -> int:
        """How many images of a cell this process measures, readable or not."""
        return sum(map(len, self.parts(cell, images_of(cell))))

    @functools.cached_property
    def earlier(self) -> Mapping[str, Sequence[Stored]]:
        """`work_id` -> what the folder holds of the same work on other images: cells that this request does not ask for."""
        asked = plan_file.to_dict(self.planned.plan)
        here = [each for each in requests.each(requests.content_of(self.out)) if each["plan"] == asked]
        others = set(self.store.ids()) - requests.listed(here) - self.planned.by_id.keys()
        return grown.by_work(self.store, others)

    def warn(self, text: str) -> None:
        """Say a sentence and keep it with the run, once."""
        if text not in self.warnings:
            self.state.say(f"Warning: {text}")
            self.warnings[:] = folder.warn(self.out, [text], by=self.by)

    def fail(self, cell: Cell, error: BaseException) -> None:
        """Record why a cell failed, and say it in a sentence."""
        said = str(error) if isinstance(error, VitalsError) else f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        sentence = failed(self.store, self.state, cell, said, trace)
        self.open.pop(cell_id(cell), None)
        self.state.finish_cell(unmeasured=self.images(cell), passes=self.passes(cell))
        self.failures[cell_id(cell)] = sentence


def failed(store: Store, state: Meter, cell: Cell, said: str, trace: str) -> str:
    """Record why a cell failed, and say it: the sentence."""
    values = ", ".join(f"{k}={v}" for k, v in plain(cell.condition).items())
    sentence = f"{cell.study}{f' ({values})' if values else ''} on {cell.backbone.spec}, {cell.images.spec}: {said}"
    store.write_failure(cell, error=said, traceback=trace)
    state.say(f"Failed: {sentence}")
    return sentence


@dataclass(frozen=True, kw_only=True)
class Work:
    """A backbone and the images that it is shown.

    Attributes:
        aligned: which outputs of the backbone the classes of the set are; None where they do not fit.
        shown: ids of the images whose pictures are kept.
        part: whether these are not all images of the cell.
        embeddings: of its patches, from cell to cell.
        scorer: see `job.Job`.
        order: positions of the images in the order in which cells that may end early measure them; None where there are none.
    """

    backbone: Backbone
    data: "Decoded"
    aligned: "Alignment | None"
    shown: frozenset[str]
    companion: Callable[[str], Backbone]
    provenance: provenance.Provenance
    embeddings: Embeddings
    scorer: Backbone | None
    part: bool = False
    order: np.ndarray | None = None

    def labels(self, study: Study) -> np.ndarray:
        """As the study reads them."""
        if study.labels != "outputs":
            return self.data.labels
        assert self.aligned is not None, "the planner skips labels that do not fit"
        return np.take(self.aligned.indices, self.data.labels)

    @property
    def targets(self) -> np.ndarray | None:
        """See `Job.targets`."""
        return None if self.aligned is None else self.aligned.outputs(self.data.labels)

    def right(self, study: Study) -> np.ndarray | None:
        """See `Job.right`."""
        return self.targets if study.labels == "outputs" and self.aligned and self.aligned.right else None

    def present(self, study: Study) -> np.ndarray | None:
        """See `Job.present`."""
        if study.labels != "outputs" or self.aligned is None:
            return None
        found = np.asarray(self.aligned.present)
        return found if 1 < len(found) < self.backbone.card.outputs else None

    def some(self, rows: range | np.ndarray) -> "Work":
        """The work on some of the images, see `Decoded.some`."""
        part = self.part or len(rows) < len(self.data.ids)
        return dataclasses.replace(self, data=self.data.some(rows), part=part)


@dataclass
class Kept:
    """What one pass of a study leaves beside its numbers."""

    pictures: dict[tuple[str, Place], Image.Image] = field(default_factory=dict)
    says: dict[tuple[str, Place], str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    counted: int = 0
    images: int = 0


def measured(
    run: Running, here: Work, cell: Cell, rows: range, earlier: grown.Earlier | None
) -> tuple[wide.Wide, Kept]:
    """Measure a part of a cell, or of one that has grown the images of it that are new; where memory runs out, again with half the batch,
    down to one image. `here` has the images of the part alone."""
    study, ids = run.planned.studies[cell.study], here.data.ids
    left = range(len(ids)) if earlier is None else earlier.rest(ids, here.shown)
    kept, numbers = Kept(), wide.Wide(rows.start, rows.stop, {})
    if len(left):
        numbers, kept = _numbers(run, here.some(left), cell, study)
    if earlier is not None:
        numbers = wide.joined(numbers, earlier.numbers, ids)  # what was known stays as it was
    return dataclasses.replace(numbers, start=rows.start, stop=rows.stop), kept


def _numbers(run: Running, work: Work, cell: Cell, study: Study) -> tuple[wide.Wide, Kept]:
    import torch

    began_with = run.batch_size
    while True:
        kept = Kept()
        try:
            with run.state.measuring(), torch.no_grad():
                numbers = wide.gather(
                    study.measure(_job(run, work, cell, study, kept)),
                    study=study.name,
                    axes=study.axes,
                    metrics=study.metrics,
                    ids=list(dict.fromkeys(map(study.item, work.data.ids))),
                    none=work.part,
                )
            break
        except Exception as error:
            run.state.advance(-kept.counted, study.passes(cell.condition))
            if run.batch_size == 1 or not devices.out_of_memory(error):
                raise
        run.batch_size //= 2  # below the handler, whose traceback would hold the memory
        run.state.say(f"Out of memory: {cell.study} goes on with batches of {run.batch_size}")
        work.embeddings.maps.clear()
        gc.collect()
        if run.device.type == "cuda":
            torch.cuda.empty_cache()
    kept.images = len(work.data.ids)
    if run.batch_size != began_with:
        kept.said.append(f"out of memory with batches of {began_with}; measured with {run.batch_size}")
    return numbers, kept


def counted(whole: Stored, study: Study, earlier: grown.Earlier | None) -> Stored:
    """A cell with what its readers must know of it: that some items gave no finite value, what was said of a smaller one.

    Raises:
        VitalsError: more than `UNSCORED` of the images gave no finite answer, or nothing gave a value.
    """
    require(bool(whole.points), f"`{study.name}` must yield at least one value", "none")
    said, seconds = list(whole.facts["warnings"]), whole.facts["seconds"]
    if earlier is not None:
        facts = earlier.cell.facts
        before = [text for text in facts.get("warnings", ()) if text not in _unscored(study, earlier.cell)]
        more = whole.facts["n"] - facts["n"]
        lead = f"of {more} images more: " if more > 0 else ""
        said = before + [f"{lead}{text}" for text in said if text not in before]
        seconds += facts.get("seconds", 0.0)
    facts = {**whole.facts, "warnings": [*said, *_unscored(study, whole)], "seconds": seconds}
    return dataclasses.replace(whole, facts=facts)


def _unscored(study: Study, cell: Stored) -> list[str]:
    """A sentence for each kind of item of which some gave no finite value.

    Raises:
        VitalsError: more than `UNSCORED` of the images gave no finite answer: what is left is no longer the image set.
    """
    said, broken = [], cell.facts.get("broken", {})
    for over in dict.fromkeys(study.metrics[metric].over for metric in broken):
        lost = sorted({i for m, some in broken.items() if study.metrics[m].over == over for i in some})
        named = ", ".join(lost[:3]) + (", ..." if len(lost) > 3 else "")
        said.append(f"{len(lost)} {over} gave values that are not finite and are not counted: {named}")
    must = f"At most {UNSCORED:.0%} of the images may have no finite answer"
    for metric in ANSWERS:
        if silent := broken.get(metric):
            asked = {item for at, metrics in cell.points.items() if metric in metrics for item in cell.items(at)}
            got, do = f"{len(silent)} of {len(asked)}", "Look at the network's outputs: NaN or Inf."
            require(len(silent) <= UNSCORED * len(asked), must, got, do)
    return said


def _job(run: Running, work: Work, cell: Cell, study: Study, kept: Kept) -> Job:
    def count(images: int) -> None:
        kept.counted += images
        run.state.advance(images, study.passes(cell.condition))

    def keep(item: str, image: "torch.Tensor", at: Place = (), says: str = "") -> None:
        kept.pictures[item, at] = exhibits.picture(image)
        kept.says[item, at] = says

    facts: dict[str, Any] = {
        "decoder": cell.decoder,
        "limit": cell.limit,
        "code": {**source.computing(), "study": cell.source},
    }
    if work.part:
        facts["part"] = hashlib.sha256("\0".join(work.data.ids).encode()).hexdigest()
    return Job(
        backbone=work.backbone,
        condition=cell.condition,
        ids=work.data.ids,
        pixels=work.data.pixels,
        labels=work.labels(study),
        right=work.right(study),
        present=work.present(study),
        targets=work.targets,
        images=cell.images,
        textures=work.data.textures,
        masks=work.data.masks,
        splits=work.data.splits,
        copies=work.data.copies,
        seed=cell.seed,
        batch_size=run.batch_size,
        exhibits=work.shown if getattr(cell.condition, REPEATS, 0) == 0 else frozenset(),
        keep=keep,
        progress=count,
        companion=work.companion,
        warn=lambda text: kept.said.append(text) if text not in kept.said else None,
        attach=kept.files.__setitem__,
        memos=DiskMemos(),
        embeddings=work.embeddings,
        scorer=work.scorer,
        facts=facts,
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
    labels, rows = work.labels(study), {i: row for row, i in enumerate(work.data.ids) if i in shown}
    right = labels if study.labels == "own" else work.targets
    marks: dict[str, dict[str, Any]] = {item: {"label": ""} for item in shown}
    for item, row in rows.items():
        marks[item]["label"] = exhibits.class_name(int(labels[row]), names)
        if item in predicted and right is not None:
            marks[item]["correct"] = predicted[item] in np.atleast_1d(right[row]).tolist()
    return {item: exhibits.class_name(k, answers) for item, k in predicted.items()}, marks
