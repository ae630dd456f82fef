"""mCE, the mean corruption error of ImageNet-C, with the published errors of AlexNet that it divides by.

Source: Hendrycks and Dietterich 2019, section 4. The errors per severity are those that the authors gave for torchvision's AlexNet on the
released files (JPEG, 224 px, 50,000 images); their means are the ones in common use.

Convention: errors are shares in [0, 1], and mCE is 1 for AlexNet, written as 100 %. The denominators exist for the released
ImageNet-C only: on any other images, and on ImageNet corrupted in memory, there is no mCE, but a mean error.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from visionvitals.errors import require

ALEXNET: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "gaussian_noise": (0.69528, 0.82542, 0.93554, 0.98138, 0.99452),
        "shot_noise": (0.71224, 0.85108, 0.93574, 0.98182, 0.99146),
        "impulse_noise": (0.78374, 0.89808, 0.94870, 0.98720, 0.99548),
        "defocus_blur": (0.65624, 0.73202, 0.85036, 0.91364, 0.94714),
        "glass_blur": (0.64308, 0.75054, 0.88806, 0.91622, 0.93344),
        "motion_blur": (0.58430, 0.70048, 0.82108, 0.89750, 0.92638),
        "zoom_blur": (0.70008, 0.76992, 0.80784, 0.84198, 0.87198),
        "snow": (0.71726, 0.88392, 0.86468, 0.91870, 0.94952),
        "frost": (0.61390, 0.79734, 0.88790, 0.89942, 0.93430),
        "fog": (0.67474, 0.76050, 0.84378, 0.87260, 0.94500),
        "brightness": (0.45140, 0.48502, 0.54048, 0.62166, 0.72440),
        "contrast": (0.64548, 0.76150, 0.88874, 0.97760, 0.99270),
        "elastic_transform": (0.52596, 0.70116, 0.55686, 0.64076, 0.80554),
        "pixelate": (0.52218, 0.54620, 0.73728, 0.87092, 0.91262),
        "jpeg_compression": (0.51002, 0.54718, 0.57294, 0.65458, 0.74778),
    }
)
"""Corruption -> AlexNet's top-1 error at severity 1..5. A table of names, never two lists: another order gives another mCE."""
ALEXNET_CLEAN = 0.43478
"""Its top-1 error on the clean validation images."""
COMMON = tuple(ALEXNET)
"""The 15 corruptions of the benchmark, in its order."""
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")
"""The 4 that it holds out for validation; they never enter mCE."""
SEVERITIES = (1, 2, 3, 4, 5)
PUBLISHED: Mapping[str, float] = MappingProxyType(
    {
        "DeiT-B": 0.485,
        "T2T-24": 0.491,
        "TNT-S": 0.531,
        "DeiT-S": 0.546,
        "AugMix ResNet50": 0.653,
        "DeiT-T": 0.711,
        "ResNet50": 0.767,
        "ResNet50-SIN": 0.773,
        "DeiT-S-SIN": 0.840,
        "DeiT-T-SIN": 0.944,
    }
)
"""mCE of Naseer et al. 2021, section 3.4."""


def mce(errors: Mapping[str, Sequence[np.ndarray | float]]) -> np.ndarray:
    """The mean over the 15 of (sum over severities of the error) / (that of AlexNet).

    Args:
        errors: corruption -> five top-1 errors in [0, 1], severity 1..5; numbers, or equal-shaped arrays (of bootstrap samples).
            Other corruptions than the 15 are not looked at.

    Raises:
        VitalsError: one of the 15 or of its severities is missing.

    Example:
        >>> round(float(mce(ALEXNET)), 6)
        1.0
    """
    _require_all(errors)
    ratios = [sum(map(np.asarray, errors[name])) / sum(ALEXNET[name]) for name in COMMON]
    return np.asarray(sum(ratios) / len(COMMON))


def relative_mce(errors: Mapping[str, Sequence[np.ndarray | float]], clean: np.ndarray | float) -> np.ndarray:
    """The same of what corruption adds: errors minus the clean error, for the network and for AlexNet.

    Args:
        errors: as for `mce`.
        clean: the network's top-1 error on the clean images.

    Example:
        >>> round(float(relative_mce(ALEXNET, ALEXNET_CLEAN)), 6)
        1.0
    """
    _require_all(errors)
    ratios = [
        sum(np.asarray(error) - clean for error in errors[name])
        / (sum(ALEXNET[name]) - len(SEVERITIES) * ALEXNET_CLEAN)
        for name in COMMON
    ]
    return np.asarray(sum(ratios) / len(COMMON))


def _require_all(errors: Mapping[str, Sequence[np.ndarray | float]]) -> None:
    missing = [name for name in COMMON if len(errors.get(name, ())) != len(SEVERITIES)]
    require(not missing, f"mCE needs {len(COMMON)} corruptions at {len(SEVERITIES)} severities", f"without {missing}")
