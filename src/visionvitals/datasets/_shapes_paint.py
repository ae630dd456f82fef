"""What `textured_shapes` paints with: palettes, textured surfaces, the background and its distractors.

`u` is always a list of uniform numbers in [0, 1) that decide everything about one thing.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from visionvitals.datasets._shapes_outlines import DRAWINGS, distance, outline
from visionvitals.datasets._shapes_textures import PATTERNS, edge, noise

PLAIN = -1
"""In the place of a texture: none."""
_WHEEL = (0.0, 0.06, 0.13, 0.3, 0.48, 0.57, 0.65, 0.9, 1.0)
_TEXTURES = tuple(PATTERNS.values())
Plane = Float32[np.ndarray, "h w"]
Colours = Float32[np.ndarray, "3 3"]


class Canvas(NamedTuple):
    """A picture in the making: colour planes, and the pixel centres along one side, in [0, 1]."""

    pixels: Float32[np.ndarray, "3 s s"]
    axis: Float32[np.ndarray, " s"]

    @property
    def pixel(self) -> float:
        return 1 / len(self.axis)


def background(canvas: Canvas, u: list[float]) -> None:
    """A cloudy gradient between two muted colours."""
    x, y = canvas.axis[None, :], canvas.axis[:, None]
    hue, span = u[1], mix(-0.18, 0.18, u[2])
    value = mix(0.35, 0.85, u[3])
    near = np.array(rgb(hue, mix(0.06, 0.36, u[4]), value), np.float32)[:, None, None]
    far = np.array(rgb(hue + span, mix(0.06, 0.4, u[5]), value + mix(-0.25, 0.25, u[6])), np.float32)[:, None, None]
    c, s = turn(u[7])
    ramp = 0.5 + (0.7 * c) * (x - 0.5) + (0.7 * s) * (y - 0.5)
    ones = np.ones_like(ramp)
    cloud = noise((3 * x + u[8] * 50) * ones, (3 * y + u[9] * 50) * ones)
    ramp += 0.5 * (cloud - 0.5)
    canvas.pixels[:] = near + ramp * (far - near)


def fragment(canvas: Canvas, u: list[float]) -> None:
    """A distractor: a disc, a box, a blob, a band or a cut-off piece of an object, with any texture or none."""
    x0, y0 = u[0], u[1]
    reach = mix(0.09, 0.22, u[2])
    kind = int(u[3] * 5)
    far = 1.5 if kind == 3 else 2 * reach + 0.02
    rows, columns = window(canvas.axis, y0 - far, y0 + far), window(canvas.axis, x0 - far, x0 + far)
    x, y = canvas.axis[None, columns] - x0, canvas.axis[rows, None] - y0
    c, s = turn(u[4])
    p, q = c * x + s * y, c * y - s * x
    if kind == 0:
        d = np.sqrt(p * p + q * q) - reach
    elif kind == 1:
        d = np.maximum(np.abs(p) - reach, np.abs(q) - reach * mix(0.4, 1.0, u[5]))
    elif kind == 2:
        d = np.sqrt(p * p + q * q) - (2 * reach) * noise(p * (0.7 / reach) + u[5] * 50, q * (0.7 / reach) + u[6] * 50)
    elif kind == 3:
        d = np.abs(q + mix(-1, 1, u[5]) * p * p) - 0.3 * reach
    else:
        scale = 1.8 * reach
        whole = distance(outline(int(u[5] * len(DRAWINGS))), p * (1 / scale), q * (1 / scale)) * scale
        d = np.maximum(whole, p * mix(-1, 1, u[6]) + q)
    plain = u[7] < 0.25
    paint = surface(p, q, canvas.pixel, PLAIN if plain else int(u[8] * len(PATTERNS)), u[9:13], palette(u[13:23], 0.75))
    under = canvas.pixels[:, rows, columns]
    under *= 1 - 0.3 * np.clip(0.5 - d * 25, 0, 1)
    under += edge(-d, canvas.pixel) * (paint - under)


def surface(
    x: Plane, y: Plane, pixel: float, texture: int, u: list[float], colours: Colours
) -> Float32[np.ndarray, "3 h w"]:
    """The colours of a texture at positions x, y. Its scale, angle and phase come from u[0:4]."""
    first, second, third = colours[:, :, None, None]
    if texture == PLAIN:
        return np.broadcast_to(first, (3, *x.shape)).copy()
    rate = 1 / mix(0.085, 0.15, u[0])
    c, s = turn(u[1])
    across = (c * rate) * x + (s * rate) * y + u[2] * 16
    along = (-s * rate) * x + (c * rate) * y + u[3] * 16
    two, three = _TEXTURES[texture](across, along, pixel * rate)
    painted: np.ndarray = first + two * (second - first)
    if three is not None:
        painted += three * (third - painted)
    return painted


def palette(u: list[float], strength: float) -> Colours:
    """A light, a dark and an accent colour in one of four hue harmonies; light and dark change places half of the time."""
    hue = u[0]
    second = hue + (0.07, -0.09, 0.5, 0.42)[int(u[1] * 4)]
    third = hue + (0.5, 0.12, 0.33, 0.6)[int(u[2] * 4)]
    light = rgb(hue, strength * mix(0.15, 0.6, u[3]), mix(0.82, 1.0, u[4]))
    dark = rgb(second, strength * mix(0.55, 0.95, u[5]), mix(0.22, 0.55, u[6]))
    accent = rgb(third, strength * mix(0.5, 0.9, u[7]), mix(0.6, 0.95, u[8]))
    return np.array([dark, light, accent] if u[9] < 0.5 else [light, dark, accent], np.float32)


def rgb(hue: float, saturation: float, value: float) -> list[float]:
    """A colour by its place on a painters' wheel (red, orange, yellow, green, teal, blue, indigo, pink at eighths). On the screen's
    own wheel the greens and magentas take half of the circle."""
    eighth = hue % 1 * 8
    k = min(int(eighth), 7)  # a tiny negative hue modulo 1 rounds to 1
    screen = mix(_WHEEL[k], _WHEEL[k + 1], eighth - k)
    ramps = [(n + 6 * screen) % 6 for n in (5, 3, 1)]
    return [value - value * saturation * max(0.0, min(k, 4 - k, 1.0)) for k in ramps]


def mix(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def turn(u: float) -> tuple[float, float]:
    """Cosine and sine of an angle on the whole circle, by the tangent of the half angle: exactly rounded everywhere."""
    quarter = int(u * 4)
    c, s = tilt((u * 4 - quarter) * 2 - 1, 0.41421356)
    return ((c, s), (-s, c), (-c, -s), (s, -c))[quarter]


def tilt(u: float, tangent: float) -> tuple[float, float]:
    """Cosine and sine of an angle whose half has the tangent u * tangent."""
    t = u * tangent
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def window(axis: Float32[np.ndarray, " s"], low: float, high: float) -> slice:
    """The pixels between two positions."""
    n = len(axis)
    return slice(max(0, int(low * n)), min(n, max(0, int(high * n) + 1)))
