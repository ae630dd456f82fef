"""The study of shape bias from the plan to the table, its heads, the answers of others beside it, and the csv form."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from measured import measured
from PIL import Image

from visionvitals import cli, study
from visionvitals.core import ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.job import Job
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.probes import shape_bias as probe
from visionvitals.report import charts
from visionvitals.responses import csv_files, observers
from visionvitals.results import compare, load, signs
from visionvitals.run import runner, wide
from visionvitals.run.cell import Stored
from visionvitals.run.store import Store
from visionvitals.studies import shape_bias

CPU = torch.device("cpu")
TWO_HEADS = (
    "timm:deit_tiny_distilled_patch16_224?pretrained=false&size=32&model.depth=1&model.embed_dim=48&model.num_heads=3"
)
CARD = ImageSetCard(
    spec="c",
    digest="0",
    n=1,
    classes=tuple(probe.ENTRY_CLASSES),
    class_names=tuple(probe.ENTRY_CLASSES),
    provides=("texture",),
)


@pytest.fixture(scope="module")
def two_heads() -> Any:
    return planner.load_backbone(TWO_HEADS, device=CPU)


def measure(backbones: tuple[str, ...], data: str, out: Path, **values: Any) -> Any:
    section = Section(name="shape_bias", values=values or {"token": ("output",)})
    planned = planner.make(Plan(backbones=backbones, data=(data,), studies=(section,)), device=CPU)
    return planned, runner.execute(planned, out=out, device=CPU)


def column(cell: Stored, metric: str) -> dict[str, float]:
    """item -> value at the place of all shapes together, without the items that have none."""
    at = (shape_bias.ALL,)
    pairs = zip(cell.items(at), cell.values([metric], at)[metric].tolist(), strict=True)
    return {item: value for item, value in pairs if value == value}


@pytest.fixture(scope="module")
def stimuli(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four conflicts and one picture without."""
    folder = tmp_path_factory.mktemp("cue") / "stimuli"
    rng = np.random.default_rng(0)
    for name in ("cat1-dog1", "cat2-boat1", "dog1-cat1", "dog2-knife1", "cat3-cat1"):
        (folder / name[:3]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / name[:3] / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def run_folder(stimuli: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "cue"
    _, outcome = measure((TWO_HEADS,), f"cue_conflict:{stimuli}", out, token=("output", "class", "distillation"))
    assert outcome.failed == ()
    return out


# ---- the study


def test_the_heads_are_apart_and_their_mean_is_the_output(two_heads: Any) -> None:
    images = torch.rand(3, 3, 32, 32)
    assert set(two_heads.heads) == {"class", "distillation"}
    apart = [two_heads.heads[token](images) for token in ("class", "distillation")]
    assert (apart[0] - apart[1]).abs().max() > 1e-3
    torch.testing.assert_close(sum(apart) / 2, two_heads.logits(images))


def test_a_token_without_a_head_is_refused(two_heads: Any) -> None:
    one = planner.load_backbone("timm:test_vit?pretrained=false&size=64", device=CPU)
    assert one.heads == {}
    for token in ("class", "distillation"):
        condition = shape_bias.Condition(token=token)  # type: ignore[arg-type]
        assert shape_bias.refusal(condition, two_heads.card, CARD) is None
        assert "has one head" in str(shape_bias.refusal(condition, one.card, CARD))
    assert shape_bias.refusal(shape_bias.Condition(), one.card, CARD) is None
    with pytest.raises(VitalsError, match="`token` must be one of"):
        shape_bias.Condition(token="shape")  # type: ignore[arg-type]


def test_sets_and_outputs_that_cannot_be_asked_are_refused(two_heads: Any) -> None:
    import dataclasses

    condition = shape_bias.Condition()
    assert "know their texture" in str(
        shape_bias.refusal(condition, two_heads.card, dataclasses.replace(CARD, provides=()))
    )
    reordered = dataclasses.replace(two_heads.card, classes=two_heads.card.classes[::-1])
    other = dataclasses.replace(CARD, classes=("cat", "ghost"))
    for backbone, images in (
        (reordered, CARD),
        (two_heads.card, other),
        (dataclasses.replace(two_heads.card, classes=None), CARD),
    ):
        assert "neither the set's classes" in str(shape_bias.refusal(condition, backbone, images))


def test_the_embedded_networks_answer_the_embedded_conflicts(tmp_path: Path) -> None:
    data = "shapes:test?n=48&variant=conflict"
    _, outcome = measure(("tiny:vit",), data, tmp_path / "run")
    assert outcome.failed == ()
    (cell,) = Store(tmp_path / "run" / "store").cells()
    images = planner.open_images(data)
    backbone = planner.load_backbone("tiny:vit", device=CPU)
    assert backbone.card.classes == images.card.classes
    said = {item: int(v) for item, v in column(cell, "prediction").items()}
    shown = {e.id: (e.label, e.texture) for e in (images[k] for k in range(48))}
    expected = probe.summary(*(np.array([x[k] for x in ((said[i], *shown[i]) for i in shown)]) for k in range(3)))
    run = load(tmp_path / "run")
    (point,) = [p for p in run.points if p.at == (shape_bias.ALL,)]
    assert run.estimate(point, "shape_choice") == expected.bias
    assert run.estimate(point, "shape_accuracy") == expected.shape_accuracy
    assert run.estimate(point, "texture_accuracy") == expected.texture_accuracy
    assert run.estimate(point, "cue_coverage") == expected.coverage
    assert run.estimate(point, "class_shape_bias").value == expected.class_mean.value
    assert run.estimate(point, "class_shape_bias").n == expected.class_mean.n
    assert expected.coverage.value > 0.4, "one or the other is seen, where guessing gives 2 in 16"
    exhibit = cell.facts["exhibits"][0]
    assert exhibit["caption"] in images.card.class_names
    assert exhibit["correct"] == (said[exhibit["item"]] == shown[exhibit["item"]][0])


def test_whole_stimuli_are_neither_resized_nor_cropped(tmp_path: Path) -> None:
    """The embedded network sees 64 px; pictures of 64 px reach it as they are, whatever its own preparation."""
    data, usual, zoomed = "shapes:test?n=60&variant=conflict&size=64", "tiny:vit?resize=none", "tiny:vit?resize=96"
    planned, outcome = measure(
        (usual, zoomed), data, tmp_path / "run", token=("output",), stimuli=("prepared", "whole")
    )
    assert outcome.failed == ()
    assert planned.backbones[usual].preprocess.size == (64, 64)
    said = {
        (c.cell["backbone"]["spec"], c.cell["condition"]["stimuli"]): column(c, "prediction")
        for c in Store(tmp_path / "run" / "store").cells()
    }
    assert said[zoomed, "whole"] == said[usual, "whole"] == said[usual, "prepared"]
    assert said[zoomed, "prepared"] != said[zoomed, "whole"]


def test_published_bias_is_of_whole_stimuli_on_the_published_pictures_only() -> None:
    assert {p.where["stimuli"] for p in shape_bias.PUBLISHED} == {"whole"}
    assert {p.families for p in shape_bias.PUBLISHED} == {("cue_conflict",)}
    for preset, stimuli in (("quick", "prepared"), ("default", "prepared"), ("paper", "whole")):
        assert {c.stimuli for c in shape_bias.conditions(preset, (224, 224))} == {stimuli}  # type: ignore[arg-type]


def test_pictures_without_a_conflict_do_not_count(run_folder: Path) -> None:
    cells = Store(run_folder / "store").cells()
    assert {c.cell["condition"]["token"] for c in cells} == {"output", "class", "distillation"}
    for cell in cells:
        assert len(column(cell, "shape_accuracy")) == 4
        assert not [item for item in column(cell, "prediction") if "cat3" in item]


def test_a_set_without_any_conflict_fails_with_the_reason(tmp_path: Path) -> None:
    _, outcome = measure(("tiny:cnn",), "shapes:test?n=4&variant=agree", tmp_path / "run")
    assert "Got none of 4" in outcome.failed[0]


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_picture_whose_logits_overflow_is_no_answer(two_heads: Any, value: float) -> None:
    def logits(images: torch.Tensor) -> torch.Tensor:
        out = two_heads.logits(images)
        out[0, 1] = value
        return out

    job = Job(
        backbone=dataclasses.replace(two_heads, logits=logits),
        condition=shape_bias.Condition(),
        ids=["a", "b"],
        pixels=np.zeros((2, 32, 32, 3), np.uint8),
        labels=np.array([0, 1]),
        textures=np.array([1, 0]),
        images=CARD,
    )
    found = measured(shape_bias, job)
    assert {item for item, metric, _ in found if metric == "shape_accuracy"} == {"b"}
    said = {item: v for (item, metric, _), v in found.items() if metric == "prediction"}
    assert {item: v == v for item, v in said.items()} == {"a": False, "b": True}, "counted and named by the run"


def test_scores_by_hand() -> None:
    """A cat as a dog, three times: answered by shape, by texture, not at all; and a dog as a cat, answered by shape."""
    told = shape_bias.Answers(
        items=["1", "2", "3", "4"],
        classes=["cat", "dog"],
        shape=np.array([0, 0, 0, 1]),
        texture=np.array([1, 1, 1, 0]),
        said=np.array([0, 1, -1, 1]),
    )
    record = study.load("shape_bias")
    found = wide.gather(
        shape_bias.scores(told), study=record.name, axes=record.axes, metrics=record.metrics, ids=told.items
    )

    def told_of(metric: str, at: str) -> dict[str, float]:
        block = found.blocks[at,]
        pairs = zip(block.items, block.values[metric].tolist(), strict=True)
        return {item: value for item, value in pairs if value == value}

    assert told_of("shape_choice", shape_bias.ALL) == {"1": 1.0, "2": 0.0, "4": 1.0}
    assert told_of("cue_coverage", shape_bias.ALL) == {"1": 1.0, "2": 1.0, "3": 0.0, "4": 1.0}
    assert told_of("shape_accuracy", "cat") == {"1": 1.0, "2": 0.0, "3": 0.0}
    assert told_of("texture_accuracy", "cat") == {"1": 0.0, "2": 1.0, "3": 0.0}
    assert told_of("class_shape_bias", shape_bias.ALL) == {"cat": 0.5, "dog": 1.0}
    assert told_of("shape_choice", "dog") == {"4": 1.0}
    assert found.blocks["dog",].items == ["4"]


# ---- the answers of others


def answers_csv(path: Path, subj: str, said: dict[str, str], columns: tuple[str, ...] = csv_files.COLUMNS) -> Path:
    lines = [",".join(columns)]
    for trial, (name, answer) in enumerate(said.items(), 1):
        shape = name.rstrip("0123456789").split("-")[0].rstrip("0123456789")
        lines.append(f"{subj},1,{trial},0.9,{answer},{shape},0,{trial:04d}_s5n_x_0_{shape}_00_{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    folder = tmp_path / "answers"
    person = {"cat1-dog1": "cat", "cat2-boat1": "cat", "dog1-cat1": "dog", "dog2-knife1": "na", "bear1-cat1": "cat"}
    answers_csv(folder / "a.csv", "subject-01", person)
    answers_csv(folder / "b.csv", "subject-02", person | {"cat1-dog1": "dog"})
    answers_csv(folder / "c.csv", "net", dict.fromkeys(person, "cat"))
    return folder


def test_people_and_networks_stand_beside_the_backbones(
    run_folder: Path, answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(run_folder, out)
    assert cli.main(["responses", str(out), "--add", str(answers)]) == 0
    assert "people" in capsys.readouterr().out
    run = load(out)
    assert list(run.backbones) == ["deit_tiny_distilled_patch16_224", "responses:net", "responses:people"]
    column = next(c for c in signs.columns(run) if c.sign.title == "shape bias")
    ((_, e),) = [(k, r.estimate) for k, r in column.readings.items() if k[0] == "responses:people"]
    assert (e.value, e.n) == (5 / 6, 6), "bear1 was not in the run, `na` is neither"
    ((_, e),) = [(k, r.estimate) for k, r in column.readings.items() if k[0] == "responses:net"]
    assert (e.value, e.n) == (2 / 3, 3)
    pooled, by_class = charts.plots(run, "shape_bias")
    drawn = {r["backbone"] for m in pooled.multiples for r in m.records}
    assert drawn == {"responses:net", "responses:people"}, "the random network answered neither shape nor texture"
    assert by_class.x_order[0] == shape_bias.ALL
    assert cli.main(["responses", str(out), "--add", str(answers)]) == 0, "a second time changes nothing"
    assert len(Store(out / "store").cells()) == 5
    assert cli.main(["status", str(out)]) == 0
    differences = compare.pair(load(out), TWO_HEADS, "responses:net").differences("cue_coverage")
    assert [d.value.n for d in differences if shape_bias.ALL in d.condition.values()] == [4]
    assert any("responses:people" in text and "8 answers of 2 people to 4 pictures" in text for text in run.warned)


def test_observers_that_were_added_before_decide_nothing(run_folder: Path, tmp_path: Path) -> None:
    """The pictures of a comparison are those of the run's own backbones, wherever these sort in the store."""
    out = tmp_path / "run"
    shutil.copytree(run_folder, out)
    for cell in Store(out / "store").cells():
        if cell.cell["condition"]["token"] != "output":
            shutil.rmtree(out / "store" / "shape_bias" / cell.id)
    for k in range(8):
        assert len(observers.add(out, answers_csv(tmp_path / "one.csv", f"net{k}", {"cat1-dog1": "cat"}))) == 1
    four = {"cat1-dog1": "cat", "cat2-boat1": "cat", "dog1-cat1": "dog", "dog2-knife1": "dog"}
    ((_, _, _, summary),) = observers.add(out, answers_csv(tmp_path / "all.csv", "all", four))
    assert summary.coverage.n == 4


def test_our_answers_are_read_back_from_their_form(run_folder: Path, tmp_path: Path) -> None:
    assert cli.main(["responses", str(run_folder), "--write", str(tmp_path / "csv")]) == 0
    files = sorted((tmp_path / "csv").iterdir())
    assert [f.name.rpartition("_")[2] for f in files] == ["session-1.csv"] * 3
    assert all(f.name.startswith("cue-conflict_") and f.name.count("_") == 2 for f in files)
    cell = next(c for c in Store(run_folder / "store").cells() if c.cell["condition"]["token"] == "output")
    prediction = column(cell, "prediction")
    classes = list(probe.ENTRY_CLASSES)
    (written,) = [f for f in files if f.name.split("_")[1].rpartition("-")[2] not in ("class", "distillation")]
    trials = {trial.stimulus.name: trial.said for trial in csv_files.read(written)}
    assert trials == {Path(item).stem: classes[int(v)] for item, v in prediction.items()}
    line = written.read_text(encoding="utf-8").splitlines()[1].split(",")
    assert line[1:4] == ["1", "1", "NaN"]
    assert line[7].split("_")[3:5] == [line[6], line[5]], "model-vs-human takes condition and category from there"


@pytest.mark.parametrize(
    ("header", "line", "says"),
    [
        ("subj,object_responce,category,imagename", "a,cat,cat,x_cat1-dog1.png", "Did you mean object_response"),
        ("subj,object_response,imagename", "a,cat,x_cat1-dog1.png", "must have the column `category`"),
        (
            "subj,object_response,category,imagename",
            "a,cat,dog,x_cat1-dog1.png",
            "line 2: `category` must be the shape",
        ),
        ("subj,object_response,category,imagename", "a,cat,cat,x_cat1.png", "line 2: `imagename` must end in"),
        ("subj,object_response,category,imagename", "a,cat,cat", "line 2 must have 4 fields"),
        ("", "", "an empty file"),
    ],
)
def test_files_that_are_no_answers_are_refused(tmp_path: Path, header: str, line: str, says: str) -> None:
    path = tmp_path / "answers.csv"
    path.write_text(f"{header}\n{line}\n" if header else "", encoding="utf-8")
    with pytest.raises(VitalsError, match=r"answers\.csv") as caught:
        csv_files.read(path)
    assert says in str(caught.value)


def test_what_cannot_be_compared_is_said(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def says(*words: object) -> str:
        assert cli.main(["responses", *map(str, words)]) == 2
        return capsys.readouterr().err

    assert "Give --add FOLDER or --write FOLDER" in says(run_folder)
    assert "must be a csv or a folder of them" in says(run_folder, "--add", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "must hold csv files" in says(run_folder, "--add", tmp_path / "empty")
    strange = answers_csv(tmp_path / "s.csv", "a", {"oven1-cat1": "cat"})
    assert "none of 4 pictures in common" in says(run_folder, "--add", strange)
    twice = tmp_path / "twice"
    for name in ("1.csv", "2.csv"):
        answers_csv(twice / name, "a", {"cat1-dog1": "cat"})
    assert "one answer to a picture" in says(run_folder, "--add", twice)
    assert "must hold finished cells of `shape_bias`" in says(tmp_path, "--add", strange)


def test_embedded_pictures_have_no_csv_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measure(("tiny:cnn",), "shapes:test?n=4&variant=conflict", tmp_path / "run")
    assert cli.main(["responses", str(tmp_path / "run"), "--write", str(tmp_path / "csv")]) == 2
    assert "must be called <shape><i>-<texture><j>" in capsys.readouterr().err


def test_a_summary_of_answers_counts_persons_together(answers: Path) -> None:
    grouped = observers.by_observer(csv_files.read(answers))
    assert list(grouped) == ["people", "net"]
    assert observers.summary(grouped["people"]).bias[::3] == (5 / 8, 8)
