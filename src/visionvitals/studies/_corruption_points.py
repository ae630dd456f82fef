"""What the two studies of corruptions share: the groups that are never mixed, and errors by name and severity from points."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from visionvitals.probes import mce

Group = Literal["clean", "15 of ImageNet-C", "4 held out", "our own"]
CLEAN: Group = "clean"
COMMON: Group = "15 of ImageNet-C"
EXTRA: Group = "4 held out"
OWN: Group = "our own"


def group(name: str) -> Group:
    """Where a corruption belongs."""
    if name in mce.COMMON:
        return COMMON
    return EXTRA if name in mce.EXTRA else OWN


def errors(points: Sequence[Mapping[str, Any]], accuracies: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Corruption -> errors at severity 1..5, of the corruptions that have all five; the clean error is [error] under `clean`.

    Args:
        points: fields of the m points.
        accuracies: float (..., m).
    """
    found = {(p["corruption"], p["severity"]): 1 - accuracies[..., k] for k, p in enumerate(points)}
    table = {c: [found[c, s] for s in mce.SEVERITIES] for c, _ in found if all((c, s) in found for s in mce.SEVERITIES)}
    clean = [found[key] for key in found if key[1] == 0]
    return table | ({"clean": clean[:1]} if clean else {})


def clean_point(points: Sequence[Mapping[str, Any]]) -> int:
    """Which point is the clean one; for the `base` of a `Sign`."""
    return next(k for k, point in enumerate(points) if point["severity"] == 0)


def mean_error(table: Mapping[str, Sequence[np.ndarray]], names: Sequence[str]) -> np.ndarray | None:
    """The mean error over corruptions and severities; None where one of the names is missing."""
    if not set(names) <= table.keys():
        return None
    return np.asarray(sum(sum(table[c]) for c in names) / (len(names) * len(mce.SEVERITIES)))
