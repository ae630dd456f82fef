"""The simulation of a cluster: what can be said without it is so, and what docs/scale.md claims holds on a small one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import benchmark_files
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    return benchmark_files.loaded("scale")


@pytest.fixture(scope="module")
def free(scale: ModuleType) -> Any:
    """A world in which nothing costs but forward passes, on GPUs that are alike."""
    return scale.World(load=0.0, part=0.0, calls=0, decode=0.0, spread=0.0)


@pytest.mark.parametrize("way", ["Dealt", "Static"])
def test_one_gpu_without_deaths_takes_the_sum_of_the_work(scale: ModuleType, free: Any, way: str) -> None:
    cells = scale.cells_of(free, 4, 5, 50_000)
    found = scale.simulated(free, cells, 1, getattr(scale, way))
    assert found.makespan == pytest.approx(sum(cell["cost"] for cell in cells))
    assert found.utilisation == pytest.approx(1)
    assert (found.again, found.deaths, found.lost) == (0, 0, 0)


@pytest.mark.parametrize("way", ["Dealt", "Static"])
def test_what_cannot_be_divided_keeps_one_of_two_busy(scale: ModuleType, free: Any, way: str) -> None:
    cells = scale.cells_of(free, 1, 1, 4096)
    assert cells[0]["parts"] == 1
    found = scale.simulated(free, cells, 2, getattr(scale, way))
    assert found.makespan == pytest.approx(cells[0]["cost"])
    assert found.utilisation == pytest.approx(0.5)


def test_what_stands_beside_the_passes_is_added_once(scale: ModuleType, free: Any) -> None:
    cells = scale.cells_of(free, 2, 3, 8192)
    world = replace(free, load=7.0, part=0.25, decode=0.001, cores=4)
    found = scale.simulated(world, cells, 1, scale.Dealt)
    beside = 2 * 7.0 + 2 * 3 * 2 * 0.25 + 8192 * 0.001 / 4
    assert found.makespan == pytest.approx(sum(cell["cost"] for cell in cells) + beside)


@pytest.mark.parametrize("way", ["Dealt", "Static"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_part_is_finished_once_whoever_dies(scale: ModuleType, way: str, seed: int) -> None:
    world = scale.World(life=60.0, restart=10.0, load=1.0)
    cells = scale.cells_of(world, 4, 20, 50_000)
    found = scale.simulated(world, cells, 8, getattr(scale, way), seed=seed)
    assert found.measured == Counter({(cell["id"], part): 1 for cell in cells for part in range(cell["parts"])})
    assert found.twice == 0
    assert 0 < found.again <= found.deaths, "a process dies of one part at most"
    assert found.lost > 0
    assert found.makespan > found.bound


def test_a_death_of_nothing_costs_nothing(scale: ModuleType) -> None:
    cells = scale.cells_of(scale.World(), 3, 10, 50_000)
    without = scale.simulated(scale.World(), cells, 8, scale.Dealt)
    assert without.begun == without.finished == sum(cell["parts"] for cell in cells)
    assert scale.simulated(scale.World(life=1e12), cells, 8, scale.Dealt).makespan == without.makespan


def test_dealing_keeps_gpus_busy_that_differ_and_the_model_says_how_long(scale: ModuleType) -> None:
    world = scale.World(life=10 * 3600.0)
    cells = scale.cells_of(world, 20, 40, 50_000)
    dealt, static = (scale.simulated(world, cells, 8, way) for way in (scale.Dealt, scale.Static))
    assert dealt.utilisation > 0.95 > static.utilisation
    speeds = sum(cell["cost"] for cell in cells) / dealt.bound
    said = sum(scale.model(world, cells, 8, 50_000).values()) * 8 / speeds
    assert said == pytest.approx(dealt.makespan, rel=0.05)


def test_the_page_shows_every_table_and_figure(scale: ModuleType) -> None:
    page = (ROOT / "docs" / "scale.md").read_text("utf-8")
    shown = page.split(scale.MARKS[0])[1].split(scale.MARKS[1])[0]
    titles = ("10,000 cells of 20 networks", "One DeiT-S, the", "One network, the", "Where GPUs wait")
    assert [f"**{title}" in shown for title in titles] == [True] * 4
    assert f"the {scale.passes():g} passes of a `paper` sweep" in shown
    assert (ROOT / "docs" / "images" / "scale_parts.svg").is_file()
