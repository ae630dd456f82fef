"""The first screen of the report: its cards, its headlines, what it says of limits and of what was left out."""

import dataclasses
from pathlib import Path

import fake_run
import fake_studies
import numpy as np
import opened_page
import pytest
from fake_run import backbone
from test_grow import measure, pictures

from visionvitals import stats
from visionvitals.core import BackboneCard
from visionvitals.figure import Metric, Sign
from visionvitals.report import first, notes
from visionvitals.report.build import build
from visionvitals.results import load, signs

DATA = "folder:imagenet/val"
DEIT, RESNET = "timm:deit_tiny_patch16_224", "timm:resnet50.tv_in1k"


def cards_of(folder: Path) -> dict[str, first.Card]:
    run = load(folder)
    return {card.backbone: card for card in first.cards(run, signs.columns(run))}


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_card_says_how_often_it_is_right_before_what_it_keeps(tmp_path: Path) -> None:
    run = load(fake_run.write(tmp_path / "run"))
    deit, resnet = first.cards(run, signs.columns(run))
    clean, half = (
        [p for p in run.of(study) if p.backbone == RESNET and where.items() <= p.condition.items()]
        for study, where in (("clean", {}), ("occlusion", {"fraction": 0.5, "fill": "black"}))
    )
    assert [n.estimate for n in resnet.numbers] == [run.estimate(clean[0], "top1"), run.estimate(half[0], "top1")]
    assert [n.head for n in resnet.numbers] == ["on unchanged images", "at 50 % occlusion"]
    assert resnet.costs == ("25.6 M parameters", "130 images/s in this run")  # 200 images in 1.5 s
    assert [n.tone for n in deit.numbers] == ["", ""], "the first is compared with nobody"


def test_colour_and_verdict_follow_the_paired_interval(tmp_path: Path) -> None:
    found = cards_of(fake_run.write(tmp_path / "run"))[RESNET]
    assert [n.tone for n in found.numbers] == ["better", "worse"]
    assert found.verdict == (
        f"On unchanged images better than `{DEIT}` by 6.5 points (+3 to +11); "
        f"at 50 % occlusion worse than `{DEIT}` by 54.7 points (−61 to −49)."
    )
    close = [backbone("timm:deit_a"), backbone("timm:deit_b")]
    equal = cards_of(fake_run.write(tmp_path / "close", backbones=close, studies=("clean",), n=60))["timm:deit_b"]
    assert [n.tone for n in equal.numbers] == [""]
    assert equal.verdict.startswith("On unchanged images not distinguishable from `timm:deit_a` (")
    assert "images would tell 2 points" in equal.verdict


def test_one_backbone_is_told_by_its_own_numbers(tmp_path: Path) -> None:
    (found,) = cards_of(fake_run.write(tmp_path / "run", backbones=[backbone(DEIT)])).values()
    assert plain(found.verdict) == "Keeps 87.7 % (82–93) of its accuracy at 50 % occlusion."
    guessing = [backbone("timm:deit_x", outputs=1)]
    (guesses,) = cards_of(fake_run.write(tmp_path / "chance", backbones=guessing)).values()
    assert guesses.verdict.startswith("No better than guessing on unchanged images")


@pytest.mark.parametrize(
    ("cards", "silent"),
    [
        ([backbone(DEIT)], {"kept at 4x4 shuffle"}),  # 4 cells on 14 patches
        ([backbone(DEIT, side=256)], set()),  # on 16 patches
        ([backbone(RESNET)], set()),
        ([backbone(DEIT), backbone(RESNET)], {"kept at 4x4 shuffle"}),
        ([backbone(RESNET, outputs=1)], {"kept at half", "kept at 4x4 shuffle"}),
    ],
)
def test_signs_that_mean_nothing_alone_are_no_headlines(
    cards: list[BackboneCard], silent: set[str], tmp_path: Path
) -> None:
    run = load(fake_run.write(tmp_path / "run", backbones=cards, n=60))
    told, others = first.telling(run, signs.columns(run))
    assert {c.sign.title for c, _ in others} == silent
    assert "clean top-1" in {c.sign.title for c in told}
    assert all(reason for _, reason in others)


def test_a_number_without_a_scale_and_a_good_end_is_no_headline(tmp_path: Path) -> None:
    gain = Metric(title="gain", meaning="in the test", unit="none", better=None)
    share = dataclasses.replace(gain, unit="share")
    study = dataclasses.replace(
        fake_studies.STUDIES["clean"],
        metrics={**fake_studies.STUDIES["clean"].metrics, "gain": gain, "lean": share},
        signs=(*fake_studies.STUDIES["clean"].signs, *(Sign(title=m, kind="mean", metric=m) for m in ("gain", "lean"))),
    )
    values = {"gain": lambda n: np.linspace(-3, 1, n), "lean": lambda n: np.full(n, 0.25)}
    folder = fake_run.write(tmp_path / "run", studies=[study], n=60, more=values)
    run = load(folder)
    told, others = first.telling(run, signs.columns(run))
    assert [c.sign.title for c in told] == ["clean top-1", "lean"]
    assert [c.sign.title for c, _ in others] == ["gain"]


def test_a_scale_begins_at_zero_or_at_its_lowest() -> None:
    def column(*values: float) -> signs.Column:
        metric = Metric(title="m", meaning="in the test", unit="none", better="high")
        readings = {
            (str(k), "d"): signs.Reading(stats.Estimate(v, v - 1, v + 1, 9), (), ()) for k, v in enumerate(values)
        }
        return signs.Column("s", Sign(title="s", kind="mean"), metric, (), readings)

    assert (column(3.0, 5.0).bottom, column(3.0, 5.0).top) == (0.0, 6.0)
    assert (column(-3.0, 5.0).bottom, column(-3.0, 5.0).top) == (-4.0, 6.0)


@pytest.mark.parametrize(("limit", "said"), [(None, "200 images"), (40, "40 of 200 images"), (900, "200 images")])
def test_a_limit_is_said_with_the_whole(limit: int | None, said: str, tmp_path: Path) -> None:
    folder = fake_run.write(tmp_path / "run", studies=("clean",), limit=limit)
    assert first.measured(load(folder), DATA) == said
    assert said in build(load(folder)).read_text(encoding="utf-8")


def test_what_is_skipped_is_grouped_by_its_reason(tmp_path: Path) -> None:
    def never(condition: object, card: BackboneCard) -> str | None:
        return "it needs a classifier"

    known = fake_studies.STUDIES
    studies = [known["clean"], *(dataclasses.replace(known[name], refusal=never) for name in ("shuffle", "corner"))]
    folder = fake_run.write(tmp_path / "run", studies=studies, preset="quick", n=20)
    (left,) = notes.skips(load(folder))
    assert (left.reason, left.studies, len(left.backbones)) == ("it needs a classifier", ("shuffle", "corner"), 2)
    assert left.count == 2 * (4 + 2)
    assert build(load(folder)).read_text(encoding="utf-8").count("it needs a classifier") == 1


def test_equal_runs_give_equal_pages_and_the_sections_lie_compressed(tmp_path: Path) -> None:
    page, again = (build(load(fake_run.write(tmp_path / name))).read_text(encoding="utf-8") for name in ("one", "two"))
    assert page == again
    assert "What the networks saw" not in page
    assert "What the networks saw" in opened_page.opened(page)
    assert "need JavaScript" in page


def test_an_image_set_without_an_accuracy_has_no_empty_card(tmp_path: Path, toy_backbone: str) -> None:
    asked, other = (pictures(tmp_path / name, grey=grey) for name, grey in (("a", 0), ("b", 9)))
    measure(
        tmp_path / "run", [toy_backbone], [f"asked={asked}"], "clean,corner", data_for=[("corner", f"other={other}")]
    )
    run = load(tmp_path / "run")
    assert {images for _, images in signs.pairs(run)} == {"asked", "other"}
    assert [card.images for card in first.cards(run, signs.columns(run))] == ["asked"]
