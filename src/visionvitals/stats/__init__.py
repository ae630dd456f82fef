"""Means, differences, ratios, areas and formulas over images, each with an interval. Images are the sampling unit.

All intervals are two-sided, at 95 % unless another `level` is asked. Several runs of one image are first averaged within the image,
because they are not independent evidence about new images; n always counts images. No interval has width zero, and none goes beyond what
is possible. docs/statistics.md says which method stands behind each function, where it comes from, and how often it covers the truth.
"""

from visionvitals.stats._agreement import FEWEST, Agreement, error_consistency
from visionvitals.stats._calibration import Bin, Calibration, calibration, rejection_area, risks
from visionvitals.stats._functions import extreme, extreme_difference, formula
from visionvitals.stats._looks import Early, Look, at_look, looks, prefixes
from visionvitals.stats._means import (
    LEVEL,
    NOTHING,
    UNBOUNDED,
    Bounds,
    Estimate,
    clopper_pearson,
    deciding,
    estimate,
    needed,
    over_draws,
    std,
    wilson,
)
from visionvitals.stats._pairs import area, area_difference, kept, kept_difference, paired_difference, trapezoid
from visionvitals.stats._predictions import entropy, shift
from visionvitals.stats._robustness import LINES, Line, effective_robustness

__all__ = [
    "FEWEST",
    "LEVEL",
    "LINES",
    "NOTHING",
    "UNBOUNDED",
    "Agreement",
    "Bin",
    "Bounds",
    "Calibration",
    "Early",
    "Estimate",
    "Line",
    "Look",
    "area",
    "area_difference",
    "at_look",
    "calibration",
    "clopper_pearson",
    "deciding",
    "effective_robustness",
    "entropy",
    "error_consistency",
    "estimate",
    "extreme",
    "extreme_difference",
    "formula",
    "kept",
    "kept_difference",
    "looks",
    "needed",
    "over_draws",
    "paired_difference",
    "prefixes",
    "rejection_area",
    "risks",
    "shift",
    "std",
    "trapezoid",
    "wilson",
]
