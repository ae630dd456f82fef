"""What the numbers of `results.derived` mean."""

from collections.abc import Mapping

from visionvitals.figure import Metric

METRICS: Mapping[str, Metric] = {
    "overconfidence": Metric(
        title="over-confidence",
        meaning="mean confidence minus accuracy; below 0 where the network is too unsure",
        unit="cosine",
        better=None,
    ),
    "ece": Metric(
        title="ECE",
        meaning="expected calibration error over 15 bins of equal width; biased upwards, see ece_null",
        unit="share",
        better="low",
        interval=False,
    ),
    "ece_mass": Metric(
        title="ECE, equal mass",
        meaning="expected calibration error over 15 bins of equally many images",
        unit="share",
        better="low",
        interval=False,
    ),
    "ece_null": Metric(
        title="ECE if calibrated",
        meaning="95 % of the networks whose confidences are true have a smaller ECE on this many images",
        unit="share",
        better=None,
        interval=False,
    ),
    "calibration_error": Metric(
        title="calibration error",
        meaning="root of the debiased squared gap between confidence and accuracy; below 0 where chance alone gives more",
        unit="cosine",
        better="low",
    ),
    "aurc": Metric(
        title="AURC",
        meaning="mean error rate of the surest k answers, over k from 1 to all",
        unit="share",
        better="low",
    ),
    "risk_at_80": Metric(
        title="errors at 80 % coverage",
        meaning="error rate of the surest 80 % of the answers",
        unit="share",
        better="low",
    ),
    "auroc": Metric(
        title="AUROC",
        meaning="how often a right answer is surer than a wrong one; at 50 % confidence says nothing",
        unit="share",
        better="high",
    ),
    "rejection_ratio": Metric(
        title="rejection ratio",
        meaning="1 where every wrong answer is rejected before any right one, 0 as by chance",
        unit="cosine",
        better="high",
    ),
    "unchanged": Metric(
        title="answer unchanged",
        meaning="the predicted class is that of the clean image, right or wrong",
        unit="share",
        better=None,
    ),
    "prediction_entropy": Metric(
        title="entropy of the answers",
        meaning="entropy of the distribution of predicted classes over the images; 0 where all get the same answer, at most ln n",
        unit="nats",
        better=None,
        interval=False,
    ),
    "class_shift": Metric(
        title="shift of the answers",
        meaning="total variation between the classes predicted of these and of the clean images",
        unit="share",
        better=None,
    ),
    "fill_agreement": Metric(
        title="agreement of fills",
        meaning="the same answer with another fill under the same masks; with the fill that agrees least",
        unit="share",
        better=None,
    ),
}
"""name -> metric, of numbers that are no means over images."""
