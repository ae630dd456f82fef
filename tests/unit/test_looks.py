"""Repeated looks: when they are, what each may err, and that all of them together err seldom enough."""

import itertools
from pathlib import Path
from types import ModuleType

import benchmark_files
import numpy as np
import pytest

from visionvitals import stats

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    return benchmark_files.loaded("looks")


@pytest.mark.parametrize("most", [1, 49, 74, 75, 100, 1000, 50_000, 10_000_000])
def test_looks_grow_by_half_and_spend_no_more_than_they_may(most: int) -> None:
    looks = stats.looks(most, alpha=0.03)
    assert sum(look.alpha for look in looks) == pytest.approx(0.03)
    assert [look.number for look in looks] == list(range(1, looks[0].of + 1))
    assert looks[-1].images == most
    assert min(most, 50, 10_000) <= looks[0].images <= max(75, most / 1000 * 1.5)
    for a, b in itertools.pairwise(looks):
        assert b.images == pytest.approx(1.5 * a.images, abs=1)
        assert a.alpha < b.alpha
        assert 1 - a.alpha < 1, "a level that a float can hold"


def test_one_look_is_the_usual_interval() -> None:
    assert stats.looks(60) == [stats.Look(1, 1, 60, 60, 0.05)]


@pytest.mark.parametrize("margin", [0.1, 0.6])
def test_at_the_margin_few_are_decided_and_far_from_it_most_images_are_saved(
    simulation: ModuleType, margin: float
) -> None:
    said, _ = simulation.mean(margin, margin)(np.random.default_rng(0), 5000, 50_000)
    assert 0.035 < np.mean(said != 0) < 0.05
    said, seen = simulation.mean(margin + 0.2, margin)(np.random.default_rng(0), 5000, 2000)
    assert np.all(said == 1)
    assert np.quantile(seen, 0.9) < 0.1


def test_looks_at_95_percent_each_would_err_far_more_often(simulation: ModuleType) -> None:
    """What the simulation must be able to show."""
    often = simulation.mean(0.6, 0.6)(np.random.default_rng(0), 5000, 20_000, lambda t: 0.05 * 12 * t)[0]
    assert np.mean(often != 0) > 0.1


def test_paired_differences_and_ratios_are_decided_as_seldom(simulation: ModuleType) -> None:
    for ends in (simulation.difference(0.1, -0.02, -0.02), simulation.kept(0.5, 0.5)):
        said, _ = ends(np.random.default_rng(1), 444, 400)
        assert np.mean(said != 0) < 0.05 + 3 * 0.011


@pytest.mark.parametrize("kind", ["formula", "extreme"])
def test_beyond_what_draws_can_tell_an_interval_goes_on_growing(kind: str) -> None:
    scores = (np.random.default_rng(2).random((400, 2)) < (0.3, 0.5)).astype(float)
    widths = []
    for level in (0.95, 0.99, 0.999, 1 - 1e-6, 1 - 1e-9):
        e = stats.extreme(scores, level=level)
        if kind == "formula":
            e = stats.formula(scores, lambda means: means[..., 0] - means[..., 1], level=level)
        widths.append(e.high - e.low)
    assert all(b > 1.1 * a for a, b in itertools.pairwise(widths))
    exact = stats.paired_difference(scores[:, 0], scores[:, 1], level=1 - 1e-6)
    if kind == "formula":
        assert widths[3] == pytest.approx(exact.high - exact.low, rel=0.15)


def test_the_page_shows_every_table_of_the_simulation(simulation: ModuleType) -> None:
    page = (ROOT / "docs" / "statistics.md").read_text("utf-8")
    shown = page.split(simulation.MARKS[0])[1].split(simulation.MARKS[1])[0]
    for title, sizes, rows in simulation.tables():
        own = shown.split(f"**{title[0].upper()}{title[1:]}**\n")[1].split("**")[0]
        lines = [line.split("|") for line in own.splitlines() if line.startswith("|")][2:]
        assert [line[1].strip() for line in lines] == [label for label, _, _ in rows for _ in sizes]
