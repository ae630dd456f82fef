"""Effective robustness: how far an accuracy on shifted images lies above what the clean accuracy predicts (Taori et al. 2020)."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from visionvitals.stats._means import Estimate


class Line(NamedTuple):
    """logit(accuracy on the shifted set) = intercept + slope * logit(accuracy on the clean set), by least squares over standard networks.

    Attributes:
        intercept, slope: of the line.
        networks: how many it was fitted to.
        r2: share of the variance that it explains; the smaller it is, the less a distance from it says.
    """

    intercept: float
    slope: float
    networks: int
    r2: float

    def expected(self, clean: float) -> float:
        """The accuracy on the shifted set that the line expects at an accuracy on the clean set, both in [0, 1]."""
        if not 0 < clean < 1:
            return clean
        return 1 / (1 + math.exp(-self.intercept - self.slope * math.log(clean / (1 - clean))))


LINES: Mapping[str, Line] = {
    "imagenet-v2": Line(-0.4977, 0.9232, 85, 0.996),
    "imagenet-a": Line(-7.6325, 1.9900, 84, 0.83),
    "imagenet-r": Line(-2.1077, 0.6368, 80, 0.89),
    "imagenet-sketch": Line(-2.3701, 1.0709, 85, 0.87),
    "objectnet": Line(-1.9283, 0.9809, 85, 0.95),
}
"""Of networks of up to 2020 that were trained on ImageNet alone, with a clean accuracy of at least 55 %; fitted by us to the accuracies of the
ImageNet testbed (Taori et al. 2020, `robustness_top1s.csv`). V2 is matched-frequency. Both accuracies are among the classes of the shifted set."""


def effective_robustness(shifted: Estimate, clean: Estimate, line: Line) -> Estimate:
    """Accuracy on the shifted set minus what the line expects at the clean accuracy: 0 on the line, above it better.

    Args:
        shifted: accuracy among the classes of the shifted set (`top1_present`), in [0, 1].
        clean: accuracy of the same network on clean images of the same classes, in the same reading.
        line: one of `LINES`, or a fit of one's own.

    Returns:
        the difference; its interval joins those of the two accuracies, of different images (MOVER, Zou & Donner 2008, *Statistics in Medicine* 27:1693,
        with the line as a monotone transform); n is the smaller one. It holds for new images, not for the choice of networks
        that made the line.

    Raises:
        ValueError: an accuracy outside [0, 1].

    Example:
        >>> on_the_line = LINES["objectnet"].expected(0.75)
        >>> effective_robustness(Estimate(on_the_line, 0.3, 0.4, 1000), Estimate(0.75, 0.7, 0.8, 1000), LINES["objectnet"]).value
        0.0
    """
    if not (0 <= shifted.value <= 1 and 0 <= clean.value <= 1):
        raise ValueError(f"Accuracies must be in [0, 1]. Got {shifted.value} and {clean.value}.")
    expected, least, most = (line.expected(value) for value in clean[:3])
    value = shifted.value - expected
    low = value - math.hypot(shifted.value - shifted.low, most - expected)
    high = value + math.hypot(shifted.high - shifted.value, expected - least)
    return Estimate(value, max(low, -1.0), min(high, 1.0), min(shifted.n, clean.n))
