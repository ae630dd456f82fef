"""The six nouns: Backbone, ImageSet, Study, Condition, Cell, Row. A study is a function from a backbone and an image set to rows.

What can be written down is a card or a cell: plain frozen data, no torch, so that plans, stores and reports need no torch. What
computes is a callable in a `Backbone` or a method of `Job`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from visionvitals.errors import require

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Preset = Literal["quick", "default", "paper"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
PRESETS: tuple[Preset, ...] = ("quick", "default", "paper")
METRICS = {
    "top1": "the predicted class is the label (0 or 1)",
    "top5": "the label is among the five highest logits (0 or 1; only with more than five outputs)",
    "cross_entropy": "minus the natural logarithm of the softmax probability of the label, in nats",
    "information_loss": "share of the input pixels that were removed, in [0, 1]",
    "prediction": "index of the predicted class; an identifier, never averaged",
}
"""Every metric name a study may use. A new study that measures something new adds its name and meaning here."""


class Example(NamedTuple):
    """One picture of an image set.

    Attributes:
        id: stable and unique within the set; all randomness of the picture derives from it.
        image: any Pillow mode; the decoder converts it to RGB.
        label: index into the set's own `classes`.
        texture: index of the surface texture, for sets that know it.
        mask: bool array (h, w) of the image's size, True on the object, for sets that know it.
    """

    id: str
    image: Image.Image
    label: int
    texture: int | None = None
    mask: np.ndarray | None = None


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
        notes: warnings for the report.
    """

    spec: str
    digest: str
    n: int
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    kind: Literal["names", "indices"] = "names"
    notes: tuple[str, ...] = ()


class ImageSet(Protocol):
    """A deterministic, indexable set of pictures. `[i]` raises `UnreadableImage` for a picture that cannot be decoded."""

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
        provides: the optional capabilities it has: `features`, `token_removal`, later `tokens`, `attention`.
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
        module: the network itself, for studies that look inside.
    """

    card: BackboneCard
    device: "torch.device"
    logits: "Callable[[Tensor], Tensor]"
    module: "torch.nn.Module"
    features: "Callable[[Tensor], Tensor] | None" = None
    visible_logits: "Callable[[Tensor, Tensor], Tensor] | None" = None


class Row(NamedTuple):
    """One measured number: `item` is an image id (or a class, a head, an epoch), `metric` a key of `METRICS`."""

    item: str
    metric: str
    value: float


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


class Batch(NamedTuple):
    """Some images on the backbone's device.

    Attributes:
        ids: the image ids, length b.
        images: float32 (b, 3, h, w) in [0, 1].
        labels: int64 (b,), indices of the backbone's outputs.
    """

    ids: tuple[str, ...]
    images: "Tensor"
    labels: "Tensor"


def _ignore_progress(images: int) -> None: ...


def _ignore_exhibit(item: str, image: "Tensor") -> None: ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that `measure` gets.

    Attributes:
        backbone: the network.
        condition: the study's own `Condition`.
        ids: image ids, length n.
        pixels: uint8 (n, h, w, 3), usually memory-mapped.
        labels: int64 (n,), indices of the backbone's outputs.
        seed: root of all randomness.
        batch_size: images a forward pass; results do not depend on it.
        exhibits: ids of the few images whose perturbed form is kept for the report.
        keep: called with an exhibit's id and its perturbed image, float (3, h, w) in [0, 1].
        progress: called with the number of images done since the last call.
    """

    backbone: Backbone
    condition: Any
    ids: Sequence[str]
    pixels: np.ndarray
    labels: np.ndarray
    seed: int = 0
    batch_size: int = 32
    exhibits: frozenset[str] = frozenset()
    keep: "Callable[[str, Tensor], None]" = field(default=_ignore_exhibit)
    progress: Callable[[int], None] = field(default=_ignore_progress)

    def batches(self) -> Iterator[Batch]:
        """The images in order, `batch_size` at a time, as float in [0, 1] on the backbone's device.

        The next batch is read while the network works on this one; on a GPU it is copied from pinned memory without waiting.
        """
        import torch

        device = self.backbone.device

        def read(start: int) -> "Tensor":
            raw = torch.from_numpy(np.ascontiguousarray(self.pixels[start : start + self.batch_size]))
            return raw.pin_memory() if device.type == "cuda" else raw

        with ThreadPoolExecutor(max_workers=1) as reader:
            coming = reader.submit(read, 0)
            for start in range(0, len(self.ids), self.batch_size):
                raw = coming.result().to(device, non_blocking=True)
                part = slice(start, start + self.batch_size)
                if part.stop < len(self.ids):
                    coming = reader.submit(read, part.stop)
                images = raw.permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()
                labels = torch.from_numpy(np.ascontiguousarray(self.labels[part], dtype=np.int64)).to(device)
                yield Batch(tuple(self.ids[part]), images, labels)


@dataclass(frozen=True, kw_only=True)
class Chart:
    """What the report draws of a study: one line (or group of bars) per backbone.

    Attributes:
        x: the condition's field on the horizontal axis. Numbers give a line; grids give a line in order of their number of cells;
            words give bars; empty: there is no axis, one bar a backbone.
        x_title, y_title: axis titles with units.
        facet: condition fields that split the chart into small multiples, one per combination of their values.
        metric: key of `METRICS` on the vertical axis.
        reads: one or two sentences under the chart that tell how to read it.
    """

    x: str
    x_title: str
    facet: tuple[str, ...] = ()
    metric: str = "top1"
    y_title: str = "top-1 accuracy"
    reads: str = ""


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One column of the report's table of vital signs.

    Attributes:
        title: the column's head.
        kind: `mean` of the metric; `kept`: its mean over that of `clean`, paired; `area`: under the curve over `x`.
        where: condition fields that must have these values. Where several combinations of the other fields remain, the one
            with the most cells counts.
        x: for `area`, the field on the horizontal axis.
    """

    title: str
    kind: Literal["mean", "kept", "area"]
    where: Mapping[str, Any] = field(default_factory=dict)
    x: str | None = None
    metric: str = "top1"


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that was published for the same condition on the same data, shown beside ours.

    Attributes:
        architectures: names of `BackboneCard.architecture` that are this model (its weights must be the published ones too;
            the report says that it cannot check that).
        where: the condition's fields.
        value: on the metric's own scale (accuracy in [0, 1]).
        data: the data it was measured on.
        source: the publication and place.
    """

    model: str
    architectures: tuple[str, ...]
    where: Mapping[str, Any]
    value: float
    metric: str = "top1"
    data: str = "ImageNet-1k validation"
    source: str = "Naseer et al. 2021"


class Study(Protocol):
    """The contract of a file in `studies/`. It imports torch only inside `measure`.

    VERSION: bumped when the meaning of a number changes.
    TITLE: a few words for the report.
    Condition: a frozen, keyword-only dataclass of plain values (numbers, strings, tuples) that validates itself and has a
        default for every field; a field named `run` counts independent repetitions and is averaged over in tables.
    conditions(preset, size): the points of the experiment for a network input of `size` (height, width).
    refusal(condition, backbone): why this condition cannot be measured on that backbone, as one sentence, or None.
    measure(job): yields rows, one value per image and metric.
    CHART, SIGNS, PUBLISHED: what the report shows of it.
    """

    VERSION: int
    TITLE: str
    Condition: type
    CHART: Chart
    SIGNS: tuple[Sign, ...]
    PUBLISHED: tuple[Published, ...]

    def conditions(self, preset: Preset, size: tuple[int, int]) -> list[Any]: ...
    def refusal(self, condition: Any, backbone: BackboneCard) -> str | None: ...
    def measure(self, job: Job) -> Iterator[Row]: ...
