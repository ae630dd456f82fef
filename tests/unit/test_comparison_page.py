"""The comparison as a page: one file without a script, everything on it escaped, thumbnails of what was measured only."""

import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_grow import measure, pictures

from invented_cells import CELL, OTHER, grouped, keep
from visionvitals import cli
from visionvitals.plan import planner
from visionvitals.report import comparison
from visionvitals.results import compare, compared, load
from visionvitals.results.compare import Difference
from visionvitals.stats import Estimate


def difference(value: float, low: float, high: float) -> Difference:
    metric = compare.Metric(title="top-1", meaning="", unit="share", better="high")
    e = Estimate(value, low, high, 100)
    return Difference(
        study="s", images="i", title="t", condition={}, metric=metric, share=True, better="high", a=e, b=e, value=e
    )


def test_a_forest_holds_every_interval_and_zero_is_in_the_middle() -> None:
    (forest,) = comparison._forests("x", [("one", difference(0.1, -0.02, 0.23)), ("two", difference(-0.4, -0.43, 0.0))])
    assert forest.end == pytest.approx(0.5)
    assert [forest.at(x) for x in (-0.5, 0, 0.25, 0.5)] == [0, 50, 75, 100]
    assert [text for _, text in forest.ticks()] == ["\N{MINUS SIGN}50", "0", "+50"]


def test_names_and_values_are_escaped_and_nothing_is_fetched(tmp_path: Path) -> None:
    evil = "tiny:<img src=http://x/y onerror=alert(1)>"
    keep(tmp_path, {f"{i:04d}<b>": float(i < 3) for i in range(6)}, backbone=dataclasses.replace(OTHER, spec=evil))
    keep(tmp_path, {f"{i:04d}<b>": float(i > 2) for i in range(6)})
    pair = compare.pair(load(tmp_path), "tiny:vit", evil)
    comparison.write(compared.compared(pair), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<img" not in page
    assert "<b>0" not in page
    assert "<script" not in page
    assert "Content-Security-Policy" in page
    assert not re.search('<[^>]*(src|href)="(?!data:|#)', page)
    assert "0000&lt;b&gt;" in page


@pytest.fixture
def run(tmp_path: Path, toy_backbone: str) -> Path:
    data = pictures(tmp_path / "set", n=24)
    measure(tmp_path / "run", [f"x={toy_backbone}", f"y={toy_backbone}?seed=1"], [data])
    return tmp_path / "run"


def page_of(run: Path) -> str:
    assert cli.main(["compare", str(run), "x", "y", "--html", str(run / "page.html")]) == 0
    return (run / "page.html").read_text()


def test_the_pictures_that_flip_are_shown_while_they_are_what_was_measured(run: Path) -> None:
    pair = compare.pair(load(run), "x", "y")
    (found,) = compared.compared(pair)
    wanted = sum(min(len(items), compared.PICTURES) for items in (found.flips[0].lost, found.flips[0].gained))
    page = page_of(run)
    assert wanted > 0
    assert page.count('<img src="data:image/webp') == wanted
    kept = comparison._exhibits(pair, found.flips[0])
    changed = run.parent / "set" / "0.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(changed)
    page = page_of(run)
    assert page.count('<img src="data:image/webp') == len(kept), "only what the run itself keeps"
    assert (len(kept) == wanted) or "are not shown" in page


def test_a_thumbnail_is_the_picture(run: Path) -> None:
    names = list(load(run).images)
    spec = load(run).images[names[0]]["spec"]
    album = comparison._Album(lambda name: planner.open_images(spec))
    data = album._thumbnail(names[0], "3.png")
    assert data is not None
    seen = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)
    there = np.asarray(Image.open(run.parent / "set" / "3.png"), dtype=float)
    assert np.abs(seen.mean(axis=(0, 1)) - there.mean(axis=(0, 1))).max() < 5
    assert album._thumbnail(names[0], "none.png") is None


def test_the_verdict_stands_before_the_numbers_and_each_group_has_one(tmp_path: Path) -> None:
    keep(tmp_path, {f"{i:04d}": float(i < 3) for i in range(6)}, backbone=OTHER)
    keep(tmp_path, {f"{i:04d}": float(i > 2) for i in range(6)})
    grouped(tmp_path, ["rain"] * 3 + ["sun"] * 3)
    pair = compare.pair(load(tmp_path), "tiny:vit", "tiny:cnn")
    comparison.write(compared.compared(pair, by="weather"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.index("<h2>Verdicts") < page.index("<h2>Differences")
    rows = re.findall(r'<th scope="row">(\w+)</th>', page)
    assert rows == ["rain", "sun"]
    assert page.count(">measured alike: comparability digest ") == 1
    assert CELL.images.spec in page


def test_pairs_of_which_nothing_differs_are_apart(tmp_path: Path, toy_backbone: str) -> None:
    """Both have no sentence about what differs, and are two comparisons all the same."""
    data, nets = pictures(tmp_path / "set", n=24), [f"x={toy_backbone}", f"y={toy_backbone}?seed=1"]
    for name in ("old", "new"):
        measure(tmp_path / name, nets, [data])
    page = tmp_path / "page.html"
    assert cli.main(["compare", str(tmp_path / "old"), str(tmp_path / "new"), "--html", str(page)]) == 0
    assert re.findall(r"<h[12]>(\w against \w)</h[12]>", page.read_text()) == ["x against x", "y against y"]


def test_the_page_says_how_many_images_were_asked(tmp_path: Path, toy_backbone: str) -> None:
    data, nets = pictures(tmp_path / "set", n=24), [f"x={toy_backbone}", f"y={toy_backbone}?seed=1"]
    measure(tmp_path / "run", nets, [f"some={data}"], limit=10)
    assert "<dd>some, 10 of 24 images</dd>" in page_of(tmp_path / "run")
