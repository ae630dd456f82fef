"""ImageNet-C as released: top-1 by corruption and severity, mCE and relative mCE, for image sets `imagenet_c:FOLDER`.

The released files (JPEG, 224 px) are the reference form of the benchmark, and the only images for which mCE exists: it divides by the
published errors of AlexNet on these files (`probes/mce`). One pass measures all corruptions, so the image is the sampling unit, with
all its corrupted forms. The pictures are cut already: a network that would resize and crop them again is refused.

Conventions. mCE is the mean over the 15 of (the sum over severities of the error) / (that of AlexNet), 100 % for AlexNet; it needs all
15 x 5 folders. Relative mCE takes the clean error off both, and needs the clean pictures (`?clean=FOLDER`). The 4 held-out
corruptions have a mean error of their own. On a subset (`?images=500`) all of these have their intervals, over images.

What it means for a product. For comparisons with published networks. For the place of use take `corruption` on its own pictures.

Pitfalls. Only the released files give mCE; the pictures are JPEG and were cut by the authors, so a network that needs another size sees them resized.
Networks trained with similar augmentation have met them.

Source: Hendrycks and Dietterich 2019, section 4; Naseer et al. 2021, section 3.4.

Metrics: those of `clean`, at (group, corruption, severity); the item is `wnid/file`, the same for all forms of a picture.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.probes import mce
from visionvitals.studies._corruption_points import CLEAN, COMMON, EXTRA, clean_point, errors, group, mean_error
from visionvitals.study import BackboneCard, Chart, ImageSetCard, Job, Preset, Scores, Sign, score

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "ImageNet-C"
AXES = ("group", "corruption", "severity")


def _mce(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    table = errors(points, means)
    return mce.mce(table) if set(mce.COMMON) <= table.keys() else None


def _relative(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    table = errors(points, means)
    return mce.relative_mce(table, table["clean"][0]) if {*mce.COMMON, "clean"} <= table.keys() else None


def _held_out(points: Sequence[Mapping[str, Any]], means: np.ndarray) -> np.ndarray | None:
    return mean_error(errors(points, means), mce.EXTRA)


_PUBLISHED = ", ".join(f"{model} {value:.1%}" for model, value in mce.PUBLISHED.items())
_READS = "Top-1 accuracy over severity, one small chart a corruption. Bands are 95 % intervals over images."
CHARTS = (
    Chart(
        x="severity", x_title="severity", facet=("corruption",), where={"group": COMMON}, title=COMMON,
        reads=f"{_READS} Published mCE on all 50,000 images (Naseer et al. 2021): {_PUBLISHED}.",
    ),
    Chart(x="severity", x_title="severity", facet=("corruption",), where={"group": EXTRA}, title=EXTRA, reads=_READS),
)  # fmt: skip
SIGNS = (
    Sign(title="mCE", kind="index", index=_mce, unit="share", bounds=(0.0, np.inf), better="low"),
    Sign(
        title="relative mCE",
        kind="index",
        index=_relative,
        unit="share",
        bounds=(-np.inf, np.inf),
        base=clean_point,
        better="low",
    ),
    Sign(title="mean error, 4 held out", kind="index", index=_held_out, unit="share", better="low"),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """There is one: all the forms that the folder holds."""


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """One condition in every preset."""
    return [Condition()]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """Only the released files, and no second crop."""
    if images.spec and not images.spec.startswith("imagenet_c:"):
        return (
            "mCE exists for the released ImageNet-C only, `imagenet_c:FOLDER`; the study `corruption` takes any images"
        )
    p = backbone.preprocess
    if p.resize not in (None, min(p.size)):
        return (
            f"ImageNet-C's pictures are cut already, and {backbone.architecture} would resize them to {p.resize} and crop again; "
            f"add `crop=1` to the options of its spelling, `{backbone.spec}`"
        )
    return None


def item(id: str) -> str:
    """The picture that an id is a form of."""
    return place(id)[0]


def measure(job: Job) -> Iterator[Scores]:
    def keep(item: str, image: "Tensor") -> None:
        job.keep(item, image, place(item)[1])

    for block in score(dataclasses.replace(job, keep=keep) if job.images.spec else job, None):
        found: dict[tuple[str, str, int], list[int]] = {}
        for row, id in enumerate(block.items):
            found.setdefault(place(id)[1], []).append(row)
        for at, rows in found.items():
            values = {metric: column[rows] for metric, column in block.values.items()}  # type: ignore[call-overload]
            yield Scores([place(block.items[row])[0] for row in rows], values, at)


def place(id: str) -> tuple[str, tuple[str, str, int]]:
    """(picture, (group, corruption, severity)) of an id `corruption/severity/wnid/file`; any other id is a clean picture.

    Example:
        >>> place("fog/3/n01440764/a.JPEG")
        ('n01440764/a.JPEG', ('15 of ImageNet-C', 'fog', 3))
    """
    name, _, rest = id.partition("/")
    severity, _, picture = rest.partition("/")
    if name in (*mce.COMMON, *mce.EXTRA) and severity in map(str, mce.SEVERITIES):
        return picture, (group(name), name, int(severity))
    return id, (CLEAN, "none", 0)
