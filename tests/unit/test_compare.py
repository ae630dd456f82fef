"""Two backbones on the same images, of one run or of two: what is comparable, what the difference is, what the sentence says."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from invented_cells import CELL, OTHER, keep
from visionvitals import stats
from visionvitals.errors import VitalsError
from visionvitals.figure import Record, Sign
from visionvitals.results import compare, load

NIGHT = dataclasses.replace(CELL.backbone, digest="night")


def answers(right: int, n: int, *, start: int = 0) -> dict[str, float]:
    """n images of which the first are right."""
    return {f"{start + i:04d}": float(i < right) for i in range(n)}


def two(tmp_path: Path, of: str | None = None, and_: str | None = None) -> list[compare.Pair]:
    return compare.pairs(load(tmp_path / "old", tmp_path / "new"), of, and_)


def test_the_networks_of_one_name_of_two_runs_are_compared(tmp_path: Path) -> None:
    keep(tmp_path / "old", answers(80, 100))
    keep(tmp_path / "new", answers(50, 100), backbone=NIGHT)
    keep(tmp_path / "new", answers(90, 100), backbone=OTHER)
    (pair,) = two(tmp_path)
    (row,) = pair.differences()
    assert row.value == stats.paired_difference((np.arange(100) < 50) * 1.0, (np.arange(100) < 80) * 1.0)
    assert (row.a.value, row.b.value, row.gained, row.lost) == (0.8, 0.5, 0.0, 0.3)
    assert row.decided
    assert row.verdict.startswith("b is lower, worse (30.0 points, ")
    assert row.verdict.endswith(", n = 100)")
    (swapped,) = compare.pairs(load(tmp_path / "new", tmp_path / "old"))
    (mirrored,) = swapped.differences()
    assert (mirrored.value.low, mirrored.value.high) == (-row.value.high, -row.value.low)
    assert (mirrored.gained, mirrored.lost) == (row.lost, row.gained)


def test_two_networks_of_other_names_are_named(tmp_path: Path) -> None:
    keep(tmp_path / "old", answers(80, 100))
    keep(tmp_path / "new", answers(82, 100), backbone=OTHER)
    with pytest.raises(
        VitalsError, match=r"must share the name of a backbone. Got 'tiny:vit in the first, tiny:cnn in the"
    ):
        two(tmp_path)
    (row,) = two(tmp_path, "tiny:vit", "tiny:cnn")[0].differences()
    assert not row.decided
    assert row.verdict.startswith("not distinguishable: +2.0 points, ")
    assert "images would tell 2 points" in row.verdict
    with pytest.raises(VitalsError, match=r"A backbone must be measured in the (first|second) run. Got 'tiny:cnn'"):
        two(tmp_path, "tiny:cnn", "tiny:vit")


def test_the_same_images_under_another_path_are_the_same(tmp_path: Path) -> None:
    keep(tmp_path / "old", answers(8, 10))
    keep(tmp_path / "new", answers(5, 10), backbone=NIGHT, images=dataclasses.replace(CELL.images, spec="folder:moved"))
    (pair,) = two(tmp_path)
    assert len(pair.differences()) == 1


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("seed", 1, "seed 0 and 1"),
        ("decoder", "fast", "decoder pillow and fast"),
        ("version", 2, "version 1 and 2"),
        ("source", "ab", "source  and ab"),
    ],
)
def test_what_decides_a_number_must_be_equal(tmp_path: Path, setting: str, value: object, reason: str) -> None:
    keep(tmp_path / "old", answers(8, 10))
    keep(tmp_path / "new", answers(5, 10), backbone=NIGHT, **{setting: value})
    (pair,) = two(tmp_path)
    assert pair.differences() == []
    assert pair.matched[1] == {"holes": [reason]}


def test_other_contents_of_the_images_are_other_images(tmp_path: Path) -> None:
    keep(tmp_path / "old", answers(8, 10))
    keep(tmp_path / "new", answers(5, 10), backbone=NIGHT, images=dataclasses.replace(CELL.images, digest="other"))
    (pair,) = two(tmp_path)
    assert pair.differences() == []
    assert pair.matched[1] == {"holes": ["the images: shapes:test of digest bb and shapes:test of digest other"]}


def test_a_limit_leaves_the_images_that_both_have(tmp_path: Path) -> None:
    keep(tmp_path / "old", answers(80, 100))
    keep(tmp_path / "new", answers(40, 60), backbone=NIGHT, limit=60)
    pair = two(tmp_path)[0]
    (row,) = pair.differences()
    assert (row.value.n, row.a.value, row.b.value) == (60, 1.0, 40 / 60)
    sign = compare.signs.column_of(pair.comparable, Record(name="holes"), Sign(title="s", kind="mean"))
    readings = [sign.readings[name, "shapes:test"] for name in (pair.a, pair.b)]
    assert [e[::3] for e in compare.signs.alone(pair.comparable, sign, *readings)] == [(1.0, 60), (40 / 60, 60)]


def test_weights_that_are_the_same_do_not_differ(tmp_path: Path) -> None:
    keep(tmp_path / "old", answers(80, 100))
    keep(tmp_path / "new", answers(80, 100))
    (row,) = two(tmp_path)[0].differences()
    assert row.value.value == 0
    assert row.value.low < 0 < row.value.high


def test_the_sentence_names_what_n_could_have_shown() -> None:
    def difference(e: stats.Estimate, *, share: bool, better: str | None) -> compare.Difference:
        nothing = stats.NOTHING
        metric = compare.Metric(title="", meaning="", unit="share" if share else "none", better=None)
        return compare.Difference(
            study="s",
            images="i",
            title="t",
            condition={},
            metric=metric,
            share=share,
            better=better,
            a=nothing,
            b=nothing,
            value=e,
        )

    better = difference(stats.Estimate(0.75, 0.63, 0.85, 300), share=True, better="high")
    assert better.verdict == "b is higher, better (75.0 points, 63.0 to 85.0, n = 300)"
    neutral = difference(stats.Estimate(-0.5, -0.7, -0.3, 1200), share=False, better=None)
    assert neutral.verdict == "b is lower (0.50, 0.30 to 0.70, n = 1,200)"
    unsure = difference(stats.Estimate(0.01, -0.03, 0.05, 1000), share=True, better="high")
    assert (
        unsure.verdict == "not distinguishable: +1.0 points, -3.0 to +5.0, n = 1,000; 4.0 points would have shown, "
        "about 4,000 images would tell 2 points"
    )
    assert math.isclose(unsure.detectable, 0.04)
    enough = difference(stats.Estimate(0.001, -0.009, 0.011, 9000), share=True, better="high")
    assert enough.verdict == "not distinguishable: +0.1 points, -0.9 to +1.1, n = 9,000; 1.0 points would have shown"
    one = difference(stats.Estimate(0.4, math.nan, math.nan, 1), share=False, better="high")
    assert one.verdict == "no interval: n = 1"
