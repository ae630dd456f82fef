"""Parity with ImageNet-C: each corruption against an independent float64 implementation from the published parameters."""

import colorsys
import io
import math

import numpy as np
import pytest
import torch
from corruption_inputs import keys, photographs
from PIL import Image
from scipy import ndimage, stats

from visionvitals.perturb.corruptions import _draw, _filters, blur, corrupt, digital, noise, plasma, spatter, weather

SEVERITIES = (1, 2, 3, 4, 5)
PHOTO = photographs(1, (72, 72))
PIXELS = np.rint(PHOTO[0].permute(1, 2, 0).numpy() * 255.0).astype(np.float64) / 255  # h w c


def levels(name: str, severity: int) -> np.ndarray:
    out = corrupt(name, PHOTO, severity, keys(1))[0].permute(1, 2, 0)
    return np.rint(out.numpy() * 255).astype(np.int64)


def assert_within_a_level(name: str, severity: int, reference: np.ndarray) -> None:
    """The reference, float in [0, 1], is cut to 8 bits as the benchmark does; rounding may move a value over the edge."""
    expected = np.clip(reference, 0, 1) * 255
    away = np.abs(levels(name, severity) - np.floor(expected + 1e-6))
    assert away.max() <= 1
    assert (away > 0).mean() < 2e-3


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur(severity: int) -> None:
    sigma = (1, 2, 3, 4, 6)[severity - 1]
    assert_within_a_level("gaussian_blur", severity, ndimage.gaussian_filter(PIXELS, (sigma, sigma, 0), mode="nearest"))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur(severity: int) -> None:
    radius, soft = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    line = np.arange(-8, 9) if radius <= 8 else np.arange(-radius, radius + 1)
    x, y = np.meshgrid(line, line)
    kernel = (x**2 + y**2 <= radius**2) / np.sum(x**2 + y**2 <= radius**2)
    tap = stats.norm.pdf(np.arange(-1, 2) if radius <= 8 else np.arange(-2, 3), scale=soft)
    for axis in (0, 1):
        kernel = ndimage.correlate1d(kernel, tap / tap.sum(), axis=axis, mode="mirror")
    assert_within_a_level("defocus_blur", severity, ndimage.correlate(PIXELS, kernel[..., None], mode="mirror"))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_zoom_blur(severity: int) -> None:
    end, step = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))[severity - 1]
    h = len(PIXELS)
    total, factors = PIXELS.copy(), np.arange(1, end, step)
    for factor in factors:
        side = math.ceil(h / factor)
        top = (h - side) // 2
        large = ndimage.zoom(PIXELS[top : top + side, top : top + side], (factor, factor, 1), order=1)
        trim = (len(large) - h) // 2
        total += large[trim : trim + h, trim : trim + h]
    assert_within_a_level("zoom_blur", severity, total / (len(factors) + 1))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_and_saturate(severity: int) -> None:
    hsv = np.array([[colorsys.rgb_to_hsv(*pixel) for pixel in row] for row in PIXELS])

    def back(h: np.ndarray, s: np.ndarray, v: np.ndarray) -> np.ndarray:
        flat = [colorsys.hsv_to_rgb(*one) for one in zip(h.flat, s.flat, v.flat, strict=True)]
        return np.array(flat).reshape(PIXELS.shape)

    more = (0.1, 0.2, 0.3, 0.4, 0.5)[severity - 1]
    assert_within_a_level("brightness", severity, back(hsv[..., 0], hsv[..., 1], np.clip(hsv[..., 2] + more, 0, 1)))
    a, b = ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))[severity - 1]
    assert_within_a_level("saturate", severity, back(hsv[..., 0], np.clip(hsv[..., 1] * a + b, 0, 1), hsv[..., 2]))


def test_a_grey_pixel_is_tinted_red_by_saturate() -> None:
    out = corrupt("saturate", torch.full((1, 3, 16, 16), 100 / 255), 5, keys(1))
    assert (out[0, :, 0, 0] * 255).round().tolist() == [100, 80, 80]  # colorsys.hsv_to_rgb(0, .2, 100)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast(severity: int) -> None:
    mean = PIXELS.mean(axis=(0, 1))
    assert_within_a_level("contrast", severity, (PIXELS - mean) * (0.4, 0.3, 0.2, 0.1, 0.05)[severity - 1] + mean)


@pytest.mark.parametrize("size", [(224, 224), (72, 100)])
@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillows(severity: int, size: tuple[int, int]) -> None:
    images = photographs(1, size)
    picture = Image.fromarray((images[0] * 255).round().byte().permute(1, 2, 0).numpy())
    share = (0.6, 0.5, 0.4, 0.3, 0.25)[severity - 1]
    small = picture.resize((int(size[1] * share), int(size[0] * share)), Image.Resampling.BOX)
    with io.BytesIO() as file:
        picture.save(file, "JPEG", quality=(25, 18, 15, 10, 7)[severity - 1])
        compressed = np.asarray(Image.open(file))
    for name, expected in (
        ("pixelate", np.asarray(small.resize(picture.size, Image.Resampling.BOX))),
        ("jpeg_compression", compressed),
    ):
        out = corrupt(name, images, severity, keys(1))[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(np.rint(out * 255), expected)


@pytest.mark.parametrize(("radius", "sigma", "angle"), [(10, 3, 20.0), (15, 8, -45.0), (20, 15, 0.0), (12, 4, -100.0)])
def test_motion_trail(radius: int, sigma: float, angle: float) -> None:
    """ImageMagick's loop: whole-pixel offsets along the angle, edges repeated, weights of a half Gaussian."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    x, y = width * math.sin(math.radians(angle)), width * math.cos(math.radians(angle))
    rows, columns = np.mgrid[: PIXELS.shape[0], : PIXELS.shape[1]]
    expected = np.zeros_like(PIXELS)
    for i in range(width):
        right, down = math.ceil(i * y / math.hypot(x, y) - 0.5), math.ceil(i * x / math.hypot(x, y) - 0.5)
        r, c = np.clip(rows + down, 0, rows.max()), np.clip(columns + right, 0, columns.max())
        expected += weights[i] * PIXELS[r, c]
    found = _filters.motion(PHOTO, torch.tensor([angle]), _filters.half_gaussian(radius, float(sigma)))
    assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() < 2e-4  # the end of the trail that is left out


def test_motion_angles_and_constants() -> None:
    assert blur.MOTION == ((10, 3.0), (15, 5.0), (15, 8.0), (15, 12.0), (20, 15.0))
    line = torch.zeros(200, 3, 81, 81)
    line[:, :, 40, 60] = 1  # where the light ends up tells the angle
    out = blur.motion_blur(line, 5, keys(200))[:, 0]
    rows = torch.arange(81).view(1, 81, 1) - 40
    slope = (out * rows).sum((1, 2)) / (out * (60 - torch.arange(81))).sum((1, 2))
    degrees = -torch.atan(slope).rad2deg()
    assert -46 < degrees.min() < -38
    assert 38 < degrees.max() < 46
    assert abs(float(degrees.mean())) < 6


@pytest.mark.parametrize("severity", SEVERITIES)
def test_glass_blur_follows_the_sequential_loop(severity: int) -> None:
    """The published loop on arrays, where "swapping" two views copies one pixel over the other."""
    sigma, reach, rounds = ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))[severity - 1]
    x = np.floor(ndimage.gaussian_filter(PIXELS, (sigma, sigma, 0), mode="nearest") * 255 + 1e-3)
    h, w = x.shape[:2]
    for key in _draw.fork(keys(1), rounds):
        drawn = _draw.integers(key, h * w, 0, (2 * reach) ** 2)[0].numpy().reshape(h, w)
        for row in range(h - reach, reach, -1):
            for column in range(w - reach, reach, -1):
                down, right = np.divmod(drawn[row, column], 2 * reach) - np.array(reach)
                a, b = x[row, column], x[row + down, column + right]
                a[:], b[:] = b, a
    reference = ndimage.gaussian_filter(x / 255, (sigma, sigma, 0), mode="nearest")
    away = np.abs(levels("glass_blur", severity) - np.floor(np.clip(reference, 0, 1) * 255 + 1e-6))
    assert away.max() <= 1
    assert (away > 0).mean() < 5e-3


def test_glass_displacements_are_even() -> None:
    for reach in (1, 2, 3, 4):
        drawn = _draw.integers(keys(4), 50_000, 0, (2 * reach) ** 2)
        counts = torch.bincount(drawn.flatten(), minlength=(2 * reach) ** 2)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-4


def test_normal_numbers() -> None:
    z = _draw.normal(keys(4), 100_000).flatten().double().numpy()
    assert stats.kstest(z, "norm").pvalue > 1e-3
    assert abs(z.mean()) < 0.005
    assert abs(z.var() - 1) < 0.01
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.005


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_and_speckle_noise(severity: int) -> None:
    images = torch.full((1, 3, 224, 224), 0.5)
    added = noise.gaussian_noise(images, severity, keys(1)) - images
    scaled = noise.speckle_noise(images, severity, keys(1)) - images
    assert float(added.std()) == pytest.approx((0.08, 0.12, 0.18, 0.26, 0.38)[severity - 1], rel=0.01)
    assert float(scaled.std()) == pytest.approx(0.5 * (0.15, 0.2, 0.35, 0.45, 0.6)[severity - 1], rel=0.01)
    for z in (added, scaled):
        assert stats.kstest((z / z.std()).flatten().numpy()[:20_000], "norm").pvalue > 1e-3


@pytest.mark.parametrize("severity", SEVERITIES)
def test_shot_noise_is_poisson_at_every_level(severity: int) -> None:
    rate = (60, 25, 12, 5, 3)[severity - 1]
    for level in (1, 40, 128, 255):
        images = torch.full((2, 3, 150, 150), level / 255)
        counts = (noise.shot_noise(images, severity, keys(2, str(level))) * rate).round().long().flatten()
        expected = stats.poisson.pmf(np.arange(200), rate * level / 255) * len(counts)
        found = np.bincount(counts.numpy(), minlength=200)
        enough = expected > 8
        merged = [np.append(v[enough], v[~enough].sum()) for v in (found, expected)]
        assert stats.chisquare(*[m[merged[1] > 0] for m in merged], sum_check=False).pvalue > 1e-4


@pytest.mark.parametrize("severity", SEVERITIES)
def test_impulse_noise(severity: int) -> None:
    amount = (0.03, 0.06, 0.09, 0.17, 0.27)[severity - 1]
    out = noise.impulse_noise(torch.full((4, 3, 200, 200), 0.5), severity, keys(4))
    for value in (0.0, 1.0):
        assert float((out == value).double().mean()) == pytest.approx(amount / 2, rel=0.04)
    assert float((out == 0.5).double().mean()) == pytest.approx(1 - amount, rel=0.01)


@pytest.mark.parametrize(("sigma", "side"), [(2.44, 224), (19.52, 224), (170.8, 224), (0.8, 64)])
def test_the_elastic_field_is_scipys(sigma: float, side: int) -> None:
    field = np.random.default_rng(0).uniform(-1, 1, (side, side))
    expected = ndimage.gaussian_filter(field, sigma, mode="reflect", truncate=3)
    found = _filters.mirrored_gaussian(torch.from_numpy(field.astype(np.float32))[None, None], sigma, 3.0)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=2e-5)


def test_the_two_samplers_are_scipys() -> None:
    rng = np.random.default_rng(0)
    h, w = PIXELS.shape[:2]
    y = np.mgrid[:h, :w][0] + rng.uniform(-9, 9, (h, w))
    x = np.mgrid[:h, :w][1] + rng.uniform(-9, 9, (h, w))
    for twice, mode in ((True, "reflect"), (False, "mirror")):
        expected = np.stack([ndimage.map_coordinates(PIXELS[..., c], (y, x), order=1, mode=mode) for c in range(3)])
        at = [torch.from_numpy(v.astype(np.float32))[None] for v in (x, y)]
        np.testing.assert_allclose(digital._sample(PHOTO, *at, edge_twice=twice)[0].numpy(), expected, atol=5e-4)


def test_the_elastic_affine_map_moves_the_three_points() -> None:
    """OpenCV's rule: the result shows at a moved point what the image shows at the point."""
    moved = (torch.rand(3, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8 - 4).round()
    x, y = digital._affine(moved, (224, 224))
    for k, (px, py) in enumerate([(112 + 74, 112 + 74), (112 + 74, 112 - 74), (112 - 74, 112 - 74)]):
        for image in range(3):
            right, down = (int(v) for v in moved[image, k])
            assert float(x[image, py + down, px + right]) == pytest.approx(px, abs=1e-2)
            assert float(y[image, py + down, px + right]) == pytest.approx(py, abs=1e-2)


def test_elastic_constants_at_224_are_the_published_ones() -> None:
    published = ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88))
    np.testing.assert_allclose(np.array(digital.ELASTIC) * 244, published)


def diamond_square(side: int, decay: float, rng: np.random.Generator) -> np.ndarray:
    """One point at a time, on the wrapped map."""
    z = np.zeros((side, side))
    step, wobble = side, 100.0
    while step >= 2:
        half = step // 2
        for offsets, corners in (
            (((half, half),), ((-half, -half), (-half, half), (half, -half), (half, half))),
            (((0, half), (half, 0)), ((-half, 0), (half, 0), (0, -half), (0, half))),
        ):
            for down, right in offsets:
                for i in range(down, side, step):
                    for j in range(right, side, step):
                        near = sum(z[(i + a) % side, (j + b) % side] for a, b in corners)
                        z[i, j] = near / 4 + wobble * rng.uniform(-wobble, wobble)
        step, wobble = half, wobble / decay
    return (z - z.min()) / (z.max() - z.min())


@pytest.mark.parametrize("decay", [2.0, 1.4])
def test_the_plasma_of_fog_is_diamond_square(decay: float) -> None:
    rng = np.random.default_rng(0)
    theirs = np.stack([diamond_square(32, decay, rng) for _ in range(60)])
    ours = plasma.plasma(keys(600), 32, decay).double().numpy()
    assert ours.shape == (600, 32, 32)
    assert ours.min() == 0
    assert ours.max() == 1

    def features(maps: np.ndarray) -> np.ndarray:
        steps = [np.abs(maps - np.roll(maps, lag, axis)).mean((1, 2)) for lag in (1, 2, 4, 8) for axis in (1, 2)]
        return np.stack([maps.mean((1, 2)), maps.std((1, 2)), *steps], axis=1)

    a, b = features(theirs), features(ours)
    error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert (np.abs(a.mean(0) - b.mean(0)) < 4 * error).all()


def test_fog_blends_as_published() -> None:
    out = weather.fog(PHOTO, 3, keys(1))
    largest = PHOTO.max()
    cloud = (out * (largest + 2.5) / largest - PHOTO) / 2.5
    expected = plasma.plasma(keys(1), 72, 1.7)[0, :72, :72]
    np.testing.assert_allclose(cloud[0].numpy(), expected.expand(3, -1, -1).numpy(), atol=1e-5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_snow(severity: int) -> None:
    """The statistics of 40 images of an independent simulation: share and brightness of the flakes."""
    constants = ((0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7), (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
                 (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65), (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55))  # fmt: skip
    mean, deviation, enlargement, threshold, radius, sigma, keep = constants[severity - 1]
    side, rng, found = 96, np.random.default_rng(severity), []
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    for _ in range(40):
        crop = math.ceil(side / enlargement)
        top = (side - crop) // 2
        field = rng.normal(mean, deviation, (side, side))[top : top + crop, top : top + crop]
        large = ndimage.zoom(field, enlargement, order=1)
        trim = (len(large) - side) // 2
        flakes = large[trim : trim + side, trim : trim + side]
        flakes = np.floor(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1) * 255) / 255
        angle = math.radians(rng.uniform(-135, -45))
        layer = np.zeros_like(flakes)
        for i, weight in enumerate(weights / weights.sum()):
            shift = (-math.ceil(i * math.sin(angle) - 0.5), -math.ceil(i * math.cos(angle) - 0.5))
            layer += weight * ndimage.shift(flakes, shift, order=0, mode="nearest")
        image = keep * 0.2 + (1 - keep) * max(0.2, 0.2 * 1.5 + 0.5)
        found.append(np.clip(image + layer + layer[::-1, ::-1], 0, 1))
    ours = weather.snow(torch.full((120, 3, side, side), 0.2), severity, keys(120)).clamp(0, 1)[:, 0].double().numpy()

    def features(images: np.ndarray) -> np.ndarray:
        base = images.min()
        return np.stack([images.mean((1, 2)), images.std((1, 2)), (images > base + 0.02).mean((1, 2))], axis=1)

    a, b = features(np.stack(found)), features(ours)
    error = np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
    assert (np.abs(a.mean(0) - b.mean(0)) < 4.5 * error).all()


@pytest.mark.parametrize("severity", [4, 5])
def test_mud_of_spatter(severity: int) -> None:
    mean, deviation, sigma, threshold, soft = ((0.65, 0.3, 1, 0.65, 1.5), (0.67, 0.4, 1, 0.65, 1.5))[severity - 4]
    rng, theirs = np.random.default_rng(0), []
    for _ in range(30):
        liquid = ndimage.gaussian_filter(rng.normal(mean, deviation, (96, 96)), sigma, mode="nearest")
        cover = ndimage.gaussian_filter((liquid > threshold).astype(np.float64), soft, mode="nearest")
        theirs.append(np.where(cover < 0.8, 0, cover).mean())
    out = spatter.spatter(torch.ones(90, 3, 96, 96), severity, keys(90))
    ours = ((1 - out) / (1 - torch.tensor(spatter.MUD).view(3, 1, 1))).double()
    assert float((ours[:, 0] - ours[:, 2]).abs().max()) < 1e-5, "all mud has one colour"
    error = math.sqrt(np.var(theirs) / 30 + float(ours.mean((1, 2, 3)).var()) / 90)
    assert abs(float(ours.mean()) - np.mean(theirs)) < 4 * error


def test_the_distance_in_spatter_is_euclidean() -> None:
    marked = torch.rand(3, 1, 60, 75, generator=torch.Generator().manual_seed(0)) > 0.995
    expected = [np.minimum(ndimage.distance_transform_edt(~one[0].numpy()), 20) for one in marked]
    np.testing.assert_allclose(spatter.distance(marked, 20)[:, 0].numpy(), np.stack(expected), atol=1e-5)


def test_the_edges_in_spatter_surround_a_bright_square() -> None:
    picture = torch.zeros(1, 1, 30, 30)
    picture[..., 8:20, 5:25] = 200
    found = spatter.edges(picture)[0, 0]
    near = torch.nn.functional.max_pool2d(found[None, None].float(), 3, 1, 1)[0, 0] > 0
    assert found[8, 10:20].any() or found[7, 10:20].any()
    assert near[8, 6:24].all()
    assert near[19, 6:24].all()
    assert near[9:19, 5].all()
    assert near[9:19, 24].all()
    assert not found[11:17, 8:22].any()
    assert not found[:6].any()
