"""Common corruptions: how much is still recognised under noise, blur, weather and digital damage, at five severities.

The 19 corruptions of ImageNet-C and rain of our own are made in memory from the network's input after resize and crop, with random
numbers of their own for each image and equal ones at all severities, which makes comparisons over severities paired. How each one
stands to ImageNet-C is said in `perturb/corruptions`.

Conventions. `none` at severity 0 is the clean image. The 15 of the benchmark, the 4 that it holds out and our own are never averaged
together. `mean corruption error` is the mean top-1 error over the 15 x 5; `kept accuracy` is the mean accuracy over them, divided by
the clean one. Neither is mCE: that exists for the released ImageNet-C files only (study `imagenet_c`). `frost` names a folder of frost
pictures (ImageNet-C's six, of which it uses five); without one, frost is drawn by a procedure of our own.

What it means for a product. Each corruption stands for a cause: defocus for a lens, noise for a night, JPEG for a link. Look at those of the place of
use; the mean over all is for comparisons with other networks.

Pitfalls. A network trained on some of these (AugMix, noise) has met them. Severities are no equal steps across corruptions. The size of the input
matters: compare at one size.

Source: Hendrycks and Dietterich 2019; Naseer et al. 2021, section 3.4. Deviation: those are the released JPEG files.

Metrics: those of `clean`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from visionvitals.probes import mce
from visionvitals.studies._corruption_points import CLEAN, COMMON, EXTRA, OWN, clean_point, errors, group, mean_error
from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    FolderSpec,
    ImageSetCard,
    Job,
    Preset,
    Scores,
    Sign,
    VitalsError,
    near,
    require,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

VERSION = 2  # trails, snow and water to the level of the published code
TITLE = "Common corruptions"
AXES = ("group",)
PER_IMAGE = True

Name = Literal[
    "none", "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur", "snow",
    "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression", "speckle_noise",
    "gaussian_blur", "spatter", "saturate", "rain",
]  # fmt: skip
PROCEDURAL = FolderSpec("procedural")
QUICK: tuple[Name, ...] = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression")
QUICK_SEVERITIES = (1, 3, 5)


def _mean_corruption_error(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    return mean_error(errors(_one_frost(points), means), mce.COMMON)


def _kept(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    table = errors(_one_frost(points), means)
    error = mean_error(table, mce.COMMON)
    return None if error is None or "clean" not in table else _ratio(1 - error, 1 - table["clean"][0])


def _kept_quick(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    """Of the quick preset's points; None where there are more, which say it better."""
    at = {(p["corruption"], p["severity"]): k for k, p in enumerate(points)}
    wanted = [(name, severity) for name in QUICK for severity in QUICK_SEVERITIES]
    if ("none", 0) not in at or not set(wanted) <= at.keys() or _kept(points, means) is not None:
        return None
    corrupted = np.asarray(sum(means[..., at[key]] for key in wanted)) / len(wanted)
    return _ratio(corrupted, means[..., at["none", 0]])


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(a / np.where(b == 0, np.nan, b))


def _one_frost(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The points, with drawn frost renamed where there are frost pictures too, so that frost counts once."""
    with_pictures = any(p["corruption"] == "frost" and p["frost"] != PROCEDURAL for p in points)
    drawn = ("frost", PROCEDURAL)
    return [
        {**p, "corruption": "drawn frost"} if with_pictures and (p["corruption"], p["frost"]) == drawn else p
        for p in points
    ]


_READS = (
    "Top-1 accuracy over severity, one small chart a corruption, made in memory. Bands are 95 % intervals over images."
)
CHARTS = (
    Chart(
        x="severity", x_title="severity", facet=("corruption", "frost"), where={"group": COMMON}, title=COMMON,
        reads=_READS + " The same numbers are in the table; their mean error is not mCE.",
    ),
    Chart(x="severity", x_title="severity", facet=("corruption",), where={"group": EXTRA}, title=EXTRA, reads=_READS),
    Chart(x="severity", x_title="severity", facet=("corruption",), where={"group": OWN}, title=OWN, reads=_READS),
)  # fmt: skip
_RATIO: Mapping[str, Any] = {"unit": "share", "bounds": (0.0, np.inf)}
SIGNS = (
    Sign(
        title="mean corruption error (15 x 5)", kind="index", index=_mean_corruption_error, unit="share", better="low"
    ),
    Sign(title="kept accuracy (15 x 5 corruptions)", kind="index", index=_kept, base=clean_point, **_RATIO),
    Sign(title="kept accuracy (4 x 3 corruptions)", kind="index", index=_kept_quick, base=clean_point, **_RATIO),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One corruption at one severity.

    Attributes:
        corruption: its name; `none` is the clean image, at severity 0 only.
        severity: 1 to 5, as published.
        frost: a folder of frost pictures, or `procedural`; only `frost` looks at it.
    """

    corruption: Name = "gaussian_noise"
    severity: int = 3
    frost: FolderSpec = PROCEDURAL

    def __post_init__(self) -> None:
        known = get_args(Name)
        require(
            self.corruption in known,
            "`corruption` must be one of ours or `none`",
            self.corruption,
            partial(near, self.corruption, known),
        )
        require(self.severity in (0, *mce.SEVERITIES), "`severity` must be a whole number from 0 to 5", self.severity)
        require(bool(self.frost), f"`frost` must be a folder of pictures or `{PROCEDURAL}`", self.frost)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """Each with the clean image. quick: four corruptions, one of each family, at severity 1, 3, 5. default: the 15 of the benchmark and
    rain x 5. paper: the 15 and the 4 that the benchmark holds out x 5.
    """
    clean = Condition(corruption="none", severity=0)
    if preset == "quick":
        return [clean, *_product(QUICK, QUICK_SEVERITIES)]
    more = ("rain",) if preset == "default" else mce.EXTRA
    return [clean, *_product((*mce.COMMON, *more), mce.SEVERITIES)]


def _product(names: Sequence[str], severities: Sequence[int]) -> list[Condition]:
    known: Mapping[str, Name] = {name: name for name in get_args(Name)}
    return [Condition(corruption=known[name], severity=severity) for name in names for severity in severities]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """The image must not be smaller than the kernel, nor corrupted already; a folder of frost must hold pictures."""
    if images.spec.startswith("imagenet_c:"):
        return "these pictures are corrupted already; the study `imagenet_c` measures them"
    if (condition.corruption == "none") != (condition.severity == 0):
        return "the clean image is `none` at severity 0, and a corruption has a severity from 1 to 5"
    if condition.corruption == "none":
        return None
    from visionvitals.perturb.corruptions import smallest_side
    from visionvitals.perturb.corruptions.frost import pictures

    side, needed = min(backbone.preprocess.size), smallest_side(condition.corruption, condition.severity)
    if side < needed:
        return f"{condition.corruption} at severity {condition.severity} looks at {needed} px, and the input has {side}"
    if condition.corruption == "frost" and condition.frost != PROCEDURAL:
        try:
            pictures(condition.frost)
        except VitalsError as error:
            return str(error)
    return None


def perturb(condition: Condition, batch: Batch, seed: int) -> "Tensor":
    """The images under the corruption."""
    from visionvitals import randomness
    from visionvitals.perturb.corruptions import corrupt

    c = condition
    if c.corruption == "none":
        return batch.images
    keys = randomness.stream(seed, batch.ids, f"corruption/{c.corruption}", device=batch.images.device)
    folder = None if c.frost == PROCEDURAL else c.frost
    return corrupt(c.corruption, batch.images, c.severity, keys, frost_folder=folder)


def measure(job: Job) -> Iterator[Scores]:
    name = job.condition.corruption
    yield from score(job, perturb, at=(CLEAN if name == "none" else group(name),))
