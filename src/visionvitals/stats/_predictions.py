"""What is answered, as a set: how many classes the answers spread over, and how far that moved."""

import math
from collections.abc import Callable

import numpy as np

from visionvitals.stats._calibration import drawn_images, reverse_percentile
from visionvitals.stats._means import LEVEL, NOTHING, Estimate


def entropy(predictions: np.ndarray, *, level: float = LEVEL) -> Estimate:
    """Entropy of the distribution of predicted classes over images, in nats: 0 where all images get one answer (Jain et al. 2022).

    It is at most ln n and at most ln k, so that only equal n compare.

    Args:
        predictions: float (runs, n), the class that was predicted for each image; its entropy is averaged over runs. Images with a NaN in any
            run are left out.
        level: of the interval, from draws of the images.
    """
    return _over_images(predictions, _entropy, (0, math.inf), level)


def shift(predictions: np.ndarray, clean: np.ndarray, *, level: float = LEVEL) -> Estimate:
    """Total variation between the distributions of predicted classes of perturbed and of clean images: the share of answers that would
    have to change to turn one into the other; 0 to 1.

    Args:
        predictions: as of `entropy`.
        clean: float (n,), the class that was predicted for the clean image.
        level: as of `entropy`.
    """
    return _over_images(np.concatenate([predictions, clean[None]]), _apart, (0, 1), level)


def _entropy(counts: np.ndarray) -> np.ndarray:
    """(rows, draws, classes) -> (draws,)."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    logs = np.log(np.where(shares > 0, shares, 1))
    return np.asarray(-(shares * logs).sum(axis=-1).mean(axis=0))


def _apart(counts: np.ndarray) -> np.ndarray:
    """(rows, draws, classes), the last row being that of the clean images -> (draws,)."""
    shares = counts / counts.sum(axis=-1, keepdims=True)
    return np.asarray(np.abs(shares[:-1] - shares[-1:]).sum(axis=-1).mean(axis=0) / 2)


def _over_images(
    rows: np.ndarray, function: Callable[[np.ndarray], np.ndarray], bounds: tuple[float, float], level: float
) -> Estimate:
    rows = rows[:, ~np.isnan(rows).any(axis=0)]
    n = rows.shape[1]
    if n == 0:
        return NOTHING
    kinds, index = np.unique(rows, return_inverse=True)
    index, k = index.reshape(rows.shape), len(kinds)

    def counts(images: np.ndarray) -> np.ndarray:
        """How often each class was answered, (rows, draws, classes), for draws of images (draws, n)."""
        first = k * np.arange(len(images))[:, None]
        return np.stack(
            [
                np.bincount((row[images] + first).ravel(), minlength=k * len(images)).reshape(len(images), k)
                for row in index
            ]
        )

    value = float(function(counts(np.arange(n)[None]))[0])
    found = np.concatenate([function(counts(images)) for images in drawn_images(n)])
    return reverse_percentile(value, value, found, bounds, level, n)
