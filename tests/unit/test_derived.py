"""Numbers computed from the answers that are kept: by their laws, and beside what the columns give by hand."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from invented_cells import keep
from visionvitals import stats
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.report import confidence
from visionvitals.results import Run, derived, load, table
from visionvitals.results.derived_metrics import METRICS
from visionvitals.results.run import Point
from visionvitals.run import runner

SECTION = Section(
    name="occlusion",
    values={"fraction": (0.0, 0.5, 1.0), "grid": ((4, 4),), "fill": ("black", "gray"), "run": (0, 1)},
)


UNRANKED = ("auroc", "rejection_ratio")
"""NaN where all answers are wrong, as those of random weights can be."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("derived") / "run"
    asked = Plan(backbones=("tiny:vit",), data=("shapes:test?n=48",), studies=(Section(name="clean"), SECTION))
    cpu = torch.device("cpu")
    runner.execute(planner.make(asked, device=cpu), out=folder, device=cpu, command=("vitals", "test"))
    return load(folder)


def at(run: Run, fraction: float, fill: str = "black") -> Point:
    (found,) = [p for p in run.of("occlusion") if (p.condition["fraction"], p.condition["fill"]) == (fraction, fill)]
    return found


def value(run: Run, p: Point, name: str) -> stats.Estimate:
    ((_, found),) = derived.of(run, [p], name)
    return found


def test_every_number_has_a_meaning_and_an_interval_or_none(run: Run) -> None:
    assert set(derived.DERIVED) == set(METRICS)
    for name, metric in METRICS.items():
        rows = table.rows(run, study="occlusion", metric=name)
        assert len(rows) == 6, name
        for row in rows:
            low, high = metric.bounds
            assert low <= row["value"] <= high or (name in UNRANKED and np.isnan(row["value"]))
            assert row["n"] == 48
            if not metric.interval:
                assert np.isnan(row["low"])
            elif not np.isnan(row["low"]):
                assert row["low"] <= row["value"] <= row["high"]


def test_where_nothing_is_removed_nothing_changes(run: Run) -> None:
    for fill in ("black", "gray"):
        clean = at(run, 0.0, fill)
        assert value(run, clean, "unchanged").value == 1
        assert value(run, clean, "class_shift").value == 0
        assert value(run, clean, "fill_agreement").value == 1


def test_where_all_is_removed_every_image_has_one_answer(run: Run) -> None:
    assert value(run, at(run, 1.0), "prediction_entropy").value == 0


def test_what_is_derived_is_what_the_columns_say(run: Run) -> None:
    p = at(run, 0.5)
    _, said = derived.by_run(run, p, "prediction")
    assert said.shape == (2, 48)
    _, clean = derived.by_run(run, run.of("clean")[0], "prediction")
    assert value(run, p, "unchanged").value == pytest.approx((said == clean).mean())
    _, grey = derived.by_run(run, at(run, 0.5, "gray"), "prediction")
    assert value(run, p, "fill_agreement").value == pytest.approx((said == grey).mean())
    assert value(run, at(run, 0.5, "gray"), "fill_agreement") == value(run, p, "fill_agreement")
    entropies, shifts = [], []
    for row in said:
        counts = [np.bincount(each.astype(int), minlength=16) / 48 for each in (row, clean[0])]
        entropies.append(-sum(share * np.log(share) for share in counts[0] if share))
        shifts.append(np.abs(counts[0] - counts[1]).sum() / 2)
    assert value(run, p, "prediction_entropy").value == pytest.approx(np.mean(entropies))
    assert value(run, p, "class_shift").value == pytest.approx(np.mean(shifts))
    sure, right = (derived.by_run(run, p, metric)[1][0] for metric in ("confidence", "top1"))
    told = stats.calibration(sure, right)
    assert told is not None
    assert value(run, p, "ece").value == told.ece
    assert value(run, p, "aurc") == told.aurc


def test_fills_are_compared_repetition_by_repetition(run: Run) -> None:
    p, q = at(run, 0.5), at(run, 0.5, "gray")
    alone = dataclasses.replace(q, group=dataclasses.replace(q.group, cells=q.group.cells[1:]))
    items, said = derived.by_run(run, p, "prediction")
    assert list(derived.of_runs(run, alone, "prediction", items)) == [1]
    _, grey = derived.by_run(run, q, "prediction")
    assert derived.agreement(run, p, alone).value == pytest.approx((said[1] == grey[1]).mean())


def test_a_group_of_the_images_has_its_own_numbers(run: Run) -> None:
    rows = table.rows(run, study="clean", metric="overconfidence", by="class")
    assert sum(row["n"] for row in rows) == 48
    _, right = derived.by_run(run, run.of("clean")[0], "top1")
    _, sure = derived.by_run(run, run.of("clean")[0], "confidence")
    assert sum(row["n"] * row["value"] for row in rows) / 48 == pytest.approx(float((sure - right).mean()))


def test_columns_that_an_earlier_run_lacks_are_no_error(run: Run, tmp_path: Path) -> None:
    keep(tmp_path, {"a": 1.0, "b": 0.0})
    old = load(tmp_path)
    assert derived.of(old, old.points, "ece") == []
    with pytest.raises(Exception, match="`metric` must be in the run"):
        table.rows(old, metric="ece")


def test_the_table_of_confidence_names_its_numbers(run: Run) -> None:
    shown = confidence.points(run)
    found = confidence.table(run, shown)
    assert found.metrics[:2] == ("top-1 %", "confidence %")
    assert len(found.rows) == len(shown) > 0
