"""From cells to tables: images first, runs averaged within the image."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from visionvitals import stats
from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess, Row
from visionvitals.errors import VitalsError
from visionvitals.run import table
from visionvitals.run.store import Store


@dataclass(frozen=True, kw_only=True)
class Condition:
    fraction: float = 0.0
    run: int = 0


CELL = Cell(
    study="occlusion",
    version=1,
    condition=Condition(),
    backbone=BackboneCard(
        spec="tiny:vit",
        architecture="vit",
        digest="aa",
        preprocess=Preprocess(size=(64, 64), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs=2,
        parameters=1,
    ),
    images=ImageSetCard(spec="shapes:test", digest="bb", n=2, classes=("a", "b"), class_names=("a", "b")),
)
OTHER = dataclasses.replace(CELL.backbone, spec="tiny:cnn", digest="cc")


def fill(root: Path, values: dict[tuple[float, int, str], dict[str, float]]) -> list[table.Group]:
    """A store of top-1 values by (fraction, run, backbone), as groups."""
    store = Store(root)
    for (fraction, run, spec), items in values.items():
        backbone = OTHER if spec == OTHER.spec else CELL.backbone
        cell: Cell = dataclasses.replace(CELL, condition=Condition(fraction=fraction, run=run), backbone=backbone)
        rows = [
            row for item, value in items.items() for row in (Row(item, "top1", value), Row(item, "prediction", 3.0))
        ]
        store.write(cell, rows, facts={}, exhibits={})
    return table.groups(store.cells())


def test_runs_are_averaged_within_the_image(tmp_path: Path) -> None:
    (group,) = fill(tmp_path, {(0.5, 0, "tiny:vit"): {"a": 1.0, "b": 0.0}, (0.5, 1, "tiny:vit"): {"a": 0.0, "b": 0.0}})
    assert group.condition == {"fraction": 0.5}
    assert group.runs == 2
    assert group.per_image("top1") == {"a": 0.5, "b": 0.0}
    assert group.estimate("top1").n == 2
    assert group.estimate("top1").value == 0.25
    assert group.std_over_runs("top1") == pytest.approx(0.5 / 2**0.5)  # of 0.5 and 0


def test_rows_have_a_column_for_every_field_and_are_in_order(tmp_path: Path) -> None:
    one = {"a": 1.0, "b": 0.0, "c": 1.0}
    found = table.rows(
        fill(tmp_path, {(0.5, 0, "tiny:vit"): one, (0.25, 0, "tiny:vit"): one, (0.25, 0, "tiny:cnn"): one})
    )
    assert [(row["fraction"], row["backbone"]) for row in found] == [
        (0.25, "tiny:cnn"),
        (0.25, "tiny:vit"),
        (0.5, "tiny:vit"),
    ]
    first = found[0]
    assert list(first) == [
        *("study", "backbone", "data", "fraction", "metric", "n", "runs", "value", "low", "high", "std_over_runs")
    ]
    assert first["metric"] == "top1"  # an identifier such as `prediction` is never averaged
    assert (first["value"], first["low"], first["high"], first["n"]) == stats.wilson(2, 3)


def test_differences_are_paired_over_the_common_images(tmp_path: Path) -> None:
    found = fill(
        tmp_path,
        {
            (0.5, 0, "tiny:vit"): {"a": 1.0, "b": 1.0, "c": 0.0},
            (0.5, 0, "tiny:cnn"): {"b": 0.0, "c": 0.0, "d": 1.0},
            (0.9, 0, "tiny:cnn"): {"a": 1.0},
        },
    )
    (row,) = table.differences(found, "tiny:vit", "tiny:cnn")
    assert (row["condition"], row["metric"], row["n"], row["difference"]) == ("fraction=0.5", "top1", 2, -0.5)
    assert row["low"] <= -0.5 <= row["high"]


def test_tables_are_written_as_csv_and_parquet(tmp_path: Path) -> None:
    rows = table.rows(fill(tmp_path, {(0.5, 0, "tiny:vit"): {"a": 1.0, "b": 0.0}}))
    table.write(rows, tmp_path / "t.csv")
    table.write(rows, tmp_path / "t.parquet")
    with (tmp_path / "t.csv").open() as file:
        (read,) = csv.DictReader(file)
    assert (read["study"], float(read["value"]), int(read["n"])) == ("occlusion", 0.5, 2)
    assert pq.read_table(tmp_path / "t.parquet").to_pylist()[0]["low"] == rows[0]["low"]
    with pytest.raises(VitalsError, match=r"must end in \.csv or \.parquet. Got 't\.txt'"):
        table.write(rows, tmp_path / "t.txt")
