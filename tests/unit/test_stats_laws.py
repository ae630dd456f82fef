"""Laws of the intervals, over arrays of every kind: a width, nothing beyond the possible, order without meaning, mirrors."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionvitals import stats

Array = np.ndarray
KINDS = ("single", "five runs", "share", "rare")


@st.composite
def columns(draw: st.DrawFn, count: int, *, least: int = 2) -> tuple[Array, ...]:
    """Some arrays of the same images, float (n,) in [0, 1]: zeros and ones, means of five runs, any shares, or almost all equal."""
    n = draw(st.integers(least, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shared = rng.random(n)

    def one() -> Array:
        kind, p = draw(st.sampled_from(KINDS)), draw(st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]))
        if kind == "single":
            return 1.0 * (shared < p)
        if kind == "five runs":
            return np.asarray(rng.binomial(5, p, n) / 5)
        if kind == "share":
            return shared * p
        values = np.full(n, p)
        values[0] = draw(st.sampled_from([0.0, 0.2, 0.5, 1.0]))
        return values

    return tuple(one() for _ in range(count))


def same(found: stats.Estimate, wanted: stats.Estimate) -> None:
    assert found[:3] == pytest.approx(wanted[:3], abs=1e-7, nan_ok=True)
    assert found.n == wanted.n


def possible(e: stats.Estimate, low: float, high: float) -> None:
    assert low <= e.low <= e.value + 1e-12
    assert e.value - 1e-12 <= e.high <= high
    assert e.high - e.low > 1e-6


@settings(derandomize=True, deadline=None)
@given(columns(1))
def test_a_mean(given_columns: tuple[Array]) -> None:
    (values,) = given_columns
    e = stats.estimate(values)
    possible(e, 0, 1)
    same(stats.estimate(values[::-1].copy()), e)
    mirrored = stats.estimate(1 - values)
    same(mirrored, stats.Estimate(1 - e.value, 1 - e.high, 1 - e.low, e.n))


@settings(derandomize=True, deadline=None)
@given(columns(1), st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.9, 1.0]), min_size=2, max_size=6))
def test_a_mean_over_draws(given_columns: tuple[Array], draws: list[float]) -> None:
    (values,) = given_columns
    over_images = stats.estimate(values)
    e = stats.over_draws(over_images, np.array(draws), bounds=(0, 1))
    possible(e, 0, 1)
    assert (e.value, e.n) == (over_images.value, over_images.n)
    assert e.low <= over_images.low
    assert e.high >= over_images.high
    same(stats.over_draws(over_images, np.array(draws[::-1]), bounds=(0, 1)), e)
    mirrored = stats.over_draws(stats.estimate(1 - values), 1 - np.array(draws), bounds=(0, 1))
    same(mirrored, stats.Estimate(1 - e.value, 1 - e.high, 1 - e.low, e.n))


@settings(derandomize=True, deadline=None)
@given(columns(2))
def test_a_difference(given_columns: tuple[Array, Array]) -> None:
    a, b = given_columns
    e = stats.paired_difference(a, b)
    possible(e, -1, 1)
    same(stats.paired_difference(a[::-1], b[::-1]), e)
    swapped = stats.paired_difference(b, a)
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-e.value, -e.high, -e.low), rel=1e-9, abs=1e-12)


@settings(derandomize=True, deadline=None)
@given(columns(2))
def test_a_ratio(given_columns: tuple[Array, Array]) -> None:
    clean, perturbed = given_columns
    e = stats.kept(clean, perturbed)
    if clean.sum() == 0:
        assert math.isnan(e.value)
        return
    possible(e, 0, max(e.value, 1 / stats.estimate(clean).low))
    same(stats.kept(clean[::-1], perturbed[::-1]), e)


@settings(derandomize=True, deadline=None)
@given(columns(4))
def test_a_difference_of_ratios(given_columns: tuple[Array, Array, Array, Array]) -> None:
    a, pa, b, pb = given_columns
    e = stats.kept_difference(a, pa, b, pb)
    if a.sum() == 0 or b.sum() == 0:
        assert math.isnan(e.value)
        return
    possible(e, stats.kept(a, pa).low - stats.kept(b, pb).high - 1e-9, math.inf)
    swapped = stats.kept_difference(b, pb, a, pa)
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx((-e.value, -e.high, -e.low), rel=1e-9, abs=1e-12)


@settings(derandomize=True, deadline=None)
@given(columns(3))
def test_an_area(given_columns: tuple[Array, ...]) -> None:
    curves, x = np.stack(given_columns, axis=1), np.array([0.0, 0.3, 1.0])
    e = stats.area(x, curves)
    possible(e, 0, 1)
    same(stats.area(x, curves[::-1]), e)
    there, back = stats.area_difference(x, curves, curves[::-1]), stats.area_difference(x, curves[::-1], curves)
    possible(there, -1, 1)
    assert (back.value, back.low, back.high) == pytest.approx(
        (-there.value, -there.high, -there.low), rel=1e-9, abs=1e-12
    )


@settings(derandomize=True, deadline=None, max_examples=40)
@given(columns(3), st.sampled_from([lambda m: m.mean(axis=-1), lambda m: m[..., 0] * m[..., 1]]))
def test_a_formula(given_columns: tuple[Array, ...], function: Callable[[Array], Array]) -> None:
    scores = np.stack(given_columns, axis=1)
    e = stats.formula(scores, function)
    assert 0 <= e.low <= e.value <= e.high <= 1
    assert e.high - e.low > 1e-6
    same(stats.formula(scores[::-1], function), e)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(columns(3), st.sampled_from(["min", "max"]))
def test_an_extreme(given_columns: tuple[Array, ...], kind: str) -> None:
    scores = np.stack(given_columns, axis=1)
    e = stats.extreme(scores, kind)  # type: ignore[arg-type]
    possible(e, 0, 1)
    there = stats.extreme_difference(scores, scores[:, :1], kind)  # type: ignore[arg-type]
    back = stats.extreme_difference(scores[:, :1], scores, kind)  # type: ignore[arg-type]
    possible(there, -1, 1)
    assert back[:3] == pytest.approx((-there.value, -there.high, -there.low), rel=1e-9, abs=1e-12)
    same(stats.extreme(scores[::-1], kind), e)  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(columns(4), st.sampled_from([(0.8, 0.95), (0.95, 0.975), (0.95, 0.99)]))
def test_a_higher_level_holds_the_lower_one(given_columns: tuple[Array, ...], levels: tuple[float, float]) -> None:
    """Of every function that takes a level; the value stays."""
    a, b, c, d = given_columns
    three = np.stack([a, b, c], axis=1)
    x = np.array([0.0, 0.3, 1.0])
    found: list[Callable[[float], stats.Estimate]] = [
        lambda level: stats.estimate(a, level=level),
        lambda level: stats.paired_difference(a, b, level=level),
        lambda level: stats.kept(a, b, level=level),
        lambda level: stats.kept_difference(a, b, c, d, level=level),
        lambda level: stats.area(x, three, level=level),
        lambda level: stats.area_difference(x, three, three[:, ::-1].copy(), level=level),
        lambda level: stats.formula(three, lambda m: m.mean(axis=-1), level=level),
        lambda level: stats.extreme(three, level=level),
        lambda level: stats.extreme_difference(three, np.stack([b, d], axis=1), level=level),
    ]
    for place, function in enumerate(found):
        narrow, wide = (function(level) for level in levels)
        assert narrow.n == wide.n
        if place < 7:  # an extreme is moved into its interval
            assert narrow.value == pytest.approx(wide.value, nan_ok=True, abs=1e-12)
        if not math.isnan(narrow.low + wide.low):
            assert wide.low <= narrow.low + 1e-9
            assert wide.high >= narrow.high - 1e-9
