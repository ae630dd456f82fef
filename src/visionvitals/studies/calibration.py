"""Calibration: is the network right as often as it says, and how much of what is wrong does one temperature mend?

The largest softmax probability is taken for the chance that the answer is right. One temperature T > 0 is fitted on a half of the images, drawn
by their hash, so that softmax(logits / T) has the smallest cross-entropy there; the other half is scored with the logits as they are and divided
by T. No answer changes, only how sure it is. Both are of the network in float32, whatever the run's precision. Copies of a picture lie in one half.

What is computed from confidence and rightness (expected calibration error with what chance alone gives, AURC, AUROC, errors at 80 %
coverage) is there for every study of answers, under every perturbation: `vitals table RUN --metric ece`, and the section "Confidence" of the
report. A threshold on the confidence of a network with an AUROC near 50 % rejects at random, however well calibrated it is.

What it means for a product. Where a threshold on confidence decides what a person looks at, take the threshold from these numbers and not from the
softmax. Fit the temperature on pictures of the place of use, and again when these change.

Pitfalls. An ECE of 7 % on 300 images is nothing: a network whose confidences are true has that much. Networks trained with label smoothing,
mixup or a binary cross-entropy do not mean their softmax as a probability. A temperature of clean images is no temperature of shifted ones, where it
can do harm (Gruber & Buettner 2022; arXiv 2506.09593).

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2. Deviation: T by bisection on the derivative in 1/T, where the
cross-entropy is convex, within 0.05 to 20.

Metrics: those of `clean` on the half that is scored; `temperature`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visionvitals.study import BackboneCard, Chart, ImageSetCard, Job, Metric, Preset, Scores, Sign, answers, require

if TYPE_CHECKING:
    from torch import Tensor

TITLE = "Calibration"
AXES = ("scaling",)
METRICS = {
    "temperature": Metric(
        title="temperature",
        meaning="the number by which logits are divided; above 1 where the network is too sure of itself",
        unit="distance",
        better=None,
        interval=False,
    )
}
CHARTS = (
    Chart(
        x="scaling",
        x_title="logits",
        metric="cross_entropy",
        reads="Lower is better. The second bar is what one temperature, fitted on other images, makes of the first.",
    ),
)
SIGNS = (Sign(title="temperature", kind="mean", metric="temperature", where={"scaling": "temperature"}),)
COLDEST, HOTTEST = 0.05, 20.0
_STEPS = 60


@dataclass(frozen=True, kw_only=True)
class Condition:
    """There is one: the image as it is."""


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """One condition in every preset."""
    return [Condition()]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """A half to fit on, a half to score, one right output."""
    if backbone.outputs < 2:
        return f"confidence needs at least 2 outputs; {backbone.architecture} has {backbone.outputs}"
    if images.stands_for:
        return f"its loss is that of one right output; classes of {images.spec} mean several outputs"
    return None if images.n > 1 else "one half fits the temperature and the other is scored; there is one image"


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals import randomness

    k = job.backbone.card.outputs

    def fill(arrays: Mapping[str, np.ndarray], start: int) -> Iterator[int]:
        done = start
        for batch in job.batches(start):
            with torch.inference_mode():
                arrays["logits"][batch.rows] = job.backbone.logits(batch.images).float().cpu().numpy()
            done += len(batch.ids)
            job.progress(len(batch.ids))
            yield done

    found = job.memo_rows("logits", {}, {"logits": ((k,), "float32")}, fill)["logits"]
    firsts = [job.copies.get(item, item) for item in job.ids]
    drawn = randomness.uniform(randomness.stream(job.seed, firsts, "calibration/half"), 1)[:, 0].numpy() < 0.5
    logits, labels = torch.from_numpy(np.array(found)), torch.from_numpy(np.asarray(job.labels, dtype=np.int64))
    finite = logits.isfinite().all(dim=1).numpy()
    fit, test = np.flatnonzero(drawn & finite), np.flatnonzero(~drawn)
    require(len(fit) > 0 and len(test) > 0, "Both halves must have images", (len(fit), len(test)), "Take more images.")
    t = temperature(logits[fit].double(), labels[fit])
    if not COLDEST < t < HOTTEST:
        job.warn(f"The temperature is at the end of what is tried, {COLDEST:g} to {HOTTEST:g}: {t:g}")
    ids = [job.ids[int(row)] for row in test]
    for scaling, factor in (("none", 1.0), ("temperature", t)):
        measured = answers(logits[test] / factor, labels[test])
        measured["temperature"] = torch.full((len(test),), factor, dtype=torch.float64)
        yield Scores(ids, measured, (scaling,))


def temperature(logits: "Tensor", labels: "Tensor") -> float:
    """The T in [0.05, 20] whose softmax(logits / T) has the smallest cross-entropy, for logits float64 (n, k) and labels (n,)."""
    own = logits.gather(1, labels[:, None])[:, 0]

    def slope(inverse: float) -> float:
        """Of the cross-entropy over 1 / T: expected logit minus own logit."""
        return float(((logits * (logits * inverse).softmax(dim=1)).sum(dim=1) - own).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(1 / (low * high) ** 0.5)
