"""Effective robustness: laws, and networks whose distance from the published lines is known."""

import math

import numpy as np
import pytest

from visionvitals import stats
from visionvitals.stats import LINES, Estimate, Line, effective_robustness, wilson


@pytest.mark.parametrize("name", LINES)
def test_laws_of_a_line(name: str) -> None:
    """At .5 the line is the logistic function of its intercept; a network on it has no effective robustness; it rises from 0 to 1."""
    line = LINES[name]
    assert line.expected(0.5) == pytest.approx(1 / (1 + math.exp(-line.intercept)))
    for clean in (0.001, 0.3, 0.76, 0.999):
        on = Estimate(line.expected(clean), 0.0, 1.0, 10)
        assert effective_robustness(on, Estimate(clean, clean, clean, 10), line).value == 0
        logit = math.log(on.value / (1 - on.value))
        assert logit == pytest.approx(line.intercept + line.slope * math.log(clean / (1 - clean)))
    curve = [line.expected(clean) for clean in np.linspace(0, 1, 101)]
    assert (curve[0], curve[-1]) == (0, 1)
    assert all(np.diff(curve) > 0)


@pytest.mark.parametrize(
    ("name", "shifted", "clean", "published"),
    [
        ("objectnet", 0.3575, 0.7886, 1.2),
        ("objectnet", 0.4396, 0.7093, 18.1),
        ("imagenet-sketch", 0.2406, 0.7616, -0.4),
        ("imagenet-a", 0.0, 0.9189, -5.7),
    ],
)
def test_known_networks(name: str, shifted: float, clean: float, published: float) -> None:
    """ResNet-50 and CLIP ViT-B/32 on ObjectNet, ResNet-50 on Sketch and on A (which was built against it), in points."""
    found = effective_robustness(
        wilson(round(shifted * 10_000), 10_000), wilson(round(clean * 10_000), 10_000), LINES[name]
    )
    assert 100 * found.value == pytest.approx(published, abs=0.06)
    assert found.low < found.value < found.high


def test_the_interval_covers_the_truth() -> None:
    """Two binomial accuracies of a network that lies on the line, 1,000 times."""
    line, clean, rng = LINES["imagenet-v2"], 0.75, np.random.default_rng(0)
    draws = zip(rng.binomial(400, line.expected(clean), 1000), rng.binomial(900, clean, 1000), strict=True)
    found = [effective_robustness(wilson(s, 400), wilson(c, 900), line) for s, c in draws]
    assert np.mean([e.low <= 0 <= e.high for e in found]) == pytest.approx(0.95, abs=0.02)
    assert found[0].n == 400


def test_with_the_line_of_equal_accuracies_it_is_a_difference() -> None:
    plain = Line(0.0, 1.0, 0, 1.0)
    found = effective_robustness(Estimate(0.6, 0.5, 0.7, 100), Estimate(0.8, 0.75, 0.85, 100), plain)
    assert found.value == pytest.approx(-0.2)
    assert (found.low, found.high) == (pytest.approx(-0.2 - 0.05**0.5 / 2), pytest.approx(-0.2 + 0.05**0.5 / 2))


def test_what_is_no_accuracy_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        effective_robustness(Estimate(24.1, 20, 30, 10), wilson(5, 10), LINES["imagenet-a"])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        effective_robustness(stats.NOTHING, wilson(5, 10), LINES["imagenet-a"])
