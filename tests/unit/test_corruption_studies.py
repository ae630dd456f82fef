"""The studies `corruption` and `imagenet_c` from the plan to the vital signs."""

import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import opened_page
import pytest
import torch
from PIL import Image

from visionvitals import results, stats
from visionvitals.core import NO_IMAGES, BackboneCard, FolderSpec, ImageSetCard, Preprocess
from visionvitals.errors import VitalsError
from visionvitals.figure import COMMON
from visionvitals.plan import planner
from visionvitals.plan.identity import cell_id
from visionvitals.plan.planner import Planned
from visionvitals.plan.request import Plan, Section
from visionvitals.probes import mce
from visionvitals.report import build
from visionvitals.results import signs, table
from visionvitals.run import runner
from visionvitals.studies import corruption, depth, imagenet_c

CPU = torch.device("cpu")
RELEASED = ImageSetCard(spec="imagenet_c:x", digest="0", n=1, classes=("a",), class_names=("a",))
FOLDER = ImageSetCard(spec="folder:x", digest="0", n=1, classes=("a",), class_names=("a",))


def card(side: int, resize: int | None = None) -> BackboneCard:
    pre = Preprocess(size=(side, side), resize=resize, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    return BackboneCard(spec="x:y", architecture="y", digest="0", preprocess=pre, outputs=10, parameters=1)


def test_the_presets_are_the_benchmark() -> None:
    default = corruption.conditions("default", (224, 224))
    paper = corruption.conditions("paper", (224, 224))
    assert {(c.corruption, c.severity) for c in default} == {
        ("none", 0), *((n, s) for n in (*mce.COMMON, "rain") for s in range(1, 6))
    }  # fmt: skip
    assert len(paper) == 1 + 19 * 5
    assert len(corruption.conditions("quick", (224, 224))) == 13


def test_what_cannot_be_measured_is_refused_with_the_reason(tmp_path: Path) -> None:
    small = corruption.Condition(corruption="motion_blur", severity=5)
    assert (
        corruption.refusal(small, card(32), NO_IMAGES)
        == "motion_blur at severity 5 looks at 41 px, and the input has 32"
    )
    assert corruption.refusal(small, card(224), NO_IMAGES) is None
    assert "`imagenet_c` measures them" in str(corruption.refusal(small, card(224), RELEASED))
    for odd in (corruption.Condition(corruption="none", severity=1), corruption.Condition(severity=0)):
        assert "`none` at severity 0" in str(corruption.refusal(odd, card(224), NO_IMAGES))
    icy = corruption.Condition(corruption="frost", frost=FolderSpec(str(tmp_path / "none")))
    assert "must exist" in str(corruption.refusal(icy, card(224), NO_IMAGES))
    one = imagenet_c.Condition()
    assert "mCE exists for the released ImageNet-C only" in str(imagenet_c.refusal(one, card(224), FOLDER))
    assert "add `crop=1`" in str(imagenet_c.refusal(one, card(224, resize=256), RELEASED))
    assert imagenet_c.refusal(one, card(224, resize=224), RELEASED) is None
    assert imagenet_c.refusal(one, card(224), RELEASED) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"corruption": "fogg"}, "Did you mean fog"),
        ({"severity": 6}, "`severity` must be a whole number from 0 to 5. Got 6"),
        ({"frost": ""}, "`frost` must be a folder"),
    ],
)
def test_a_condition_refuses_what_has_no_meaning(values: dict[str, object], said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        corruption.Condition(**values)


def points(names: Sequence[str], frost: str = "procedural") -> list[dict[str, object]]:
    found: list[dict[str, object]] = [{"corruption": "none", "severity": 0, "frost": "procedural"}]
    return found + [
        {"corruption": n, "severity": s, "frost": frost if n == "frost" else "procedural"}
        for n in names
        for s in range(1, 6)
    ]


def test_kept_accuracy_and_mean_error_need_all_fifteen() -> None:
    mean_error, kept, quick = (sign.index for sign in corruption.SIGNS)
    assert mean_error is not None and kept is not None and quick is not None  # noqa: PT018
    whole = points(mce.COMMON)
    accuracy = np.array([0.8] + [0.4] * 75)
    assert mean_error(whole, accuracy) == pytest.approx(0.6)
    assert kept(whole, accuracy) == pytest.approx(0.5)
    assert quick(whole, accuracy) is None
    assert mean_error(whole[:-1], accuracy[:-1]) is None
    assert kept(whole[1:], accuracy[1:]) is None
    some = points(corruption.QUICK)
    assert kept(some, np.array([0.8] + [0.2] * 20)) is None
    assert quick(some, np.array([0.8] + [0.2] * 20)) == pytest.approx(0.25)
    both = [*points(mce.COMMON, frost="pictures"), *points(("frost",))[1:]]
    assert mean_error(both, np.array([0.8] + [0.4] * 75 + [0.0] * 5)) == pytest.approx(0.6), "frost counts once"


ALWAYS = """
import torch
class Always(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))
    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * 1e-3 + self.weight
def build():
    return Always()
"""


def test_nothing_is_kept_of_an_accuracy_at_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_images: str
) -> None:
    """A network that always says the same loses nothing under any corruption: it kept "100 %" and headed the table."""
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(ALWAYS)
    spelling, data = f"python:{tmp_path / 'net.py'}:build?size=96&order=as-is", f"{toy_images}&classes=3"
    study = Section(name="corruption", preset="quick")
    planned = planner.make(Plan(backbones=(spelling,), data=(data,), studies=(study,)), device=CPU)
    assert runner.execute(planned, out=tmp_path / "run", device=CPU).failed == ()
    run = results.load(tmp_path / "run")
    (column,) = signs.columns(run)
    (reading,) = column.readings.values()
    assert column.sign.title == "kept accuracy (4 x 3 corruptions)"
    assert reading.at_chance
    assert np.isnan(reading.estimate.value)
    assert signs.best(run, column, data) is None


def test_no_sign_outside_the_released_files_is_called_mce() -> None:
    assert not any("mCE" in sign.title for sign in corruption.SIGNS)


def test_a_run_has_its_charts_and_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_backbone: str, toy_images: str
) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    section = Section(name="corruption", preset="quick")
    planned = planner.make(Plan(backbones=(toy_backbone,), data=(toy_images,), studies=(section,)), device=CPU)
    skipped = {(s.condition.corruption, s.condition.severity) for s in planned.skips}
    assert skipped == {("motion_blur", 5)}, "the input has 32 px only"
    assert runner.execute(planned, out=tmp_path / "run", device=CPU).failed == ()
    rows = table.rows(results.load(tmp_path / "run"))
    groups = {(r["corruption"], r["group"]) for r in rows}
    assert groups == {("none", "clean"), *((name, "15 of ImageNet-C") for name in corruption.QUICK)}
    (found,) = signs.vital_signs(results.load(tmp_path / "run"))
    assert "kept accuracy (4 x 3 corruptions)" not in found, "some of them are missing"
    page = opened_page.opened(build.build(results.load(tmp_path / "run")).read_text(encoding="utf-8"))
    assert "15 of ImageNet-C" in page
    assert "gaussian_noise" in page


def write_imagenet_c(root: Path, names: Sequence[str], pictures: int) -> None:
    rng = np.random.default_rng(0)
    for name in names:
        for severity in range(1, 6):
            for k in range(pictures):
                folder = root / name / str(severity) / f"n0000000{k % 4}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"{k}.JPEG")


def test_mce_from_released_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy_backbone: str) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    write_imagenet_c(tmp_path / "c", mce.COMMON, 4)
    write_imagenet_c(tmp_path / "clean_source", ("fog",), 4)
    data = f"imagenet_c:{tmp_path / 'c'}?images=3&clean={tmp_path / 'clean_source' / 'fog' / '1'}"
    planned = planner.make(
        Plan(backbones=(toy_backbone,), data=(data,), studies=(Section(name="imagenet_c"),)), device=CPU
    )
    assert planned.skips == ()
    assert runner.execute(planned, out=tmp_path / "run", device=CPU).failed == ()
    rows = [r for r in table.rows(results.load(tmp_path / "run")) if r["metric"] == "top1"]
    assert len(rows) == 76
    assert {r["n"] for r in rows} == {3}
    top1 = {(r["corruption"], r["severity"]): r["value"] for r in rows}
    errors = {name: [1 - top1[name, s] for s in range(1, 6)] for name in mce.COMMON}
    (found,) = signs.vital_signs(results.load(tmp_path / "run"))
    assert found["mCE"].value == pytest.approx(float(mce.mce(errors)))
    assert found["mCE"].n == 3
    relative = next(sign for sign in imagenet_c.SIGNS if sign.title == "relative mCE")
    assert relative.index is not None
    formula = relative.index(rows, np.array([r["value"] for r in rows]))
    assert formula == pytest.approx(float(mce.relative_mce(errors, 1 - top1["none", 0])))
    assert formula < -0.5, "so it would head the table"
    assert np.isnan(found["relative mCE"].value), "its clean accuracy is that of guessing: nothing can be lost"
    assert "T2T-24 49.1%" in imagenet_c.CHARTS[0].reads


@pytest.mark.parametrize(("right", "known"), [(0.5, False), (0.9, True)])
def test_half_of_an_accuracy_at_chance_is_reached_nowhere(
    monkeypatch: pytest.MonkeyPatch, right: float, known: bool
) -> None:
    """An untrained network "knew the answer" from its first block on."""
    scores = np.tile((np.arange(40)[:, None] < 40 * right).astype(float), (1, 4))
    whole = types.SimpleNamespace(early=None)
    points = [types.SimpleNamespace(backbone="a", condition={"block": k}, group=whole) for k in (1, 2, 3, 4)]
    run = types.SimpleNamespace(
        backbones={"a": {"outputs": 2}}, estimate=lambda point, metric: stats.estimate(scores[:, -1], bounds=(0, 1))
    )
    monkeypatch.setattr(signs, "_scores", lambda run, sign, own: scores)
    found = signs._of_index(run, depth.SIGNS[0], points, COMMON["top1"], stats.LEVEL)  # type: ignore[arg-type]
    assert found is not None
    assert (found.at_chance, found.estimate.value == 0.25) == (not known, known)


def test_an_mce_above_that_of_alexnet_has_an_interval_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that is never right has 129 %; its interval was cut to end at 100 %, the bound of a share."""
    fields = [{"corruption": name, "severity": s} for name in mce.COMMON for s in range(1, 6)]
    points = [types.SimpleNamespace(condition=f, group=types.SimpleNamespace(early=None)) for f in fields]
    monkeypatch.setattr(signs, "_scores", lambda run, sign, own: np.zeros((30, 75)))
    found = signs._of_index(None, imagenet_c.SIGNS[0], points, COMMON["top1"], stats.LEVEL)  # type: ignore[arg-type]
    assert found is not None
    assert found.estimate[:2] == (pytest.approx(1.2935, abs=1e-4), pytest.approx(1.263, abs=2e-3))


def test_a_part_of_the_folders_has_no_mce_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    write_imagenet_c(tmp_path / "c" / "weather", ("fog", "snow"), 2)
    (tmp_path / "c" / "weather" / "fog" / "2" / "n00000001" / "1.JPEG").unlink()
    images = planner.open_images(f"imagenet_c:{tmp_path / 'c'}")
    assert len(images) == 19
    assert any("no mCE without all 15" in note and "gaussian_noise" in note for note in images.card.notes)
    assert any("1 folders hold fewer pictures" in note and "fog/2" in note for note in images.card.notes)


@pytest.mark.parametrize(
    ("option", "said"),
    [("?images=0", "`images` must be a positive"), ("?clean=/nowhere/at/all", "must exist"), ("?image=3", "no option")],
)
def test_bad_options_are_refused(tmp_path: Path, option: str, said: str) -> None:
    write_imagenet_c(tmp_path, ("fog",), 1)
    with pytest.raises(VitalsError, match=said):
        planner.open_images(f"imagenet_c:{tmp_path}{option}")


def test_a_folder_without_corruptions_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(VitalsError, match="must hold folders `corruption/severity/wnid`"):
        planner.open_images(f"imagenet_c:{tmp_path}")


def test_the_frost_pictures_and_not_their_path_decide_the_cell(
    tmp_path: Path, toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))

    def planned(folder: Path) -> Planned:
        values = {"corruption": ("frost",), "frost": (FolderSpec(str(folder)),)}
        sections = (Section(name="corruption", values=values),)
        return planner.make(Plan(backbones=(toy_backbone,), data=(toy_images,), studies=sections), device=CPU)

    def picture(path: Path, grey: int) -> None:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (300, 300), (grey, grey, grey)).save(path)

    picture(tmp_path / "frost" / "a.png", 200)
    picture(tmp_path / "moved" / "a.png", 200)
    before = planned(tmp_path / "frost")
    assert cell_id(before.cells[0]) == cell_id(planned(tmp_path / "moved").cells[0])
    runner.execute(before, out=tmp_path / "run", device=CPU)
    picture(tmp_path / "frost" / "a.png", 90)
    after = planned(tmp_path / "frost")
    assert cell_id(before.cells[0]) != cell_id(after.cells[0])
    runner.execute(after, out=tmp_path / "other", device=CPU)
    assert len(results.load(tmp_path / "run", tmp_path / "other").points) == 2, (
        "never averaged as two runs of one condition"
    )
