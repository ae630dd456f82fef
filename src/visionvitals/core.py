"""The nouns: Backbone, ImageSet, Study (in `study.py`), Condition, Cell, Scores. A study is a function from a backbone and an image set to scores.

What can be written down is a card or a cell: plain frozen data, no torch, so that plans, stores and reports need no torch. What
computes is a callable in a `Backbone` or a method of `Job`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NewType, Protocol

import numpy as np
from PIL import Image

from visionvitals.answers import Answers
from visionvitals.errors import require
from visionvitals.numerics import FP32, Numerics
from visionvitals.preprocess import Interpolation as Interpolation
from visionvitals.preprocess import Preprocess as Preprocess

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from visionvitals.inside import Inside, Patches

Preset = Literal["quick", "default", "paper"]
Split = Literal["train", "val", "test"]
BackboneSpec = NewType("BackboneSpec", str)
"""The type of a condition's field that spells another backbone (the source of saliency, of a patch, a teacher). The planner loads it for
its card, `"*"` stands for every backbone of the plan, and its weights enter the cell's identity in place of the spelling; "" is none."""
FolderSpec = NewType("FolderSpec", str)
"""The type of a condition's field that names a folder of files. Their names and contents enter the cell's identity in place of the path.
The field's default names no folder."""
PRESETS: Mapping[Preset, str] = {
    "quick": "minutes",
    "default": "what a careful person would do today",
    "paper": "as published",
}


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

    Example:
        >>> from PIL import Image
        >>> vv.Example(id="cat/1.png", image=Image.new("RGB", (32, 24)), label=0).image.size
        (32, 24)
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
        stands_for: where a class is more than one class of a network: for each class the keys of all that are right for it; they are part of
            `digest`. Empty where each is one.
        per_class: part of the set ("" where it has none) -> how many different pictures each class has at most. Only a plan knows
            it, of what it draws from sets that have `labels`, a sequence in their order; empty elsewhere.
        conflicts: as `per_class`, how many pictures show the texture of another class; None where it is not known.

    Raises:
        VitalsError: a class called `.` or `..`, which would lead out of a folder that is written by class.

    Example:
        >>> vv.ImageSetCard(spec="folder:val", digest="0a", n=2, classes=("n01", "n02"), class_names=("cat", "dog")).kind
        'names'
    """

    spec: str
    digest: str
    n: int
    classes: tuple[str, ...]
    class_names: tuple[str, ...]
    kind: Literal["names", "indices"] = "names"
    provides: tuple[Literal["texture", "mask", "split"], ...] = ()
    notes: tuple[str, ...] = ()
    stands_for: tuple[tuple[str, ...], ...] = ()
    per_class: Mapping[str, tuple[int, ...]] = field(default_factory=dict, compare=False)
    conflicts: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        must = f"The classes of `{self.spec}` must have other names than `.` and `..`"
        require(not {".", ".."}.intersection(self.classes), must, "one of them")


NO_IMAGES = ImageSetCard(spec="", digest="", n=0, classes=(), class_names=())
"""Of a job that was made without an image set."""


class ImageSet(Protocol):
    """A deterministic, indexable set of pictures, as a plug-in gives it. `[i]` raises `UnreadableImage` for a picture that cannot be decoded.

    Example:
        >>> from PIL import Image
        >>> class Greys:
        ...     card = vv.ImageSetCard(spec="greys:", digest="1", n=2, classes=("0", "1"), class_names=("dark", "light"))
        ...     def __len__(self):
        ...         return 2
        ...     def __getitem__(self, index):
        ...         return vv.Example(id=str(index), image=Image.new("L", (8, 8), 255 * index), label=index)
        >>> [Greys()[index].label for index in range(2)]
        [0, 1]
    """

    @property
    def card(self) -> ImageSetCard: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


@dataclass(frozen=True, kw_only=True)
class BackboneCard:
    """What is written down of a backbone.

    Attributes:
        spec: the user's spelling.
        architecture: the family's own name for the network, e.g. `vit_tiny_patch16_224`.
        digest: sha256 over the names, shapes and bytes of the weights, the architecture, its build options, and the source of a
            user's own code.
        preprocess: see `Preprocess`.
        outputs: number of logits; 0 of a network without a classifier, whose `logits` are its features: no study that compares answers
            with labels runs on it.
        parameters: number of weights.
        provides: the optional capabilities it has: `features`, `token_removal`, `attention` (the last attention map is one over the
            patch grid, see `probes.attention.patch_rows`), one of `tokens` and `maps` (what passes between its blocks, see
            `probes.tokens`), `readout` (final norm and head apply to each block's tokens), `heads` (a head of its own for a further token).
        blocks: how many blocks of tokens or stages of maps it has.
        attention_heads: how many heads its last attention map has; 0 where that is not over the patch grid.
        patch_grid: (rows, columns) of patch tokens, of the last stage where stages have ever fewer, or None without patch tokens.
        prefix_tokens: tokens before the patches (class, distillation, registers).
        registers: how many of these, at their end, are registers, by the network's own count.
        late_prefix: its blocks hold patches only, since the tokens before them join later, as the class token of CaiT.
        fixed_tokens: why no patch token can be removed, in a clause, where its family says more than that it cannot.
        classes: keys of the outputs (wnids, folder names), or None where unknown.
        class_names: the same, readable, or None.
        ordered: the user said that its outputs stand in the order of an image set's classes, where they have no names.
        inference_only: it is a program in a file: no gradient reaches the images, and how it computes is fixed.
        notes: warnings for the report.
        answers: to two fixed pictures; not part of any identity, but compared before cells of two runs are mixed.

    Example:
        >>> import torch
        >>> from visionvitals.plan.planner import load_backbone
        >>> card = load_backbone("tiny:vit", device=torch.device("cpu")).card
        >>> card.outputs, card.preprocess.size, card.patch_grid
        (16, (64, 64), (8, 8))
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
    registers: int = 0
    late_prefix: bool = False
    fixed_tokens: str = ""
    blocks: int = 0
    attention_heads: int = 0
    classes: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    ordered: bool = False
    inference_only: bool = False
    notes: tuple[str, ...] = ()
    answers: Answers | None = field(default=None, compare=False)


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
        inside: its blocks and its attention, found when it was loaded; None where there is nothing to see.
        patches: its patch embeddings, where images that differ in whole patches can share them; else None.
        remade: change of the network's pass of normalised images (such as compiling it) -> `logits` by the changed one.
        shares: what a pass for logits alone leaves out (`last block`) or can share (`patch embedding`), see docs/numerics.md.

    Example:
        >>> import torch
        >>> from visionvitals.plan.planner import load_backbone
        >>> net = load_backbone("tiny:cnn", device=torch.device("cpu"))
        >>> tuple(net.logits(torch.zeros(2, 3, 64, 64)).shape)
        (2, 16)
    """

    card: BackboneCard
    device: "torch.device"
    logits: "Callable[[Tensor], Tensor]"
    module: "torch.nn.Module"
    features: "Callable[[Tensor], Tensor] | None" = None
    visible_logits: "Callable[[Tensor, Tensor], Tensor] | None" = None
    heads: "Mapping[str, Callable[[Tensor], Tensor]]" = field(default_factory=dict)
    inside: "Inside | None" = None
    patches: "Patches | None" = None
    shares: tuple[str, ...] = ()
    remade: "Callable[[Callable[[Any], Any]], Callable[[Tensor], Tensor]] | None" = None


Place = tuple[int | float | str, ...]
"""Where on a study's axes, one value for each of them."""


@dataclass(frozen=True)
class Scores:
    """A block of measured numbers: what `measure` yields, never a Python object per image.

    Attributes:
        items: what was sampled, n of them: image ids (or classes, episodes, epochs); intervals are over items.
        values: metric -> one number per item, (n,): an array, a tensor or a list of floats; NaN where an item cannot be scored.
        at: where on the study's axes, the same for the whole block.

    Example:
        >>> block = vv.Scores(["a", "b"], {"top1": [1.0, float("nan")]})
        >>> len(block.items), block.at
        (2, ())
    """

    items: Sequence[str]
    values: "Mapping[str, np.ndarray | Tensor | Sequence[float]]"
    at: Place = ()


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The unit of work, of identity and of resume. Its id is made by `plan.identity.cell_id`.

    Attributes:
        study: name of the study.
        version: the study's `VERSION`; bumped when the meaning of its numbers changes.
        condition: the study's `Condition`, a frozen dataclass.
        backbone, images: the cards.
        seed: root of all randomness.
        limit: only the first `limit` images of a seeded draw, or None for all.
        decoder: which decoder made the pixels; never mixed.
        companions: (spelling, digest of the content; of another backbone, of its weights and `Preprocess`) of the other backbones and of
            the folders that the condition names.
        source: digest of the study's own file where it is not one of ours.
        numerics: how the passes are computed whose answers are scored.
        half_width: points, above 0; measured only until the interval of its main share is so narrow on either side (see `run.stopping`), or None.
        minutes: measured only as long as a run of so many minutes had time for it, or None.

    Example:
        >>> import torch
        >>> from visionvitals import study
        >>> from visionvitals.plan.identity import cell_id
        >>> from visionvitals.plan.planner import load_backbone
        >>> card = load_backbone("tiny:vit", device=torch.device("cpu")).card
        >>> data = vv.ImageSetCard(spec="folder:val", digest="0a", n=2, classes=("n01",), class_names=("cat",))
        >>> clean = study.load("clean")
        >>> condition = clean.conditions("default", card.preprocess.size)[0]
        >>> cell = vv.Cell(study="clean", version=clean.version, condition=condition, backbone=card, images=data)
        >>> cell_id(cell).startswith("clean-")
        True
    """

    study: str
    version: int
    condition: Any
    backbone: BackboneCard
    images: ImageSetCard
    seed: int = 0
    limit: int | None = None
    decoder: Literal["pillow", "fast"] = "pillow"
    companions: tuple[tuple[str, str], ...] = ()
    source: str = ""
    numerics: Numerics = FP32
    half_width: float | None = None
    minutes: float | None = None

    @property
    def may_stop(self) -> bool:
        """Whether it may end before all images are measured."""
        return self.half_width is not None or self.minutes is not None
