"""All that is told of a comparison: groups, what flips, error consistency, and whether everything was measured alike."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from invented_cells import CELL, OTHER, grouped, keep
from visionvitals import cli, stats
from visionvitals.errors import VitalsError
from visionvitals.report import comparison
from visionvitals.results import comparability, compare, compared, flips, load

NIGHT = dataclasses.replace(CELL.backbone, digest="night")
OLD, NEW = "1111100000", "1100100110"


def answers(right: str) -> dict[str, float]:
    return {f"{i:04d}": float(mark == "1") for i, mark in enumerate(right)}


def two(root: Path, **new: Any) -> compare.Pair:
    keep(root / "old", answers(OLD))
    keep(root / "new", answers(NEW), **{"backbone": NIGHT, **new})
    (pair,) = compare.pairs(load(root / "old", root / "new"))
    return pair


def test_what_flips_is_named_with_its_class(tmp_path: Path) -> None:
    pair = two(tmp_path)
    grouped(tmp_path / "new", ["rain"] * 10)
    (found,) = flips.headline(pair)
    assert (found.lost, found.gained, found.n) == (("0002", "0003"), ("0007", "0008"), 10)
    assert found.classes == (("a", 5, 1, 1), ("b", 5, 1, 1)), "even numbers are a"
    assert list(compared.flipped(found))[:4] == [
        "holes, fraction 0.5, shapes:test: only a is right on 2, only b is right on 2 of 10",
        "classes: a (−1 +1 of 5), b (−1 +1 of 5)",
        "only a is right: 0002, 0003",
        "only b is right: 0007, 0008",
    ]
    assert "not estimable" in found.verdict


def test_the_largest_change_comes_first_and_a_picture_without_an_answer_does_not_flip(tmp_path: Path) -> None:
    for run, (old, new) in enumerate((("111", "001"), ("111", "011"))):
        keep(tmp_path / "old", answers(old) | {"x": float("nan")}, run=run)
        keep(tmp_path / "new", answers(new) | {"x": 1.0}, run=run, backbone=NIGHT)
    (pair,) = compare.pairs(load(tmp_path / "old", tmp_path / "new"))
    (found,) = flips.headline(pair)
    assert (found.lost, found.gained, found.n) == (("0000", "0001"), (), 3)
    assert next(compared.flipped(found)).endswith(": a is right more often on 2, b is right more often on 0 of 3")
    assert "a is right more often: 0000, 0001" in list(compared.flipped(found))
    (whole,) = compared.compared(pair)
    comparison.write([whole], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Of 3 images, a is right more often on 2, b is right more often on 0." in page
    assert "nly a is right" not in page


def test_error_consistency_pairs_the_showings_of_a_picture(tmp_path: Path) -> None:
    """Each is right in one of two showings of each picture: on the same one, or on the other one."""
    first, second = "10" * 20, "01" * 20
    for name, marks in (("old", (first, second)), ("same", (first, second)), ("other", (second, first))):
        for run, right in enumerate(marks):
            keep(tmp_path / name, answers(right), run=run, backbone=dataclasses.replace(NIGHT, digest=name))
    for name, kappa in (("same", 1.0), ("other", -1.0)):
        (pair,) = compare.pairs(load(tmp_path / "old", tmp_path / name))
        (found,) = flips.headline(pair)
        assert found.agreement.kappa.value == pytest.approx(kappa), name


def test_error_consistency_of_one_showing_is_that_of_the_answers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = ("".join(map(str, (rng.random(200) < p).astype(int))) for p in (0.6, 0.5))
    keep(tmp_path / "old", answers(a))
    keep(tmp_path / "new", answers(b + "1"), backbone=NIGHT)
    (pair,) = compare.pairs(load(tmp_path / "old", tmp_path / "new"))
    (found,) = flips.headline(pair)
    right = [np.array(list(map(float, each))) for each in (a, b)]
    assert found.agreement == stats.error_consistency(right[0], right[1])
    assert "no more alike than by chance: kappa" in found.verdict


SAME: dict[str, Any] = {}


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (SAME, None),
        ({"images": dataclasses.replace(CELL.images, spec="folder:moved")}, None),
        ({"images": dataclasses.replace(CELL.images, digest="x")}, "not compared: holes: the images:"),
        ({"seed": 1}, "not compared: holes: seed 0 and 1"),
        ({"version": 2}, "not compared: holes: version 1 and 2"),
        ({"decoder": "fast"}, "not compared: holes: decoder pillow and fast"),
        ({"limit": 10}, "limit None and 10: compared on the pictures that both have"),
        ({"fraction": 0.25}, "not compared: holes: 1 condition of a"),
        (
            {"backbone": dataclasses.replace(NIGHT, preprocess=dataclasses.replace(NIGHT.preprocess, resize=73))},
            "input: 64x64 of the whole picture bilinear and 64x64 of 73 bilinear; this belongs to the networks",
        ),
        (
            {"backbone": dataclasses.replace(NIGHT, preprocess=dataclasses.replace(NIGHT.preprocess, mean=(0.0,) * 3))},
            None,
        ),
        ({"backbone": dataclasses.replace(NIGHT, ordered=True)}, "labels: names and in the order of the set"),
    ],
)
def test_digests_are_equal_just_where_nothing_differs(tmp_path: Path, new: dict[str, Any], said: str | None) -> None:
    pair = two(tmp_path, **new)
    a, b = comparability.digests(pair)
    found = comparability.differing(pair)
    assert (a == b) == (found == []) == (said is None)
    assert said is None or found[0].startswith(said)
    assert a in comparability.line(pair)
    assert b in comparability.line(pair)


def test_a_comparison_of_nothing_is_refused_with_what_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pair = two(tmp_path, seed=1)
    said = "Something of .* and .* must be comparable. Got: not compared: holes: seed 0 and 1.*Measure both on the same images"
    with pytest.raises(VitalsError, match=said):
        compared.compared(pair)
    page = tmp_path / "page.html"
    words = ["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--html", str(page)]
    assert (cli.main(words), page.exists()) == (2, False)
    assert "holes: seed 0 and 1" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path / "old"), "tiny:vit"]) == 2
    assert "must have two backbones of one run, or two runs. Got 'tiny:vit'. Give RUN A B" in capsys.readouterr().err


def test_every_form_says_the_digest_and_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = two(tmp_path, limit=10)
    a, b = comparability.digests(pair)
    out = tmp_path / "out"
    out.mkdir()
    files = ["--csv", str(out / "x.csv"), "--markdown", str(out / "x.md")]
    assert cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), *files]) == 0
    said = capsys.readouterr().out
    for text in (said, (out / "x.csv").read_text(), (out / "x.md").read_text()):
        assert a in text
        assert b in text
    assert "limit None and 10" in said
    assert "limit None and 10" in (out / "x.md").read_text()
    assert max(map(len, said.splitlines()[:-2])) <= 80


def test_each_group_is_compared_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = two(tmp_path)
    grouped(tmp_path / "new", ["rain"] * 5 + ["sun"] * 5)
    rain, sun = compared.compared(pair, by="weather")
    assert [d.value.value for each in (rain, sun) for d in each.conditions] == [pytest.approx(-0.4), pytest.approx(0.4)]
    a, b = (np.array(list(map(float, each[:5]))) for each in (OLD, NEW))
    assert rain.conditions[0].value == stats.paired_difference(b, a, bounds=(0, 1))
    assert {row["group"]: row["n"] for each in (rain, sun) for row in compared.rows(each)} == {
        "weather rain": 5,
        "weather sun": 5,
    }
    assert cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--by", "weather"]) == 0
    assert "weather sun" in capsys.readouterr().out
    assert cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--by", "x"]) == 2


def test_names_stay_text_in_markdown(tmp_path: Path) -> None:
    keep(tmp_path, answers(OLD), backbone=dataclasses.replace(CELL.backbone, spec="tiny:a|b<i>"))
    keep(tmp_path, answers(NEW), backbone=OTHER)
    (found,) = compared.compared(compare.pair(load(tmp_path), "tiny:a|b<i>", "tiny:cnn"))
    assert "<i>" not in compared.as_markdown(found).replace("\\<i>", "")
