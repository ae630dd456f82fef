"""mCE: AlexNet's is 100, the table is the published one, and its order does not matter."""

import numpy as np
import pytest

from visionvitals.errors import VitalsError
from visionvitals.probes import mce

MEANS = {  # the table of six digits in common use
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056, "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}  # fmt: skip


def test_alexnet_is_100_and_relative_100() -> None:
    assert float(mce.mce(mce.ALEXNET)) == pytest.approx(1, abs=1e-12)
    assert float(mce.relative_mce(mce.ALEXNET, mce.ALEXNET_CLEAN)) == pytest.approx(1, abs=1e-12)


def test_the_table_has_the_published_means() -> None:
    assert {name: round(sum(errors) / 5, 6) for name, errors in mce.ALEXNET.items()} == pytest.approx(MEANS, abs=6e-6)


def test_the_order_of_the_corruptions_does_not_matter() -> None:
    turned = {name: mce.ALEXNET[name] for name in reversed(mce.COMMON)}
    assert float(mce.mce(turned)) == pytest.approx(1, abs=1e-12)


def test_it_divides_sums_and_then_averages_over_corruptions() -> None:
    errors = {name: [0.5] * 5 for name in mce.COMMON}
    assert float(mce.mce(errors)) == pytest.approx(np.mean([0.5 / mean for mean in MEANS.values()]), abs=1e-5)
    worse = errors | {"fog": [1.0, 0.0, 1.0, 0.0, 0.5]}
    assert float(mce.mce(worse)) == pytest.approx(float(mce.mce(errors)))
    expected = np.mean([(0.5 - 0.2) / (mean - 0.43478) for mean in MEANS.values()])
    assert float(mce.relative_mce(errors, 0.2)) == pytest.approx(expected, abs=1e-4)


def test_the_held_out_corruptions_never_enter() -> None:
    errors = {name: [0.5] * 5 for name in mce.COMMON}
    assert mce.mce(errors | {name: [1.0] * 5 for name in mce.EXTRA}) == mce.mce(errors)


def test_it_is_vectorised_over_bootstrap_samples() -> None:
    samples = {name: [np.full(7, v) for v in errors] for name, errors in mce.ALEXNET.items()}
    assert mce.mce(samples) == pytest.approx(np.ones(7))
    assert mce.relative_mce(samples, np.full(7, mce.ALEXNET_CLEAN)) == pytest.approx(np.ones(7))


@pytest.mark.parametrize("missing", [{"fog": [0.5] * 4}, {"snow": []}])
def test_a_part_of_the_benchmark_has_no_mce(missing: dict[str, list[float]]) -> None:
    errors = {name: [0.5] * 5 for name in mce.COMMON} | missing
    with pytest.raises(VitalsError, match=f"mCE needs 15 corruptions at 5 severities. Got .*{next(iter(missing))}"):
        mce.mce(errors)
