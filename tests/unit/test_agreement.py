"""Error consistency: known answers and laws."""

import math

import numpy as np
import pytest

from visionvitals import stats


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Two observers who are right together, alone, and not at all on so many pictures."""
    a = np.repeat([1.0, 1, 0, 0], [both, first, second, neither])
    b = np.repeat([1.0, 0, 1, 0], [both, first, second, neither])
    return a, b


def test_a_table_by_hand() -> None:
    """p1 = .6, p2 = .5, observed .7, expected .5: kappa (.7 - .5) / .5 = .4; at most (1 - .1 - .5) / .5 = .8."""
    found = stats.error_consistency(*answers(40, 20, 10, 30))
    assert (found.observed, found.expected, found.kappa.n) == (pytest.approx(0.7), pytest.approx(0.5), 100)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.most == pytest.approx(0.8)
    # large-sample error of Cohen's kappa for these margins (Fleiss, Cohen & Everitt 1969): .0898
    assert found.kappa.low == pytest.approx(0.4 - 1.96 * 0.0898, abs=0.02)
    assert found.kappa.high == pytest.approx(0.4 + 1.96 * 0.0898, abs=0.02)


def test_the_null_band_is_that_of_independent_observers() -> None:
    """Kappa of independent observers has a standard deviation of about 1 / sqrt(n) where both are right half of the time."""
    found = stats.error_consistency(*answers(100, 100, 100, 100))
    assert found.kappa.value == pytest.approx(0)
    assert found.null == (pytest.approx(-1.96 / 20, abs=0.01), pytest.approx(1.96 / 20, abs=0.01))


def test_laws() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.random(300) < 0.7) * 1.0, (rng.random(300) < 0.4) * 1.0
    one, swapped = stats.error_consistency(a, b), stats.error_consistency(b, a)
    assert one == swapped
    negated = stats.error_consistency(1 - a, 1 - b)
    assert negated.kappa.value == pytest.approx(one.kappa.value)
    assert one.kappa.value <= one.most
    same = stats.error_consistency(a, a)
    assert (same.kappa.value, same.most) == (pytest.approx(1), pytest.approx(1))
    opposite = stats.error_consistency(*answers(0, 50, 50, 0))
    assert opposite.kappa.value == pytest.approx(-1)


@pytest.mark.parametrize("table", [(100, 0, 0, 0), (91, 0, 0, 9), (0, 0, 0, 50), (0, 0, 5, 50), (50, 50, 0, 0)])
def test_too_few_mistakes_or_right_answers_say_nothing(table: tuple[int, int, int, int]) -> None:
    found = stats.error_consistency(*answers(*table))
    assert math.isnan(found.kappa.value)
    assert found.kappa.n == sum(table)


def test_several_showings_count_by_the_agreement_of_each() -> None:
    """Two showings of each picture: equal means of 1/2 hide that the observers were never right together."""
    a, b = np.full(40, 0.5), np.full(40, 0.5)
    assert stats.error_consistency(a, b, np.zeros(40)).kappa.value == pytest.approx(-1)
    assert stats.error_consistency(a, b, np.ones(40)).kappa.value == pytest.approx(1)
    with pytest.raises(ValueError, match="must be right"):
        stats.error_consistency(a, b)


def test_pictures_without_an_answer_are_left_out() -> None:
    a, b = answers(40, 20, 10, 30)
    hole = np.append(a, np.nan), np.append(b, 1.0)
    assert stats.error_consistency(*hole) == stats.error_consistency(a, b)
