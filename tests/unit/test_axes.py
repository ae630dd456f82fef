"""Studies that measure many points in one pass, look at masks, name other backbones and keep what they computed: planned, run, read, shown."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from visionvitals import stats
from visionvitals.datasets.base import cache
from visionvitals.errors import VitalsError
from visionvitals.plan import planner
from visionvitals.plan.identity import cell_id
from visionvitals.plan.request import Plan, Section
from visionvitals.report import build, charts
from visionvitals.results import load, signs, table
from visionvitals.run import runner
from visionvitals.run.store import Store

CPU = torch.device("cpu")
SOURCE = '''"""Means of the pixels on and off the object, by channel."""
from dataclasses import dataclass
from visionvitals.study import BackboneSpec, Chart, Metric, Scores, Sign
AXES = ("channel", "part")
LABELS = "none"
METRICS = {"mean": Metric(title="mean of the pixels", meaning="over the pixels", unit="share", better=None)}
CHARTS = (
    Chart(x="channel", x_title="channel", metric="mean", title="by channel"),
    Chart(x="channel", x_title="channel", y="part", metric="mean", where={"gain": 1.0}),
)
SIGNS = (
    Sign(title="red", kind="mean", metric="mean", where={"part": "on", "channel": 0}),
    Sign(title="darkest", kind="lowest", metric="mean", where={"part": "on"}, x="channel"),
)
@dataclass(frozen=True, kw_only=True)
class Condition:
    gain: float = 1.0
    other: BackboneSpec = BackboneSpec("")
def conditions(preset, size):
    return [Condition(other=BackboneSpec("*"))]
def refusal(condition, backbone, images):
    return None if "mask" in images.provides else "there is no mask"
def measure(job):
    if job.condition.other:
        job.companion(job.condition.other)
    def fill(arrays, start):
        for k in range(start, len(job.ids)):
            arrays["mean"][k] = [[job.pixels[k][job.masks[k] == on][:, c].mean() / 255 for on in (1, 0)] for c in range(3)]
            yield k + 1
    means = job.memo_rows("colours", {}, {"mean": ((3, 2), "float64")}, fill)["mean"]
    for c in range(3):
        for p, part in enumerate(("on", "off")):
            yield Scores(job.ids, {"mean": means[:, c, p] * job.condition.gain}, (c, part))
    import torch
    for k, item in enumerate(job.ids):
        if item in job.exhibits:
            job.keep(item, torch.from_numpy(job.pixels[k].copy()).permute(2, 0, 1) / 255)
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
    assert list(cell.points) == [(c, part) for c in range(3) for part in ("on", "off")]
    run = load(tmp_path / "run")
    rows = table.rows(run)
    assert {(r["channel"], r["part"], r["n"]) for r in rows} == {(c, p, 6) for c in range(3) for p in ("off", "on")}
    line, heat = charts.plots(run, "colours")
    assert [m.title for m in line.multiples] == ["part off", "part on"]
    assert (line.kind, heat.kind, heat.x_order, heat.y_order) == ("line", "heat", ("0", "1", "2"), ("off", "on"))
    on = {r["channel"]: r["value"] for r in rows if r["part"] == "on"}
    red, darkest = (next(iter(c.readings.values())).estimate for c in signs.columns(run))
    assert red.value == on[0]
    assert darkest == stats.extreme(
        run.aligned([(p, "mean") for p in run.points if p.at[1] == "on"]), "min", bounds=(0, 1)
    )
    assert min(on.values()) <= darkest.value <= max(on.values())
    assert "by channel" in build.build(run).read_text(encoding="utf-8")


def test_the_extremes_of_two_networks_are_compared_over_the_same_images(
    tmp_path: Path, colours: str, toy_backbone: str
) -> None:
    both = (toy_backbone, f"{toy_backbone}?seed=1")
    outcome = runner.execute(
        planner.make(plan(colours, both, "shapes:test?n=20&size=32"), device=CPU), out=tmp_path / "run", device=CPU
    )
    assert outcome.failed == ()
    run = load(tmp_path / "run")
    (darkest,) = (c for c in signs.columns(run) if c.sign.title == "darkest")
    (images,) = run.images
    first, second = run.backbones
    points = [darkest.readings[b, images].points for b in (second, first)]
    scores = run.aligned([(p, "mean") for several in points for p in several])
    found = signs.compare(run, darkest, images, first, second)
    assert found == stats.extreme_difference(scores[:, :3], scores[:, 3:], bounds=(0, 1))
    values = [darkest.readings[b, images].estimate.value for b in (second, first)]
    assert found is not None
    assert found.value == pytest.approx(values[0] - values[1])


def test_a_set_without_masks_is_skipped_with_the_reason(colours: str, toy_backbone: str, toy_images: str) -> None:
    with pytest.raises(VitalsError, match=r"must have something to measure.* 1 skipped: there is no mask"):
        planner.make(plan(colours, (toy_backbone,), toy_images), device=CPU)


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
    assert cell_id(moved) == cell_id(first)
    assert len({cell_id(c) for c in planned.cells}) == 4


def test_another_normalisation_of_the_other_backbone_is_another_cell(colours: str, toy_backbone: str) -> None:
    section = Section(name=colours, values={"other": ("tiny:vit", "tiny:vit?mean=0.2")})
    asked = dataclasses.replace(plan(colours, (toy_backbone,)), studies=(section,))
    assert len(planner.make(asked, device=CPU).cells) == 2


def test_another_backbone_that_cannot_be_had_is_a_skip(colours: str, toy_backbone: str) -> None:
    section = Section(name=colours, values={"other": ("timm:no_such_net",)})
    asked = dataclasses.replace(plan(colours, (toy_backbone,)), studies=(section,))
    with pytest.raises(VitalsError, match=r"1 skipped: it needs another backbone: .*no_such_net"):
        planner.make(asked, device=CPU)


def test_labels_that_do_not_fit_name_the_studies_that_can_do_without(toy_backbone: str) -> None:
    with pytest.raises(VitalsError, match="must have as many classes"):
        planner.make(plan("clean", (toy_backbone,)), device=CPU)


def test_masks_are_cut_as_the_pixels_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path))
    from visionvitals.core import Preprocess

    preprocess = Preprocess(size=(32, 32), resize=40, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    images = planner.open_images("shapes:test?n=3&size=80&variant=flat")
    for _ in range(2):  # made, then read
        found = cache.decoded(images, preprocess)
        assert found.masks is not None
        assert found.textures is not None
        assert found.masks.shape == (3, 32, 32)
        assert set(np.unique(found.masks)) == {0, 1}
        whole = images[0].mask
        assert whole is not None
        assert np.array_equal(found.masks[0], whole[8:72:2, 8:72:2]) or np.array_equal(
            found.masks[0], whole[9:73:2, 9:73:2]
        )
