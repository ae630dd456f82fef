"""A gate: judged by intervals, three answers and a missing number, one verdict in every form."""

import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from invented_cells import CELL, OTHER, grouped, keep
from visionvitals import cli, stats
from visionvitals.errors import VitalsError
from visionvitals.results import gate, load, rules, verdicts
from visionvitals.run import groups
from visionvitals.study import Record, Sign

NIGHT = dataclasses.replace(CELL.backbone, digest="night")
RECORDS = {
    "holes": Record(
        name="holes", defaults={"fraction": 0.0, "other": ""}, signs=(Sign(title="with holes", kind="mean"),)
    ),
    "never": Record(name="never", signs=(Sign(title="never measured", kind="mean"),)),
}
NOT_WORSE = '[[rule]]\nname = "r"\nsign = "with holes"\nnot_worse_by = 0.03\n'
AT_LEAST = '[[rule]]\nname = "r"\nstudy = "holes"\nwhere = { fraction = 0.5 }\nat_least = 0.6\n'


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The invented study is not installed; the run says nothing of it either."""
    from visionvitals.results import read

    monkeypatch.setattr(read, "_record", lambda name, *_: RECORDS[name])


def plant(root: Path, right: int, n: int, *, shift: int = 0, **cell: object) -> None:
    """n images of which `right` in a row, beginning at `shift`, are right."""
    keep(root, {f"{i:05d}": float(shift <= i < shift + right) for i in range(n)}, **cell)


def judge(tmp_path: Path, text: str, *, baseline: bool = True) -> gate.Verdict:
    (tmp_path / "rules.toml").write_text(text)
    asked = rules.read(tmp_path / "rules.toml", RECORDS)
    new, old = tmp_path / "new", tmp_path / "old"
    return gate.judge(load(new, old) if baseline else load(new), asked, baseline=old if baseline else None)


@pytest.mark.parametrize(
    ("old", "new", "n", "status", "code"),
    [
        ((900, 0), (700, 0), 1000, "breach", 1),  # a planted regression
        ((700, 0), (900, 0), 1000, "pass", 0),  # a planted improvement
        ((800, 0), (800, 0), 1000, "pass", 0),  # no change: not one answer flips
        ((800, 0), (800, 10), 1000, "pass", 0),  # no change of the mean: 1 % of the answers flips each way
        ((24, 0), (24, 2), 30, "undecided", 3),  # too few images
    ],
)
def test_a_baseline_is_compared_by_the_interval(
    tmp_path: Path, old: tuple[int, int], new: tuple[int, int], n: int, status: str, code: int
) -> None:
    plant(tmp_path / "old", old[0], n, shift=old[1])
    plant(tmp_path / "new", new[0], n, shift=new[1], backbone=NIGHT)
    verdict = judge(tmp_path, NOT_WORSE)
    (outcome,) = verdict.outcomes
    assert (outcome.status, verdict.status, verdict.exit_code) == (status, status, code)
    assert (outcome.more is not None) == (status == "undecided")


def test_runs_in_swapped_order_give_the_other_answer(tmp_path: Path) -> None:
    plant(tmp_path / "new", 900, 1000)
    plant(tmp_path / "old", 700, 1000, backbone=NIGHT)
    (outcome,) = judge(tmp_path, NOT_WORSE).outcomes
    assert outcome.status == "pass"
    assert outcome.estimate.value == pytest.approx(0.2)
    assert outcome.measured.startswith("+20.0 points (+")
    assert "better than the baseline" in outcome.measured


def test_a_loss_reads_as_one(tmp_path: Path) -> None:
    plant(tmp_path / "new", 700, 1000)
    plant(tmp_path / "old", 900, 1000, backbone=NIGHT)
    (outcome,) = judge(tmp_path, NOT_WORSE).outcomes
    assert outcome.measured.startswith("20.0 points (17.")
    assert "worse than the baseline" in outcome.measured


@pytest.mark.parametrize(("right", "status"), [(700, "pass"), (500, "breach"), (605, "undecided")])
def test_a_threshold_is_met_by_the_whole_interval(tmp_path: Path, right: int, status: str) -> None:
    plant(tmp_path / "new", right, 1000)
    (outcome,) = judge(tmp_path, AT_LEAST, baseline=False).outcomes
    assert outcome.status == status
    assert outcome.measured.startswith(f"{right / 10:.1f} % (")
    assert outcome.asked == "at least 60 %"
    (mirrored,) = judge(tmp_path, AT_LEAST.replace("at_least", "at_most"), baseline=False).outcomes
    assert mirrored.status == {"pass": "breach", "breach": "pass"}.get(status, status)


def test_a_relative_margin_is_judged_on_the_interval(tmp_path: Path) -> None:
    """30 % against 34 %: 12 % less by the point estimates, which is more than a tenth, and yet not decided."""
    plant(tmp_path / "old", 102, 300)
    plant(tmp_path / "new", 90, 300, shift=30, backbone=NIGHT)
    (outcome,) = judge(tmp_path, NOT_WORSE.replace("0.03", "0.1") + "relative = true\n").outcomes
    assert outcome.status == "undecided"
    assert outcome.estimate.value == pytest.approx(90 / 300 - 0.9 * 102 / 300)
    assert outcome.asked == "at least 90 % of the baseline"
    plant(tmp_path / "large_old", 34_000, 100_000)
    (tmp_path / "old").rename(tmp_path / "small_old")
    (tmp_path / "new").rename(tmp_path / "small_new")
    (tmp_path / "large_old").rename(tmp_path / "old")
    plant(tmp_path / "new", 30_000, 100_000, backbone=NIGHT)
    (outcome,) = judge(tmp_path, NOT_WORSE.replace("0.03", "0.1") + "relative = true\n").outcomes
    assert outcome.status == "breach"


@pytest.mark.parametrize(
    ("tier", "missing", "undecided"), [("critical", 1, 3), ("supporting", 3, 3), ("advisory", 0, 0)]
)
def test_tiers_decide_the_exit_code(tmp_path: Path, tier: str, missing: int, undecided: int) -> None:
    plant(tmp_path / "new", 605, 1000)
    absent = f'[[rule]]\nsign = "never measured"\nat_least = 0.5\ntier = "{tier}"\n'
    verdict = judge(tmp_path, absent, baseline=False)
    assert ([o.status for o in verdict.outcomes], verdict.exit_code) == (["missing"], missing)
    assert judge(tmp_path, AT_LEAST + f'tier = "{tier}"\n', baseline=False).exit_code == undecided


def test_a_breach_stands_over_what_is_undecided(tmp_path: Path) -> None:
    plant(tmp_path / "new", 605, 1000)
    both = AT_LEAST + AT_LEAST.replace('"r"', '"s"').replace("0.6", "0.9")
    assert judge(tmp_path, both, baseline=False).exit_code == 1


def test_several_critical_rules_share_the_chance_to_be_wrong(tmp_path: Path) -> None:
    plant(tmp_path / "new", 700, 1000)
    one = judge(tmp_path, AT_LEAST, baseline=False).outcomes[0]
    two = judge(tmp_path, AT_LEAST + AT_LEAST.replace('"r"', '"s"'), baseline=False).outcomes
    advisory = judge(
        tmp_path, AT_LEAST + AT_LEAST.replace('"r"', '"s"') + 'tier = "advisory"\n', baseline=False
    ).outcomes
    assert (one.level, [o.level for o in two]) == (0.95, [0.975, 0.975])
    assert [o.level for o in advisory] == [0.95, 0.95]
    assert two[0].estimate.low < one.estimate.low


def test_a_rule_holds_for_every_backbone_unless_it_names_one(tmp_path: Path) -> None:
    plant(tmp_path / "new", 900, 1000)
    plant(tmp_path / "new", 100, 1000, backbone=OTHER)
    every = judge(tmp_path, AT_LEAST, baseline=False)
    assert {o.backbone: o.status for o in every.outcomes} == {"tiny:vit": "pass", "tiny:cnn": "breach"}
    assert judge(tmp_path, AT_LEAST + 'backbone = "tiny:vit"\n', baseline=False).exit_code == 0
    with pytest.raises(VitalsError, match=r"must be in the run. Got 'tiny:vitt'. Did you mean tiny:vit"):
        judge(tmp_path, AT_LEAST + 'backbone = "tiny:vitt"\n', baseline=False)
    with pytest.raises(VitalsError, match=r"`data` of `r` must be in the run. Got 'folder:x'"):
        judge(tmp_path, AT_LEAST + 'data = "folder:x"\n', baseline=False)


def test_a_rule_says_which_condition_it_means(tmp_path: Path) -> None:
    plant(tmp_path / "new", 900, 1000)
    plant(tmp_path / "new", 100, 1000, fraction=0.9)
    assert judge(tmp_path, AT_LEAST, baseline=False).status == "pass"
    with pytest.raises(
        VitalsError, match=r"must say which of the measured conditions it means. Got 'fraction 0.5, 0.9'"
    ):
        judge(tmp_path, AT_LEAST.replace("where = { fraction = 0.5 }\n", ""), baseline=False)


def test_every_image_set_is_judged_and_counts(tmp_path: Path) -> None:
    more = dataclasses.replace(CELL.images, spec="folder:more", digest="more")
    plant(tmp_path / "old", 900, 1000)
    plant(tmp_path / "new", 900, 1000, backbone=NIGHT)
    plant(tmp_path / "new", 900, 1000, backbone=NIGHT, images=more)
    verdict = judge(tmp_path, NOT_WORSE)
    assert {o.data: (o.status, o.reason) for o in verdict.outcomes} == {
        "shapes:test": ("pass", ""),
        "folder:more": ("missing", "it was not measured alike in both runs"),
    }
    assert (verdict.exit_code, verdict.level) == (1, 0.975)


def test_what_was_asked_for_and_not_measured_is_missing(tmp_path: Path) -> None:
    """A network, and an image set, of which no cell is finished yet; a set that another study alone was asked for is none of the rule's."""
    plant(tmp_path / "new", 900, 1000)
    run = load(tmp_path / "new")
    asked = ("holes", "tiny:cnn", "shapes:test"), ("holes", "tiny:vit", "folder:b")
    elsewhere = ("clean", "tiny:vit", "folder:c"), ("never", "tiny:vit", "shapes:test")
    (tmp_path / "rules.toml").write_text(AT_LEAST)
    made = rules.read(tmp_path / "rules.toml", RECORDS)
    verdict = gate.judge(dataclasses.replace(run, lacking=((*asked, *elsewhere),)), made)
    assert [(o.backbone, o.data, o.status) for o in verdict.outcomes] == [
        ("tiny:vit", "shapes:test", "pass"),
        ("tiny:cnn", "shapes:test", "missing"),
        ("tiny:vit", "folder:b", "missing"),
    ]
    assert (verdict.exit_code, verdict.level) == (1, 0.975)
    (tmp_path / "rules.toml").write_text(AT_LEAST + 'backbone = "cnn"\n')
    (outcome,) = gate.judge(
        dataclasses.replace(run, lacking=(asked,)), rules.read(tmp_path / "rules.toml", RECORDS)
    ).outcomes
    assert (outcome.backbone, outcome.status) == ("tiny:cnn", "missing")


def test_repetitions_of_the_baseline_are_not_averaged_into_the_run(tmp_path: Path) -> None:
    """Both folders hold the same network; the baseline has a repetition more, on which it is always wrong."""
    for folder, runs in (("new", (0,)), ("old", (0, 1))):
        for run in runs:
            plant(tmp_path / folder, 900 * (run == 0), 1000, run=run)
    alone = judge(tmp_path, AT_LEAST, baseline=False)
    assert judge(tmp_path, AT_LEAST).outcomes == alone.outcomes
    assert alone.outcomes[0].estimate.value == 0.9


def test_what_is_missing_says_what_is_there_and_how_many_more_decide_is_told_from_the_end_that_matters(
    tmp_path: Path,
) -> None:
    plant(tmp_path / "new", 23, 24, images=dataclasses.replace(CELL.images, n=24))
    (outcome,) = judge(tmp_path, AT_LEAST.replace("fraction = 0.5", "fraction = 0.55"), baseline=False).outcomes
    assert outcome.reason == "it was not measured at fraction 0.55, but at 0.5"
    (outcome,) = judge(tmp_path, AT_LEAST.replace("0.6", "0.9"), baseline=False).outcomes
    e = outcome.estimate
    low, n, z2 = 0.9, 24, 1.96**2
    while low >= 0.9 > (23 / 24 + z2 / (2 * n) - 1.96 * (23 / 576 / n + z2 / (4 * n * n)) ** 0.5) / (1 + z2 / n):
        n += 1  # Wilson's lower end at 23 of 24 right
    assert outcome.more == n - 24
    assert e.value - e.low > 2 * (e.high - e.value), "the other end lies much nearer"
    assert outcome.measured.endswith("n = 24; about 78 images more would decide, and the set has no more")


def test_the_images_that_are_left_are_those_of_the_shorter_of_both_runs(tmp_path: Path) -> None:
    set_ = dataclasses.replace(CELL.images, n=90)
    plant(tmp_path / "old", 24, 30, images=set_)
    plant(tmp_path / "new", 48, 60, shift=2, images=set_, backbone=NIGHT)
    (outcome,) = judge(tmp_path, NOT_WORSE).outcomes
    assert (outcome.status, outcome.left) == ("undecided", 60), "the baseline has measured 30 of 90"


def test_the_headline_is_that_of_the_critical_rules_and_counts_the_supporting_ones(tmp_path: Path) -> None:
    plant(tmp_path / "new", 900, 1000)
    low = AT_LEAST.replace("0.6", "0.95").replace('"r"', '"s"') + 'tier = "supporting"\n'
    found = judge(tmp_path, AT_LEAST + low, baseline=False)
    assert (found.headline, found.status, found.exit_code) == ("PASS; supporting rules: 1 breach", "undecided", 3)
    assert judge(tmp_path, AT_LEAST, baseline=False).headline == "PASS"


def test_names_that_mean_the_same_contradict_each_other(tmp_path: Path) -> None:
    plant(tmp_path / "new", 900, 1000)
    low = AT_LEAST + 'backbone = "vit"\n'
    high = AT_LEAST.replace('"r"', '"s"').replace("at_least = 0.6", "at_most = 0.5") + 'backbone = "tiny:vit"\n'
    with pytest.raises(VitalsError, match="must not contradict each other"):
        judge(tmp_path, low + high, baseline=False)


def test_a_field_more_or_less_hides_no_contradiction(tmp_path: Path) -> None:
    plant(tmp_path / "new", 900, 1000)
    other = '[[rule]]\nname = "s"\nstudy = "holes"\nwhere = {}\nat_most = 0.5\n'
    with pytest.raises(VitalsError, match="must not contradict each other"):
        judge(tmp_path, AT_LEAST + other, baseline=False)


def test_one_image_decides_nothing(tmp_path: Path) -> None:
    plant(tmp_path / "old", 0, 1)
    plant(tmp_path / "new", 1, 1, backbone=NIGHT)
    assert [o.status for o in judge(tmp_path, NOT_WORSE + AT_LEAST.replace('"r"', '"s"')).outcomes] == ["undecided"] * 2


def test_a_baseline_of_another_name_is_named(tmp_path: Path) -> None:
    plant(tmp_path / "old", 900, 1000)
    plant(tmp_path / "new", 700, 1000, backbone=OTHER)
    (outcome,) = judge(tmp_path, NOT_WORSE).outcomes
    assert (outcome.status, "baseline_backbone" in outcome.reason) == ("missing", True)
    assert judge(tmp_path, NOT_WORSE + 'baseline_backbone = "tiny:vit"\n').outcomes[0].status == "breach"


def test_a_baseline_of_other_images_is_refused(tmp_path: Path) -> None:
    plant(tmp_path / "old", 900, 1000, images=dataclasses.replace(CELL.images, digest="other"))
    plant(tmp_path / "new", 700, 1000, backbone=NIGHT)
    with pytest.raises(VitalsError, match=r"must compare what was measured alike.*digest other"):
        judge(tmp_path, NOT_WORSE)
    with pytest.raises(VitalsError, match=r"must have a baseline"):
        judge(tmp_path, NOT_WORSE, baseline=False)


def test_all_forms_of_the_verdict_agree(tmp_path: Path) -> None:
    plant(tmp_path / "old", 900, 1000)
    plant(tmp_path / "new", 700, 1000, backbone=NIGHT)
    text = NOT_WORSE + AT_LEAST.replace('"r"', '"half | <b>"') + AT_LEAST.replace('"r"', '"s"').replace("0.6", "0.7")
    verdict = judge(tmp_path, text + '[[rule]]\nsign = "never measured"\nat_least = 0.5\ntier = "supporting"\n')
    statuses = [o.status for o in verdict.outcomes]
    assert statuses == ["breach", "pass", "undecided", "missing"]
    content = json.loads(verdicts.as_json(verdict))
    assert ([r["status"] for r in content["rules"]], content["exit_code"], content["verdict"]) == (
        statuses,
        1,
        "breach",
    )
    suite = ElementTree.fromstring(verdicts.as_junit(verdict))
    assert suite.attrib | {"name": ""} == {"name": "", "tests": "4", "failures": "2", "skipped": "1"}
    assert [[child.tag for child in case] for case in suite] == [["failure"], ["system-out"], ["skipped"], ["failure"]]
    assert suite[1].attrib["name"] == "half | <b>"
    odd = judge(tmp_path, AT_LEAST.replace('"r"', '"\ufffe x"'), baseline=False)
    assert ElementTree.fromstring(verdicts.as_junit(odd))[0].attrib["name"] == "? x"
    page = verdicts.as_markdown(verdict)
    assert [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:] == [
        f"| {status.upper()}" for status in statuses
    ]
    lines = list(verdicts.text(verdict))
    assert lines[-1] == "BREACH; supporting rules: 1 missing (exit code 1)"
    assert "3 critical judgements of each network: intervals of 98.33 %, of the others 95 %." in lines


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"must hold \[\[rule\]\] sections and nothing else"),
        ("[[rule]]\n", r"must have one of at_least, at_most, not_worse_by. Got none"),
        (AT_LEAST + "at_most = 0.7\n", r"must have one of"),
        (AT_LEAST + "atleast = 0.7\n", r"must use known keys. Got 'atleast'. Did you mean at_least"),
        (AT_LEAST.replace("0.6", "true"), r"`at_least` of .* must be a number"),
        (AT_LEAST.replace("0.6", "nan"), r"must be finite"),
        (AT_LEAST.replace("0.6", "1" + "0" * 400), r"must be finite"),
        (AT_LEAST.replace("fraction", "fractoin"), r"must hold fields of holes. Got 'fractoin'. Did you mean fraction"),
        (AT_LEAST.replace('"holes"', '"hols"'), r"`study` of .* must be installed. Got 'hols'. Did you mean holes"),
        (AT_LEAST.replace("0.5", "nan"), r"`fraction` of .* must be a finite number. Got nan"),
        (AT_LEAST.replace("0.5", "[1, inf]"), r"`fraction` of .* must be a finite number"),
        (AT_LEAST.replace("0.5", "1979-05-27"), r"`fraction` of .* must be a finite number"),
        (AT_LEAST.replace("0.5", '"0.5"'), r"`fraction` of .* must be a finite number. Got '0.5'"),
        (AT_LEAST.replace("0.6", "60"), r"must lie on the scale of .*, 0 to 1. Got 60.0. A share of 60 % reads 0.6"),
        (NOT_WORSE.replace("0.03", "2"), r"must be smaller than the width of the scale, 1. Got 2.*two points 0.02"),
        (NOT_WORSE.replace("0.03", "1.5") + "relative = true\n", r"must be a share below 1"),
        (AT_LEAST + 'class = "a"\ngroup = { class = "b" }\n', r"must name its class once"),
        (AT_LEAST + 'metric = "top2"\n', r"must be one of holes. Got 'top2'. Did you mean top"),
        (AT_LEAST + 'metric = "prediction"\n', r"must be one of holes. Got 'prediction'"),
        (AT_LEAST + 'sign = "with holes"\n', r"must name a sign or a study, not both"),
        (
            NOT_WORSE.replace("with holes", "with hole"),
            r"must be a vital sign. Got 'with hole'. Did you mean with holes",
        ),
        (NOT_WORSE.replace("0.03", "-0.03"), r"must not be negative"),
        (AT_LEAST + "relative = true\n", r"belongs to not_worse_by"),
        (AT_LEAST + 'tier = "vital"\n', r"must be one of critical, supporting, advisory"),
        (AT_LEAST + AT_LEAST, r"must have a name of its own. Got 'r'"),
        (
            AT_LEAST + AT_LEAST.replace('"r"', '"s"').replace("at_least = 0.6", "at_most = 0.5"),
            r"must not contradict each other",
        ),
        ("rule = 3\n", r"must hold \[\[rule\]\]"),
        ("rule = [3]\n", r"must be a section"),
        ("[[rule]\n", r"must be valid TOML"),
    ],
)
def test_bad_rules_are_refused_with_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(VitalsError, match=said):
        rules.read(tmp_path / "rules.toml", RECORDS)


def test_the_example_is_valid_and_the_command_ends_with_its_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    plant(tmp_path / "new", 605, 1000)
    plant(tmp_path / "old", 605, 1000)
    example = Path(__file__).parents[2] / "examples" / "gate.toml"
    assert [rule.tier for rule in rules.read(example, rules.known(load(tmp_path / "new")))] == [
        "critical",
        "critical",
        "supporting",
        "advisory",
    ]
    words = ["gate", str(tmp_path / "new"), "--rules", str(example), "--baseline", str(tmp_path / "old")]
    files = [tmp_path / name for name in ("v.json", "v.xml", "v.md")]
    assert cli.main([*words, "--json", str(files[0]), "--junit", str(files[1]), "--markdown", str(files[2])]) == 1
    assert "MISSING (exit code 1)" not in capsys.readouterr().out
    assert all(path.stat().st_size for path in files)
    assert cli.main(["gate", str(tmp_path / "new"), "--rules", str(tmp_path / "none.toml")]) == 2


def test_a_network_is_not_compared_with_itself(tmp_path: Path) -> None:
    plant(tmp_path / "old", 605, 1000)
    (tmp_path / "rules.toml").write_text(NOT_WORSE)
    asked = rules.read(tmp_path / "rules.toml", RECORDS)
    with pytest.raises(VitalsError, match="must not compare a network with itself"):
        gate.judge(load(tmp_path / "old"), asked, baseline=tmp_path / "old")


def halves(root: Path, first: int, second: int, *, groups_too: bool = True, **cell: object) -> None:
    """Two hundred images: a hundred in rain of which `first` are right, then a hundred in sun of which `second` are."""
    right = [i < first for i in range(100)] + [i < second for i in range(100)]
    keep(root, {f"{i:04d}": float(each) for i, each in enumerate(right)}, **cell)
    if groups_too:
        grouped(root, ["rain"] * 100 + ["sun"] * 100)


def test_a_rule_for_a_group_is_judged_on_its_pictures(tmp_path: Path) -> None:
    halves(tmp_path / "new", 95, 10)
    rain, sun = AT_LEAST + 'group = { weather = "rain" }\n', AT_LEAST + 'group = { weather = "sun" }\n'
    (wet,) = judge(tmp_path, rain, baseline=False).outcomes
    (dry,) = judge(tmp_path, sun, baseline=False).outcomes
    assert (wet.status, wet.estimate) == ("pass", stats.estimate((np.arange(100) < 95) * 1.0, bounds=(0, 1)))
    assert (dry.status, dry.estimate.n, dry.where) == (
        "breach",
        100,
        "tiny:vit on shapes:test: holes top1 at fraction 0.5, weather sun",
    )
    both = judge(tmp_path, rain + sun.replace('"r"', '"s"'), baseline=False)
    assert [o.level for o in both.outcomes] == [0.975, 0.975], "each is a chance to be wrong"
    (one,) = judge(tmp_path, AT_LEAST + 'class = "b"\ngroup = { weather = "rain" }\n', baseline=False).outcomes
    assert (one.estimate.n, one.estimate.value) == (50, 47 / 50)
    assert json.loads(verdicts.as_json(both))["rules"][0]["rule"]["group"] == {"weather": "rain"}


def test_a_regression_in_one_group_is_seen_where_the_whole_is_better(tmp_path: Path) -> None:
    halves(tmp_path / "old", 80, 20, groups_too=False)
    halves(tmp_path / "new", 40, 90, backbone=NIGHT)
    (whole,) = judge(tmp_path, NOT_WORSE).outcomes
    (rain,) = judge(tmp_path, NOT_WORSE + 'group = { weather = "rain" }\n').outcomes
    assert (whole.status, rain.status) == ("pass", "breach")
    assert (rain.estimate.n, rain.estimate.value) == (100, pytest.approx(-0.4))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('group = { wether = "rain" }', r"`group` of `r` must name columns of its image sets. Got 'wether'. Did you"),
        ('group = { weather = "rian" }', r"`weather` of `r` must be a value that the pictures have. Got 'rian'. Did"),
        ('class = "c"', r"`class` of `r` must be a value that the pictures have. Got 'c'"),
        ("class = 1", r"`class` of .* must be a text"),
        ("group = { camera = 1 }", r"`group` of .* must hold a text for each column"),
        (
            'data = "folder:more"\ngroup = { weather = "rain" }',
            r"must name columns of its image sets. Got 'weather'. The",
        ),
    ],
)
def test_a_group_that_is_not_there_is_bad_input(tmp_path: Path, line: str, message: str) -> None:
    halves(tmp_path / "new", 95, 10)
    keep(tmp_path / "new", {"x": 1.0}, images=dataclasses.replace(CELL.images, spec="folder:more", digest="more"))
    with pytest.raises(VitalsError, match=message):
        judge(tmp_path, AT_LEAST + line + "\n", baseline=False)


def test_a_group_of_which_no_picture_was_measured_is_missing(tmp_path: Path) -> None:
    plant(tmp_path / "new", 90, 100)
    card = dataclasses.replace(CELL.images, n=2)
    groups.keep(tmp_path / "new", "bb", groups.of_labels(card, ["00000", "x"], [0, 1], {"weather": ["sun", "fog"]}))
    (outcome,) = judge(tmp_path, AT_LEAST + 'group = { weather = "fog" }\n', baseline=False).outcomes
    assert (outcome.status, outcome.exit_code, outcome.data) == ("missing", 1, "shapes:test")


def test_a_rule_for_a_group_holds_for_the_sets_that_have_it(tmp_path: Path) -> None:
    halves(tmp_path / "new", 95, 10)
    keep(tmp_path / "new", {"x": 1.0}, images=dataclasses.replace(CELL.images, spec="folder:more", digest="more"))
    verdict = judge(tmp_path, AT_LEAST + 'group = { weather = "rain" }\n', baseline=False)
    assert [(o.data, o.level) for o in verdict.outcomes] == [("shapes:test", 0.95)]


def test_rules_of_other_groups_do_not_contradict_each_other(tmp_path: Path) -> None:
    halves(tmp_path / "new", 95, 10)
    high = AT_LEAST.replace('"r"', '"s"').replace("at_least = 0.6", "at_most = 0.3") + 'group = { weather = "sun" }\n'
    assert judge(tmp_path, AT_LEAST + 'group = { weather = "rain" }\n' + high, baseline=False).status == "pass"
    with pytest.raises(VitalsError, match="must not contradict each other"):
        judge(tmp_path, AT_LEAST + 'group = { weather = "sun" }\n' + high, baseline=False)
