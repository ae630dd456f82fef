"""The fields of conditions: in which order their values are shown, which of them vary, how a value is written."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from visionvitals.figure import Record


class Conditioned(Protocol):
    """What has a condition."""

    @property
    def condition(self) -> Mapping[str, Any]: ...


def strength(v: Any) -> tuple[int, float, str]:
    """Sort key of a value: numbers by size, grids by their number of cells, words after them as they are."""
    if isinstance(v, bool | int | float):
        return 0, float(v), ""
    if is_grid(v):
        return 1, float(math.prod(v)), str(v)
    return 2, 0.0, str(v)


def rank(record: Record | None, field: str, v: Any) -> tuple[int, float, str]:
    """As `strength`, with words in the order in which the study lists them."""
    words = record.choices.get(field, ()) if record is not None and isinstance(v, str) else ()
    return (2, float(words.index(v)), v) if v in words else strength(v)


def usual(record: Record, fields: Iterable[tuple[str, Any]]) -> int:
    """How many of a condition's fields have their default: what to show first where others are measured as often."""
    return sum(record.defaults.get(name) == v for name, v in fields)


def is_grid(v: Any) -> bool:
    """Whether a value is a tuple of integers, such as (14, 14)."""
    return isinstance(v, tuple) and bool(v) and all(isinstance(side, int) for side in v)


def readable(v: Any) -> Any:
    """A grid (14, 14) as `14x14`; everything else as it is."""
    return "x".join(map(str, v)) if isinstance(v, tuple) else v


def varying(points: Sequence[Conditioned]) -> list[str]:
    """The fields that take more than one value, in the condition's order."""
    values: dict[str, set[Any]] = {}
    for p in points:
        for name, v in p.condition.items():
            values.setdefault(name, set()).add(v)
    lacking = {name for p in points for name in values.keys() - p.condition.keys()}
    return [name for name, found in values.items() if len(found) > 1 or (name in lacking and found != {None})]
