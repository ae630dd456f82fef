"""Laws of the per-image randomness."""

import numpy as np
import pytest
import torch

from visionvitals import randomness

IDS = [f"image-{i}" for i in range(50)]


def splitmix64(state: int, count: int) -> list[int]:
    """The published generator (Steele, Lea, Flood 2014) in plain integers: an independent reference."""
    full, out = (1 << 64) - 1, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & full
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & full
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
        out.append(z ^ (z >> 31))
    return out


def test_bits_are_those_of_splitmix64() -> None:
    ours = randomness.bits(torch.tensor([1234567, -3]), 20)
    for row, start in zip(ours, (1234567, -3), strict=True):
        assert [int(x) % 2**64 for x in row] == splitmix64(start % 2**64, 20)


def test_a_stream_depends_on_seed_id_and_purpose_only() -> None:
    whole = randomness.stream(3, IDS, "a")
    assert torch.equal(whole[7:9], randomness.stream(3, IDS[7:9], "a"))
    assert len(set(whole.tolist())) == len(IDS)
    for other in (randomness.stream(4, IDS, "a"), randomness.stream(3, IDS, "b")):
        assert not (whole == other).any()


def test_a_stream_is_frozen() -> None:
    """A change here changes every stored result: bump every study's VERSION with it."""
    assert randomness.stream(0, ["a"], "p").item() == 7597491374622410575


def test_uniform_is_uniform_and_in_range() -> None:
    u = randomness.uniform(randomness.stream(0, IDS, "u"), 2000)
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 20, 0, 1)
    expected = u.numel() / 20
    assert ((counts - expected) ** 2 / expected).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001


def test_normal_has_mean_zero_and_unit_variance() -> None:
    z = randomness.normal(randomness.stream(0, IDS, "n"), 4000)
    assert abs(float(z.mean())) < 4 / np.sqrt(z.numel())
    assert float(z.var()) == pytest.approx(1, abs=0.02)
    assert float((z.abs() < 1.96).float().mean()) == pytest.approx(0.95, abs=0.003)


def test_permutations_are_permutations_and_uniform() -> None:
    keys = randomness.stream(0, [str(i) for i in range(6000)], "p")
    orders = randomness.permutation(keys, 3)
    assert torch.equal(orders.sort(dim=1).values, torch.arange(3).expand(6000, 3))
    _, counts = orders.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert ((counts - 1000.0) ** 2 / 1000).sum() < 20.5  # chi-squared, 5 degrees of freedom, p = 0.001


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cpu_and_gpu_give_the_same_bits() -> None:
    keys = randomness.stream(0, IDS, "g")
    assert torch.equal(randomness.permutation(keys, 196), randomness.permutation(keys.cuda(), 196).cpu())
    assert torch.equal(randomness.uniform(keys, 999), randomness.uniform(keys.cuda(), 999).cpu())
