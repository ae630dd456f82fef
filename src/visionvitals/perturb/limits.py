"""What an attack may do, as plain numbers: a budget in pixel units, a patch as a share of the image. No torch, for plans."""

import math
from typing import Literal

from visionvitals.errors import require

Norm = Literal["linf", "l2"]
Shape = Literal["circle", "square"]
NORMS = ("linf", "l2")
SHAPES = ("circle", "square")
_MOST = {"linf": 1.0, "l2": 30.0}


def require_eps(norm: str, eps: float) -> None:
    """Refuse a budget that is no distance between images with values in [0, 1].

    An l_inf budget over 1 or an l2 budget over 30 (half of the greatest distance of 32 x 32 px images) can only be meant in units of
    0-255.

    Raises:
        VitalsError: a negative budget, one that is no number, or one in units of 0-255; the likely meaning is named.
    """
    require(norm in NORMS, f"`norm` must be one of {', '.join(NORMS)}", norm)
    require(math.isfinite(eps) and eps >= 0, "`eps` must be a finite number, 0 or more", eps)
    require(
        eps <= _MOST[norm],
        f"`eps` is on the scale of pixel values in [0, 1], so for {norm} it must be at most {_MOST[norm]:g}",
        eps,
        f"It looks like units of 0-255: then write {eps:g}/255 = {eps / 255:.5g}.",
    )


def patch_side(area: float, shape: str, size: tuple[int, int]) -> int:
    """Side of a square, or diameter of a circle, in pixels, that covers a share `area` of an image: never more than the share.

    square: floor(sqrt(area h w)); circle: 2 floor(sqrt(area h w / pi)). At least 1.

    Source: the rounding of the public port of Brown et al. 2017 that Naseer et al. 2021 adapted: 5, 15 and 25 % of 224 x 224 px are
    circles of 56, 96 and 126 px, whole radii, and squares of 50, 86 and 112 px.

    Example:
        >>> [patch_side(a, "circle", (224, 224)) for a in (0.05, 0.15, 0.25)]
        [56, 96, 126]
    """
    require(0 < area <= 1, "`area` is a share of the image, so it must be in (0, 1]", area, _percent(area))
    require(shape in SHAPES, f"`shape` must be one of {', '.join(SHAPES)}", shape)
    pixels = area * size[0] * size[1] + 1e-9
    if shape == "square":
        return max(1, math.floor(math.sqrt(pixels)))
    return max(1, 2 * math.floor(math.sqrt(pixels / math.pi)))


def extent(side: int, shape: str, *, rotation: float, scale: float) -> int:
    """Pixels that the bounding box of a patch needs at the largest rotation (degrees) and the scale given."""
    if shape == "circle":
        return math.ceil(side * scale - 1e-6)
    worst = math.radians(min(rotation, 45.0))
    return math.ceil(side * scale * (math.cos(worst) + math.sin(worst)) - 1e-6)


def _percent(area: float) -> str:
    return f"For {area:g} % write {area / 100:g}." if 1 < area <= 100 else ""
