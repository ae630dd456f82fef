"""What the user asked for becomes cells and skips, and everything that is wrong is found before anything is computed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from visionvitals.core import Backbone
from visionvitals.errors import VitalsError
from visionvitals.plan import planner, request
from visionvitals.plan.identity import cell_id
from visionvitals.plan.planner import Planned
from visionvitals.plan.request import Plan, Section
from visionvitals.run import calibrate

CPU = torch.device("cpu")


def planned(backbones: list[str], data: list[str], *studies: Section, **more: Any) -> Planned:
    return planner.make(Plan(backbones=tuple(backbones), data=tuple(data), studies=studies, **more), device=CPU)


def test_backbones_times_sets_times_conditions(toy_backbone: str, toy_images: str, toy_study: str) -> None:
    found = planned(
        [toy_backbone, f"{toy_backbone}?seed=1"],
        [toy_images, f"{toy_images}&broken=1"],
        Section(name="clean"),
        Section(name=toy_study),
    )
    assert len(found.cells) == 2 * 2 * (1 + 4)
    assert len({cell_id(cell) for cell in found.cells}) == len(found.cells)
    assert {cell.study for cell in found.cells} == {"clean", "toy_study"}
    assert found.skips == ()
    assert {name: study.version for name, study in found.studies.items()} == {"clean": 1, "toy_study": 1}


def test_values_are_multiplied_and_other_fields_keep_their_default(
    toy_backbone: str, toy_images: str, toy_study: str
) -> None:
    section = Section(name=toy_study, values={"strength": (0.1, 0.2), "run": (0, 1, 2)})
    found = planned([toy_backbone], [toy_images], section)
    assert [(c.condition.strength, c.condition.run) for c in found.cells] == [
        (s, r) for s in (0.1, 0.2) for r in range(3)
    ]
    assert {c.condition.shape for c in found.cells} == {(1, 1)}


def test_identical_cells_are_planned_once(toy_backbone: str, toy_images: str, toy_study: str) -> None:
    twice = (Section(name=toy_study), Section(name=toy_study, values={"strength": (0.25, 0.25)}))
    assert len(planned([toy_backbone], [toy_images], *twice).cells) == 4
    same = planned([toy_backbone, f"{toy_backbone}?seed=0"], [toy_images], Section(name="clean"))
    assert len(same.cells) == 1
    (skip,) = same.skips
    assert skip.backbone.endswith("?seed=0")
    assert skip.reason == f"the same weights and images as {toy_backbone} on {toy_images}, measured there"


def test_a_refused_condition_is_a_skip_with_the_studys_reason(
    toy_backbone: str, toy_images: str, toy_study: str
) -> None:
    found = planned([toy_backbone], [toy_images], Section(name=toy_study, values={"strength": (0.5, 1.0)}))
    assert [cell.condition.strength for cell in found.cells] == [0.5]
    assert [(s.condition.strength, s.reason) for s in found.skips] == [(1.0, "a strength of 1 leaves nothing to see")]


def test_a_limit_that_does_not_limit_is_no_limit(toy_backbone: str, toy_images: str) -> None:
    def only(limit: int | None) -> Any:
        return planned([toy_backbone], [toy_images], Section(name="clean"), limit=limit).cells[0]

    assert cell_id(only(24)) == cell_id(only(None)) != cell_id(only(23))
    assert (calibrate.images_of(only(None)), calibrate.images_of(only(7))) == (24, 7)


def test_backbones_are_visited_one_at_a_time(toy_backbone: str, toy_images: str) -> None:
    seen: list[Backbone] = []
    plan = Plan(
        backbones=(toy_backbone, f"{toy_backbone}?seed=1"), data=(toy_images,), studies=(Section(name="clean"),)
    )

    def rate(backbone: Backbone) -> float:
        seen.append(backbone)
        return 1.0

    assert planner.make(plan, device=CPU, rate=rate).rates == dict.fromkeys(plan.backbones, 1.0)
    assert [b.card.spec for b in seen] == list(plan.backbones)
    assert calibrate.rate(seen[0], batch_size=4, seconds=0.01) > 0


def test_the_estimate_is_images_over_rate(toy_backbone: str, toy_images: str, toy_study: str) -> None:
    cells = planned([toy_backbone], [toy_images], Section(name=toy_study)).cells
    assert sum(calibrate.seconds(cell, 1, {toy_backbone: 12.0}) for cell in cells) == 4 * 24 / 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbones": ()}, "must name a backbone"),
        ({"data": ()}, "must name an image set"),
        ({"studies": ()}, "must name a study"),
        ({"limit": 0}, "`limit` must be positive. Got 0"),
        ({"backbones": ("a:b", "a:b")}, "`backbones` must name each once. Got 'a:b'"),
        ({"preset": "fast"}, "`preset` must be one of quick, default, paper. Got 'fast'"),
    ],
)
def test_a_plan_validates_itself(change: dict[str, Any], message: str) -> None:
    good = Plan(backbones=("tiny:vit",), data=("shapes:test",), studies=(Section(name="clean"),))
    with pytest.raises(VitalsError, match=message):
        dataclasses.replace(good, **change)


def test_unknown_names_list_near_ones(toy_backbone: str, toy_images: str) -> None:
    with pytest.raises(VitalsError, match=r"No study is called `oclusion`\. Did you mean occlusion[,?]"):
        request.sections("clean,oclusion")
    with pytest.raises(VitalsError, match=r"`oclusion`\. Did you mean occlusion[,?]"):
        planned([toy_backbone], [toy_images], Section(name="oclusion"))
    with pytest.raises(VitalsError, match=r"known family\. Got 'tim:resnet18'\. Did you mean timm"):
        planned(["tim:resnet18"], [toy_images], Section(name="clean"))
    with pytest.raises(VitalsError, match=r"known family\. Got 'foldr:x'\. Did you mean folder"):
        planned([toy_backbone], ["foldr:x"], Section(name="clean"))


def test_sections_of_names() -> None:
    assert [s.name for s in request.sections("occlusion, clean,occlusion")] == ["occlusion", "clean"]
    assert request.sections("") == ()
    assert request.sections("all")[0].name == "clean"


def test_a_spelling_is_checked_before_any_backbone_is_loaded(
    toy_backbone: str, toy_images: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: object, **more: object) -> None:
        raise AssertionError("nothing may be loaded")

    monkeypatch.setattr(planner, "load_backbone", load)
    with pytest.raises(VitalsError, match=r"nope:x"):
        planned([toy_backbone, "nope:x"], [toy_images], Section(name="clean"))
    with pytest.raises(VitalsError, match=r"no option `nope`"):
        planned([toy_backbone], [f"{toy_images}&nope=1"], Section(name="clean"))


def test_a_users_own_error_is_named(toy_backbone: str, toy_images: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def load(spec, *, device): raise KeyError('weights')\ndef open(spec): return 1 / 0\n"
    )
    mine = f"{tmp_path / 'mine.py'}:x"
    with pytest.raises(
        VitalsError, match=r"mine\.py:x` could not be loaded\. Got KeyError in .*mine\.py, line 1: 'weights'"
    ):
        planned([mine], [toy_images], Section(name="clean"))
    with pytest.raises(VitalsError, match=r"mine\.py:x` could not be opened\. Got ZeroDivisionError"):
        planned([toy_backbone], [mine], Section(name="clean"))


def test_a_network_and_a_set_that_do_not_fit_are_skips(toy_backbone: str, toy_images: str) -> None:
    other = f"{toy_backbone}?outputs=3"
    found = planned([toy_backbone, other], [toy_images], Section(name="clean"))
    assert [cell.backbone.spec for cell in found.cells] == [toy_backbone]
    (skip,) = found.skips
    assert skip.backbone == other
    assert "does not name its 3 outputs, so" in skip.reason
    assert "must have as many classes. Got 4" in skip.reason


NEVER: list[tuple[str, dict[str, Any], str]] = [
    ("fewshot", {"shot": 4}, "an episode needs 5 classes with 4 different images to show and one to ask; there are 4"),
    ("fewshot", {"way": 7, "shot": 1}, "an episode needs at least 7 classes; the set has 6"),
    ("occlusion", {"grid": (9999, 9999)}, "a grid of 9999x9999 does not divide the 64x64 input into whole cells"),
    ("occlusion", {"grid": (8, 8), "offset": 64}, "an offset of 64 px moves the mask out of the image"),
    ("attention", {"grid": (8, 8), "fraction": 0.01}, "a fraction of 0.01 covers none of the 64 cells"),
    ("corruption", {"severity": 0}, "the clean image is `none` at severity 0"),
    ("salient", {"grid": (8, 8), "head": "4"}, "`head` must be one of the 4 of tiny:vit, 0 to 3; it is 4"),
    ("salient", {"grid": (8, 8), "source": "model", "model": "tiny:cnn"}, "tiny:cnn has none"),
    ("salient", {"grid": (8, 8), "source": "model", "model": "tiny:vit", "head": "4"}, "0 to 3; it is 4"),
    ("adversarial_patch", {"source": "TOY"}, "the same outputs, in the same order, in both networks"),
]


@pytest.mark.parametrize(("name", "values", "reason"), NEVER)
def test_what_can_never_be_measured_is_refused_when_planned(
    tmp_path: Path, toy_backbone: str, name: str, values: dict[str, Any], reason: str
) -> None:
    """Six classes of five pictures; one class has a picture that is there five times, another one four different ones."""
    for k in range(30):
        (tmp_path / "set" / f"c{k % 6}").mkdir(parents=True, exist_ok=True)
        shade = {0: 0, 5: 6 * k - (k == 29) * 36}.get(k % 6, 6 * k)
        Image.new("RGB", (20, 20), (shade, 0, k % 6)).save(tmp_path / "set" / f"c{k % 6}" / f"{k}.png")
    (tmp_path / "classes.csv").write_text("".join(f"c{k},{k}\n" for k in range(6)))
    data = f"folder:{tmp_path / 'set'}?classes={tmp_path / 'classes.csv'}"
    fields = {field: (toy_backbone if value == "TOY" else value,) for field, value in values.items()}
    found = planned(["tiny:vit"], [data], Section(name="clean"), Section(name=name, values=fields))
    assert [cell.study for cell in found.cells] == ["clean"]
    (skip,) = found.skips
    assert reason in skip.reason


def test_a_plan_knows_what_a_limit_leaves(tmp_path: Path) -> None:
    for k in range(40):
        (tmp_path / f"c{k % 4}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (5 * k, 0, 0)).save(tmp_path / f"c{k % 4}" / f"{k}.png")
    sections = Section(name="transfer"), Section(name="fewshot", values={"way": (2,), "shot": (4,)})
    found = planned(["tiny:vit"], [f"folder:{tmp_path}"], *sections)
    assert [cell.study for cell in found.cells] == ["transfer", "fewshot"]
    few = planned(["tiny:vit"], [f"folder:{tmp_path}"], *sections, limit=12)
    assert [skip.study for skip in few.skips] == ["fewshot"]
    with pytest.raises(VitalsError, match="two classes with images to train on"):
        planned(["tiny:vit"], [f"folder:{tmp_path}"], *sections, limit=2)


def test_pictures_without_any_conflict_have_no_shape_bias(tmp_path: Path) -> None:
    for name in ("airplane1-airplane2", "bear1-bear3"):
        folder = tmp_path / name.partition("1")[0]
        folder.mkdir()
        Image.new("RGB", (20, 20)).save(folder / f"{name}.png")
    with pytest.raises(
        VitalsError, match="none of the 2 pictures shows the shape of one class in the texture of another"
    ):
        planned(["tiny:vit"], [f"cue_conflict:{tmp_path}"], Section(name="shape_bias"))


def test_a_plan_of_nothing_is_an_error_that_says_why(toy_backbone: str, toy_images: str, toy_study: str) -> None:
    with pytest.raises(VitalsError, match=r"must have something to measure.*1 skipped: .*does not name its 3 outputs"):
        planned([f"{toy_backbone}?outputs=3"], [toy_images], Section(name="clean"))
    with pytest.raises(VitalsError, match=r"1 skipped: a strength of 1 leaves nothing to see\."):
        planned([toy_backbone], [toy_images], Section(name=toy_study, values={"strength": (1.0,)}))


def test_two_studies_of_one_name_are_refused_with_both_paths(tmp_path: Path, toy_study: str) -> None:
    (tmp_path / "a").mkdir()
    other = tmp_path / "a" / "toy_study.py"
    other.write_text(Path(toy_study).read_text())
    with pytest.raises(VitalsError, match=r"Two studies must have two names\. Got .*toy_study\.py.*a/toy_study\.py"):
        Plan(backbones=("tiny:vit",), data=("shapes:test",), studies=request.sections(f"{toy_study},{other}"))


def test_the_source_of_a_users_study_is_part_of_the_cell(
    tmp_path: Path, toy_backbone: str, toy_images: str, toy_study: str
) -> None:
    path = tmp_path / "mine.py"

    def ids(text: str) -> list[str]:
        path.write_text(text)
        return [cell_id(cell) for cell in planned([toy_backbone], [toy_images], Section(name=str(path))).cells]

    text = Path(toy_study).read_text()
    first = ids(text)
    assert ids(text + "\n# a comment\n") == first
    assert not set(ids(text.replace("lerp(noise, condition.strength)", "lerp(noise, 0.0)"))) & set(first)
