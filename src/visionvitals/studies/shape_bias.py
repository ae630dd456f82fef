"""Shape bias: does the network go by the shape or by the texture, where a picture shows the one of one class and the other of another?

Only pictures with a conflict count. The answer is one of the image set's classes; `shape_choice` says, of the pictures answered by
either, whether it was the shape. The ratio hides how often either was seen at all: read shape accuracy, texture accuracy and coverage
beside it. `class_shape_bias` is the bias of the pictures of one shape class; its mean over classes differs from the pooled bias by
points, so both are shown.

Conventions. On `cue_conflict:` sets, a network with ImageNet's 1,000 outputs answers the entry class with the highest mean softmax
probability; a network that has the set's classes as outputs answers the best of these. `token` asks one head of a network with two:
the class token's, or that of the distillation token, which is the shape token where the teacher was trained on stylised pictures. The
pictures are `prepared` as the backbone says, or shown `whole`: all of the picture is the network's input, so that the 224-px stimuli
are neither resized nor cropped, as in model-vs-human. That moves ResNet-50 by about 0.8 points, SqueezeNet by 3.3 (docs/case_shape.md). What
was published is of whole stimuli and stands beside those only.

People and published networks are measured on the same pictures by `vitals responses RUN --add FOLDER`.

What it means for a product. A network that goes by texture follows surfaces: another material or print and the answer turns. Where outlines are what
counts (drawings, silhouettes, new materials), prefer shape.

Pitfalls. The two cues are set against each other in made-up pictures; `reliance` asks on photographs what is needed. A high bias of few answers is
weak evidence. A high shape bias is not robustness as such.

Source: Geirhos et al. 2019; Naseer et al. 2021, section 3.2. The published values are recounted from the published answers to all 1,200
conflicts, or, for networks trained on stylised pictures (SIN), quoted from the paper.

Metrics, over the pictures with a conflict: `shape_accuracy`, `texture_accuracy`, `cue_coverage` and `shape_choice` of all at `(all)` and
once more at each shape class; at `(all)` also `class_shape_bias`, whose items are shape classes, and `prediction`, in the set's classes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np

from visionvitals.study import (
    BackboneCard,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preprocess,
    Preset,
    Published,
    Scores,
    Sign,
    VitalsError,
    require,
)

TITLE = "Shape bias"
AXES = ("shape",)
LABELS = "own"
METRICS = {
    "shape_choice": Metric(
        title="shape bias",
        meaning="of the pictures answered by shape or texture: the answer was the shape (0 or 1); its mean is the shape bias",
        unit="share",
        better=None,
    ),
    "class_shape_bias": Metric(
        title="shape bias (class mean)",
        meaning="shape bias of the pictures of one shape class; the items are classes, each counts the same",
        unit="share",
        better=None,
        over="classes",
    ),
    "shape_accuracy": Metric(
        title="shape accuracy",
        meaning="the answer is the class of the shape (0 or 1), over all pictures with a conflict",
        unit="share",
        better="high",
    ),
    "texture_accuracy": Metric(
        title="texture accuracy",
        meaning="the answer is the class of the texture (0 or 1), over all pictures with a conflict",
        unit="share",
        better=None,
    ),
    "cue_coverage": Metric(
        title="shape or texture seen",
        meaning="the answer is the class of the shape or of the texture (0 or 1), over all pictures with a conflict",
        unit="share",
        better=None,
    ),
}
ALL = "(all)"
"""The place on the axis that takes all shape classes together; it sorts before their names."""

CHARTS = (
    Chart(
        x="",
        metric="shape_choice",
        where={"shape": ALL},
        facet=("token", "stimuli"),
        title="pooled",
        reads="100 % goes by shape, 0 % by texture; people are at 96 %. Bars end with 95 % intervals over the pictures answered by either.",
    ),
    Chart(
        x="shape",
        x_title="shape",
        metric="shape_choice",
        facet=("token", "stimuli"),
        title="by shape class",
        reads="The same for the pictures of each shape. Few pictures stand behind each bar: see the intervals.",
    ),
)
SIGNS = (
    Sign(title="shape bias", kind="mean", metric="shape_choice", where={"shape": ALL}),
    Sign(title="shape bias (class mean)", kind="mean", metric="class_shape_bias", where={"shape": ALL}),
    Sign(title="shape or texture seen", kind="mean", metric="cue_coverage", where={"shape": ALL}),
)
_RECOUNTED = {"AlexNet": 0.2531, "VGG16": 0.0921, "ResNet50": 0.2207, "SqueezeNet1_1": 0.1822, "DenseNet121": 0.2145}
_SIN = (
    ("DeiT-T trained on SIN", "deit_tiny_patch16_224", "output", 0.87),
    ("DeiT-S trained on SIN", "deit_small_patch16_224", "output", 0.93),
    ("DeiT-T distilled from ResNet50-SIN", "deit_tiny_distilled_patch16_224", "class", 0.35),
    ("DeiT-T distilled from ResNet50-SIN", "deit_tiny_distilled_patch16_224", "distillation", 0.44),
    ("DeiT-S distilled from ResNet50-SIN", "deit_small_distilled_patch16_224", "class", 0.39),
    ("DeiT-S distilled from ResNet50-SIN", "deit_small_distilled_patch16_224", "distillation", 0.47),
)
PUBLISHED = (
    *(
        Published(
            model=model,
            architectures=(model.lower(),),
            where={"token": "output", "stimuli": "whole", "shape": ALL},
            value=value,
            metric="shape_choice",
            families=("cue_conflict",),
            data="the 1,200 cue conflicts",
            source="Geirhos et al. 2019, recounted from the published answers",
        )
        for model, value in _RECOUNTED.items()
    ),
    *(
        Published(
            model=model,
            architectures=(architecture,),
            where={"token": token, "stimuli": "whole", "shape": ALL},
            value=value,
            metric="shape_choice",
            families=("cue_conflict",),
            data="the 1,200 cue conflicts",
        )
        for model, architecture, token, value in _SIN
    ),
)

Token = Literal["output", "class", "distillation"]
Stimuli = Literal["prepared", "whole"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Who is asked, of which picture.

    Attributes:
        token: `output`, the network's own; or the head of the `class` or the `distillation` (shape) token alone.
        stimuli: `prepared` as the backbone says; or `whole`, brought to the size of its input without a crop.
    """

    token: Token = "output"
    stimuli: Stimuli = "prepared"

    def __post_init__(self) -> None:
        require(self.token in get_args(Token), f"`token` must be one of {', '.join(get_args(Token))}", self.token)
        must = f"`stimuli` must be one of {', '.join(get_args(Stimuli))}"
        require(self.stimuli in get_args(Stimuli), must, self.stimuli)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: the network's output. default: each head of a network with two as well. paper: the same of whole stimuli."""
    tokens = get_args(Token)[:1] if preset == "quick" else get_args(Token)
    return [Condition(token=token, stimuli="whole" if preset == "paper" else "prepared") for token in tokens]


def cut(condition: Condition, preprocess: Preprocess) -> Preprocess:
    """Whole stimuli are not cropped; those of the input's own size are not resized."""
    return dataclasses.replace(preprocess, resize=None) if condition.stimuli == "whole" else preprocess


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The set must know its textures, the outputs must be known as its classes, and a token must have a head."""
    if "texture" not in images.provides:
        return (
            "shape bias needs pictures that know their texture, such as cue_conflict: or shapes:test?variant=conflict"
        )
    if images.conflicts == 0:
        return f"none of the {images.n} pictures shows the shape of one class in the texture of another"
    if backbone.outputs == 0:
        return f"{backbone.architecture} has no classifier: what it gives are features, which are no answers"
    if outputs_of(backbone, images.classes) is None:
        some = ", ".join(images.classes[:3])
        return (
            f"the outputs of {backbone.architecture} are neither the set's classes ({some}, ...) nor ImageNet's 1,000"
        )
    if condition.token != "output" and "heads" not in backbone.provides:
        return f"`token = {condition.token}` needs a network with a head for each token; {backbone.architecture} has one head"
    return None


def outputs_of(backbone: BackboneCard, classes: Sequence[str]) -> list[tuple[int, ...]] | None:
    """The output indices of each class of an image set, or None where they cannot be told.

    ImageNet's order is that of the sorted wnids.
    """
    own = backbone.classes or ()
    if classes and set(classes) <= set(own):
        return [(own.index(name),) for name in classes]
    from visionvitals.probes.shape_bias import ENTRY_CLASSES

    wnids = len(own) == 1000 and list(own) == sorted(own) and own[0] == "n01440764" and own[-1] == "n15075141"
    if wnids and set(classes) <= set(ENTRY_CLASSES):
        return [ENTRY_CLASSES[name] for name in classes]
    return None


class Answers(NamedTuple):
    """What one observer, a network or a person, said of pictures with a conflict.

    Attributes:
        items: what was answered, n of them.
        classes: their names, which the others are indices of.
        shape, texture: int (n,), the classes shown.
        said: int (n,), the class answered, -1 where there was no answer.
    """

    items: Sequence[str]
    classes: Sequence[str]
    shape: np.ndarray
    texture: np.ndarray
    said: np.ndarray


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes import shape_bias

    c: Condition = job.condition
    classes, labels = job.images.classes, np.asarray(job.labels)
    assert job.textures is not None
    members = outputs_of(job.backbone.card, classes)
    assert members is not None
    conflict = (job.textures >= 0) & (job.textures != labels)
    if not conflict.any():
        raise VitalsError(
            f"Some picture must show the shape of one class in the texture of another. Got none of {len(job.ids)} in "
            f"`{job.images.spec}`. Embedded pictures with a conflict: `shapes:test?variant=conflict`."
        )
    logits = job.backbone.logits if c.token == "output" else job.backbone.heads[c.token]
    said, fine = np.empty(len(job.ids), dtype=np.int64), np.empty(len(job.ids), dtype=bool)
    for batch in job.batches():
        with torch.inference_mode():
            out = logits(batch.images).float()
            chances = shape_bias.class_probabilities(out, members)
        said[batch.rows] = shape_bias.decide(chances).cpu().numpy()
        fine[batch.rows] = out.isfinite().all(dim=1).cpu().numpy()
        for position, item in enumerate(batch.ids):
            if item in job.exhibits and conflict[batch.rows.start + position]:
                job.keep(item, batch.images[position])
        job.progress(len(batch.ids))
    asked = np.flatnonzero(conflict).tolist()
    yield Scores([job.ids[k] for k in asked], {"prediction": np.where(fine, said, np.nan)[asked]}, (ALL,))
    rows = np.flatnonzero(conflict & fine)
    items = [job.ids[k] for k in rows.tolist()]
    yield from scores(Answers(items, classes, labels[rows], job.textures[rows], said[rows]))


def scores(answers: Answers) -> Iterator[Scores]:
    """The study's numbers, but for `prediction`, from the answers of one observer."""
    items, classes, shape, texture, said = answers
    by_shape, by_texture = said == shape, said == texture
    either = by_shape | by_texture
    seen = {"shape_accuracy": by_shape, "texture_accuracy": by_texture, "cue_coverage": either}
    shown: list[int] = np.unique(shape).tolist()
    for at, own in [(ALL, np.ones(len(items), dtype=bool)), *((classes[k], shape == k) for k in shown)]:
        for columns, counted in ((seen, own), ({"shape_choice": by_shape}, own & either)):
            rows = np.flatnonzero(counted)
            yield Scores([items[k] for k in rows.tolist()], {name: hits[rows] for name, hits in columns.items()}, (at,))
    biased = [k for k in shown if either[shape == k].any()]
    bias = [by_shape[(shape == k) & either].mean() for k in biased]
    yield Scores([classes[k] for k in biased], {"class_shape_bias": bias}, (ALL,))
