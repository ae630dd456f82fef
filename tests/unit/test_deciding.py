"""A run that grows until its rules are decided: where it stops, what it measures, and that it holds what one measurement of as many images holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visionvitals as vv
from visionvitals import cli, deciding, results, stats, study
from visionvitals.datasets.base.cache import draw
from visionvitals.errors import VitalsError
from visionvitals.plan import planner, request
from visionvitals.results import gate, signs
from visionvitals.run import measure
from visionvitals.run.store import Store

torch = pytest.importorskip("torch")

N, SIDE = 400, 16
CLASSES = ("dark", "light")
NOT_WORSE = '[[rule]]\nsign = "clean top-1"\nnot_worse_by = 0.05\n'
AT_LEAST = '[[rule]]\nsign = "clean top-1"\nat_least = {}\n'


class Planted(torch.nn.Module):
    """Tells dark from light by the red of a picture, rightly where its green (or blue) lies below a limit; has no answer to one blue."""

    def __init__(self, right: float, *, channel: int = 1, silent: float = -1.0) -> None:
        super().__init__()
        self.right = torch.nn.Parameter(torch.tensor(right))
        self.channel, self.silent = channel, silent

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = images.amax(dim=(2, 3))
        light, fits = middle[:, 0] - 0.5, self.right - middle[:, self.channel]
        said = torch.sign(light) * torch.sign(fits)
        said = said.masked_fill((middle[:, 2] - self.silent).abs() < 1e-3, torch.nan)
        return torch.stack([-said, said], dim=1)


@pytest.fixture(scope="module", autouse=True)
def images() -> str:
    """Plain pictures: red is the class, green and blue say, each for itself, how difficult they are."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N)
    colours = np.stack([labels * 255, (np.arange(N) + 0.5) / N * 255, rng.permutation(N) / N * 255], axis=1)
    pictures = np.broadcast_to(colours[:, None, None].round(), (N, SIDE, SIDE, 3)).astype(np.uint8)
    return vv.images(pictures, labels.tolist(), name="plain", classes=CLASSES)


def network(right: float, **more: Any) -> str:
    return vv.backbone(
        Planted(right, **more), name="net", classes=CLASSES, size=SIDE, resize=SIDE, mean=(0, 0, 0), std=(1, 1, 1)
    )


@pytest.fixture
def baseline(tmp_path: Path) -> vv.Run:
    return measured(tmp_path / "baseline", 0.8)


def measured(out: Path, right: float, *, rules: str = "", **more: Any) -> vv.Run:
    options: dict[str, Any] = {"studies": "clean", "preset": "quick", "device": "cpu", "batch_size": 16}
    options |= {k: more.pop(k) for k in ("studies", "limit", "baseline") if k in more}
    if rules:
        path = out.parent / "rules.toml"
        path.write_text(rules)
        options |= {"rules": path, "until_decided": True}
    return vv.audit(network(right, **more), data="memory:plain", out=out, **options)


def verdict(run: vv.Run, baseline: vv.Run | None = None) -> gate.Verdict:
    return vv.gate(run, run.folder.parent / "rules.toml", baseline=baseline)


@pytest.mark.parametrize(
    ("right", "channel", "status", "early"),
    [(0.5, 1, "breach", True), (0.95, 1, "pass", True), (0.8, 2, "undecided", False)],
    ids=["a regression", "an improvement", "no change"],
)
def test_it_stops_where_the_rules_are_decided(
    tmp_path: Path, baseline: vv.Run, right: float, channel: int, status: str, early: bool
) -> None:
    run = measured(tmp_path / "run", right, channel=channel, rules=NOT_WORSE, baseline=baseline)
    found = verdict(run, baseline)
    assert found.status == status
    assert found.look is not None
    assert (found.look.images < N / 2) == early
    (outcome,) = found.outcomes
    assert outcome.estimate.n == found.look.images
    assert outcome.level == 1 - found.look.alpha
    assert early or (found.look.number, found.look.images) == (found.look.of, N)
    ids = Store(run.folder / "store").ids()
    assert len(ids) == 1, "the cells of looks before are gone"


def test_it_measures_each_image_once_and_holds_what_one_measurement_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    numbers = measure._numbers

    def counted(run: Any, work: measure.Work, cell: Any, of: study.Study) -> Any:
        asked.extend([len(work.data.ids)] if work.part else [])
        return numbers(run, work, cell, of)

    monkeypatch.setattr(measure, "_numbers", counted)
    rules = AT_LEAST.format(0.72)
    grown = measured(tmp_path / "grown", 0.8, rules=rules, studies="clean,occlusion,shuffle")
    look = verdict(grown).look
    assert look is not None
    assert look.number > 3
    sizes = [each.images for each in stats.looks(N)[: look.number]]
    shown = 4
    new = np.diff(sizes)
    assert all(new[k] <= rows <= new[k] + shown for k, rows in enumerate(asked[: len(new)]))
    assert len(asked) == len(new), "clean alone has a rule"
    at_once = measured(tmp_path / "once", 0.8, limit=look.images, studies="clean,occlusion,shuffle")
    assert repr(grown.table().to_pydict()) == repr(at_once.table().to_pydict())
    stores = [Store(run.folder / "store") for run in (grown, at_once)]
    assert stores[0].ids() == stores[1].ids()
    for identifier in stores[0].ids():
        one, two = (store.cell(identifier) for store in stores)
        assert one.items(next(iter(one.points))) == two.items(next(iter(two.points)))
        assert one.facts["exhibits"] == two.facts["exhibits"]
        assert one.facts["n"] == two.facts["n"] == look.images
        pictures = [[cell.read(e["file"]) for e in cell.facts["exhibits"]] for cell in (one, two)]
        assert pictures[0] == pictures[1]


@pytest.mark.parametrize("at", [1, 2, 4])
def test_after_a_kill_it_goes_on_as_if_there_were_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    rules = AT_LEAST.format(0.72)
    whole = measured(tmp_path / "whole", 0.8, rules=rules, studies="clean,shuffle")
    written, lay = [0], Store.lay

    def killed(self: Store, *given: Any, **more: Any) -> Any:
        written[0] += 1
        if written[0] == at:
            raise KeyboardInterrupt
        return lay(self, *given, **more)

    monkeypatch.setattr(Store, "lay", killed)
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "killed", 0.8, rules=rules, studies="clean,shuffle")
    left = json.loads((tmp_path / "killed" / "plan.json").read_text())["plan"]["limit"]
    assert left == stats.looks(N)[at - 1].images
    again = measured(tmp_path / "killed", 0.8, rules=rules, studies="clean,shuffle")
    assert repr(again.table().to_pydict()) == repr(whole.table().to_pydict())
    assert verdict(again) == verdict(whole).__class__(
        str(again.folder), "", verdict(whole).outcomes, verdict(whole).look
    )


class Three(Planted):
    """With an output for a class that it never says."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        said = super().forward(images)
        return torch.cat([said, torch.full_like(said[:, :1], -9.0)], dim=1)


def test_a_group_of_which_no_picture_came_yet_is_waited_for(tmp_path: Path) -> None:
    images, classes = planner.open_images("memory:plain"), (*CLASSES, "none")
    late = [k for k in range(N) if k not in draw(images, 200, 0)][:20]
    labels = [2 if k in late else images[k].label for k in range(N)]
    vv.images([images[k].image for k in range(N)], labels, name="late", classes=classes)
    net = vv.backbone(Three(0.8), name="three", classes=classes, size=SIDE, resize=SIDE, mean=(0, 0, 0), std=(1, 1, 1))
    path = tmp_path / "rules.toml"
    path.write_text(
        AT_LEAST.format(0.3) + '[[rule]]\nsign = "clean top-1"\nclass = "none"\nat_most = 0.9\nname = "n"\n'
    )
    run = vv.audit(
        net,
        data="memory:late",
        studies="clean",
        preset="quick",
        device="cpu",
        out=tmp_path / "run",
        rules=path,
        until_decided=True,
    )
    found = verdict(run)
    assert found.look is not None
    assert found.look.images > 200
    assert [o.status for o in found.outcomes] == ["pass", "pass"]


def test_a_few_broken_answers_fail_a_small_look_only_and_are_counted_over_all_images(tmp_path: Path) -> None:
    images = planner.open_images("memory:plain")
    first = images[draw(images, 50, 0)[0]]
    silent = np.asarray(first.image)[0, 0, 2] / 255
    run = measured(tmp_path / "run", 0.8, silent=silent, rules=AT_LEAST.format(0.72))
    found = verdict(run)
    assert found.status == "pass"
    assert found.look is not None
    once = measured(tmp_path / "once", 0.8, silent=silent, limit=found.look.images)
    (grown,), (whole,) = (Store(each.folder / "store").cells() for each in (run, once))
    assert grown.facts["warnings"] == whole.facts["warnings"]
    assert "gave values that are not finite" in grown.facts["warnings"][0]
    assert grown.facts["broken"] == whole.facts["broken"]
    assert repr(run.table().to_pydict()) == repr(once.table().to_pydict())


def test_the_same_request_again_measures_nothing(tmp_path: Path) -> None:
    run = measured(tmp_path / "run", 0.8, rules=AT_LEAST.format(0.5))
    before = (run.folder / "plan.json").read_bytes()
    assert verdict(measured(tmp_path / "run", 0.8, rules=AT_LEAST.format(0.5))) == verdict(run)
    assert (run.folder / "plan.json").read_bytes() == before


def test_other_rules_are_judged_as_usual_and_another_request_is_refused(tmp_path: Path) -> None:
    run = measured(tmp_path / "run", 0.8, rules=AT_LEAST.format(0.5))
    assert verdict(run).look is not None
    (tmp_path / "rules.toml").write_text(AT_LEAST.format(0.51))
    assert (verdict(run).look, verdict(run).level) == (None, 0.95)
    with pytest.raises(VitalsError, match=r"must stay comparable(.|\n)*until"):
        measured(tmp_path / "run", 0.8, rules=AT_LEAST.format(0.51))
    with pytest.raises(VitalsError, match=r"must stay comparable(.|\n)*until"):
        measured(tmp_path / "run", 0.8, studies="shuffle")
    with pytest.raises(VitalsError, match=r"must stay comparable(.|\n)*studies"):
        measured(tmp_path / "run", 0.8, rules=AT_LEAST.format(0.5), studies="clean,shuffle")


@pytest.mark.parametrize(
    ("rules", "given", "said"),
    [
        (AT_LEAST.format(0.5), {"until_decided": False}, "go together"),
        ("", {"until_decided": True}, "go together"),
        ("", {"baseline": Path("b")}, "go together"),
        (NOT_WORSE, {}, "must have a baseline"),
        ('[[rule]]\nsign = "area under occlusion"\nat_least = 0.5\n', {}, "must be of a study that is asked for"),
        ('[[rule]]\nstudy = "transfer"\nat_least = 0.5\n', {}, "measures each image by itself"),
        (
            '[[rule]]\nstudy = "artefacts"\nmetric = "norm_ratio"\nat_most = 3\n',
            {},
            r"`artefacts norm_ratio.* measures each image by itself",
        ),
        (AT_LEAST.format(0.5) + 'backbone = "nte"\n', {}, r"`backbone` of .* must be in the run.*Did you mean net"),
        (AT_LEAST.format(0.5) + 'data = "plane"\n', {}, r"`data` of .* must be in the run.*Did you mean plain"),
        (AT_LEAST.format(0.5) + 'class = "lihgt"\n', {}, r"`class` of .* must be a value.*Did you mean light"),
        (AT_LEAST.format(0.5) + 'group = { weather = "rain" }\n', {}, r"must name columns of its image sets"),
    ],
)
def test_what_cannot_be_decided_is_refused_before_anything_is_measured(
    tmp_path: Path, rules: str, given: dict[str, Any], said: str
) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(rules)
    plan = request.plan(["memory:net"], ["memory:plain"], request.sections("clean,transfer,artefacts"))
    options: dict[str, Any] = {"until_decided": True, "rules": path if rules else None, "baseline": None}
    with pytest.raises(VitalsError, match=said):
        deciding.asked(plan, **(options | given))


def test_what_was_noticed_at_a_look_goes_with_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No better than guessing at every look: the report says it of the last one only."""
    run = measured(tmp_path / "run", 0.5, channel=2, rules=AT_LEAST.format(0.49))
    found = verdict(run)
    assert found.look is not None
    assert found.look.number > 2
    warned = results.load(run.folder).warned
    assert len([line for line in warned if "images" in line]) == 1, warned
    assert f"on {found.look.images} images" in warned[0]
    assert cli.main(["status", str(run.folder)]) == 0
    assert f"at {found.look.images} of {N} images" in capsys.readouterr().out


def test_what_is_kept_needs_the_clean_accuracy(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rule]]\nsign = "kept at 50 % occlusion"\nat_least = 0.5\n')
    plan = request.plan(["memory:net"], ["memory:plain"], request.sections("occlusion"))
    with pytest.raises(VitalsError, match="Add clean to --studies"):
        deciding.asked(plan, until_decided=True, rules=tmp_path / "rules.toml", baseline=None)


def test_a_clean_accuracy_that_one_look_cannot_tell_from_guessing_is_waited_for(tmp_path: Path) -> None:
    """72 % are right: the interval of the first look holds one half, that of 95 % does not."""
    rules = '[[rule]]\nsign = "kept at 50 % occlusion"\nat_least = 0.2\n'
    run = measured(tmp_path / "run", 0.72, channel=2, rules=rules, studies="clean,occlusion")
    found = verdict(run)
    assert found.look is not None
    first = results.load(run.folder)
    (column,) = (c for c in signs.columns(first) if c.sign.title == "kept at 50 % occlusion")
    (early,) = (
        signs.column_of(first, study.load("occlusion"), column.sign, level=level).readings.values()
        for level in (1 - 1e-12,)
    )
    assert all(reading.at_chance for reading in early), "at a level that high nothing is told from guessing"
    assert found.look.number > 1
    assert [o.status for o in found.outcomes] == ["pass"]


def test_the_gate_gives_the_verdict_of_the_last_look_where_studies_have_sets_of_their_own(tmp_path: Path) -> None:
    rules, out = tmp_path / "rules.toml", tmp_path / "run"
    rules.write_text(AT_LEAST.format(0.2))
    words = ["audit", "tiny:cnn", "--data", "shapes:test?n=300", "--data-for", "occlusion=shapes:test?n=20"]
    more = ["--studies", "clean,occlusion", "--preset", "quick", "--out", str(out)]
    assert cli.main([*words, *more, "--rules", str(rules), "--until-decided"]) == 0
    found = vv.gate(out, rules)
    assert (found.exit_code, len(found.outcomes)) == (0, 1)
    assert found.look is not None
    assert found.level == 1 - found.look.alpha


def test_advisory_rules_and_missing_numbers_do_not_keep_it_measuring(tmp_path: Path) -> None:
    close = AT_LEAST.format(0.8) + 'name = "close"\ntier = "advisory"\n'
    absent = '[[rule]]\nstudy = "occlusion"\nwhere = { fraction = 0.123 }\nat_least = 0.1\n'
    run = measured(tmp_path / "run", 0.8, rules=AT_LEAST.format(0.3) + close + absent, studies="clean,occlusion")
    found = verdict(run)
    assert [o.status for o in found.outcomes] == ["pass", "undecided", "missing"]
    assert found.look is not None
    assert found.look.images < N / 2
    assert found.exit_code == 1


def test_the_command_says_where_it_stopped_and_run_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rules, out = tmp_path / "rules.toml", tmp_path / "run"
    rules.write_text(AT_LEAST.format(0.2))
    words = ["audit", "tiny:cnn", "--data", "shapes:test?n=300", "--studies", "clean", "--out", str(out)]
    assert cli.main([*words, "--rules", str(rules)]) == 2
    assert "go together" in capsys.readouterr().err
    assert cli.main([*words, "--rules", str(rules), "--until-decided"]) == 0
    said = capsys.readouterr().out
    assert "PASS (exit code 0)" in said
    assert "of 300 images" in said
    assert "% of them were not measured. All looks together are wrong in at most 5 % of the cases" in said
    (held,) = Store(out / "store").cells()
    assert held.facts["n"] < 150
    assert cli.main(["run", str(out), "--shard", "0/2"]) == 2
    assert "must not be shared" in capsys.readouterr().err
    assert cli.main(["run", str(out), "--device", "cpu:2"]) == 2
    assert "must not be shared by several devices. Got 'cpu:2'" in capsys.readouterr().err
    assert cli.main(["run", str(out)]) == 0
    assert said.splitlines()[-2:] == capsys.readouterr().out.splitlines()[-2:]
