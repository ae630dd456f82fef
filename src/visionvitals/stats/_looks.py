"""Looking again and again at a number that grows by images, and stopping as soon as it is decided, with a limited chance of being wrong.

The errors that all looks may make together are spent as the images grow (Lan & DeMets 1983, *Biometrika* 70:659): a(t) = alpha t^3 at the
share t of all images (Kim & DeMets 1987, *Biometrika* 74:149). Each look is judged with an interval at one less what is spent since the
look before, so that the sum of all misses stays below alpha by the union bound, whatever the interval is of and however the looks depend
on each other.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

FEWEST, GROWTH, POWER = 50, 1.5, 3
FIRST, NODES, STEPS = 256, 120, 50


class Look(NamedTuple):
    """One of several looks.

    Attributes:
        number, of: which one, from 1, of how many.
        images: how many are measured by then, at most; `most` at the last look.
        most: at the last look.
        alpha: errors that this look may make: its intervals are at the level 1 - alpha.
    """

    number: int
    of: int
    images: int
    most: int
    alpha: float


def looks(most: int, *, alpha: float = 0.05) -> list[Look]:
    """The looks at up to `most` images, >= 1: each at 1.5 times the images of the one before, the first at 50 or more, or a thousandth.

    Args:
        most: images of the last look.
        alpha: errors of all looks together, in (0, 1).
    """
    found = [float(most)]
    while found[-1] / GROWTH >= max(FEWEST, most / 1000):
        found.append(found[-1] / GROWTH)
    sizes = [round(size) for size in reversed(found)]
    spent = [0.0, *(alpha * (size / most) ** POWER for size in sizes)]
    return [
        Look(k, len(sizes), size, most, now - before)
        for k, (size, now, before) in enumerate(zip(sizes, spent[1:], spent[:-1], strict=True), 1)
    ]


class Early(NamedTuple):
    """That a number comes from cells which may end before all images are measured.

    Attributes:
        images: the first so many of the seeded order, on which all of these cells were measured.
        of: all images.
        by: what ended it, `half_width` or `minutes`; empty where all images were measured.
    """

    images: int
    of: int
    by: str = ""


@lru_cache(maxsize=64)
def prefixes(most: int, *, alpha: float = 0.05) -> tuple[Look, ...]:
    """The looks at an interval that is to become narrow, over up to `most` images, >= 1: at 256, then at 1.1 times as many, rounded up, and at all.

    Nobody knows at which of them it will be, so that errors are spent in proportion to the images: a(t) = alpha t. There are many looks, which
    hardly differ from one to the next. So a look may make the errors that none before it made (Lan & DeMets 1983), found by integrating over
    the sums that were never outside (Armitage, McPherson & Rowe 1969, *JRSS A* 132:235): those of means are normal with independent increments.

    Args:
        most: images of the last look.
        alpha: errors of all looks together, in (0, 1).
    """
    from scipy.special import ndtr, ndtri

    sizes = [min(FIRST, most)]
    while sizes[-1] < most:
        sizes.append(min(-(-11 * sizes[-1] // 10), most))
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    found, places, density = (
        list[Look](),
        np.zeros(1),
        np.ones(1),
    )  # the sums, in standard errors of the last one; weighted
    for k, (size, before) in enumerate(zip(sizes, [0, *sizes], strict=False), 1):
        root, step, spend = math.sqrt(size / most), math.sqrt((size - before) / most), alpha * (size - before) / most
        low, high = 0.0, -float(ndtri(spend / 2))  # no wider than if nothing had been spent
        for _ in range(STEPS):
            z = (low + high) / 2
            outside = density @ (ndtr((places - z * root) / step) + ndtr((-z * root - places) / step))
            low, high = (z, high) if outside > spend else (low, z)
        found.append(Look(k, len(sizes), size, most, 2 * float(ndtr(-high))))
        here = nodes * high * root
        density = np.exp(-(((here[:, None] - places) / step) ** 2) / 2) @ density * weights * high * root
        places, density = here, density / (step * math.sqrt(2 * math.pi))
    return tuple(found)


def at_look(level: float, early: Early | None) -> float:
    """The level of an interval at a look, so that those of all looks together hold at `level`, whichever of them is chosen and why."""
    if early is None:
        return level
    found = prefixes(early.of, alpha=1 - level)
    return 1 - next((look.alpha for look in reversed(found) if look.images <= early.images), found[0].alpha)
