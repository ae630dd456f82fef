"""The three readings against direct numpy, and the laws of the streaming state."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from visionvitals.probes import correlation
from visionvitals.probes.correlation import Correlations, State

N, D = 60, 24
RNG = np.random.default_rng(0)
U = RNG.normal(size=(N, D)) * RNG.uniform(0.1, 10, D) + RNG.normal(size=D) * 100  # means far above the spreads
V = 0.6 * U + RNG.normal(size=(N, D)) * RNG.uniform(0.1, 10, D)


def streamed(u: np.ndarray, v: np.ndarray, cuts: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> State:
    state = correlation.start(u.shape[1])
    for low, high in pairwise((0, *cuts, len(u))):
        state = correlation.update(
            state, torch.tensor(u[low:high], dtype=dtype), torch.tensor(v[low:high], dtype=dtype)
        )
    return state


def flat(result: Correlations) -> list[float]:
    return [*result.a, *result.b, *result.c, result.not_finite]


def test_streaming_equals_direct_numpy() -> None:
    a = np.array([np.corrcoef(u, v)[0, 1] for u, v in zip(U, V, strict=True)])
    c = np.array([u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(U, V, strict=True)])
    b = (((U - U.mean(0)) / U.std(0)) * ((V - V.mean(0)) / V.std(0))).mean(axis=1)
    state = streamed(U, V, (7, 8, 41))
    result = correlation.finish(state)
    assert result.a[:2] == pytest.approx((a.mean(), a.std()), abs=1e-12)
    assert result.c[:2] == pytest.approx((c.mean(), c.std()), abs=1e-12)
    assert result.b.mean == pytest.approx(b.mean(), abs=1e-12)
    assert result.b.mean == pytest.approx(np.mean([np.corrcoef(U[:, d], V[:, d])[0, 1] for d in range(D)]), abs=1e-12)
    assert math.isnan(result.b.std)
    assert (result.a.n, result.b.n, result.c.n, result.not_finite) == (N, D, N, 0)
    assert correlation.standardised(state, torch.tensor(U), torch.tensor(V)).numpy() == pytest.approx(b, abs=1e-11)


def test_batch_sizes_and_merging_do_not_matter() -> None:
    whole = flat(correlation.finish(streamed(U, V)))
    for cuts in [(1,), (59,), tuple(range(1, N)), (20, 20, 40)]:
        assert flat(correlation.finish(streamed(U, V, cuts))) == pytest.approx(whole, abs=1e-12, nan_ok=True)
    left, right = streamed(U[:13], V[:13]), streamed(U[13:], V[13:], (5,))
    for merged in (correlation.merge(left, right), correlation.merge(right, left)):
        assert flat(correlation.finish(merged)) == pytest.approx(whole, abs=1e-12, nan_ok=True)


def test_an_empty_state_is_neutral_and_nothing_seen_is_nan() -> None:
    state = streamed(U, V)
    assert flat(correlation.finish(correlation.merge(correlation.start(D), state))) == pytest.approx(
        flat(correlation.finish(state)), abs=0, nan_ok=True
    )
    nothing = correlation.finish(correlation.merge(correlation.start(D), correlation.start(D)))
    assert all(math.isnan(s.mean) and s.n == 0 for s in (nothing.a, nothing.b, nothing.c))


def test_update_leaves_the_old_state_alone() -> None:
    state = streamed(U[:5], V[:5])
    before = state.dimensions.mean_u.clone()
    correlation.update(state, torch.tensor(U[5:]), torch.tensor(V[5:]))
    assert state.dimensions.n == 5
    assert torch.equal(state.dimensions.mean_u, before)


def test_the_correlation_with_itself_is_one() -> None:
    result = correlation.finish(streamed(U, U, (9,)))
    assert [s.mean for s in (result.a, result.b, result.c)] == pytest.approx([1, 1, 1], abs=1e-12)
    assert result.a.std == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (0.01, -7.0), (1e6, 1e6)])
def test_a_and_b_ignore_positive_affine_maps_and_c_a_scale(scale: float, shift: float) -> None:
    plain, mapped = correlation.finish(streamed(U, V)), correlation.finish(streamed(U, scale * V + shift))
    assert mapped.a[:2] == pytest.approx(plain.a[:2], abs=1e-9)
    assert mapped.b.mean == pytest.approx(plain.b.mean, abs=1e-9)
    assert (abs(mapped.c.mean - plain.c.mean) < 1e-9) == (shift == 0)
    assert correlation.finish(streamed(U, -V)).b.mean == pytest.approx(-plain.b.mean, abs=1e-12)


def test_b_ignores_another_affine_map_in_each_dimension_and_a_does_not() -> None:
    scale = np.linspace(0.1, 9, D)
    plain, mapped = correlation.finish(streamed(U, V)), correlation.finish(streamed(U, V * scale + scale**2))
    assert mapped.b.mean == pytest.approx(plain.b.mean, abs=1e-10)
    assert abs(mapped.a.mean - plain.a.mean) > 0.01


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e5 / 3])
def test_constant_vectors_are_undefined_and_counted(constant: float) -> None:
    u = U.copy()
    u[3] = constant
    values = correlation.pearson(torch.tensor(u), torch.tensor(V))
    assert values.isnan().tolist() == [i == 3 for i in range(N)]
    assert correlation.cosine(torch.tensor(u), torch.tensor(V)).isnan()[3] == (constant == 0)
    result = correlation.finish(streamed(u, V, (2, 9)))
    assert (result.a.n, result.a.undefined) == (N - 1, 1)
    assert result.c.undefined == (constant == 0)
    kept = np.delete(np.arange(N), 3)
    assert result.a.mean == pytest.approx(correlation.finish(streamed(U[kept], V[kept])).a.mean, abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e5 / 3])
def test_a_constant_dimension_is_left_out_of_b(constant: float) -> None:
    u = U.copy()
    u[:, 5] = constant
    state = streamed(u, V, (1, 2, 3, 30))
    result, rest = correlation.finish(state), np.delete(np.arange(D), 5)
    assert (result.b.n, result.b.undefined) == (D - 1, 1)
    assert result.b.mean == pytest.approx(correlation.finish(streamed(U[:, rest], V[:, rest])).b.mean, abs=1e-12)
    per_image = correlation.standardised(state, torch.tensor(u), torch.tensor(V))
    assert float(per_image.mean()) == pytest.approx(result.b.mean, abs=1e-12)


def test_float16_inputs_are_safe() -> None:
    """Squares of 3,000 overflow float16; the answer is that of the same numbers in float64."""
    u, v = (U * 3).astype(np.float16), (V * 3).astype(np.float16)
    assert np.abs(u).max() > 300
    half = correlation.finish(streamed(u, v, (9,), torch.float16))
    exact = correlation.finish(streamed(u.astype(float), v.astype(float), (9,)))
    assert flat(half) == pytest.approx(flat(exact), abs=1e-12, nan_ok=True)


def test_images_that_overflowed_are_left_out_and_counted() -> None:
    u, v = U.copy(), V.copy()
    u[3, 2], v[7, 0], v[8] = np.inf, np.nan, -np.inf
    result, kept = (
        correlation.finish(streamed(u, v, (7, 9))),
        np.delete(np.arange(N), [3, 7, 8]),
    )  # one batch has none left
    assert result.not_finite == 3
    assert flat(result)[:-1] == pytest.approx(flat(correlation.finish(streamed(U[kept], V[kept])))[:-1], nan_ok=True)


def test_b_of_a_group_is_standardised_over_the_whole() -> None:
    group, rest = streamed(U[:20], V[:20]), streamed(U[20:], V[20:])
    whole = correlation.merge(group, rest)
    per_image = correlation.standardised(whole, torch.tensor(U), torch.tensor(V))
    within = correlation.finish(group, whole=whole)
    assert within.b.mean == pytest.approx(float(per_image[:20].mean()), abs=1e-11)
    assert abs(within.b.mean - correlation.finish(group).b.mean) > 1e-3
    assert within.a == correlation.finish(group).a
