"""The six nouns: Backbone, ImageSet, Study, Condition, Cell, Row. A study is a function from a backbone and an image set to rows.

What can be written down is a card or a cell: plain frozen data, no torch, so that plans, stores and reports need no torch. What
computes is a callable in a `Backbone` or a method of `Job`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NewType, Protocol

import numpy as np
from PIL import Image

from visionvitals.errors import require
from visionvitals.figure import Chart, Published, Sign

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Preset = Literal["quick", "default", "paper"]
Split = Literal["train", "val", "test"]
BackboneSpec = NewType("BackboneSpec", str)
"""The type of a condition's field that spells another backbone (the source of saliency, of a patch, a teacher). The planner loads it for
its card, `"*"` stands for every backbone of the plan, and its weights enter the cell's identity in place of the spelling; "" is none."""
FolderSpec = NewType("FolderSpec", str)
"""The type of a condition's field that names a folder of files. Their names and contents enter the cell's identity in place of the path.
The field's default names no folder."""
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
PRESETS: tuple[Preset, ...] = ("quick", "default", "paper")


class Example(NamedTuple):
    """One picture of an image set.

    Attributes:
        id: stable and unique within the set; all randomness of the picture derives from it.
        image: any Pillow mode; the decoder converts it to RGB. As stored: no EXIF orientation is applied after this.
        label: index into the set's own `classes`.
        texture: index of the surface texture, for sets that know it.
        mask: array (h, w) of the image's size, for sets that know it: bool, True on the object; or uint8, 0 background, 1.. kinds of
            objects, 255 where nobody labelled.
        split: the part of the set that it belongs to, for sets that have parts.
    """

    id: str
    image: Image.Image
    label: int
    texture: int | None = None
    mask: np.ndarray | None = None
    split: Split | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSetCard:
    """What is written down of an image set.

    Attributes:
        spec: the user's spelling.
        digest: changes when an image, a label or the order changes; never with the path.
        n: number of examples, readable or not.
        classes: the keys of the labels, in label order (folder names, wnids, or decimal indices).
        class_names: the same, readable.
        kind: `names` where classes are names to match with the backbone's, `indices` where they are the backbone's output
            indices (a csv of integers).
        provides: what its examples know beside the label: `texture`, `mask`, `split`.
        notes: warnings for the report.

    Raises:
        VitalsError: a class called `.` or `..`, which would lead out of a folder that is written by class.
    """

    spec: str
    digest: str
    n: int
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    kind: Literal["names", "indices"] = "names"
    provides: tuple[Literal["texture", "mask", "split"], ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        must = f"The classes of `{self.spec}` must have other names than `.` and `..`"
        require(not {".", ".."}.intersection(self.classes), must, "one of them")


NO_IMAGES = ImageSetCard(spec="", digest="", n=0, classes=(), class_names=())
"""Of a job that was made without an image set."""


class ImageSet(Protocol):
    """A deterministic, indexable set of pictures. `[i]` raises `UnreadableImage` for a picture that cannot be decoded.

    Sets of files also know which pictures are copies of one another: `datasets.base.files.EncodedImages.copies`.
    """

    @property
    def card(self) -> ImageSetCard: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How a picture becomes the network's input.

    Attributes:
        size: (height, width) of the network input in pixels.
        resize: the shorter side is resized to this many pixels and the centre of `size` is cropped; None stretches the whole
            picture to `size` without a crop.
        interpolation: of that resize, always antialiased as Pillow does.
        mean, std: per-channel statistics of the normalisation, on the [0, 1] scale; applied inside the backbone.
    """

    size: tuple[int, int]
    resize: int | None
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        require(min(self.size) > 0, "`size` must be positive", self.size)
        require(
            self.resize is None or self.resize >= max(self.size),
            "`resize` must be None or at least the longer side of the crop",
            (self.resize, self.size),
        )
        require(min(self.std) > 0, "`std` must be positive", self.std)


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """What is written down of a backbone.

    Attributes:
        spec: the user's spelling.
        architecture: the family's own name for the network, e.g. `vit_tiny_patch16_224`.
        digest: sha256 over the names, shapes and bytes of the weights, and the architecture.
        preprocess: see `Preprocess`.
        outputs: number of logits.
        parameters: number of weights.
        provides: the optional capabilities it has: `features`, `token_removal`, `attention` (the last attention map is one over the
            patch grid, see `probes.attention.patch_rows`), one of `tokens` and `maps` (what passes between its blocks, see
            `probes.tokens`), `readout` (final norm and head apply to each block's tokens), `heads` (a head of its own for a further token).
        blocks: how many blocks of tokens or stages of maps it has.
        patch_grid: (rows, columns) of patch tokens, or None where the network has no patch tokens.
        prefix_tokens: tokens before the patches (class, distillation, registers).
        classes: keys of the outputs (wnids, folder names), or None where unknown.
        class_names: the same, readable, or None.
        notes: warnings for the report.
    """

    spec: str
    architecture: str
    digest: str
    preprocess: Preprocess
    outputs: int
    parameters: int
    provides: tuple[str, ...] = ()
    patch_grid: tuple[int, int] | None = None
    prefix_tokens: int = 0
    blocks: int = 0
    classes: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A network in evaluation mode, as callables. Images in are float32 (b, 3, h, w) in [0, 1]; it normalises inside itself.

    Attributes:
        card: what is written down of it.
        device: where its weights are and where images must be.
        logits: images -> float (b, k).
        features: images -> the pre-logit features, float (b, d); None where the network has no such thing.
        visible_logits: (images, visible) -> logits when only the patch tokens that `visible`, bool (b, n) in row-major grid
            order, marks are given to the network; each row of `visible` has the same number of True. None where tokens cannot
            be removed.
        heads: token (`class`, `distillation`) -> (images -> the logits of that token's own head, float (b, k)), where the network
            has one for each and `logits` is their mean; empty elsewhere.
        module: the network itself, for studies that look inside.
    """

    card: BackboneCard
    device: "torch.device"
    logits: "Callable[[Tensor], Tensor]"
    module: "torch.nn.Module"
    features: "Callable[[Tensor], Tensor] | None" = None
    visible_logits: "Callable[[Tensor, Tensor], Tensor] | None" = None
    heads: "Mapping[str, Callable[[Tensor], Tensor]]" = field(default_factory=dict)


class Row(NamedTuple):
    """One measured number.

    Attributes:
        item: what was sampled: an image id (or a class, an episode, an epoch); intervals are over items.
        metric: a key of `metrics.METRICS`.
        value: a float; NaN where this item cannot be scored.
        at: where on the study's `AXES`, one value for each of them.
    """

    item: str
    metric: str
    value: float
    at: tuple[int | float | str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The unit of work, of identity, of resume and of distribution. Its id is made by `run.identity.cell_id`.

    Attributes:
        study: name of the study's file.
        version: the study's `VERSION`; bumped when the meaning of its numbers changes.
        condition: the study's `Condition`, a frozen dataclass.
        backbone, images: the cards.
        seed: root of all randomness.
        shard, shards: this cell covers the images whose index is `shard` modulo `shards`.
        limit: only the first `limit` images of a seeded draw, or None for all.
        decoder: which decoder made the pixels; never mixed.
        companions: (spelling, digest of the content; of another backbone, of its weights and `Preprocess`) of the other backbones and of
            the folders that the condition names.
    """

    study: str
    version: int
    condition: Any
    backbone: BackboneCard
    images: ImageSetCard
    seed: int = 0
    shard: int = 0
    shards: int = 1
    limit: int | None = None
    decoder: Literal["pillow", "fast"] = "pillow"
    companions: tuple[tuple[str, str], ...] = ()


class Batch(NamedTuple):
    """Some images on the backbone's device.

    Attributes:
        ids: the image ids, length b.
        images: float32 (b, 3, h, w) in [0, 1].
        labels: int64 (b,), as the job's.
        rows: where they stand in the job's arrays.
    """

    ids: tuple[str, ...]
    images: "Tensor"
    labels: "Tensor"
    rows: slice


Columns = Mapping[str, tuple[tuple[int, ...], str]]
"""name -> (shape of one image's entry, numpy dtype)."""


def _ignore_progress(images: int) -> None: ...


def _ignore_exhibit(item: str, image: "Tensor", at: tuple[int | float | str, ...] = ()) -> None: ...


def _ignore_warning(text: str) -> None: ...


def _ignore_file(name: str, content: bytes) -> None: ...


def _no_companion(spec: str) -> Backbone:
    raise LookupError(
        f"This job has no other backbone; `{spec}` must be a field of type BackboneSpec of the condition."
    )


def compute(
    name: str,
    facts: Mapping[str, Any],
    n: int,
    columns: Columns,
    fill: Callable[[Mapping[str, np.ndarray], int], Iterator[int]],
) -> Mapping[str, np.ndarray]:
    """A product computed in memory and kept nowhere; see `Job.product`."""
    arrays = {key: np.zeros((n, *shape), dtype) for key, (shape, dtype) in columns.items()}
    for _ in fill(arrays, 0):
        pass
    return arrays


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that `measure` gets.

    Attributes:
        backbone: the network.
        condition: the study's own `Condition`.
        ids: image ids, length n.
        pixels: uint8 (n, h, w, 3), usually memory-mapped.
        labels: int64 (n,): indices of the backbone's outputs where the study's `LABELS` is `outputs`, else of the set's own classes.
        images: the card of the image set.
        textures: int64 (n,), -1 where unknown; None where the set does not provide them.
        masks: uint8 (n, h, w), cut as the pixels are: 0 background, 1.. objects, 255 unlabelled; None where the set provides none.
        splits: the part of the set that each image belongs to; None where the set has no parts.
        seed: root of all randomness.
        batch_size: images a forward pass; results do not depend on it.
        exhibits: ids of the few images whose perturbed form is kept for the report.
        keep: called with an exhibit's id, a picture of it, float (3, h, w) in [0, 1], and its place on the study's `AXES` where
            there are several pictures of one image.
        progress: called with the number of images done since the last call.
        companion: spelling -> the loaded backbone, for the condition's fields of type `BackboneSpec`.
        product: (name, facts, n, columns, fill) -> arrays with one row per image, computed once for all cells and runs with equal
            facts, kept in the cache and mapped from it. `fill(arrays, start)` writes from row `start` on and yields the number of
            rows done; after a kill it is called again with the rows done so far. `facts` must name all that decides the values
            beside the image set, its decoding, the limit and the seed, which are added.
        warn: called with a sentence about the cell that its readers must know; it is kept with the cell and shown by the run.
        attach: called with a file name and the file's bytes: kept in the cell's folder under `files/`.
    """

    backbone: Backbone
    condition: Any
    ids: Sequence[str]
    pixels: np.ndarray
    labels: np.ndarray
    images: ImageSetCard = NO_IMAGES
    textures: np.ndarray | None = None
    masks: np.ndarray | None = None
    splits: Sequence[Split] | None = None
    seed: int = 0
    batch_size: int = 32
    exhibits: frozenset[str] = frozenset()
    keep: "Callable[..., None]" = field(default=_ignore_exhibit)
    progress: Callable[[int], None] = field(default=_ignore_progress)
    companion: Callable[[str], Backbone] = field(default=_no_companion)
    product: Callable[..., Mapping[str, np.ndarray]] = field(default=compute)
    warn: Callable[[str], None] = field(default=_ignore_warning)
    attach: Callable[[str, bytes], None] = field(default=_ignore_file)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The images in order from row `start` on, `batch_size` at a time, as float in [0, 1] on the backbone's device.

        The next batch is read while the network works on this one; on a GPU it is copied from pinned memory without waiting.
        """
        import torch

        device = self.backbone.device

        def read(start: int) -> "Tensor":
            raw = torch.from_numpy(np.ascontiguousarray(self.pixels[start : start + self.batch_size]))
            return raw.pin_memory() if device.type == "cuda" else raw

        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(read, start)
            for first in range(start, len(self.ids), self.batch_size):
                raw = coming.result().to(device, non_blocking=True)
                part = slice(first, min(first + self.batch_size, len(self.ids)))
                if part.stop < len(self.ids):
                    coming = reader.submit(read, part.stop)
                images = raw.permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()
                labels = torch.from_numpy(np.ascontiguousarray(self.labels[part], dtype=np.int64)).to(device)
                yield Batch(tuple(self.ids[part]), images, labels, part)


class Study(Protocol):
    """The contract of a file in `studies/`. It imports torch only inside `measure`.

    VERSION: bumped when the meaning of a number changes.
    TITLE: a few words for the report.
    Condition: a frozen, keyword-only dataclass of plain values (numbers, strings, tuples) that validates itself and has a
        default for every field; a field named `run` counts independent repetitions and is averaged over in tables.
    conditions(preset, size): the points of the experiment for a network input of `size` (height, width).
    AXES: names of what is told apart within one cell, because one pass measures it all (blocks, heads, thresholds); `Row.at` says
        where a row stands. To tables, charts and signs an axis is as good as a field of the condition.
    LABELS: what `Job.labels` are: `outputs` of the backbone (an image set whose classes are none of its outputs is refused), the
        set's `own` classes, or `none`: they are not looked at.
    refusal(condition, backbone, images): why this condition cannot be measured on that backbone and image set, as one sentence, or
        None.
    passes(condition): forward passes per image, for the estimate of time; a backward pass counts as two.
    measure(job): yields rows, at most one value per item, metric and place.
    CHARTS, SIGNS, PUBLISHED: what the report shows of it; pictures are laid out along the first chart's x.
    """

    VERSION: int
    TITLE: str
    AXES: tuple[str, ...]
    LABELS: Literal["outputs", "own", "none"]
    Condition: type
    CHARTS: tuple[Chart, ...]
    SIGNS: tuple[Sign, ...]
    PUBLISHED: tuple[Published, ...]

    def conditions(self, preset: Preset, size: tuple[int, int]) -> list[Any]: ...
    def refusal(self, condition: Any, backbone: BackboneCard, images: ImageSetCard) -> str | None: ...
    def passes(self, condition: Any) -> float: ...
    def measure(self, job: Job) -> Iterator[Row]: ...
