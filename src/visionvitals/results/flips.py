"""The answers that flip between two networks at one condition: which pictures, of which classes, and how far both fail on the same ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visionvitals import stats
from visionvitals.results import words
from visionvitals.results.compare import Pair
from visionvitals.results.derived import of_runs
from visionvitals.results.run import Point, Run, early
from visionvitals.results.signs import columns

RIGHT = "top1"
"""The metric that says whether an answer is right."""


@dataclass(frozen=True)
class Flips:
    """What flips at one condition, of pictures that both networks answered.

    Attributes:
        study, images: names.
        condition: its fields.
        n: how many pictures.
        runs: how often each was shown.
        gained, lost: items on which b, or a, is right more often, the largest change first, then in the order of the set.
        classes: (class, pictures of it, how many of them were lost, how many gained) where there are any, the most flips first.
        agreement: of their rightness, see `stats.error_consistency`.
    """

    study: str
    images: str
    condition: Mapping[str, Any]
    n: int
    runs: int
    gained: tuple[str, ...]
    lost: tuple[str, ...]
    classes: tuple[tuple[str, int, int, int], ...]
    agreement: stats.Agreement

    @property
    def sides(self) -> tuple[str, str]:
        """What is said of the pictures in `lost`, and of those in `gained`: shown several times, both can be right now and then."""
        a, b = (
            ("only a is right", "only b is right")
            if self.runs == 1
            else ("a is right more often", "b is right more often")
        )
        return a, b

    @property
    def verdict(self) -> str:
        """How far both fail on the same pictures, for a sentence that begins with "error consistency:"."""
        g = self.agreement
        if np.isnan(g.kappa.value):
            fewest = f"{stats.FEWEST} mistakes and {stats.FEWEST} right answers of each"
            return f"not estimable: it needs {fewest} (n = {self.n:,})"
        inside = g.null[0] <= g.kappa.value <= g.null[1]
        said = "no more alike than by chance" if inside else "more alike" if g.kappa.value > g.null[1] else "less alike"
        than = "" if inside else " than independent networks' would be"
        most, low, high = (words.number(x, 2) for x in (g.most, *g.null))
        kappa = (
            f"kappa {words.measured(g.kappa, share=False)}, at most {most}, independent {low} to {high}, n = {self.n:,}"
        )
        return f"mistakes are {said}{than}: {kappa}"


def flips(pair: Pair, p: Point, q: Point) -> Flips | None:
    """Of the right answers at a point of a and the comparable one of b; None where they have none."""
    run = pair.run
    if RIGHT not in p.metrics or RIGHT not in q.metrics:
        return None
    items, values = run.common([(p, RIGHT), (q, RIGHT)])
    there = ~np.isnan(values).any(axis=1)
    moved = np.where(there, values[:, 1] - values[:, 0], 0.0)
    if not there.any():
        return None
    order = np.argsort(-np.abs(moved), kind="stable")
    gained, lost = (tuple(items[k] for k in order if sign * moved[k] > 0) for sign in (1, -1))
    known = run.known.of(run.images[p.images]["digest"])
    own = known.classes if known is not None else {}
    counts: dict[str, list[int]] = {}
    for k in np.flatnonzero(there):
        if items[k] in own:
            count = counts.setdefault(own[items[k]], [0, 0, 0])
            count[0] += 1
            count[1] += bool(moved[k] < 0)
            count[2] += bool(moved[k] > 0)
    classes = [(name, n, down, up) for name, (n, down, up) in counts.items() if down + up]
    classes.sort(key=lambda each: (-each[2] - each[3], each[0]))
    level = stats.at_look(stats.LEVEL, early(p, q))
    agreement = stats.error_consistency(*_rightness(run, p, q, items), level=level)
    runs = max(p.runs, q.runs)
    return Flips(p.study, p.images, p.fields, int(there.sum()), runs, gained, lost, tuple(classes), agreement)


def _rightness(run: Run, p: Point, q: Point, items: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(right a, right b, both alike), float (items,), over the runs that both have; NaN where an item has none."""
    mine, others = (of_runs(run, each, RIGHT, items) for each in (p, q))
    both = [(mine[r], others[r]) for r in mine if r in others] or [(np.full(len(items), np.nan),) * 2]
    a, b = np.stack([each[0] for each in both]), np.stack([each[1] for each in both])
    lacking = np.isnan(a + b)
    seen = np.where(lacking.all(axis=0), np.nan, (~lacking).sum(axis=0))
    first, second, alike = (np.where(lacking, 0.0, each).sum(axis=0) / seen for each in (a, b, a == b))
    return first, second, alike


def headline(pair: Pair) -> list[Flips]:
    """At the conditions that the vital signs of both are read from, each once; where there is none, at the first of each study."""
    partner = {id(p): (p, q) for p, q in pair.matched[0]}
    chosen: dict[int, tuple[Point, Point]] = {}
    for column in columns(pair.comparable) if pair.a != pair.b else ():
        for (backbone, _), reading in column.readings.items():
            last = reading.points[-1]
            if backbone == pair.a and column.sign.kind in ("mean", "kept") and id(last) in partner:
                chosen[id(last)] = partner[id(last)]
    if not chosen:
        first = {p.study: (p, q) for p, q in reversed(pair.matched[0])}
        chosen = {id(p): (p, q) for p, q in reversed(first.values())}
    return [found for p, q in chosen.values() if (found := flips(pair, p, q)) is not None]
