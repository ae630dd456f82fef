"""Parity with ImageNet-C: each corruption against an independent float64 implementation from the published parameters."""

import io
import math

import numpy as np
import pytest
import torch
from corruption_inputs import keys, photographs
from PIL import Image
from scipy import stats

from visionvitals.perturb.corruptions import _draw, _filters, blur, corrupt, noise, spatter

SEVERITIES = (1, 2, 3, 4, 5)
PHOTO = photographs(1, (72, 72))
PIXELS = np.rint(PHOTO[0].permute(1, 2, 0).numpy() * 255.0).astype(np.float64) / 255  # h w c


def test_a_grey_pixel_is_tinted_red_by_saturate() -> None:
    out = corrupt("saturate", torch.full((1, 3, 16, 16), 100 / 255), 5, keys(1))
    assert (out[0, :, 0, 0] * 255).round().tolist() == [100, 80, 80]  # colorsys.hsv_to_rgb(0, .2, 100)


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
    assert np.abs(found[0].permute(1, 2, 0).numpy() - expected).max() < 2e-6  # the end of the trail that is left out


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
