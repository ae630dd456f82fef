"""Laws and known answers of the operations that weaken one cue, and of the numbers that say what they leave."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from visionvitals import randomness
from visionvitals.errors import VitalsError
from visionvitals.perturb import cue_checks, patches, suppress

KEYS = randomness.stream(0, [f"image-{i}" for i in range(4)], "suppress")
NOISE = torch.rand(4, 3, 24, 36, generator=torch.Generator().manual_seed(0))


def smooth(n: int = 2, height: int = 40, width: int = 53) -> Tensor:
    """Pictures with slopes, edges and some noise, in whole grey levels."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width) / width
    base = torch.stack([(y + x) / 2, ((x > 0.4) ^ (y > 0.6)).float(), 0.5 + 0.5 * torch.sin(9 * x + 5 * y)])
    noise = torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1))
    return ((0.8 * base + 0.2 * noise) * 255).round() / 255


def shuffled(images: Tensor, grid: tuple[int, int]) -> Tensor:
    size = (images.shape[2], images.shape[3])
    return suppress.shuffle(images, suppress.orders(KEYS[: len(images)], size, grid), grid)


def values(images: Tensor) -> Tensor:
    """Of each channel, sorted."""
    return images.flatten(2).sort(dim=2).values


@pytest.mark.parametrize("grid", [(2, 3), (4, 4), (6, 9), (24, 36)])
def test_where_a_grid_divides_the_cells_change_places_as_in_the_shuffle_of_patches(grid: tuple[int, int]) -> None:
    order = suppress.orders(KEYS, (24, 36), grid)
    assert torch.equal(order, randomness.permutation(KEYS, grid[0] * grid[1]))
    assert torch.equal(suppress.shuffle(NOISE, order, grid), patches.shuffle(NOISE, order, grid))


@pytest.mark.parametrize("grid", [(5, 7), (7, 5), (1, 36), (11, 11)])
def test_where_it_does_not_only_cells_of_equal_size_do(grid: tuple[int, int]) -> None:
    out = shuffled(NOISE, grid)
    assert torch.equal(values(out), values(NOISE))
    assert not torch.equal(out, NOISE)
    assert torch.equal(shuffled(NOISE[:1], grid), out[:1]), "the order belongs to the image"


def test_the_published_grids_leave_cells_where_they_are() -> None:
    keys = randomness.stream(0, [str(i) for i in range(4000)], "stay")
    for grid, cells, stay in ((3, 9, 4), (6, 36, 4), (4, 16, 1)):
        order = suppress.orders(keys, (224, 224), (grid, grid))
        assert torch.equal(order.sort(dim=1).values, torch.arange(cells).expand(4000, -1))
        still = (order == torch.arange(cells)).double()
        # one cell a group stays on average (the mean number of fixed points of a permutation), with a variance of at most one a group
        assert abs(float(still.sum(dim=1).mean()) - stay) < 5 * (stay / 4000) ** 0.5
        assert bool(still[:, 0].all()) == (grid == 3), "the upper left cell of 3 x 3 is the only one of its size"


def test_nothing_done_is_nothing_changed() -> None:
    assert torch.equal(shuffled(NOISE, (1, 1)), NOISE)
    assert torch.equal(suppress.turn_cells(NOISE, torch.zeros(4, 6, dtype=torch.int64), (2, 3)), NOISE)
    assert torch.equal(suppress.grey(NOISE, 0.0), NOISE)
    assert torch.equal(suppress.channels(NOISE, torch.arange(3).expand(4, 3)), NOISE)
    assert torch.allclose(suppress.bilateral(NOISE, 5, 1e-3, 75.0), NOISE, atol=1e-6)


def test_cells_turn_in_their_places() -> None:
    picture = torch.tensor([[1, 2, 5, 6], [3, 4, 7, 8]]).float().view(1, 1, 2, 4) / 10
    out = suppress.turn_cells(picture, torch.tensor([[1, 2]]), (1, 2))
    assert (out * 10).round().int().tolist() == [[[[2, 4, 8, 7], [1, 3, 6, 5]]]]
    turns = (4 * randomness.uniform(KEYS, 6)).long()
    out = suppress.turn_cells(NOISE, turns, (2, 3))
    assert torch.equal(values(out), values(NOISE))
    for _ in range(3):
        out = suppress.turn_cells(out, turns, (2, 3))
    assert torch.equal(out, NOISE), "four quarter turns"


def test_an_image_that_the_grid_does_not_divide_is_fitted_and_brought_back() -> None:
    square = smooth(4, 24, 24)
    out = suppress.turn_cells(square, torch.zeros(4, 25, dtype=torch.int64), (5, 5))  # 25 px and back
    assert out.shape == square.shape
    assert 0 < (out - square).abs().mean() < 0.05
    with pytest.raises(VitalsError, match=r"Only square cells can make quarter turns. Got '12x18 px'"):
        suppress.turn_cells(NOISE, torch.zeros(4, 4, dtype=torch.int64), (2, 2))


def test_a_plain_picture_is_a_fixed_point_of_every_filter() -> None:
    plain = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(2, 3, 20, 20).contiguous()
    turned = suppress.turn_cells(plain, torch.ones(2, 9, dtype=torch.int64), (3, 3))
    for out in (suppress.bilateral(plain, 12, 170.0, 75.0), suppress.gaussian(plain, 7, 1.0), turned):
        assert torch.allclose(out, plain, atol=1e-6)


def test_without_regard_to_colour_the_bilateral_filter_is_a_gaussian_on_the_disk() -> None:
    offset = torch.arange(-4, 5).float()
    r2 = offset[:, None] ** 2 + offset**2
    kernel = torch.exp(-r2 / (2 * 3.0**2)) * (r2 <= 16)
    padded = functional.pad(NOISE, (4, 4, 4, 4), mode="reflect").flatten(0, 1)[:, None]
    expected = functional.conv2d(padded, (kernel / kernel.sum())[None, None]).view(NOISE.shape)
    assert torch.allclose(suppress.bilateral(NOISE, 9, math.inf, 3.0), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("diameter", "colour", "space"), [(1, 30, 5), (4, 50, 75), (5, 20, 2), (12, 170, 75), (14, 200, 75)]
)
def test_the_bilateral_filter_is_that_of_opencv(diameter: int, colour: float, space: float) -> None:
    """But for the rounding to whole levels, half a level at most."""
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless, of the dev group, is not installed")
    pictures = smooth()
    found = suppress.bilateral(pictures, diameter, float(colour), float(space)).permute(0, 2, 3, 1).numpy() * 255
    levels = (pictures * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()
    theirs = np.stack([cv2.bilateralFilter(x, diameter, colour, space) for x in levels]).astype(float)
    assert np.abs(found - theirs).max() < 0.51
    assert (np.round(found) != theirs).mean() < 1e-3
    assert np.abs(theirs - levels).max() > 5, "it does something"


@pytest.mark.parametrize("kernel", [3, 9, 15])
def test_the_gaussian_is_that_of_opencv(kernel: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="opencv-python-headless, of the dev group, is not installed")
    sigma = (kernel - 1) / 6
    theirs = [cv2.GaussianBlur(x.permute(1, 2, 0).numpy(), (kernel, kernel), sigma) for x in NOISE]
    found = suppress.gaussian(NOISE, kernel, sigma).permute(0, 2, 3, 1)
    assert torch.allclose(found, torch.from_numpy(np.stack(theirs)), atol=1e-5)


def test_colour_is_taken_and_all_else_stays() -> None:
    once = suppress.grey(NOISE, 1.0)
    assert torch.equal(once[:, 0], once[:, 1])
    assert torch.allclose(once[:, 0], 0.299 * NOISE[:, 0] + 0.587 * NOISE[:, 1] + 0.114 * NOISE[:, 2], atol=1e-6)
    assert torch.allclose(suppress.grey(once, 1.0), once, atol=1e-6)
    assert torch.allclose(suppress.grey(NOISE, 0.4), 0.6 * NOISE + 0.4 * once, atol=1e-6)
    order = randomness.permutation(KEYS, 3)
    mixed = suppress.channels(NOISE, order)
    assert torch.equal(mixed[2, 0], NOISE[2, int(order[2, 0])])
    assert torch.equal(mixed.sort(dim=1).values, NOISE.sort(dim=1).values)
    assert torch.equal(suppress.channels(once, order), once)


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(VitalsError, match=r"The cells of a side must be from 1 to its 24 pixels. Got 25"):
        suppress.orders(KEYS, (24, 36), (25, 2))
    with pytest.raises(VitalsError, match=r"Both sigmas must be positive"):
        suppress.bilateral(NOISE, 5, 0.0, 75.0)
    with pytest.raises(VitalsError, match=r"The radius must be smaller than the image. Got 24"):
        suppress.bilateral(NOISE, 48, 50.0, 75.0)
    with pytest.raises(VitalsError, match=r"The kernel must be an odd number of pixels. Got 4"):
        suppress.gaussian(NOISE, 4, 1.0)
    with pytest.raises(VitalsError, match=r"`alpha` must be in \[0, 1\]"):
        suppress.grey(NOISE, 20.0)


def test_an_unchanged_picture_has_all_of_everything() -> None:
    plain = torch.full((1, 3, 30, 30), 0.4)
    for picture in (NOISE, smooth(), plain):
        for name, found in cue_checks.left(picture, picture).items():
            assert torch.allclose(found, torch.ones(len(picture), dtype=torch.float64)), name


def test_local_variance_is_that_of_the_windows() -> None:
    grey = NOISE[:1, :1].double()
    windows = grey.unfold(2, 11, 1).unfold(3, 11, 1).flatten(4)
    expected = windows.var(dim=4, correction=0).mean()
    assert torch.allclose(cue_checks.local_variance(grey), expected)


@pytest.mark.parametrize(("cycles", "share"), [(5, 0.0), (10, 0.0), (11, 1.0), (20, 1.0)])
@pytest.mark.parametrize("side", [64, 65])
def test_high_frequencies_are_those_from_eleven_cycles_on(cycles: int, share: float, side: int) -> None:
    wave = 0.5 + 0.25 * torch.sin(2 * math.pi * cycles * torch.arange(side, dtype=torch.float64) / side)
    expected = share * (0.25**2 / 2) / (0.5**2 + 0.25**2 / 2)
    for grey in (wave.expand(side, side), wave.expand(side, side).T):
        assert cue_checks.high_frequency(grey[None, None]).item() == pytest.approx(expected, abs=1e-9)


def test_edges_agree_turn_round_or_are_gone() -> None:
    grey, flat = smooth(1)[:, :1].double(), torch.full((1, 1, 40, 53), 0.5, dtype=torch.float64)
    assert cue_checks.gradient_correlation(grey, 1 - grey).item() == pytest.approx(-1)
    assert cue_checks.gradient_correlation(grey, flat).item() == 0
    assert cue_checks.gradient_correlation(flat, flat).item() == 1


def test_each_operation_takes_its_own_cue() -> None:
    pictures = smooth(4, 48, 48)
    texture = cue_checks.left(pictures, suppress.bilateral(pictures, 12, 170.0, 75.0))
    shape = cue_checks.left(pictures, shuffled(pictures, (4, 4)))
    colour = cue_checks.left(pictures, suppress.grey(pictures, 1.0))
    assert (texture["local_variance"] < 0.9).all()
    assert (texture["high_frequency"] < 0.5).all()
    assert (texture["gradient_correlation"] > 0.5).all()
    assert (texture["colour_left"] > 0.8).all()
    assert (shape["gradient_correlation"].abs() < 0.4).all()
    assert torch.allclose(shape["colour_left"], torch.ones(4, dtype=torch.float64))
    assert (colour["colour_left"] < 1e-6).all()
    for name in ("local_variance", "high_frequency", "gradient_correlation"):
        assert torch.allclose(colour[name], torch.ones(4, dtype=torch.float64), atol=1e-4), name
