"""The 15 + 4 corruptions of ImageNet-C on the libraries that its authors used: OpenCV, scikit-image, scipy, Pillow, ImageMagick.

    python tests/unit/published_corruptions.py FROST_FOLDER PICTURE ...      the table of docs/case_corruption.md

Each function takes a picture, uint8 (224, 224, 3), a severity, and the random numbers that ours takes, read from the same key; so what differs is
the computation, not the draw. Shot and impulse noise draw by numpy: other random numbers of the published law. Formulas and constants: Hendrycks and
Dietterich 2019, `create_c/make_imagenet_c.py`. The result is float in [0, 255], before it is cut down to 8 bits.
"""

import math
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from scipy import ndimage

from visionvitals import randomness
from visionvitals.perturb.corruptions import _draw, corrupt, frost

cv2 = pytest.importorskip("cv2", reason="opencv-python-headless, of the dev group, is not installed")
skimage = pytest.importorskip("skimage", reason="scikit-image, of the dev group, is not installed")
from skimage import color, filters, util  # noqa: E402

Key = torch.Tensor  # int64 (1,)
Oracle = Callable[[np.ndarray, int, Key], np.ndarray]
SIDE = 224


def levels(values: np.ndarray) -> np.ndarray:
    """From [0, 1], clipped, to [0, 255]."""
    return np.clip(values, 0, 1) * 255


def normal(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    return _draw.normal(key, math.prod(shape))[0].double().numpy().reshape(shape)


def uniform(key: Key, shape: tuple[int, ...]) -> np.ndarray:
    return _draw.uniform(key, math.prod(shape))[0].double().numpy().reshape(shape)


def own(key: Key) -> np.random.Generator:
    return np.random.default_rng(int(key) % 2**63)


def gaussian_noise(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    z = normal(key, (3, SIDE, SIDE)).transpose(1, 2, 0)
    return levels(x / 255 + (0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1] * z)


def speckle_noise(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    z = normal(key, (3, SIDE, SIDE)).transpose(1, 2, 0)
    return levels(x / 255 + x / 255 * (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1] * z)


def shot_noise(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    rate = (60, 25, 12, 5, 3)[severity - 1]
    return levels(own(key).poisson(x / 255 * rate) / rate)


def impulse_noise(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    return levels(util.random_noise(x / 255, mode="s&p", amount=amount, rng=own(key)))


def gaussian_blur(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    return levels(filters.gaussian(x / 255, (1, 2, 3, 4, 6)[severity - 1], channel_axis=-1))


def glass_blur(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    x = np.uint8(filters.gaussian(x / 255, sigma, channel_axis=-1) * 255)
    for one in _draw.fork(key, rounds):
        drawn = _draw.integers(one, SIDE * SIDE, 0, (2 * reach) ** 2)[0].numpy().reshape(SIDE, SIDE)
        down, right = drawn // (2 * reach) - reach, drawn % (2 * reach) - reach
        for row in range(SIDE - reach, reach, -1):
            for column in range(SIDE - reach, reach, -1):  # "swapping" two views copies one over the other
                x[row, column] = x[row + down[row, column], column + right[row, column]]
    return levels(filters.gaussian(x / 255, sigma, channel_axis=-1))


def defocus_blur(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    radius, soft = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    line = np.arange(-max(8, radius), max(8, radius) + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    kernel = cv2.GaussianBlur(disk, (3, 3) if radius <= 8 else (5, 5), sigmaX=soft)
    return levels(np.stack([cv2.filter2D(x[..., c] / 255, -1, kernel) for c in range(3)], axis=-1))


def trail(x: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's motion blur of 8-bit pixels."""
    wand = pytest.importorskip(
        "wand.image", reason="Wand, of the dev group, and ImageMagick's library are not installed", exc_type=ImportError
    )
    with wand.Image(blob=cv2.imencode(".png", x)[1].tobytes()) as image:
        image.motion_blur(radius=radius, sigma=sigma, angle=angle)
        return cv2.imdecode(np.frombuffer(image.make_blob("png"), np.uint8), cv2.IMREAD_UNCHANGED)


def motion_blur(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    angle = 90 * float(uniform(key, (1,))[0]) - 45
    return trail(x, *((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))[severity - 1], angle)


def zoomed(x: np.ndarray, factor: float) -> np.ndarray:
    """The middle, enlarged to the size of the whole."""
    side = math.ceil(len(x) / factor)
    top = (len(x) - side) // 2
    large = ndimage.zoom(x[top : top + side, top : top + side], (factor, factor, 1), order=1)
    trim = (len(large) - len(x)) // 2
    return large[trim : trim + len(x), trim : trim + len(x)]


def zoom_blur(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    factors = np.arange(1, *((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1])
    x = (x / 255).astype(np.float32)
    return levels((x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1))


def snow(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    mean, deviation, enlargement, threshold, radius, sigma, keep = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )[severity - 1]
    for_noise, for_angle = _draw.fork(key, 2)
    flakes = zoomed(normal(for_noise, (SIDE, SIDE, 1)) * deviation + mean, enlargement)[..., 0]
    flakes[flakes < threshold] = 0
    flakes = (
        trail(np.uint8(levels(flakes)), radius, sigma, 90 * float(uniform(for_angle, (1,))[0]) - 135)[..., None] / 255
    )
    x = (x / 255).astype(np.float32)
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[..., None]
    return levels(keep * x + (1 - keep) * np.maximum(x, grey * 1.5 + 0.5) + flakes + np.rot90(flakes, 2))


def frosted(x: np.ndarray, severity: int, key: Key, folder: str) -> np.ndarray:
    shade, strength = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))[severity - 1]
    pictures = frost.pictures(folder)
    which = int(_draw.integers(key, 3, 0, len(pictures))[0, 0])
    ice = cv2.imread(str(pictures[which]))[..., ::-1]
    top, left = (int(u * (n - SIDE)) for u, n in zip(uniform(key, (3,))[1:], ice.shape, strict=False))
    return np.clip(shade * x + strength * ice[top : top + SIDE, left : left + SIDE], 0, 255)


def plasma(side: int, decay: float, key: Key) -> np.ndarray:
    """A level at a time, on the map of full size, with steps from `side` down to 2."""
    drawn = uniform(key, (side * side,)) * 2 - 1
    z, step, wobble = np.zeros((side, side)), side, 100.0
    while step >= 2:
        half, m = step // 2, side // step
        middle, upper, left = wobble**2 * drawn[m * m : 4 * m * m].reshape(3, m, m)
        corner = z[::step, ::step]
        sides = corner + np.roll(corner, -1, 0)
        z[half::step, half::step] = (sides + np.roll(sides, -1, 1)) / 4 + middle
        centre = z[half::step, half::step]
        z[::step, half::step] = (centre + np.roll(centre, 1, 0) + corner + np.roll(corner, -1, 1)) / 4 + upper
        z[half::step, ::step] = (centre + np.roll(centre, 1, 1) + corner + np.roll(corner, -1, 0)) / 4 + left
        step, wobble = half, wobble / decay
    return (z - z.min()) / (z.max() - z.min())


def fog(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    amount, decay = ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))[severity - 1]
    largest = x.max() / 255
    cloud = plasma(256, decay, key)[:SIDE, :SIDE, None]
    return levels((x / 255 + amount * cloud) * largest / (largest + amount))


def brightness(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    hsv = color.rgb2hsv(x / 255)
    hsv[..., 2] = np.clip(hsv[..., 2] + severity / 10, 0, 1)
    return levels(color.hsv2rgb(hsv))


def saturate(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    a, b = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    hsv = color.rgb2hsv(x / 255)
    hsv[..., 1] = np.clip(hsv[..., 1] * a + b, 0, 1)
    return levels(color.hsv2rgb(hsv))


def contrast(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    mean = (x / 255).mean(axis=(0, 1), keepdims=True)
    return levels((x / 255 - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + mean)


def elastic_transform(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    strength, sigma, shift = (
        np.array(
            ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02))[severity - 1]
        )
        * 244
    )
    for_points, for_field = _draw.fork(key, 2)
    middle, reach = SIDE // 2, SIDE // 3
    corners = np.float32([(1, 1), (1, -1), (-1, -1)]) * np.float32(reach) + np.float32(middle)
    moved = corners + np.float32((uniform(for_points, (3, 2)) * 2 - 1) * shift)
    matrix = cv2.getAffineTransform(corners, moved)
    image = cv2.warpAffine((x / 255).astype(np.float32), matrix, (SIDE, SIDE), borderMode=cv2.BORDER_REFLECT_101)
    fields = uniform(for_field, (2, SIDE, SIDE)) * 2 - 1
    dx, dy = (np.float32(filters.gaussian(f, sigma, mode="reflect", truncate=3) * strength) for f in fields)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    at = (rows + dy, columns + dx)
    return levels(np.stack([ndimage.map_coordinates(image[..., c], at, order=1, mode="reflect") for c in range(3)], -1))


def pixelate(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    side = int(SIDE * (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1])
    return np.asarray(
        Image.fromarray(x).resize((side, side), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.BOX)
    )


def jpeg_compression(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    with BytesIO() as file:
        Image.fromarray(x).save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
        return np.asarray(Image.open(file))


def spatter(x: np.ndarray, severity: int, key: Key) -> np.ndarray:
    mean, deviation, sigma, threshold, last = (
        (0.65, 0.3, 4, 0.69, 0.6),
        (0.65, 0.3, 3, 0.68, 0.6),
        (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5),
        (0.67, 0.4, 1, 0.65, 1.5),
    )[severity - 1]
    x = (x / 255).astype(np.float32)
    liquid = filters.gaussian(normal(key, (SIDE, SIDE)) * deviation + mean, sigma)
    liquid[liquid < threshold] = 0
    if severity > 3:
        mud = filters.gaussian((liquid > threshold).astype(np.float32), last)[..., None]
        mud[mud < 0.8] = 0
        return levels(x * (1 - mud) + np.array((63, 42, 20)) / 255 * mud)
    liquid = (liquid * 255).astype(np.uint8)
    depth = cv2.distanceTransform(255 - cv2.Canny(liquid, 50, 150), cv2.DIST_L2, 5)
    depth = cv2.blur(np.minimum(depth, 20), (3, 3)).astype(np.uint8)
    relief = cv2.filter2D(cv2.equalizeHist(depth), cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    light = liquid * cv2.blur(relief, (3, 3)).astype(np.float32)
    return levels(x + (light / light.max() * last)[..., None] * np.array((175, 238, 238)) / 255)


SAME_DRAWS: Mapping[str, Oracle] = {
    f.__name__: f
    for f in (
        gaussian_noise, defocus_blur, glass_blur, motion_blur, zoom_blur, snow, fog, brightness, contrast, elastic_transform, pixelate,
        jpeg_compression, speckle_noise, gaussian_blur, spatter, saturate,
    )
}  # fmt: skip
"""All but `frosted`, which takes a folder too, and the two whose draws are numpy's."""


def ours(name: str, x: np.ndarray, severity: int, key: Key, folder: str | None = None) -> np.ndarray:
    """The levels of `corrupt`, int (224, 224, 3)."""
    images = torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 255
    out = corrupt(name, images, severity, key, frost_folder=folder)[0].permute(1, 2, 0)
    return np.rint(out.numpy() * 255).astype(np.int64)


def away(found: np.ndarray, published: np.ndarray) -> tuple[float, int, float]:
    """The share of values that differ in 8 bits, the largest difference, and the share that no error of .002 levels explains."""
    differs = np.abs(found - np.floor(published))
    lowest, highest = np.floor(published - 2e-3), np.floor(published + 2e-3)
    return float((differs > 0).mean()), int(differs.max()), float(((found < lowest) | (found > highest)).mean())


def main(folder: str, *pictures: str) -> None:
    """Print the table: per corruption and severity, over the pictures, the share of values that differ and the largest difference."""
    seen = []
    for path in pictures:
        picture = Image.open(path).convert("RGB")
        seen.append(np.asarray(ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.BICUBIC)))
    print("| | severity 1 | 2 | 3 | 4 | 5 | largest |\n|---|---:|---:|---:|---:|---:|---:|")
    for name in (*SAME_DRAWS, "frost"):
        shares, largest = [], 0
        for severity in range(1, 6):
            found = []
            for picture, x in zip(pictures, seen, strict=True):
                key = randomness.stream(0, [Path(picture).stem], name)
                published = frosted(x, severity, key, folder) if name == "frost" else SAME_DRAWS[name](x, severity, key)
                found.append(away(ours(name, x, severity, key, folder), published))
            shares.append(f"{100 * np.mean([f[0] for f in found]):.2f}")
            largest = max(largest, *(f[1] for f in found))
        print(f"| {name.replace('_', ' ')} | {' | '.join(shares)} | {largest} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
