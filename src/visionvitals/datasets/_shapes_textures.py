"""The sixteen surface textures of `textured_shapes`: functions of the plane, antialiased by the size of a pixel.

Each takes coordinates u, v in periods (about 5 to 10 pixels of a 64-pixel picture) and `soft`, the size of a pixel in periods, and
returns the share of the second and of the third colour. Only exactly rounded operations (+ - * / sqrt floor) are used, no sines.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32

Plane = Float32[np.ndarray, "h w"]
Shares = tuple[Plane, Plane | None]
_LATTICE = 64
_ROOT3 = 1.7320508


def splitmix(z: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on uint64 (Steele, Lea, Flood 2014); products wrap modulo 2**64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = z ^ (z >> np.uint64(31))
    return mixed


@functools.cache
def _lattice() -> Float32[np.ndarray, " 4096"]:
    """Uniform numbers in [0, 1), fixed for ever."""
    mixed = splitmix(np.arange(1, _LATTICE**2 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    numbers: np.ndarray = (mixed >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return numbers


def noise(u: Plane, v: Plane) -> Plane:
    """Smooth value noise in [0, 1) with features of size 1, periodic over 64."""
    column, row = np.floor(u), np.floor(v)
    x, y = u - column, v - row
    x *= x * (3 - 2 * x)
    y *= y * (3 - 2 * y)
    j, i = column.astype(np.int32), row.astype(np.int32)
    left, right = j & (_LATTICE - 1), (j + 1) & (_LATTICE - 1)
    upper, lower = (i & (_LATTICE - 1)) * _LATTICE, ((i + 1) & (_LATTICE - 1)) * _LATTICE
    table = _lattice()
    top, bottom = table.take(upper + left), table.take(lower + left)
    top += x * (table.take(upper + right) - top)
    bottom += x * (table.take(lower + right) - bottom)
    bottom -= top
    bottom *= y
    height: Plane = bottom + top
    return height


def _tone(column: Plane, row: Plane) -> Plane:
    """One random number in [0, 1) for each cell of a tiling."""
    at = (row.astype(np.int32) * 29 + column.astype(np.int32) * 7) & (_LATTICE**2 - 1)
    tone: Plane = _lattice().take(at)
    return tone


def _away(x: Plane) -> Plane:
    """Distance to the middle of the unit cell, in [0, 0.5]."""
    distance: Plane = np.abs(x - np.floor(x) - 0.5)
    return distance


def edge(d: Plane, soft: float) -> Plane:
    """1 where d > 0, 0 where d < 0, with a linear ramp of width `soft` between."""
    d = d * (1 / soft)
    d += 0.5
    return np.clip(d, 0, 1, out=d)


def _square(x: Plane, soft: float) -> Plane:
    """Square wave of period 1, one half 1 and one half 0."""
    return edge(0.25 - _away(x), soft)


def _either(a: Plane, b: Plane) -> Plane:
    """Exclusive or of two shares."""
    either: Plane = a + b - 2 * a * b
    return either


def _swing(x: Plane) -> Plane:
    """A sine-like wave of period 1 and height 1, from parabolas."""
    t = 2 * (x - np.floor(x)) - 1
    wave: Plane = 4 * t * (1 - np.abs(t))
    return wave


def _swell(x: Plane) -> Plane:
    """A lopsided wave of period 1 and height 1: a slow rise, then a fall that is still wider than a pixel."""
    ramp = x - np.floor(x)
    wave: Plane = np.minimum(ramp * (1 / 0.8), (1 - ramp) * (1 / 0.2))
    return wave


def _triangles(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.5, v * 0.5, soft * 0.5
    s, t = u - v / _ROOT3, v * (2 / _ROOT3)
    thirds = _square(s + 0.25, soft), _square(t + 0.25, soft), _square(s + t + 0.25, soft)
    return functools.reduce(_either, thirds), None


def _plaid(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.6, v * 0.6, soft * 0.6
    broad = 0.5 * (_square(u, soft) + _square(v, soft))
    thin = np.maximum(edge(_away(u) - 0.44, soft), edge(_away(v) - 0.44, soft))
    return broad, thin


def _marble(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.6, v * 0.6, soft * 0.6
    cloud = noise(u, v)
    ripple = cloud + 0.5 * noise(u * 2.3, v * 2.3 + 17)
    vein = _away(u * 0.6 + 1.6 * ripple)
    return edge(0.09 - vein, max(soft, 0.12)), 0.75 * edge(cloud - 0.55, 0.6)


def _zigzag(u: Plane, v: Plane, soft: float) -> Shares:
    return _square((v + 2 * _away(u * 0.5)) * 0.8, soft), None


def _scales(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.58, v * 0.58, soft * 0.58
    row = np.floor(v * (1 / 0.3))
    below = v - 0.3 * row
    shift = 0.5 * (row - 2 * np.floor(row * 0.5))
    x0, x1 = _away(u + shift), _away(u + shift + 0.5)
    own, above = np.sqrt(x0 * x0 + below * below), np.sqrt(x1 * x1 + (below + 0.3) * (below + 0.3))
    r = np.where(above < 0.52, above, own)
    return edge(r - 0.41, soft), np.clip(0.6 - 1.6 * r, 0, 1)


def _camouflage(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.7, v * 0.7, soft * 0.7
    return edge(noise(u, v) - 0.5, soft), edge(noise(u + 31.5, v + 11.5) - 0.62, soft)


def _checker(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.75, v * 0.75, soft * 0.75
    return _either(_square(u, soft), _square(v, soft)), None


def _wood(u: Plane, v: Plane, soft: float) -> Shares:
    rings = _swell(0.65 * v + 2.2 * noise(u * 0.13, v * 0.24))
    fibre = noise(u * 0.5, v * 3)
    return rings * rings, 0.5 * edge(fibre - 0.62, 0.3)


def _bricks(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.6, v * 0.6, soft * 0.6
    row = np.floor(v * 2)
    along = u + 0.5 * (row - 2 * np.floor(row * 0.5))
    gap = np.minimum(0.5 - _away(along), 0.25 - 0.5 * _away(v * 2))
    return edge(0.06 - gap, soft), 0.6 * _tone(np.floor(along), row)


def _grid(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.8, v * 0.8, soft * 0.8
    return edge(np.maximum(_away(u), _away(v)) - 0.37, soft), None


def _honeycomb(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.75, v * 0.75, soft * 0.75
    w = v / _ROOT3
    x0, y0 = _away(u), _away(w) * _ROOT3
    x1, y1 = _away(u + 0.5), _away(w + 0.5) * _ROOT3
    inner = np.minimum(np.maximum(x0, 0.5 * x0 + 0.8660254 * y0), np.maximum(x1, 0.5 * x1 + 0.8660254 * y1))
    return edge(inner - 0.39, soft), edge(0.14 - inner, soft)


def _waves(u: Plane, v: Plane, soft: float) -> Shares:
    phase = 0.6 * v + 0.34 * _swing(u * 0.35)
    return _swell(phase), edge(_away(phase + 0.62) - 0.41, 0.6 * soft)


def _rings(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.6, v * 0.6, soft * 0.6
    x, y = _away(u), _away(v)
    r = np.sqrt(x * x + y * y)
    return edge(0.1 - np.abs(r - 0.31), soft), edge(0.1 - r, soft)


def _stripes(u: Plane, v: Plane, soft: float) -> Shares:
    return _square(u * 0.8, soft * 0.8), None


def _weave(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.35, v * 0.35, soft * 0.35
    which = _either(_square(u, soft), _square(v, soft))
    across, along = _away(u * 4 + 0.5), _away(v * 4 + 0.5)
    strand = across + which * (along - across)
    return np.clip((0.5 - strand) * 2.4 - 0.5, 0, 1) * 0.9, 0.45 * which


def _dots(u: Plane, v: Plane, soft: float) -> Shares:
    u, v, soft = u * 0.75, v * 0.85, soft * 0.8
    row = np.floor(v)
    x, y = _away(u + 0.5 * (row - 2 * np.floor(row * 0.5))), _away(v)
    return edge(0.31 - np.sqrt(x * x + y * y), soft), None


PATTERNS: dict[str, Callable[[Plane, Plane, float], Shares]] = {
    "triangles": _triangles,
    "plaid": _plaid,
    "marble": _marble,
    "zigzag": _zigzag,
    "scales": _scales,
    "camouflage": _camouflage,
    "checker": _checker,
    "wood": _wood,
    "bricks": _bricks,
    "grid": _grid,
    "honeycomb": _honeycomb,
    "waves": _waves,
    "rings": _rings,
    "stripes": _stripes,
    "weave": _weave,
    "dots": _dots,
}
