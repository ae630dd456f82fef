"""Known answers of the statistics."""

import numpy as np
import pytest

from visionvitals import stats

NAN = float("nan")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(8, 10, 0.490162, 0.943318), (0, 10, 0.0, 0.277533), (10, 10, 0.722467, 1.0)],
)
def test_wilson_equals_hand_worked_values(successes: int, n: int, low: float, high: float) -> None:
    e = stats.wilson(successes, n)
    assert e.value == successes / n
    assert e.n == n
    assert e.low == pytest.approx(low, abs=1e-6)
    assert e.high == pytest.approx(high, abs=1e-6)


def test_wilson_equals_a_published_example() -> None:
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3: 81 of 263."""
    assert [round(x, 4) for x in stats.wilson(81, 263)[1:3]] == [0.2553, 0.3662]


def test_wilson_refuses_more_successes_than_images_and_takes_none() -> None:
    with pytest.raises(ValueError, match=r"`successes` must be in \[0, n\]"):
        stats.wilson(3, 2)
    assert stats.wilson(0, 0).n == 0


def test_estimate_of_zeros_and_ones_is_wilson() -> None:
    assert stats.estimate(np.array([1.0, 0, 1, 1])) == stats.wilson(3, 4)


def test_estimate_of_other_values_is_normal_and_clipped() -> None:
    e = stats.estimate(np.array([0.0, 0.5, 1.0, 0.5]))
    half = 1.959964 * np.sqrt(1 / 6) / 2  # the sample variance of 0, .5, 1, .5 is 1/6
    assert e.value == 0.5
    assert [e.low, e.high] == pytest.approx([0.5 - half, 0.5 + half])
    assert stats.estimate(np.array([1.0, 1.0, 0.9])).high == 1.0
    assert stats.estimate(np.array([1.0, 1.0, 9.0])).high > 9 / 3


def test_images_that_could_not_be_scored_are_not_counted() -> None:
    assert stats.estimate(np.array([1.0, NAN, 0.0])).n == 2
    assert stats.estimate(np.array([NAN])).n == 0


def test_one_image_has_no_interval() -> None:
    e = stats.estimate(np.array([0.3]))
    assert (e.value, e.n) == (0.3, 1)
    assert np.isnan(e.low)


def test_the_paired_difference_of_equal_arrays_is_zero() -> None:
    a = np.random.default_rng(0).random(50)
    assert stats.paired_difference(a, a) == (0.0, 0.0, 0.0, 50)


def test_pairing_makes_a_constant_shift_certain() -> None:
    a = np.random.default_rng(0).random(50)
    e = stats.paired_difference(a + 0.25, a)
    assert e.value == pytest.approx(0.25)
    assert e.high - e.low < 1e-12


def test_the_paired_interval_covers_as_it_says() -> None:
    """95 % of 200 repetitions, give or take four standard errors."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        shared = rng.normal(size=60)
        e = stats.paired_difference(shared + rng.normal(0.3, 1, 60), shared)
        hits += e.low <= 0.3 <= e.high
    assert 0.88 <= hits / 200 <= 1.0


def test_paired_arrays_must_have_the_same_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        stats.paired_difference(np.zeros(3), np.zeros(2))


def test_kept_is_the_ratio_of_the_means() -> None:
    clean, half = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 1, 0])
    assert stats.kept(clean, half).value == pytest.approx(2 / 3)
    assert stats.kept(clean, clean)[:3] == (1.0, 1.0, 1.0)
    assert np.isnan(stats.kept(np.zeros(4), half).value)


def test_the_area_of_a_constant_is_the_constant_and_of_a_line_its_middle() -> None:
    x = np.array([0.0, 0.1, 0.5, 0.9])
    assert stats.area(x, np.full((5, 4), 0.7))[:3] == pytest.approx((0.7, 0.7, 0.7))
    assert stats.area(x, np.tile(x, (5, 1))).value == pytest.approx(0.45)


def test_the_area_needs_an_increasing_axis() -> None:
    with pytest.raises(ValueError, match="strictly increasing"):
        stats.area(np.array([0.0, 0.0, 1.0]), np.zeros((2, 3)))
