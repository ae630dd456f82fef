"""Calibration: laws and known answers of its formulas, the bias of a plug-in, and how often its intervals hold."""

import math

import numpy as np
import pytest

from visionvitals import stats


def told(confidence: object, right: object) -> stats.Calibration:
    found = stats.calibration(np.asarray(confidence, dtype=float), np.asarray(right, dtype=float))
    assert found is not None
    return found


def drawn(n: int, seed: int, *, power: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, uniform in (0.1, 1), and answers that are right with that probability to a power."""
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0.1, 1, n)
    return confidence, (rng.random(n) < confidence**power).astype(float)


def test_a_network_that_is_sure_exactly_where_it_is_right_has_no_error_and_the_best_ranking() -> None:
    right = np.tile([1, 0, 1, 1, 0, 1, 0, 1, 1, 1.0], 10)
    found = told(right, right)
    assert (found.ece, found.mass, found.over.value) == (0, 0, 0)
    assert (found.auroc.value, found.rejection.value) == (1, pytest.approx(1))
    best = np.mean([max(0, k - 70) / k for k in range(1, 101)])
    assert found.aurc.value == pytest.approx(best)


def test_the_area_under_risk_and_coverage_of_four_answers() -> None:
    found = told([0.9, 0.8, 0.7, 0.6], [1, 1, 0, 1])
    assert found.aurc.value == pytest.approx((0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert found.risk.value == pytest.approx(1 / 3.2), "the surest 80 % of four are three and a fifth of the last"
    ten = told(np.tile([0.9, 0.8, 0.7, 0.6], 10), np.tile([1, 1, 0, 1], 10))
    assert ten.auroc.value == pytest.approx(2 / 3)


def test_equal_width_bins_hold_their_upper_edge() -> None:
    found = told([0.2, 0.2, 1 / 15, 0.0], [1, 0, 0, 1])
    counts = {round(15 * each.high): each.n for each in found.bins if each.n}
    assert counts == {3: 2, 1: 2}
    assert found.ece == pytest.approx((2 * abs(0.2 - 0.5) + 2 * abs(1 / 30 - 0.5)) / 4)


@pytest.mark.parametrize(
    ("errors", "uncertainty", "area"),
    [((2, 1), (1, 0), 2 / 3), ((0, 1, 2, 3, 4), (0, 0, 2, 1, 1), 0.8), ((3, 1, 2), (5, 5, 5), 1.0)],
)
def test_areas_of_rejection_that_were_published(
    errors: tuple[float, ...], uncertainty: tuple[float, ...], area: float
) -> None:
    assert stats.rejection_area(np.array(errors, float), np.array(uncertainty, float)) == pytest.approx(area)


def test_rejection_is_1_for_a_perfect_order_0_for_none_and_minus_1_for_the_worst() -> None:
    right = np.repeat([1.0, 0.0], [15, 10])
    rising = np.linspace(0.1, 0.9, 25)
    assert told(rising[::-1], right).rejection.value == pytest.approx(1)
    assert told([0.5] * 25, right).rejection.value == pytest.approx(0)
    assert told(rising, right).rejection.value == pytest.approx(-1)
    assert told([0.5] * 25, right).auroc.value == 0.5


def test_with_few_wrong_or_few_right_answers_there_is_no_ranking_and_no_interval_of_zero_width() -> None:
    for ones in (30, 25, 1, 0):
        found = told(np.linspace(0.1, 0.9, 30), np.repeat([1.0, 0.0], [ones, 30 - ones]))
        assert math.isnan(found.auroc.value)
        assert math.isnan(found.rejection.value)
        assert found.risk.low < found.risk.high
    assert found.aurc.value == 1
    assert found.risk.value == 1


def test_doubling_every_image_leaves_the_means_of_bins() -> None:
    confidence, right = drawn(200, 3)
    one, two = told(confidence, right), told(np.tile(confidence, 2), np.tile(right, 2))
    for name in ("ece", "accuracy", "confidence"):
        assert getattr(two, name) == pytest.approx(getattr(one, name))
    assert two.auroc.value == pytest.approx(one.auroc.value)
    assert two.rejection.value == pytest.approx(one.rejection.value, abs=1e-2)


def test_the_order_of_the_images_decides_nothing() -> None:
    confidence, right = drawn(300, 5)
    confidence = confidence.round(1)  # with ties
    order = np.random.default_rng(1).permutation(300)
    assert told(confidence[order], right[order]) == told(confidence, right)


@pytest.mark.parametrize(("n", "ece"), [(100, 0.125), (300, 0.073), (1000, 0.039), (5000, 0.017)])
def test_the_plug_in_error_of_true_confidences_is_its_bias_which_the_null_tells(n: int, ece: float) -> None:
    several = [told(*drawn(n, seed)) for seed in range(12)]
    assert np.mean([each.ece for each in several]) == pytest.approx(ece, rel=0.12)
    assert np.mean([each.null[0] for each in several]) == pytest.approx(ece, rel=0.12)
    assert abs(np.mean([each.error.value for each in several])) < 0.04
    assert np.mean([each.ece > each.null[1] for each in several]) <= 0.25


def test_a_network_that_is_too_sure_is_told_from_one_that_is_not() -> None:
    found = told(*drawn(1000, 0, power=2))
    assert found.ece > found.null[1]
    assert found.over.low > 0.1
    assert found.error.low > 0.1
    gap = math.sqrt(np.mean((np.linspace(0.1, 1, 10_001) - np.linspace(0.1, 1, 10_001) ** 2) ** 2))
    assert found.error.low < gap < found.error.high


@pytest.mark.parametrize("name", ["aurc", "auroc", "error", "risk"])
def test_intervals_hold_the_truth(name: str) -> None:
    """Of 100 draws of 250 images at least 88 hold the value of 100,000 images; 95 % would miss that with a chance of 0.1 %."""
    truth = getattr(told(*drawn(100_000, 10**6, power=2)), name).value
    held = [getattr(told(*drawn(250, seed, power=2)), name) for seed in range(100)]
    assert sum(each.low <= truth <= each.high for each in held) >= 88


def test_images_without_an_answer_are_left_out_and_bad_values_refused() -> None:
    assert told([0.9, math.nan, 0.4], [1, 1, math.nan]).n == 1
    assert stats.calibration(np.full(2, np.nan), np.ones(2)) is None
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        stats.calibration(np.array([1.2]), np.array([1.0]))


def test_the_risk_of_all_answers_is_the_error_rate() -> None:
    confidence, right = drawn(50, 2)
    found = stats.risks(confidence, right, np.array([0.5, 1.0]))
    assert found[1] == pytest.approx(1 - right.mean())
    assert found[0] == pytest.approx(1 - right[np.argsort(-confidence)[:25]].mean())


def test_no_bin_of_few_images_holds_one_alone() -> None:
    """Of a bin of one image nothing can be told from chance, so that it gave 0: 15 images, all wrong and all sure, had no error."""
    for n in (2, 3, 15, 24, 29, 30, 31):
        found = told(np.linspace(0.8, 0.9, n), np.zeros(n))
        assert found.error.value == pytest.approx(0.85, abs=0.01), n
    alone = told(np.array([0.9]), np.zeros(1))
    assert np.isnan(alone.error.value)
