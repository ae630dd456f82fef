"""The report group by group: every number is that of the group's images alone, beside its n."""

from pathlib import Path

import fake_run
import numpy as np
import opened_page
import pytest

from visionvitals import stats
from visionvitals.report import build, groups
from visionvitals.results import Run, load, signs

WEATHER = ["fog"] * 60 + ["sun"] * 120 + ["hail"] + [""] * 19


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two backbones, 200 images: 60 in fog, 120 in the sun, one in hail, the others in no weather; each with a camera of its own."""
    columns = {"weather": WEATHER, "camera": [f"camera {i}" for i in range(200)]}
    return load(fake_run.write(tmp_path_factory.mktemp("groups") / "run", columns=columns))


def test_groups_are_columns_with_at_least_two_groups_of_some_images(run: Run) -> None:
    (found,) = groups.groupings(run)
    assert (found.column, list(found.parts), found.left_out) == ("weather", ["fog", "sun"], 1)


def test_signs_by_group_are_those_of_its_images(run: Run) -> None:
    (grouping,) = groups.groupings(run)
    columns = signs.columns(run)
    rows = groups.signs_of(grouping, columns).rows
    assert [(backbone, *values) for (backbone, _), values in rows.items()] == [(b, "fog", "sun") for b in run.backbones]
    clean = run.of("clean")[0]
    values = run.values(clean, "top1")[1]
    place = [c.sign.title for c in columns].index("clean top-1")
    readings = [r[place] for r in rows[clean.backbone, clean.images].values()]
    assert [r.estimate for r in readings if r] == [stats.estimate(values[:60]), stats.estimate(values[60:180])]


def test_the_first_chart_of_a_study_is_shown_by_group(run: Run) -> None:
    (grouping,) = groups.groupings(run)
    plot = groups.chart(run, "shuffle", grouping)
    assert plot is not None
    assert [m.title for m in plot.multiples] == ["fog, n = 60", "sun, n = 120"]
    point = next(p for p in run.of("shuffle") if p.condition["grid"] == (4, 4))
    drawn = next(r for r in plot.multiples[0].records if r["backbone"] == point.backbone and r["x"] == "4x4")
    assert drawn["v"] == pytest.approx(np.mean(run.values(point, "top1")[1][:60]))


def test_the_page_holds_groups_compressed_and_only_where_there_are_some(run: Run, tmp_path: Path) -> None:
    page = build.render(run)
    assert 'href="#by-group"' in page
    assert "n 120" not in page
    whole = opened_page.opened(page)
    assert "<summary>By weather</summary>" in whole
    assert '<span class="n">n 120</span>' in whole
    assert "1 smaller group in <code>vitals table --by weather</code>" in whole
    drawn = opened_page.specifications(page)
    assert len(drawn["occlusion/4"]) == 2 * len(drawn["occlusion/0"])
    without = build.render(load(fake_run.write(tmp_path / "run", n=8, studies=("clean", "occlusion"))))
    assert "by-group" not in without
    assert "grouped" not in opened_page.opened(without).partition("</style>")[2].partition("<script>")[0]
