"""Error consistency with people, from the files of model-vs-human: known answers, laws, and the forms that the files have."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from visionvitals import cli
from visionvitals.errors import VitalsError
from visionvitals.responses import csv_files, people
from visionvitals.responses.csv_files import Answer


def told(observer: str, right: Sequence[int], condition: str = "0") -> list[Answer]:
    return [Answer("x", observer, condition, f"p{k}", bool(value)) for k, value in enumerate(right)]


A = [1] * 40 + [1] * 20 + [0] * 10 + [0] * 30
B = [1] * 40 + [0] * 20 + [1] * 10 + [0] * 30
"""Right on .6 and .5, alike on .7: kappa (.7 - .5) / .5 = .4, at most (1 - .1 - .5) / .5 = .8."""


def test_kappa_is_averaged_over_pairs() -> None:
    """Of three people two are the same: kappas 1, .4 and .4; the network is the third: .4, .4 and 1."""
    answers = [*told("subject-01", A), *told("subject-02", A), *told("subject-03", B), *told("net", B)]
    every, net = people.consistency(answers)
    assert (every.observer, every.pairs, every.told, every.pictures) == ("people", 3, 3, 100)
    assert every.kappa == pytest.approx((1 + 0.4 + 0.4) / 3)
    assert (every.lowest, every.highest) == (pytest.approx(0.4), pytest.approx(1))
    assert every.accuracy == pytest.approx((0.6 + 0.6 + 0.5) / 3)
    assert net.kappa == pytest.approx((0.4 + 0.4 + 1) / 3)
    assert net.most == pytest.approx((0.8 + 0.8 + 1) / 3)


def test_a_mean_says_of_how_many_of_all_conditions_it_is() -> None:
    """A network that was shown one of two conditions has another mean than people, not theirs."""
    answers = [each for c in ("1", "2") for each in (*told("subject-01", A, c), *told("subject-02", B, c))]
    means = [one for one in people.consistency([*answers, *told("net", B, "1")]) if one.condition == people.MEAN]
    assert [(one.observer, one.told, one.pairs) for one in means] == [("people", 2, 2), ("net", 1, 2)]


def test_conditions_are_never_pooled() -> None:
    """Two observers who are independent in an easy and in a hard condition: pooled, kappa is .64."""
    easy = ([1] * 81 + [1] * 9 + [0] * 9 + [0], [1] * 81 + [0] * 9 + [1] * 9 + [0])
    easy = tuple(side * 10 for side in easy)
    hard = tuple([1 - value for value in side] for side in easy)
    answers = [*told("subject-01", easy[0], "2"), *told("subject-02", easy[1], "2")]
    answers += [*told("subject-01", hard[0], "10"), *told("subject-02", hard[1], "10")]
    found = people.consistency(answers)
    assert [one.condition for one in found] == ["2", "10", "(mean)"]
    assert [one.kappa for one in found] == pytest.approx([0, 0, 0], abs=1e-9)
    assert found[2].accuracy == pytest.approx(0.5)
    assert (found[2].told, found[2].pairs) == (2, 2), "conditions"
    pooled = [Answer("x", a.observer, "0", f"{a.condition}{a.picture}", a.right) for a in answers]
    assert people.consistency(pooled)[0].kappa == pytest.approx(0.64)


def test_who_makes_hardly_a_mistake_has_no_kappa() -> None:
    perfect, other = [1] * 100, A
    every, net = people.consistency([*told("subject-01", A), *told("subject-02", B), *told("net", perfect)])
    assert every.kappa == pytest.approx(0.4)
    assert (math.isnan(net.kappa), net.told, net.pairs, net.accuracy) == (True, 0, 2, 1.0)
    mixed = [*told("subject-01", A), *told("subject-02", B), *told("subject-03", perfect), *told("net", other)]
    every, net = people.consistency(mixed)
    assert (every.told, every.pairs) == (1, 3)
    assert net.kappa == pytest.approx((1 + 0.4) / 2), "the pair with the perfect one is left out, not counted as 0"


@pytest.mark.parametrize("other", ["net", "subject-02"])
def test_observers_without_a_picture_in_common_are_refused(other: str) -> None:
    """They got a row of 0 pictures."""
    strange = [answer._replace(observer=other, picture=f"x{answer.picture}") for answer in told("subject-01", A)]
    with pytest.raises(VitalsError, match=r"must have answered"):
        people.consistency([*told("subject-01", A), *strange])
    with pytest.raises(VitalsError, match=r"Two observers must have answered the same pictures\. Got 'subject-01'"):
        people.consistency(told("subject-01", A))


def test_only_pictures_that_both_saw_count() -> None:
    answers = [*told("subject-01", A), *told("subject-02", B[:60])]
    (every,) = people.consistency(answers)
    assert every.pictures == 60


def test_what_cannot_be_compared_is_said() -> None:
    with pytest.raises(VitalsError, match="There must be people among the observers"):
        people.consistency(told("net", A))
    with pytest.raises(VitalsError, match="one answer to a picture"):
        people.consistency([*told("subject-01", A), *told("subject-01", A)])
    other = [a._replace(experiment="y", picture=f"q{a.picture}") for a in told("subject-01", A)]
    with pytest.raises(VitalsError, match="of subject-01 must be to one experiment"):
        people.consistency([*told("subject-01", A), *other])


# ---- the files


@pytest.mark.parametrize(
    ("imagename", "category", "condition", "picture"),
    [
        ("0003_cl_s01_cr_cat_40_n02123394_133.png", "cat", "cr", "n02123394_133"),
        ("0410_cl_dnn_cr_cat_40_n02123394_133.png", "cat", "cr", "n02123394_133"),
        ("0002_eid_s01_16-10-10_airplane_10_n02690373_4183.png", "airplane", "16-10-10", "n02690373_4183"),
        ("0640_ske_s01_0_airplane_00_airplane-0017-sketch-23.png", "airplane", "0", "airplane-0017-sketch-23"),
        (
            "0627_sty_s01_0_chair_00_chair-0033-ILSVRC2012-val-00031805.png",
            "chair",
            "0",
            "chair-0033-ILSVRC2012-val-00031805",
        ),
        ("0001_s5n_s01_0_bird_00_bird3-bird2.png", "bird", "0", "bird3-bird2"),
        ("airplane10.png", "airplane", "NaN", "airplane10"),
    ],
)
def test_a_picture_is_the_same_whatever_trial_it_was(
    tmp_path: Path, imagename: str, category: str, condition: str, picture: str
) -> None:
    """The forms of the published files: people's have `Session`, the network's may hold the picture alone."""
    path = tmp_path / "colour_subject-01_session_1.csv"
    lines = ["subj,Session,trial,rt,object_response,category,condition,imagename"]
    lines += [f"subject-01,1,1,0.7,{said},{category},{condition},{imagename}" for said in (category, "na", "oven")]
    path.write_text("\n".join(lines) + "\n")
    found = csv_files.read_any(path)
    expected = "0" if condition == "NaN" else condition
    assert found[0] == Answer("colour", "subject-01", expected, picture, True)
    assert [answer.right for answer in found] == [True, False, False], "`na` is wrong"


def test_files_that_are_no_answers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for header, line, says in (
        ("subj,object_response,category,imagename", "a,cat,na,x.png", "line 2: `category` must be the class"),
        ("subj,object_response,category,imagename", "a,cat,cat,", "line 2: `imagename` must name the picture"),
        ("subj,object_response,category,imagenam", "a,cat,cat,x.png", "Did you mean imagename"),
        ("subj,object_response,category", "a,cat,cat", "must have the column `imagename`"),
    ):
        path.write_text(f"{header}\n{line}\n")
        with pytest.raises(VitalsError, match=says):
            csv_files.read_any(path)


def test_the_command_shows_people_and_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "subj,session,trial,rt,object_response,category,condition,imagename"
    for observer, right, kind in (("subject-01", A, "s01"), ("subject-02", B, "s02"), ("net", B, "dnn")):
        rows = [
            f"{observer},1,{k + 1},NaN,{'cat' if value else 'na'},cat,0,{k:04d}_ske_{kind}_0_cat_00_cat-{k}.png"
            for k, value in enumerate(right)
        ]
        (tmp_path / f"sketch_{observer}_session_1.csv").write_text("\n".join([head, *rows]) + "\n")
    assert cli.main(["consistency", *map(str, sorted(tmp_path.iterdir()))]) == 0
    out = capsys.readouterr().out
    people_row, net_row = (next(line for line in out.splitlines() if f"   {who} " in line) for who in ("people", "net"))
    assert "0.400" in people_row
    assert "0.700" in net_row, "mean of .4 and 1"
    assert cli.main(["consistency", str(tmp_path / "nothing")]) == 2
    assert "must be a csv or a folder" in capsys.readouterr().err
    assert cli.main(["consistency"]) == 2
