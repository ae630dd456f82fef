"""Studies that measure many points in one pass, look at masks, name other backbones and keep products: planned, run, read, shown."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from visionvitals.core import Job
from visionvitals.datasets.base import cache as _cache
from visionvitals.errors import VitalsError
from visionvitals.report import build, charts, read, signs
from visionvitals.run import planner, products, runner, table
from visionvitals.run.planner import Plan, Section
from visionvitals.run.store import Store

CPU = torch.device("cpu")
SOURCE = '''"""Means of the pixels on and off the object, by channel."""
from collections.abc import Iterator
from dataclasses import dataclass
import numpy as np
from visionvitals.core import BackboneCard, BackboneSpec, ImageSetCard, Job, Preset, Row
from visionvitals.figure import Chart, Sign
VERSION = 1
TITLE = "Colours"
AXES = ("channel", "part")
LABELS = "none"
CHARTS = (
    Chart(x="channel", x_title="channel", metric="information_loss", y_title="mean", title="by channel"),
    Chart(x="channel", x_title="channel", y="part", metric="information_loss", y_title="mean", where={"gain": 1.0}),
)
SIGNS = (
    Sign(title="red over blue", kind="index", metric="information_loss", where={"part": "on"}, share=False,
         index=lambda points, m: m[..., 0] / m[..., -1]),
)
PUBLISHED = ()
@dataclass(frozen=True, kw_only=True)
class Condition:
    gain: float = 1.0
    other: BackboneSpec = BackboneSpec("")
def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    return [Condition(other=BackboneSpec("*"))]
def refusal(condition, backbone, images):
    return None if "mask" in images.provides else "there is no mask"
def passes(condition):
    return 2
def measure(job: Job) -> Iterator[Row]:
    if job.condition.other:
        job.companion(job.condition.other)
    def fill(arrays, start):
        for k in range(start, len(job.ids)):
            arrays["mean"][k] = [[job.pixels[k][job.masks[k] == on][:, c].mean() / 255 for on in (1, 0)] for c in range(3)]
            yield k + 1
    means = job.product("colours", {"version": 1}, len(job.ids), {"mean": ((3, 2), "float64")}, fill)["mean"]
    for k, item in enumerate(job.ids):
        for c in range(3):
            for p, part in enumerate(("on", "off")):
                yield Row(item, "information_loss", float(means[k, c, p]) * job.condition.gain, (c, part))
        if item in job.exhibits:
            import torch
            job.keep(item, torch.from_numpy(job.pixels[k]).permute(2, 0, 1) / 255)
'''


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "colours.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


def plan(study: str, backbones: tuple[str, ...], data: str = "shapes:test?n=6&size=32") -> Plan:
    return Plan(backbones=backbones, data=(data,), studies=(Section(name=study),))


def test_axes_are_as_good_as_fields_from_the_run_to_the_report(tmp_path: Path, colours: str, toy_backbone: str) -> None:
    planned = planner.make(plan(colours, (toy_backbone,)), device=CPU)
    assert planned.alignments == {}, "16 shapes are no 4 outputs, and nobody asked for labels"
    outcome = runner.execute(planned, out=tmp_path / "run", device=CPU)
    assert outcome.failed == ()
    (cell,) = Store(tmp_path / "run" / "store").cells()
    assert cell.axes == ("channel", "part")
    assert cell.points == [(c, part) for c in range(3) for part in ("on", "off")]
    rows = table.rows(table.read([tmp_path / "run"]))
    assert [(r["channel"], r["part"], r["n"]) for r in rows] == [(c, p, 6) for c in range(3) for p in ("off", "on")]
    run = read.load(tmp_path / "run")
    line, heat = charts.plots(run, "colours")
    assert [m.title for m in line.multiples] == ["part off", "part on"]
    assert (line.kind, heat.kind, heat.x_order, heat.y_order) == ("line", "heat", ("0", "1", "2"), ("off", "on"))
    (column,) = signs.columns(run)
    (reading,) = column.readings.values()
    on = {r["channel"]: r["value"] for r in rows if r["part"] == "on"}
    assert reading.estimate.value == pytest.approx(on[0] / on[2])
    assert reading.estimate.low < reading.estimate.value < reading.estimate.high
    assert not column.share
    assert "by channel" in build.build(tmp_path / "run").read_text(encoding="utf-8")


def test_a_set_without_masks_is_skipped_with_the_reason(colours: str, toy_backbone: str, toy_images: str) -> None:
    planned = planner.make(plan(colours, (toy_backbone,), toy_images), device=CPU)
    assert [skip.reason for skip in planned.skips] == ["there is no mask"]


def test_a_star_is_every_backbone_and_weights_decide_the_identity(colours: str, toy_backbone: str) -> None:
    both = (toy_backbone, f"{toy_backbone}?seed=1")
    planned = planner.make(plan(colours, both), device=CPU)
    assert [(c.backbone.spec, c.condition.other) for c in planned.cells] == [(a, b) for a in both for b in both]
    assert all([spec for spec, _ in c.companions] == [c.condition.other] for c in planned.cells)
    first = planned.cells[0]
    moved = dataclasses.replace(
        first,
        condition=dataclasses.replace(first.condition, other="elsewhere"),
        companions=(("elsewhere", first.companions[0][1]),),
    )
    assert planner.cell_id(moved) == planner.cell_id(first)
    assert len({planner.cell_id(c) for c in planned.cells}) == 4


def test_another_normalisation_of_the_other_backbone_is_another_cell(colours: str, toy_backbone: str) -> None:
    section = Section(name=colours, values={"other": ("tiny:vit", "tiny:vit?mean=0.2")})
    asked = dataclasses.replace(plan(colours, (toy_backbone,)), studies=(section,))
    assert len(planner.make(asked, device=CPU).cells) == 2


def test_another_backbone_that_cannot_be_had_is_a_skip(colours: str, toy_backbone: str) -> None:
    section = Section(name=colours, values={"other": ("timm:no_such_net",)})
    asked = dataclasses.replace(plan(colours, (toy_backbone,)), studies=(section,))
    (skip,) = planner.make(asked, device=CPU).skips
    assert "it needs another backbone" in skip.reason
    assert "no_such_net" in skip.reason


def test_labels_that_do_not_fit_name_the_studies_that_can_do_without(toy_backbone: str) -> None:
    with pytest.raises(VitalsError, match="must have as many classes"):
        planner.make(plan("clean", (toy_backbone,)), device=CPU)


def test_masks_are_cut_as_the_pixels_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))
    from visionvitals.core import Preprocess

    preprocess = Preprocess(size=(32, 32), resize=40, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    images = planner.open_images("shapes:test?n=3&size=80&variant=flat")
    for _ in range(2):  # made, then read
        found = _cache.decoded(images, preprocess)
        assert found.masks is not None
        assert found.textures is not None
        assert found.masks.shape == (3, 32, 32)
        assert set(np.unique(found.masks)) == {0, 1}
        whole = images[0].mask
        assert whole is not None
        assert np.array_equal(found.masks[0], whole[8:72:2, 8:72:2]) or np.array_equal(
            found.masks[0], whole[9:73:2, 9:73:2]
        )


def test_a_killed_product_goes_on_and_a_finished_one_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))
    starts: list[int] = []

    def make(stop: int) -> Any:
        def fill(arrays: Any, start: int) -> Any:
            starts.append(start)
            for k in range(start, stop):
                arrays["x"][k] = k
                yield k + 1
            if stop < 10:
                raise KeyboardInterrupt

        return products.product({}, "ten", {"a": 1}, 10, {"x": ((2,), "float32")}, fill)["x"]

    with pytest.raises(KeyboardInterrupt):
        make(4)
    for _ in range(2):
        assert make(10).tolist() == [[k, k] for k in range(10)]
    assert starts == [0, 4]
    assert [e.description for e in _cache.entries()] == ["ten, 10 images"]


def test_a_process_that_makes_the_same_product_at_once_takes_nothing_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))

    def make(fill: Any) -> Any:
        return products.product({}, "ten", {"a": 1}, 10, {"x": ((), "int64")}, fill)["x"]

    def killed(arrays: Any, start: int) -> Any:
        arrays["x"][0] = 1
        raise KeyboardInterrupt
        yield

    def whole(arrays: Any, start: int) -> Any:
        arrays["x"][:5] = range(1, 6)
        with pytest.raises(KeyboardInterrupt):  # the other one begins here, before any row is said to be done
            make(killed)
        arrays["x"][5:] = range(6, 11)
        yield 10

    assert make(whole).tolist() == list(range(1, 11))


def test_without_a_run_a_product_is_computed_in_memory() -> None:
    job = Job.__dataclass_fields__["product"].default
    assert job("one", {}, 1, {"x": ((), "int64")}, lambda arrays, start: iter(()))["x"].tolist() == [0]


def test_a_second_process_that_begins_does_not_undo_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))
    columns = {"x": ((), "float32")}

    def second(arrays: Any, start: int) -> Any:
        yield from ()

    def first(arrays: Any, start: int) -> Any:
        arrays["x"][:] = 1
        with pytest.raises(RuntimeError, match="stopped at 0 of 4"):
            products.product({}, "both", {}, 4, columns, second)
        yield 4

    assert products.product({}, "both", {}, 4, columns, first)["x"].tolist() == [1, 1, 1, 1]
