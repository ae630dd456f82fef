"""Groups of pictures, classes and further columns of a csv: kept with the run, and every number of a part is that of its pictures."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_grow import measure

import visionvitals
from invented_cells import CELL, OTHER, grouped, keep
from visionvitals import results, stats
from visionvitals.core import Example, ImageSetCard
from visionvitals.errors import VitalsError
from visionvitals.plan import planner
from visionvitals.results import numbers, slices, table
from visionvitals.run import groups

WEATHER = {"weather": ["rain", "sun", "sun", "", "rain", "sun"]}


def pictures(where: Path, columns: dict[str, list[str]]) -> str:
    """Six pictures of noise in two classes, as a csv set."""
    where.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    lines = [",".join(["path", "label", *columns])]
    for k in range(6):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(where / f"{k}.png")
        lines.append(",".join([f"{k}.png", str(k % 2), *(values[k] for values in columns.values())]))
    (where / "list.csv").write_text("\n".join(lines))
    return f"csv:{where / 'list.csv'}"


def answers(right: str) -> dict[str, float]:
    return {f"{i:04d}": float(mark == "1") for i, mark in enumerate(right)}


def test_a_run_keeps_the_class_and_the_columns_of_a_csv(tmp_path: Path, toy_backbone: str) -> None:
    measure(tmp_path / "run", [toy_backbone], [pictures(tmp_path / "a", WEATHER)])
    run = results.load(tmp_path / "run")
    (images,) = run.images
    found = run.known.of(run.images[images]["digest"])
    assert found is not None
    assert found.value("weather") == {
        "0.png": "rain",
        "1.png": "sun",
        "2.png": "sun",
        "4.png": "rain",
        "5.png": "sun",
    }, "a picture whose field is empty is in no group"
    assert list(found.classes.values()) == ["0", "1"] * 3
    assert {c: list(v) for c, v in slices.columns(run).items()} == {"class": ["0", "1"], "weather": ["rain", "sun"]}


def test_other_columns_replace_them_and_change_no_identity(tmp_path: Path, toy_backbone: str) -> None:
    measure(tmp_path / "run", [toy_backbone], [pictures(tmp_path / "a", WEATHER)])
    again = measure(tmp_path / "run", [toy_backbone], [pictures(tmp_path / "a", {"camera": ["x"] * 3 + ["y"] * 3})])
    assert (again.measured, again.found) == (0, 1)
    assert list(slices.columns(results.load(tmp_path / "run"))) == ["class", "camera"]


def test_sets_in_memory_and_sets_that_are_drawn_have_classes(tmp_path: Path, toy_backbone: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    spec = visionvitals.images(list(noise), [0, 1, 1, 0], name="noise")
    measure(tmp_path / "run", [toy_backbone], [spec])
    run = results.load(tmp_path / "run")
    assert [(r["class"], r["n"]) for r in table.rows(run, metric="top1", by="class")] == [("0", 2), ("1", 2)]
    measure(tmp_path / "drawn", ["tiny:cnn"], ["shapes:test?n=6"])
    run = results.load(tmp_path / "drawn")
    assert sum(r["n"] for r in table.rows(run, metric="top1", by="class")) == 6


def test_classes_of_one_name_are_told_apart() -> None:
    card = ImageSetCard(spec="", digest="", n=2, classes=("n1", "n2", "n3"), class_names=("crane", "crane", "heron"))
    found = groups.of_labels(card, ["x", "y", "z"], [1, 0, 2])
    assert found.classes == {"x": "crane (n2)", "y": "crane (n1)", "z": "heron"}


def test_a_row_of_a_group_is_what_its_pictures_alone_would_give(tmp_path: Path) -> None:
    keep(tmp_path, answers("110100"), run=0)
    keep(tmp_path, answers("110000"), run=1)
    grouped(tmp_path, ["rain", "rain", "rain", "sun", "sun", ""])
    rows = {r["weather"]: r for r in table.rows(results.load(tmp_path), metric="top1", by="weather")}
    rain, sun = np.array([1, 1, 0.0]), np.array([0.5, 0.0])
    for value, values in (("rain", rain), ("sun", sun)):
        row = rows[value]
        assert stats.Estimate(row["value"], row["low"], row["high"], row["n"]) == stats.estimate(values, bounds=(0, 1))
    assert rows["sun"]["runs"] == 2
    assert rows["sun"]["std_over_runs"] == pytest.approx(np.std([0.5, 0], ddof=1))


def test_a_column_that_is_called_as_another_is_told_apart(tmp_path: Path) -> None:
    keep(tmp_path, answers("10"))
    card = dataclasses.replace(CELL.images, n=2)
    groups.keep(tmp_path, "bb", groups.of_labels(card, ["0000", "0001"], [0, 1], {"fraction": ["x", "y"]}))
    rows = table.rows(results.load(tmp_path), metric="top1", by="fraction")
    assert [(r["fraction"], r["fraction of the image"], r["value"]) for r in rows] == [(0.5, "x", 1.0), (0.5, "y", 0.0)]


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    keep(tmp_path, answers("10"))
    with pytest.raises(VitalsError, match=r"must be `class` or a column of a csv of the run. Got 'class'. The run was"):
        table.rows(results.load(tmp_path), by="class")
    grouped(tmp_path, ["rain", "sun"])
    with pytest.raises(VitalsError, match=r"Got 'wether'. Did you mean weather"):
        table.rows(results.load(tmp_path), by="wether")


def test_a_set_without_the_column_is_left_out(tmp_path: Path) -> None:
    keep(tmp_path, answers("10"))
    keep(tmp_path, answers("11"), images=dataclasses.replace(CELL.images, spec="folder:x", digest="x"), backbone=OTHER)
    grouped(tmp_path, ["rain", "rain"])
    rows = table.rows(results.load(tmp_path), metric="top1", by="weather")
    assert [(r["data"], r["n"], r["value"]) for r in rows] == [("shapes:test", 2, 0.5)]


def test_groups_without_pictures_of_a_point_have_the_columns_of_the_others(tmp_path: Path) -> None:
    """A study that scores some of the pictures only (`calibration`: a half) has no row of a class whose pictures lie outside, and its fields and
    the column of what ended early were missing there."""
    keep(tmp_path, answers("10"))
    keep(tmp_path, {("deep",): {"0000": 1.0}}, axes=("block",), study="partial")
    grouped(tmp_path, ["sun", "rain"])
    rows = table.rows(results.load(tmp_path), metric="top1", by="weather")
    assert [(r["weather"], r["block"]) for r in rows] == [("rain", None), ("sun", None), ("sun", "deep")]
    assert len({tuple(r) for r in rows}) == 1
    assert [name for block in numbers.blocks(rows) for name in block.heads].count("block") == 0
    table.write(rows, tmp_path / "rows.csv")
    assert "deep" in (tmp_path / "rows.csv").read_text()


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: found["columns"]["weather"]["of"].append(0),
        lambda found: found["columns"]["weather"].update(of=[0, 7]),
        lambda found: found.update(images="another"),
        lambda found: found["columns"].pop("class"),
    ],
)
def test_damaged_groups_cost_no_number(tmp_path: Path, damage: object) -> None:
    keep(tmp_path, answers("10"))
    grouped(tmp_path, ["rain", "sun"])
    (path,) = (tmp_path / "groups").iterdir()
    content = json.loads(path.read_text())
    damage(content)  # type: ignore[operator]
    content.pop("digest")
    path.write_bytes(groups.documents.sealed(content))
    run = results.load(tmp_path)
    assert slices.columns(run) == {}
    assert [r["n"] for r in table.rows(run, metric="top1")] == [2]
    assert "another content than visionvitals writes there" in run.damage[0]
    path.write_bytes(path.read_bytes().replace(b"0000", b"0009"))
    assert slices.columns(results.load(tmp_path)) == {}


def test_an_image_set_of_a_plug_in_that_knows_no_labels_beforehand_has_classes(
    tmp_path: Path, toy_backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain:
        """Nothing but what the protocol asks."""

        card = ImageSetCard(
            spec="shapes:test", digest="plain", n=3, classes=("0", "1"), class_names=("0", "1"), kind="indices"
        )

        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Example:
            if index > 2:
                raise IndexError
            return Example(id=f"p{index}", image=Image.new("RGB", (32, 32), (index * 40, 0, 0)), label=index % 2)

    monkeypatch.setattr(planner, "open_images", lambda text: Plain())
    measure(tmp_path / "run", [toy_backbone], ["shapes:test"])
    found = groups.read(tmp_path / "run", "plain")
    assert found is not None
    assert found.classes == {"p0": "0", "p1": "1", "p2": "0"}


def test_a_column_that_is_no_group_is_noted(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("path,label,class,x,x,site\na.png,0,cat,1,2,north\n")
    images = planner.open_images(f"csv:{tmp_path / 'list.csv'}")
    assert next(note for note in images.card.notes if "no groups" in note).endswith(": class, x")
    found = groups.of_set(images)
    assert found is not None
    assert set(found.columns) == {"class", "site"}
