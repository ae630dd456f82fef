"""A cell that ends when its interval is narrow enough (`--half-width`), or when the time is over (`--minutes`).

Its images come in the seeded order of `--limit`. They are measured from look to look, at counts that follow from their number alone
(`stats.prefixes`), whatever the batch, the device or the shard; each look is a part of the cell, so that what was killed goes on at its look.
The interval is that of the cell's first averaged share, at the place where it is widest, as it is at that look (`stats.prefixes`).
"""

from collections.abc import Sequence

import numpy as np

from visionvitals import stats
from visionvitals.core import Cell, Place
from visionvitals.run.cell import Stored
from visionvitals.study import Study


def seeded(ids: Sequence[str], seed: int) -> np.ndarray:
    """Positions of images in the order of a seed, int64 (n,)."""
    from visionvitals.datasets.base.digest import hashes

    return np.argsort(np.fromiter(hashes(ids, seed), np.uint64, len(ids)), kind="stable")


class Width:
    """Half the widest interval of a study's first averaged share over the places of a cell, told from its parts one after the other."""

    def __init__(self, study: Study) -> None:
        self._study, self._metric = study, ""
        self._values: dict[Place, list[np.ndarray]] = {}

    def after(self, part: Stored, look: stats.Look | None = None) -> float:
        """With one part more, at a look; 0 where there is no such share, or no interval yet."""
        metrics = self._study.metrics
        shares = (m for ms in part.points.values() for m in ms if metrics[m].share and metrics[m].averaged)
        self._metric = self._metric or next(shares, "")
        column = part.columns([self._metric])[self._metric] if self._metric else np.zeros(0)
        for at, measured in part.points.items():
            if self._metric in measured:
                self._values.setdefault(at, []).append(part.place(at, column))
        early = None if look is None else stats.Early(look.images, look.most)
        bounds = metrics[self._metric].bounds if self._metric else None
        found = [stats.estimate(np.concatenate(v), bounds=bounds, early=early) for v in self._values.values()]
        return max(((e.high - e.low) / 2 for e in found if e.n > 1 and e.high > e.low), default=0.0)


def narrow(cell: Cell, half_width: float) -> bool:
    """Whether the interval of a cell is as narrow as was asked."""
    return cell.half_width is not None and 0 < half_width <= cell.half_width / 100
