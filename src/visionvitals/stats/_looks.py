"""Looking again and again at a number that grows by images, and stopping as soon as it is decided, with a limited chance of being wrong.

The errors that all looks may make together are spent as the images grow (Lan & DeMets 1983, *Biometrika* 70:659): a(t) = alpha t^3 at the
share t of all images (Kim & DeMets 1987, *Biometrika* 74:149). Each look is judged with an interval at one less what is spent since the
look before, so that the sum of all misses stays below alpha by the union bound, whatever the interval is of and however the looks depend
on each other.
"""

from typing import NamedTuple

FEWEST, GROWTH, POWER = 50, 1.5, 3


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
