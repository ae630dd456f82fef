"""Pictures of textured objects among clutter, rendered from integers: the embedded image set `textured_shapes`.

One object of 16 outlines, covered by one of 16 textures, lies on a background with seven distractors that carry textures and pieces
of outlines too. The label is the outline; outline i has a texture of its own, texture i. Colours, light and clutter are drawn
independently of both, and so are rotation (up to 35 degrees, mirrored or not), bend, size (17 to 42 % of the picture) and position,
except that the object must fit into the frame (a pointed tip may lie just outside).

A linear classifier on raw pixels gets 0.104 of 1,000 test pictures right, where chance is 0.0625: 5,000 training pictures of 64
pixels averaged to 32, variant natural, the best on test of five strengths of regularisation (`python benchmarks/linear_pixels.py`).
Rendering makes about 800 pictures of 64 pixels a second on one core (165 of 224 pixels).
"""

import functools
import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from visionvitals.datasets._shapes_outlines import DRAWINGS, distance, outline
from visionvitals.datasets._shapes_paint import (
    PLAIN,
    Canvas,
    Plane,
    background,
    fragment,
    mix,
    palette,
    surface,
    tilt,
    turn,
    window,
)
from visionvitals.datasets._shapes_textures import PATTERNS, edge, splitmix
from visionvitals.errors import require

Split = Literal["train", "test"]
Variant = Literal["natural", "agree", "conflict", "flat", "random"]
SPLITS: tuple[Split, ...] = ("train", "test")
VARIANTS: tuple[Variant, ...] = ("natural", "agree", "conflict", "flat", "random")
SHAPES: tuple[str, ...] = tuple(DRAWINGS)
TEXTURES: tuple[str, ...] = tuple(PATTERNS)
RENDER_VERSION = 1
"""Bumped whenever a pixel, a label or a mask changes."""
LAST_INDEX = 2**62

_FRAGMENTS = 7
_DRAWS = 24  # uniform numbers of one thing in a picture (the object, its surface, the background, a fragment)
_GAMMA = np.uint64(0x9E3779B97F4A7C15)


class Rendered(NamedTuple):
    """A batch of pictures.

    Attributes:
        images: RGB.
        shapes: the labels, positions in `SHAPES`.
        textures: positions in `TEXTURES`, -1 for a plain surface.
        masks: True where the object covers more than half of the pixel.
    """

    images: UInt8[np.ndarray, "n s s 3"]
    shapes: Int64[np.ndarray, " n"]
    textures: Int64[np.ndarray, " n"]
    masks: Bool[np.ndarray, "n s s"]


def render(indices: Int64[np.ndarray, " n"], *, size: int, split: Split, variant: Variant) -> Rendered:
    """Draw the pictures of the given indices.

    All geometry is relative, so an index is the same picture at every size; below 64 pixels it is drawn at a multiple and averaged.
    Every number comes from an integer hash of (index, split), so a picture does not depend on the batch it is drawn in, and no two
    pairs (index, split) share a stream. The variant changes the object's surface and nothing else: pose, palette, light, clutter,
    shadow and mask of an index are equal in all five, for paired comparisons.

    Args:
        indices: each in [0, 2**62).
        size: side in pixels, in 16..1024.
        split: `train` and `test` are disjoint streams.
        variant: which texture the object wears. `agree`: its own; `conflict`: one of the 15 others, each equally likely; `flat`:
            none, a plain colour; `natural`: its own with probability 0.8, else that of `conflict`, so that both cues predict; `random`:
            each of the 16 equally likely, so that the texture says nothing of the shape.

    Returns:
        The pictures in the order of `indices`; memory beyond them is that of one picture.

    Raises:
        VitalsError: an argument out of range.

    Convention:
        Only operations that IEEE 754 rounds exactly (+ - * / square root, floor, comparison) and table look-ups are used, no sine
        or power, so all platforms should give the same bits. Compared so far on one x86-64 processor, with and without its wider
        vector instructions; the golden test allows for one level of 255 elsewhere.
    """
    indices = np.asarray(indices, dtype=np.int64)
    require(16 <= size <= 1024, "`size` must be in 16..1024 pixels", size)
    require(split in SPLITS, "`split` must be train or test", split)
    require(variant in VARIANTS, f"`variant` must be one of {', '.join(VARIANTS)}", variant)
    require(indices.ndim == 1, "`indices` must be one-dimensional", indices.shape)
    inside = (indices >= 0) & (indices < LAST_INDEX)
    require(bool(inside.all()), "`indices` must be in [0, 2**62)", indices[~inside][:5].tolist())
    numbers = _uniform(indices, split, (3 + _FRAGMENTS) * _DRAWS).reshape(len(indices), 3 + _FRAGMENTS, _DRAWS)
    shapes = _shapes(numbers[:, 0, 0])
    textures = _textures(shapes, numbers[:, 1], variant)
    images = np.empty((len(indices), size, size, 3), np.uint8)
    masks = np.empty((len(indices), size, size), bool)
    fold = -(-64 // size) if size < 64 else 1
    axis = ((np.arange(size * fold) + 0.5) / (size * fold)).astype(np.float32)
    for n, draws in enumerate(numbers.tolist()):
        canvas = Canvas(np.empty((3, size * fold, size * fold), np.float32), axis)
        light = turn(draws[2][0])
        background(canvas, draws[2])
        for piece in draws[3:]:
            fragment(canvas, piece)
        cover = _object(canvas, draws[0], draws[1], int(shapes[n]), int(textures[n]), light)
        pixels = _folded(canvas.pixels, fold)
        images[n] = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
        masks[n] = _folded(cover[None], fold)[0] > 0.5
    return Rendered(images, shapes, textures, masks)


def labels(indices: Int64[np.ndarray, " n"], *, split: Split) -> Int64[np.ndarray, " n"]:
    """The shape on each picture of `render`, by far faster than the pictures."""
    return _shapes(_uniform(indices, split, 1)[:, 0])


def _shapes(draws: Float64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
    return (draws * len(SHAPES)).astype(np.int64)


def _uniform(indices: Int64[np.ndarray, " n"], split: Split, count: int) -> Float64[np.ndarray, "n count"]:
    """Multiples of 2**-24 in [0, 1): a splitmix64 stream per picture, started at a bijective image of (index, split)."""
    key = splitmix((indices.astype(np.uint64) * np.uint64(2) + np.uint64(SPLITS.index(split))) * _GAMMA)
    bits = splitmix(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA)
    uniform: np.ndarray = (bits >> np.uint64(40)).astype(np.float64) * 2.0**-24
    return uniform


def _textures(
    shapes: Int64[np.ndarray, " n"], draws: Float64[np.ndarray, "n d"], variant: Variant
) -> Int64[np.ndarray, " n"]:
    other = (shapes + 1 + (draws[:, 1] * (len(TEXTURES) - 1)).astype(np.int64)) % len(TEXTURES)
    match variant:
        case "agree":
            return shapes.copy()
        case "conflict":
            return other
        case "flat":
            return np.full_like(shapes, PLAIN)
        case "natural":
            return np.where(draws[:, 0] < 0.8, shapes, other)
        case "random":
            return np.where(draws[:, 0] < 1 / len(TEXTURES), shapes, other)


def _folded(planes: Float32[np.ndarray, "c h w"], fold: int) -> Float32[np.ndarray, "c s s"]:
    """Averages over fold x fold pixels; summed in a fixed order, which `mean` does not promise."""
    if fold == 1:
        return planes
    cells = [planes[:, i::fold, j::fold] for i in range(fold) for j in range(fold)]
    return functools.reduce(np.add, cells) * np.float32(1 / len(cells))


def _object(
    canvas: Canvas, pose: list[float], skin: list[float], shape: int, texture: int, light: tuple[float, float]
) -> Plane:
    """Paint the object with its shadow, and return its coverage of each pixel."""
    figure = outline(shape)
    forward, flip, bend, taper = _pose(pose)
    rim_y = figure.rim[:, 1]
    rim_x = (flip * figure.rim[:, 0] - bend * rim_y * rim_y) / (1 + taper * rim_y)
    (a, b), (c, d) = forward
    px, py = a * rim_x + b * rim_y, c * rim_x + d * rim_y
    wide, high = float(px.max() - px.min()), float(py.max() - py.min())
    scale = min(math.sqrt(mix(0.17, 0.42, pose[1])), 0.96 / max(wide, high))
    x0 = mix(0.015, 0.985 - scale * wide, pose[2]) - scale * float(px.min())
    y0 = mix(0.015, 0.985 - scale * high, pose[3]) - scale * float(py.min())
    margin = 0.08
    rows = window(canvas.axis, y0 + scale * float(py.min()) - margin, y0 + scale * float(py.max()) + margin)
    columns = window(canvas.axis, x0 + scale * float(px.min()) - margin, x0 + scale * float(px.max()) + margin)
    x, y = canvas.axis[None, columns] - x0, canvas.axis[rows, None] - y0

    def at(dx: float, dy: float) -> Plane:
        """Signed distance, in picture units, at the pixels moved by (dx, dy)."""
        u, v = (x + dx) * (1 / scale), (y + dy) * (1 / scale)
        q = a * v - c * u  # the inverse of `forward`, whose determinant is 1
        p = d * u - b * v
        return distance(figure, flip * (p * (1 + taper * q) + bend * q * q), q) * scale

    depth = at(0, 0)
    lx, ly = light
    slope = (at(0.02 * lx, 0.02 * ly) - depth) * 50
    shadow = at(0.035 * lx, 0.035 * ly)
    shade = 1 + 0.32 * np.clip(slope, -1, 1) * np.clip(1 + depth * (1 / 0.035), 0, 1)
    shade += 0.25 * (lx * x + ly * y)
    paint = surface(a * x + c * y, b * x + d * y, canvas.pixel, texture, skin[2:6], palette(skin[6:16], 1.0))
    paint *= shade
    cover = edge(-depth, canvas.pixel)
    under = canvas.pixels[:, rows, columns]
    under *= 1 - 0.5 * np.clip(0.5 - shadow * 16, 0, 1)
    under += cover * (paint - under)
    whole = np.zeros(canvas.pixels.shape[1:], np.float32)
    whole[rows, columns] = cover
    return whole


def _pose(u: list[float]) -> tuple[tuple[tuple[float, float], tuple[float, float]], float, float, float]:
    """A matrix of determinant 1 (rotation, shear, stretch), a left-right flip, and how far the shape is bent and tapered."""
    c, s = tilt(2 * u[4] - 1, 0.3153)  # tan(17.5 degrees): +-35 degrees
    stretch = 1 + mix(-0.12, 0.12, u[5])
    shear = mix(-0.15, 0.15, u[6])
    flip = 1.0 if u[7] < 0.5 else -1.0
    a, b, d = stretch, shear, 1 / stretch
    forward = ((c * a, c * b - s * d), (s * a, s * b + c * d))
    return forward, flip, mix(-0.15, 0.15, u[8]), mix(-0.2, 0.2, u[9])
