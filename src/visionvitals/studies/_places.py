"""Readings of a curve over blocks, for networks of any depth."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def last_place(points: Sequence[Mapping[str, Any]], means: "np.ndarray") -> "np.ndarray":
    """The value at the highest `block`; for a `Sign` of kind `index`."""
    at = max(range(len(points)), key=lambda k: int(points[k]["block"]))
    last: np.ndarray = means[..., at]
    return last
