"""The three readings against direct numpy, and the laws of the streaming moments."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from visionvitals.probes import correlation
from visionvitals.probes.correlation import Moments

N, D = 60, 24
RNG = np.random.default_rng(0)
U = RNG.normal(size=(N, D)) * RNG.uniform(0.1, 10, D) + RNG.normal(size=D) * 100  # means far above the spreads
V = 0.6 * U + RNG.normal(size=(N, D)) * RNG.uniform(0.1, 10, D)


def streamed(u: np.ndarray, v: np.ndarray, cuts: tuple[int, ...] = (), dtype: torch.dtype = torch.float64) -> Moments:
    found = correlation.start(u.shape[1])
    for low, high in pairwise((0, *cuts, len(u))):
        found = correlation.update(
            found, torch.tensor(u[low:high], dtype=dtype), torch.tensor(v[low:high], dtype=dtype)
        )
    return found


def flat(m: Moments) -> list[float]:
    return [m.n, *torch.cat([m.mean_u, m.mean_v, m.m2_u, m.m2_v]).tolist()]


def readings(
    u: np.ndarray, v: np.ndarray, cuts: tuple[int, ...] = (), dtype: torch.dtype = torch.float64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A, B and C of each image."""
    x, y = torch.tensor(u, dtype=dtype), torch.tensor(v, dtype=dtype)
    b = correlation.standardised(streamed(u, v, cuts, dtype), x, y)
    return correlation.pearson(x, y).numpy(), b.numpy(), correlation.cosine(x, y).numpy()


def test_all_three_equal_direct_numpy() -> None:
    a, b, c = readings(U, V, (7, 8, 41))
    assert a == pytest.approx([np.corrcoef(u, v)[0, 1] for u, v in zip(U, V, strict=True)], abs=1e-12)
    assert c == pytest.approx(
        [u @ v / np.linalg.norm(u) / np.linalg.norm(v) for u, v in zip(U, V, strict=True)], abs=1e-12
    )
    expected = (((U - U.mean(0)) / U.std(0)) * ((V - V.mean(0)) / V.std(0))).mean(axis=1)
    assert b == pytest.approx(expected, abs=1e-11)
    assert b.mean() == pytest.approx(np.mean([np.corrcoef(U[:, d], V[:, d])[0, 1] for d in range(D)]), abs=1e-12)


def test_batch_sizes_and_merging_do_not_matter() -> None:
    whole = flat(streamed(U, V))
    assert whole[0] == N
    for cuts in [(1,), (59,), tuple(range(1, N)), (20, 20, 40)]:
        assert flat(streamed(U, V, cuts)) == pytest.approx(whole, rel=1e-12)
    left, right = streamed(U[:13], V[:13]), streamed(U[13:], V[13:], (5,))
    for merged in (correlation.merge(left, right), correlation.merge(right, left)):
        assert flat(merged) == pytest.approx(whole, rel=1e-12)


def test_nothing_seen_is_neutral() -> None:
    nothing = correlation.start(D)
    assert flat(correlation.merge(nothing, streamed(U, V))) == flat(streamed(U, V))
    assert flat(correlation.merge(nothing, nothing)) == flat(nothing)


def test_update_leaves_the_old_moments_alone() -> None:
    old = streamed(U[:5], V[:5])
    before = flat(old)
    correlation.update(old, torch.tensor(U[5:]), torch.tensor(V[5:]))
    assert flat(old) == before


def test_the_correlation_with_itself_is_one() -> None:
    a, b, c = readings(U, U, (9,))
    assert a == pytest.approx(np.ones(N), abs=1e-12)
    assert c == pytest.approx(np.ones(N), abs=1e-12)
    assert b.mean() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (0.01, -7.0), (1e6, 1e6)])
def test_a_and_b_ignore_positive_affine_maps_and_c_a_scale(scale: float, shift: float) -> None:
    plain, mapped = readings(U, V), readings(U, scale * V + shift)
    assert mapped[0] == pytest.approx(plain[0], abs=1e-9)
    assert mapped[1] == pytest.approx(plain[1], abs=1e-8)
    assert (abs(mapped[2].mean() - plain[2].mean()) < 1e-9) == (shift == 0)
    assert readings(U, -V)[1] == pytest.approx(-plain[1], abs=1e-12)


def test_b_ignores_another_affine_map_in_each_dimension_and_a_does_not() -> None:
    scale = np.linspace(0.1, 9, D)
    plain, mapped = readings(U, V), readings(U, V * scale + scale**2)
    assert mapped[1] == pytest.approx(plain[1], abs=1e-9)
    assert abs(mapped[0].mean() - plain[0].mean()) > 0.01


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e5 / 3])
def test_constant_vectors_are_undefined(constant: float) -> None:
    u = U.copy()
    u[3] = constant
    a, _, c = readings(u, V, (2, 9))
    assert np.flatnonzero(np.isnan(a)).tolist() == [3]
    assert np.flatnonzero(np.isnan(c)).tolist() == ([3] if constant == 0 else [])


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e5 / 3])
def test_a_constant_dimension_is_left_out_of_b(constant: float) -> None:
    u = U.copy()
    u[:, 5] = constant
    rest = np.delete(np.arange(D), 5)
    assert readings(u, V, (1, 2, 3, 30))[1] == pytest.approx(readings(U[:, rest], V[:, rest])[1], abs=1e-11)
    assert np.isnan(readings(np.full_like(U, constant), V)[1]).all()


def test_float16_inputs_are_safe() -> None:
    """Squares of 300 overflow float16; the answer is that of the same numbers in float64."""
    u, v = (U * 3).astype(np.float16), (V * 3).astype(np.float16)
    assert np.abs(u).max() > 300
    half, exact = readings(u, v, (9,), torch.float16), readings(u.astype(float), v.astype(float), (9,))
    for one, other in zip(half, exact, strict=True):
        assert one == pytest.approx(other, abs=1e-12)


def test_images_that_overflowed_are_undefined_and_spoil_no_other() -> None:
    u, v = U.copy(), V.copy()
    u[3, 2], v[7, 0], v[8] = np.inf, np.nan, -np.inf
    kept = np.delete(np.arange(N), [3, 7, 8])
    assert flat(streamed(u, v, (7, 9))) == pytest.approx(
        flat(streamed(U[kept], V[kept])), rel=1e-12
    )  # one batch is empty
    for found, alone in zip(readings(u, v, (7, 9)), readings(U[kept], V[kept]), strict=True):
        assert not np.isfinite(found[[3, 7, 8]]).any()
        assert found[kept] == pytest.approx(alone, abs=1e-11)
