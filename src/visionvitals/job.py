"""The work that a study gets: images of a set as batches, the network, and what the engine does for it."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, ImageSetCard, Place, Split
from visionvitals.pixels import to_float

if TYPE_CHECKING:
    from torch import Tensor


class Batch(NamedTuple):
    """Some images on the backbone's device.

    Attributes:
        ids: the image ids, length b.
        images: float32 (b, 3, h, w) in [0, 1].
        labels: int64 (b,), as the job's.
        right: what `study.answers` compares with: the same, or int64 (b, m), see `Job.right`.
        rows: where they stand in the job's arrays.
        card: of the backbone that will see them.
        colour: where `images` are maps of patch embeddings (see `score`), a colour (1, 3, 1, 1) -> what a patch of it is there.

    Example:
        >>> batch = next(job.batches())  # of the example of `Job`
        >>> batch.ids, tuple(batch.images.shape), float(batch.images.max()), batch.labels.tolist()
        (('a', 'b'), (2, 3, 64, 64), 1.0, [0, 1])
    """

    ids: tuple[str, ...]
    images: "Tensor"
    labels: "Tensor"
    right: "Tensor"
    rows: slice
    card: BackboneCard
    colour: "Callable[[Tensor], Tensor] | None" = None

    def shown(self, fill: "Tensor") -> "Tensor":
        """A fill of pixels as the images are: the same, or the embedding of a patch of this colour."""
        return fill if self.colour is None else self.colour(fill)


Columns = Mapping[str, tuple[tuple[int, ...], str]]
"""name -> (shape of one row's entry, numpy dtype)."""
Arrays = Mapping[str, np.ndarray]
Fill = Callable[[Mapping[str, np.ndarray], int], Iterator[int]]
"""(arrays, start): writes rows from `start` on, and yields how many are done, the last time all of them."""


class Memos(Protocol):
    """Where a job keeps what is computed once; `run.memo` on disk, `Forgetful` nowhere."""

    def rows(self, name: str, key: Mapping[str, Any], n: int, columns: Columns, fill: Fill) -> Arrays: ...
    def whole(self, name: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays: ...


class Embeddings:
    """The patch embeddings of the images `pixels` (n, h, w, 3) that one network is shown, from cell to cell: those of the first batches, as
    many as fit."""

    MOST = 256 * 2**20
    """Bytes. What does not fit is computed each time."""

    def __init__(self, backbone: Backbone, pixels: np.ndarray) -> None:
        self.backbone, self.pixels = backbone, pixels
        self.maps: dict[tuple[int, int], Tensor] = {}

    def of(self, job: "Job", batch: Batch) -> "Tensor":
        """The map of a batch; by where its pixels lie in memory, so that other pictures never have it."""
        assert job.backbone.patches is not None
        own, theirs = self.pixels, job.pixels
        arrays = isinstance(own, np.ndarray) and isinstance(theirs, np.ndarray) and job.backbone is self.backbone
        if not arrays or theirs.strides != own.strides or not np.may_share_memory(own, theirs):
            return job.backbone.patches.embed(batch.images)
        row = (theirs.ctypes.data - own.ctypes.data) // own.strides[0] + batch.rows.start
        found = self.maps.get((row, len(batch.ids)))
        if found is None:
            found = job.backbone.patches.embed(batch.images)
            if sum(kept.nbytes for kept in self.maps.values()) + found.nbytes <= self.MOST:
                self.maps[row, len(batch.ids)] = found
        return found


class Forgetful:
    """Computes every time."""

    def rows(self, name: str, key: Mapping[str, Any], n: int, columns: Columns, fill: Fill) -> Arrays:
        arrays = {column: np.zeros((n, *shape), dtype) for column, (shape, dtype) in columns.items()}
        for _ in fill(arrays, 0):
            pass
        return arrays

    def whole(self, name: str, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
        return make()


def _ignore_progress(images: int) -> None: ...


def _ignore_exhibit(item: str, image: "Tensor", at: Place = (), says: str = "") -> None: ...


def _ignore_warning(text: str) -> None: ...


def _ignore_file(name: str, content: bytes) -> None: ...


def _no_companion(spec: str) -> Backbone:
    raise LookupError(
        f"This job was made without another backbone; `{spec}` must be a field of type BackboneSpec of the condition."
    )


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that `measure` gets.

    Attributes:
        backbone: the network.
        condition: the study's own `Condition`.
        ids: image ids, length n.
        pixels: uint8 (n, h, w, 3), usually memory-mapped.
        labels: int64 (n,): indices of the backbone's outputs where the study's `LABELS` is `outputs`, else of the set's own classes.
        right: int64 (n, m): all outputs that are right for an image, the first again where it has fewer than m; None where each has one.
        present: int64 (c,): the outputs whose classes the image set has, where these are some of them but not all; else None.
        targets: the outputs that are right, whatever the study's `LABELS` are: int64 (n,), or (n, m) as in `right`; None where the set's classes are
            none of the backbone's outputs.
        images: the card of the image set.
        textures: int64 (n,), -1 where unknown; None where the set does not provide them.
        masks: uint8 (n, h, w), cut as the pixels are: 0 background, 1.. objects, 255 unlabelled; None where the set provides none.
        splits: the part of the set that each image belongs to; None where the set has no parts.
        copies: id -> id of the first image that shows the same picture, of every other one; `different` keeps them on one side.
        seed: root of all randomness.
        batch_size: images a forward pass; results do not depend on it.
        exhibits: ids of the few images whose perturbed form is kept for the report.
        keep: called with an exhibit's id, a picture of it, float (3, h, w) in [0, 1], its place on the study's `AXES` where
            there are several pictures of one image, and what `says` below it in place of a prediction.
        progress: called with the number of images done since the last call.
        companion: spelling -> the loaded backbone, for the condition's fields of type `BackboneSpec`.
        warn: called with a sentence about the cell that its readers must know; it is kept with the cell and shown by the run.
        attach: called with a file name and the file's bytes: kept with the cell.
        memos: where `memo` and `memo_rows` keep what they are given.
        scorer: the network by other numerics, where the run has others; it answers what is scored.
        embeddings: where the engine keeps patch embeddings from cell to cell; None computes them each time.
        facts: what decides the images of the job and their order, and the code that measures; part of the key of every memo.

    Example:
        >>> import numpy as np, torch
        >>> from visionvitals.plan.planner import load_backbone
        >>> net = load_backbone("tiny:cnn", device=torch.device("cpu"))
        >>> pixels = np.full((3, 64, 64, 3), 255, dtype=np.uint8)
        >>> job = vv.Job(backbone=net, condition=None, ids=("a", "b", "c"), pixels=pixels, labels=np.arange(3), batch_size=2)
        >>> [len(batch.ids) for batch in job.batches()]
        [2, 1]
    """

    backbone: Backbone
    condition: Any
    ids: Sequence[str]
    pixels: np.ndarray
    labels: np.ndarray
    right: np.ndarray | None = None
    present: np.ndarray | None = None
    targets: np.ndarray | None = None
    images: ImageSetCard = NO_IMAGES
    textures: np.ndarray | None = None
    masks: np.ndarray | None = None
    splits: Sequence[Split] | None = None
    copies: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    batch_size: int = 32
    exhibits: frozenset[str] = frozenset()
    keep: "Callable[..., None]" = field(default=_ignore_exhibit)
    progress: Callable[[int], None] = field(default=_ignore_progress)
    companion: Callable[[str], Backbone] = field(default=_no_companion)
    warn: Callable[[str], None] = field(default=_ignore_warning)
    attach: Callable[[str, bytes], None] = field(default=_ignore_file)
    memos: Memos = field(default_factory=Forgetful)
    scorer: Backbone | None = None
    embeddings: Embeddings | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The images in order from row `start` on, `batch_size` at a time, as float in [0, 1] on the backbone's device.

        The next batch is read while the network works on this one; on a GPU it is copied from pinned memory without waiting. All have
        one shape but the last, which holds what is left.
        """
        import torch

        device = self.backbone.device

        def read(start: int) -> "Tensor":
            raw = torch.from_numpy(np.ascontiguousarray(self.pixels[start : start + self.batch_size]))
            return raw.pin_memory() if device.type == "cuda" else raw

        def there(found: np.ndarray) -> "Tensor":
            return torch.from_numpy(np.ascontiguousarray(found, dtype=np.int64)).to(device)

        labels = there(self.labels)
        right = labels if self.right is None else there(self.right)
        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(read, start)
            for first in range(start, len(self.ids), self.batch_size):
                images = to_float(coming.result(), device)
                part = slice(first, min(first + self.batch_size, len(self.ids)))
                if part.stop < len(self.ids):
                    coming = reader.submit(read, part.stop)
                yield Batch(tuple(self.ids[part]), images, labels[part], right[part], part, self.backbone.card)

    def embedded(self, batch: Batch) -> "Batch":
        """A batch of `batches` with the map of its patch embeddings in place of its images, for a backbone that has `patches`."""
        kept, patches = self.embeddings, self.backbone.patches
        assert patches is not None
        found = patches.embed(batch.images) if kept is None else kept.of(self, batch)
        return batch._replace(images=found, colour=patches.colour)

    def answered(
        self,
        batch: Batch,
        perturb: "Callable[[Any, Batch, int], Tensor] | None",
        logits: "Callable[[Tensor, Batch], Tensor] | None" = None,
        *,
        whole_patches: bool = False,
    ) -> "tuple[Tensor, Tensor]":
        """The images to show and the network's logits for them, see `study.score`; where its embeddings were changed in their place, the
        images are as they were but for those of a batch with exhibits."""
        network = self.scorer or self.backbone
        patches = network.patches if whole_patches and perturb is not None else None
        shared = patches is not None and patches.free()
        seen = batch.images
        if perturb is not None and not (shared and self.exhibits.isdisjoint(batch.ids)):
            seen = perturb(self.condition, batch, self.seed)
        if patches is not None and perturb is not None and shared:
            return seen, patches.logits(perturb(self.condition, self.embedded(batch), self.seed))
        return seen, network.logits(seen) if logits is None else logits(seen, batch)

    def different(self, rows: Sequence[int] | np.ndarray, besides: Sequence[int] | np.ndarray = ()) -> np.ndarray:
        """The rows that show one picture each, the first of its copies, and none of the pictures that the rows `besides` show.

        Every study that parts its images asks for this: what stands on both sides is learnt by heart.

        Returns:
            int64, in the order of `rows`.
        """
        seen = {self._picture(row) for row in besides}
        found = []
        for row in rows:
            if (picture := self._picture(row)) not in seen:
                seen.add(picture)
                found.append(row)
        return np.asarray(found, dtype=np.int64)

    def _picture(self, row: int) -> str:
        return self.copies.get(self.ids[row], self.ids[row])

    def memo(
        self, name: str, settings: Mapping[str, Any], make: Callable[[], Arrays], *, of: Backbone | None = None
    ) -> Arrays:
        """Arrays computed once for all cells and runs that ask for the same.

        The key is made here, of all that a computation from this job can depend on beside the condition: the network `of` (weights,
        code, answers, for what no digest sees, preprocessing, class order), the images, how they were cut, decoded and drawn, their
        labels, the seed, the code that measures. The author adds the settings of the computation. The state of the cache never changes
        a number.

        Args:
            name: what it is, for people.
            settings: every value of the condition, and every constant, that `make` uses; JSON values.
            make: computes the arrays; text and bytes travel as uint8.
            of: the network that it is computed with, the job's own where None.
        """
        return self.memos.whole(name, self._key(settings, of, make), make)

    def memo_rows(
        self,
        name: str,
        settings: Mapping[str, Any],
        columns: Columns,
        fill: Fill,
        *,
        of: Backbone | None = None,
        rows: int | None = None,
    ) -> Arrays:
        """As `memo`, for arrays with one row per image (or `rows` of them), filled step by step: after a kill, `fill` is called again
        from the first row that is not on the disk. The arrays are mapped, not loaded."""
        n = len(self.ids) if rows is None else rows
        return self.memos.rows(name, self._key(settings, of, fill), n, columns, fill)

    def memo_answers(self, name: str, settings: Mapping[str, Any], columns: Columns, fill: Fill) -> Arrays:
        """As `memo_rows`, for what the network answers. Kept nowhere where a `scorer` answers in its place: by other numerics they are others."""
        job = self if self.scorer is None else replace(self, memos=Forgetful())
        return job.memo_rows(name, settings, columns, fill)

    def _key(self, settings: Mapping[str, Any], of: Backbone | None, code: Callable[..., Any]) -> dict[str, Any]:
        card, own = (self.backbone if of is None else of).card, self.backbone.card.preprocess
        labels = np.ascontiguousarray(self.labels, dtype=np.int64)
        return {
            "settings": dict(settings),
            "function": f"{code.__module__}.{code.__qualname__}",
            "network": {"digest": card.digest, "preprocess": asdict(card.preprocess), "classes": card.classes},
            "answers": None if card.answers is None else card.answers.logits,
            "images": {"digest": self.images.digest, "classes": self.images.classes, "n": len(self.ids)},
            "cut": [own.size, own.resize, own.interpolation, own.stretch, own.crop],
            "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
            **(
                {}
                if self.right is None
                else {"right": hashlib.sha256(np.ascontiguousarray(self.right).tobytes()).hexdigest()}
            ),
            "seed": self.seed,
            **self.facts,
        }
