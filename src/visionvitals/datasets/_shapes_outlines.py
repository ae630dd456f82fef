"""The sixteen object outlines of `textured_shapes`, as tables of signed distances made once per process from integers.

An outline is a union (and difference) of polygons, smooth closed curves, discs, boxes and bars on a square of [-110, 110], y down.
Each is scaled to unit area about the middle of its bounding box: the covered share of the picture then sets the size of any.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64

Point = tuple[int, int]
Field = Float64[np.ndarray, "n n"]
CELLS = 256
_HALF = 125.0  # the table covers [-125, 125] of the drawing's units
_AXIS = (np.arange(CELLS) + 0.5) / CELLS * 2 * _HALF - _HALF
_Y, _X = np.meshgrid(_AXIS, _AXIS, indexing="ij")


class Outline(NamedTuple):
    """One shape in units in which its area is 1.

    Attributes:
        distance: (n * n,), signed distance at the cell centres, row by row, negative inside.
        half: the table covers [-half, half] about the table's own centre.
        centre: middle of the bounding box, in the table's coordinates; the origin of the shape's own coordinates.
        rim: (k, 2) points just inside the outline, in the shape's own coordinates.
    """

    distance: Float32[np.ndarray, " n*n"]
    half: float
    centre: tuple[float, float]
    rim: Float64[np.ndarray, "k 2"]


@functools.cache
def outline(index: int) -> Outline:
    """The table of shape `index` (position in `DRAWINGS`)."""
    field = list(DRAWINGS.values())[index]()
    inside = field < 0
    unit = float(np.sqrt(inside.sum())) * (2 * _HALF / CELLS)  # side of the square of equal area, in drawing units
    x, y = _X[inside], _Y[inside]
    centre = ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
    rim = inside & (field > -2.5 * (2 * _HALF / CELLS))
    points = np.stack([_X[rim] - centre[0], _Y[rim] - centre[1]], axis=1) / unit
    return Outline(
        distance=(field / unit).astype(np.float32).ravel(),
        half=_HALF / unit,
        centre=(float(centre[0]) / unit, float(centre[1]) / unit),
        rim=points[:: max(1, len(points) // 120)],
    )


def distance(shape: Outline, x: Float32[np.ndarray, "*s"], y: Float32[np.ndarray, "*s"]) -> Float32[np.ndarray, "*s"]:
    """Bilinear look-up of the signed distance at points in the shape's own coordinates."""
    per_unit = CELLS / (2 * shape.half)
    column = np.clip((x + (shape.half + shape.centre[0])) * per_unit - 0.5, 0, CELLS - 1.01)
    row = np.clip((y + (shape.half + shape.centre[1])) * per_unit - 0.5, 0, CELLS - 1.01)
    i, j = row.astype(np.int32), column.astype(np.int32)
    row -= i.astype(np.float32)
    column -= j.astype(np.float32)
    at = i * CELLS + j
    table = shape.distance
    top, bottom = table.take(at), table.take(at + CELLS)
    top += column * (table.take(at + 1) - top)
    bottom += column * (table.take(at + (CELLS + 1)) - bottom)
    bottom -= top
    bottom *= row
    bottom += top
    return bottom


def _polygon(*points: Point | tuple[float, float]) -> Field:
    """Signed distance to a simple polygon: nearest edge, sign by the even-odd rule."""
    nearest = np.full(_X.shape, np.inf)
    inside = np.zeros(_X.shape, bool)
    for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
        ex, ey = bx - ax, by - ay
        px, py = _X - ax, _Y - ay
        along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
        nearest = np.minimum(nearest, (px - along * ex) ** 2 + (py - along * ey) ** 2)
        if ey != 0:
            inside ^= ((ay > _Y) != (by > _Y)) & (ax + py * (ex / ey) > _X)
    result: Field = np.where(inside, -1.0, 1.0) * np.sqrt(nearest)
    return result


def _curve(*points: Point, steps: int = 5) -> Field:
    """A smooth closed curve through the points (uniform Catmull-Rom spline), as a polygon."""
    n = len(points)
    fine = []
    for k in range(n):
        p0, p1, p2, p3 = (np.array(points[(k + m) % n], float) for m in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            q = (
                2 * p1
                + (p2 - p0) * t
                + (2 * p0 - 5 * p1 + 4 * p2 - p3) * (t * t)
                + (3 * p1 - p0 - 3 * p2 + p3) * (t * t * t)
            )
            fine.append((float(q[0]) / 2, float(q[1]) / 2))
    return _polygon(*fine)


def _disc(x: int, y: int, radius: int) -> Field:
    result: Field = np.sqrt((_X - x) ** 2 + (_Y - y) ** 2) - radius
    return result


def _box(left: int, top: int, right: int, bottom: int, round_by: int = 0) -> Field:
    dx = np.abs(_X - (left + right) / 2) - (right - left) / 2 + round_by
    dy = np.abs(_Y - (top + bottom) / 2) - (bottom - top) / 2 + round_by
    outside = np.sqrt(np.maximum(dx, 0) ** 2 + np.maximum(dy, 0) ** 2)
    result: Field = outside + np.minimum(np.maximum(dx, dy), 0) - round_by
    return result


def _bar(ax: int, ay: int, bx: int, by: int, half_width: int) -> Field:
    ex, ey = bx - ax, by - ay
    px, py = _X - ax, _Y - ay
    along = np.clip((px * ex + py * ey) / (ex * ex + ey * ey), 0, 1)
    result: Field = np.sqrt((px - along * ex) ** 2 + (py - along * ey) ** 2) - half_width
    return result


def _join(*fields: Field) -> Field:
    return functools.reduce(np.minimum, fields)


def _cut(field: Field, *holes: Field) -> Field:
    return functools.reduce(np.maximum, [field, *(-hole for hole in holes)])


def _mirror(field: Field) -> Field:
    """The field and its left-right mirror image."""
    both: Field = np.minimum(field, field[:, ::-1])
    return both


def _star() -> Field:
    outer: Sequence[Point] = [(0, -100), (95, -31), (59, 81), (-59, 81), (-95, -31)]
    inner: Sequence[Point] = [(27, -37), (44, 14), (0, 46), (-44, 14), (-27, -37)]
    return _polygon(*(point for pair in zip(outer, inner, strict=True) for point in pair))


def _heart() -> Field:
    point = _polygon((83, 5), (0, 95), (-83, 5), (-45, -30), (0, -40), (45, -30))
    return _join(_mirror(_disc(45, -30, 52)), point)


def _crescent() -> Field:
    return _cut(_disc(0, 0, 98), _disc(46, -20, 76))


def _key() -> Field:
    bow = _cut(_disc(-52, 0, 48), _disc(-62, 0, 19))
    return _join(bow, _box(-20, -15, 104, 15, 4), _box(48, 0, 68, 50, 3), _box(80, 0, 104, 42, 3))


def _fish() -> Field:
    body = _curve((98, 2), (84, -18), (50, -42), (5, -50), (-40, -26), (-66, 0), (-40, 26), (5, 48), (50, 40), (84, 20))
    tail = _polygon((-45, 0), (-104, -52), (-88, 0), (-104, 52))
    fins = _join(_polygon((36, -40), (-6, -84), (-38, -70), (-30, -24)), _polygon((22, 40), (-14, 76), (-26, 30)))
    return _cut(_join(body, tail, fins), _disc(62, -10, 7))


def _bird() -> Field:
    body = _curve((66, -36), (62, 5), (35, 38), (-5, 46), (-45, 26), (-60, 6), (-20, -12), (24, -34))
    head = _disc(55, -38, 27)
    wing = _curve((32, -18), (8, -58), (-28, -86), (-64, -100), (-58, -62), (-44, -24), (-20, 10), (10, 10))
    tail = _polygon((-30, 0), (-106, 8), (-92, 24), (-104, 44), (-20, 38))
    return _join(body, head, wing, tail, _polygon((72, -54), (106, -34), (74, -26)))


def _mug() -> Field:
    handle = _cut(_disc(40, 2, 50), _disc(40, 2, 27))
    return _join(_box(-72, -80, 40, 84, 12), handle)


def _tree() -> Field:
    right = [(0, -104), (40, -48), (22, -48), (58, 4), (34, 4), (78, 62), (17, 62), (17, 100)]
    return _polygon(*right, *((-x, y) for x, y in right[:0:-1]))


def _house() -> Field:
    walls = _polygon((0, -92), (104, 2), (74, 2), (74, 92), (-74, 92), (-74, 2), (-104, 2))
    return _cut(_join(walls, _box(42, -88, 66, -20)), _box(-16, 38, 20, 110))


def _arrow() -> Field:
    return _polygon((-102, -27), (8, -27), (8, -74), (104, 0), (8, 74), (8, 27), (-102, 27), (-78, 0))


def _gear() -> Field:
    straight = _join(_box(-17, -104, 17, 104, 3), _box(-104, -17, 104, 17, 3))
    slanted = _join(
        _polygon((85, 61), (61, 85), (-85, -61), (-61, -85)), _polygon((85, -61), (61, -85), (-85, 61), (-61, 85))
    )
    return _cut(_join(_disc(0, 0, 78), straight, slanted), _disc(0, 0, 30))


def _bottle() -> Field:
    side = [(17, -90), (17, -52), (22, -40), (38, -24), (46, -4), (46, 84), (38, 98)]
    return _join(_polygon(*side, *((-x, y) for x, y in side[::-1])), _box(-24, -106, 24, -80, 4))


def _butterfly() -> Field:
    upper = _curve((2, 4), (14, -34), (48, -78), (88, -88), (102, -56), (84, -12), (44, 8))
    lower = _curve((2, 0), (44, 4), (76, 26), (74, 66), (48, 84), (24, 62), (8, 30))
    feeler = _bar(2, -40, 26, -88, 4)
    return _join(_mirror(_join(upper, lower, feeler)), _box(-9, -52, 9, 66, 9))


def _umbrella() -> Field:
    dome = _cut(_disc(0, 0, 102), _box(-130, 12, 130, 130), *(_disc(x, 22, 36) for x in (-68, 0, 68)))
    hook = _cut(_disc(19, 80, 27), _disc(19, 80, 11), _box(-20, 40, 60, 80))
    return _join(dome, _bar(0, -108, 0, -60, 6), _box(-8, -40, 8, 84), hook)


def _anchor() -> Field:
    ring = _cut(_disc(0, -80, 28), _disc(0, -80, 12))
    arms = _cut(_disc(0, 8, 94), _disc(0, -6, 72), _box(-130, -130, 130, 18))
    fluke = _polygon((108, 36), (82, -28), (48, 30))
    return _join(ring, _box(-13, -60, 13, 96, 3), _box(-46, -46, 46, -22, 8), arms, _mirror(fluke))


def _mushroom() -> Field:
    cap = _curve(
        (-104, 8), (-92, -46), (-52, -82), (0, -94), (52, -82), (92, -46), (104, 8), (56, 22), (0, 18), (-56, 22)
    )
    stem = _curve((-26, -10), (26, -10), (28, 40), (40, 84), (22, 98), (-22, 98), (-40, 84), (-28, 40))
    return _join(cap, stem)


DRAWINGS: dict[str, Callable[[], Field]] = {
    "star": _star,
    "heart": _heart,
    "crescent": _crescent,
    "key": _key,
    "fish": _fish,
    "bird": _bird,
    "mug": _mug,
    "tree": _tree,
    "house": _house,
    "arrow": _arrow,
    "gear": _gear,
    "bottle": _bottle,
    "butterfly": _butterfly,
    "umbrella": _umbrella,
    "anchor": _anchor,
    "mushroom": _mushroom,
}
