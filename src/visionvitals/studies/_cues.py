"""What `reliance` measures beside its experiment: which points there are, what a condition may be, metrics, charts, signs. No torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np

from visionvitals.study import Chart, Metric, Published, Sign, require

Op = Literal[
    "none", "global_shape", "local_shape", "texture", "colour", "shuffle", "rotate", "bilateral", "gaussian", "grey", "channels",
]  # fmt: skip
Then = Literal["none", "grey", "shuffle"]
Protocol = Literal["own", "paper"]
Grid = tuple[int, int]

CUES: tuple[Op, ...] = ("none", "global_shape", "local_shape", "texture", "colour")
SHAPES = ("global_shape", "local_shape")
AMOUNTS = ("bilateral", "gaussian", "grey")
"""The operations that look at `amount`."""
USUAL_DIAMETER = 12
SIGMA_SPACE = 75.0

SINGLE, OVER_CELLS, OVER_AMOUNT = "cues", "over the cells", "over the amount"
GRIDS = (2, 4, 6, 8, 10, 12, 14, 16)
SWEPT: Mapping[Op, Sequence[float]] = {
    "bilateral": (4, 6, 8, 10, 12, 14),
    "gaussian": (3, 5, 7, 9, 11, 13, 15),
    "grey": (0.2, 0.4, 0.6, 0.8, 1.0),
}


def part(condition: Any) -> str:
    """The place of a condition on the axis: a cue (or the channels' order), or a curve over cells or over amounts."""
    if condition.suppress in ("shuffle", "rotate") or condition.then == "shuffle":
        return OVER_CELLS
    return OVER_AMOUNT if condition.suppress in AMOUNTS else SINGLE


def grid(condition: Any) -> Grid | None:
    """(rows, columns) of the cells that change places or turn; None where none do."""
    if condition.suppress == "local_shape":
        return 2 * condition.cells, 2 * condition.cells
    moves = condition.suppress in ("global_shape", "shuffle", "rotate") or condition.then == "shuffle"
    return (condition.cells, condition.cells) if moves else None


def bilateral(condition: Any) -> tuple[int, float, float]:
    """(diameter in pixels, sigma of colour on 0..255, sigma of space in pixels): the published pairs are (4, 50), (6, 80) ... (14, 200)."""
    diameter = USUAL_DIAMETER if condition.suppress == "texture" else int(condition.amount)
    return diameter, 15.0 * diameter - 10, SIGMA_SPACE


def reach(condition: Any) -> int:
    """Pixels on each side that a filter looks at; 0 where there is none."""
    if condition.suppress in ("texture", "bilateral"):
        return max(1, bilateral(condition)[0] // 2)
    return int(condition.amount) // 2 if condition.suppress == "gaussian" else 0


def check(c: Any) -> None:
    """Refuse a condition that says nothing or two things."""
    for name, kind in (("suppress", Op), ("then", Then), ("protocol", Protocol)):
        known = get_args(kind)
        require(getattr(c, name) in known, f"`{name}` must be one of {', '.join(known)}", getattr(c, name))
    require(c.cells > 0, "`cells` must be a positive number", c.cells)
    require(c.run >= 0, "`run` must not be negative", c.run)
    require(
        c.then == "none" or c.suppress not in CUES, "`then` must be `none` after a cue", c.then, "Name an operation."
    )
    same = (c.suppress, c.then) in (("shuffle", "shuffle"), ("grey", "grey"))
    require(not same, "`then` must be another operation than `suppress`", c.then)
    a = c.amount
    require(math.isfinite(a), "`amount` must be a finite number", a)
    if c.suppress == "bilateral":
        require(a >= 1 and a == int(a), "`amount` of `bilateral` must be a whole number of pixels, 1 or more", a)
    elif c.suppress == "gaussian":
        require(
            a >= 3 and a == int(a) and a % 2 == 1, "`amount` of `gaussian` must be an odd number of pixels from 3", a
        )
    elif c.suppress == "grey":
        require(0 <= a <= 1, "`amount` of `grey` must be in [0, 1]", a)
    else:
        require(a == 0, f"`amount` must be 0 for `{c.suppress}`, which does not look at it", a)


def curves() -> Iterator[dict[str, Any]]:
    """The fields of the published curves: 35 of single operations and, of 28 pairs, the 27 that differ."""
    for op in ("shuffle", "rotate"):
        yield from ({"suppress": op, "cells": n} for n in GRIDS)
    for name, amounts in SWEPT.items():
        yield from ({"suppress": name, "amount": float(amount)} for amount in amounts)
    yield {"suppress": "channels"}
    yield from ({"suppress": "shuffle", "cells": n, "then": "grey"} for n in GRIDS)
    yield from ({"suppress": "bilateral", "amount": float(d), "then": "grey"} for d in SWEPT["bilateral"])
    together = [*zip(SWEPT["bilateral"], GRIDS, strict=False), *((USUAL_DIAMETER, n) for n in GRIDS)]
    for d, n in dict.fromkeys(together):
        yield {"suppress": "bilateral", "amount": float(d), "cells": n, "then": "shuffle"}


def left(points: Sequence[Mapping[str, Any]], means: np.ndarray, *, op: str) -> np.ndarray | None:
    """The mean over a single curve of (accuracy - chance) / (clean accuracy - chance); None where points are missing."""
    if op == "shuffle":
        wanted = [("shuffle", 0.0, n, "none") for n in GRIDS]
    else:
        wanted = [(op, float(amount), 4, "none") for amount in SWEPT[op]]  # type: ignore[index]
    at = {(p["suppress"], float(p["amount"]), p["cells"], p["then"]): k for k, p in enumerate(points)}
    clean = at.get(("none", 0.0, 4, "none"))
    if clean is None or not set(wanted) <= at.keys():
        return None
    above = means[..., clean]
    score = np.mean([means[..., at[key]] for key in wanted], axis=0) / np.where(above > 0, above, np.nan)
    return np.asarray(score)


def _property(title: str, meaning: str) -> Metric:
    return Metric(
        title=title, meaning=f"{meaning}; a property of the pictures", unit="none", better=None, interval=False
    )


METRICS = {
    "local_variance": _property(
        "local variance left", "variance of grey in 11 x 11 px, relative to the unchanged picture"
    ),
    "high_frequency": _property(
        "high frequencies left", "share of power from 11 cycles on, relative to the unchanged picture"
    ),
    "gradient_correlation": _property(
        "edges in place", "correlation of the gradients with those of the unchanged picture"
    ),
    "colour_left": _property("colour left", "difference of the channels, relative to the unchanged picture"),
    "above_chance": Metric(
        title="top-1 above chance",
        meaning="top-1 less 1 / outputs, for the score of a curve",
        unit="none",
        better="high",
        ends=(-1.0, 1.0),
    ),
}
_CURVE = "Score of the curves: what lies above chance, divided by the same of unchanged pictures."
CHARTS = (
    Chart(
        x="suppress", x_title="what is weakened", where={"part": SINGLE}, facet=("protocol", "then"), title="cue by cue",
        reads="`none` is the unchanged picture. A low bar is a cue that the network needs; compare it with its own `none`.",
    ),
    Chart(
        x="cells", x_title="cells a side", where={"part": OVER_CELLS}, facet=("suppress", "then", "amount"), title="shape",
        reads=f"Cells that change places or turn. {_CURVE}",
    ),
    Chart(
        x="amount", x_title="amount", where={"part": OVER_AMOUNT}, facet=("suppress", "then"), title="texture and colour",
        reads=f"Diameter of the bilateral filter, kernel of the Gaussian (both in pixels), share of grey. {_CURVE}",
    ),
)  # fmt: skip
SIGNS = (
    *(
        Sign(
            title=f"kept without {words}", kind="kept", at=f"without {words}",
            where={"suppress": cue, "protocol": "own", "part": SINGLE, "amount": 0.0, "then": "none"},
        )
        for cue, words in (
            ("global_shape", "global shape"), ("local_shape", "local shape"), ("texture", "texture"), ("colour", "colour"),
        )
    ),
    *(
        Sign(
            title=f"score over the {name} curve", kind="index", metric="above_chance", where={"protocol": "paper"},
            index=partial(left, op=op), unit="share", bounds=(-np.inf, np.inf), better="high",
        )
        for name, op in (("shuffle", "shuffle"), ("bilateral", "bilateral"), ("grey", "grey"))
    ),
)  # fmt: skip
PUBLISHED = tuple(
    Published(
        model="ResNet50",
        architectures=("resnet50",),
        where={"suppress": cue, "protocol": "paper", "cells": cells, "part": SINGLE},
        value=round(score * 0.954, 3),
        data="800 easy photographs, answers among 16 classes",
        source=f"Burgert et al. 2025, score {score:.2f} times the clean accuracy .954 that papernotes.org quotes",
    )
    for cue, cells, score in (("global_shape", 3, 0.83), ("local_shape", 3, 0.28), ("texture", 4, 0.80))
)
