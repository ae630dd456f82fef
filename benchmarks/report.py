"""How large the report of a big run is, and how soon a browser can use it: bytes, and seconds in headless Chromium.

The run is built by the store's own writer with random answers and drawn pictures. Limits: 15 MB, and 2 s until the first screen answers.

    python benchmarks/report.py --backbones 20 --studies 12 --images 50000 --out /tmp/run
"""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import results
from PIL import Image

from visionvitals import figure
from visionvitals.core import Cell

sys.path.append(str(Path(__file__).parents[1] / "tests" / "browser"))
import chromium

FRACTIONS, FILLS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9), ("black", "mean", "blur")
PICTURES = 4
BYTES, SECONDS = 15e6, 2.0
"""The limits."""
USABLE = "document.querySelector('form.controls')?.hidden === false"
DRAWN = "document.documentElement?.dataset.drawn !== undefined"
FILTERED = """new Promise((done) => {
  const field = document.getElementById("only-backbones"), cards = () => document.querySelectorAll(".cards > :not([hidden])").length;
  field.value = "net0"; field.dispatchEvent(new Event("input"));
  const one = cards();
  field.value = ""; field.dispatchEvent(new Event("input"));
  requestAnimationFrame(() => requestAnimationFrame(() => done([one, cards()])));
})"""
"""The filter of backbones is used and taken back, and the screen is painted: cards while it was used and after."""


class Measured(NamedTuple):
    """What was found of a page.

    Attributes:
        size: bytes.
        usable: seconds from opening it until its first screen has answered a filter and is painted again.
        drawn: seconds from opening it until every chart of every section is drawn.
    """

    size: int
    usable: float
    drawn: float


def records(studies: int) -> list[figure.Record]:
    """The baseline and studies like that of holes, so many in all."""
    baseline, holes = results.RECORDS
    return [baseline, *(dataclasses.replace(holes, name=f"holes{k}", title=f"Holes {k}") for k in range(1, studies))]


def cells(backbones: int, studies: int, images: int) -> Iterator[Cell]:
    """Every study on every backbone: the baseline, and every fraction of every fill."""
    data = results.image_set(images)
    holes = [results.Holes(fraction=fraction, fill=fill) for fill in FILLS for fraction in FRACTIONS]
    for card in map(results.backbone, range(backbones)):
        for k, record in enumerate(records(studies)):
            for condition in holes if k else [results.Clean()]:
                yield Cell(study=record.name, version=results.VERSION, condition=condition, backbone=card, images=data)


def pictures(made: list[Cell]) -> results.Shown:
    """`PICTURES` pictures of 128 x 128 px for each study and condition: blurred noise of which squares are taken."""
    found: dict[tuple[str, object], list[Image.Image]] = {}
    for cell in made:
        if (cell.study, cell.condition) not in found:
            rng = np.random.default_rng(len(found))
            found[cell.study, cell.condition] = [_picture(rng, k, cell.condition) for k in range(PICTURES)]
    return found


def _picture(rng: np.random.Generator, number: int, condition: object) -> Image.Image:
    coarse = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((128, 128), Image.Resampling.BICUBIC)).reshape(8, 16, 8, 16, 3)
    gone = rng.random((8, 1, 8, 1, 1)) < getattr(condition, "fraction", 0.0)
    return Image.fromarray(np.where(gone, 0, pixels).astype(np.uint8).reshape(128, 128, 3))


def in_browser(page: Path, backbones: int) -> Measured:
    """Open a page as a reader does.

    Raises:
        RuntimeError: its first screen did not answer as it must, or the page has said something wrong on its console.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromium.tab(Path(profile)) as tab:
        tab.size(1400, 900)
        began = time.perf_counter()
        tab.open(page)
        tab.wait(USABLE)
        answered = tab.run(FILTERED)
        usable = time.perf_counter() - began
        tab.wait(DRAWN, seconds=600)
        drawn = time.perf_counter() - began
        if answered[1] != backbones or not 1 <= answered[0] <= backbones or tab.console:
            raise RuntimeError(f"{backbones} cards must be filtered and come back. Got {answered}; {tab.console}")
    return Measured(page.stat().st_size, usable, drawn)


def table(found: Measured) -> str:
    """The measurements beside their limits, in Markdown."""
    rows = [
        ("size of the report", f"{found.size / 1e6:.2f} MB", f"{BYTES / 1e6:.0f} MB"),
        ("first screen has answered", f"{found.usable:.2f} s", f"{SECONDS:.0f} s"),
        ("every chart is drawn", f"{found.drawn:.1f} s", ""),
    ]
    return "\n".join(["| what | measured | limit |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", type=int, default=20)
    parser.add_argument("--studies", type=int, default=12)
    parser.add_argument("--images", type=int, default=50000)
    parser.add_argument("--out", type=Path, required=True, help="built where it is not there yet")
    chosen = parser.parse_args()
    if not (chosen.out / "plan.json").is_file():
        os.fsync = lambda file: None  # type: ignore[assignment]  # an invented run may be lost
        made = list(cells(chosen.backbones, chosen.studies, chosen.images))
        results.build(chosen.out, made, records(chosen.studies), shown=pictures(made))
    cpu, wall, peak, _ = results.measure(["report", str(chosen.out)])
    print(
        f"{chosen.backbones} backbones x {chosen.studies} studies x {chosen.images} images, read and written in "
        f"{wall:.0f} s ({cpu:.0f} CPU s, {peak:.0f} MB)\n"
    )
    print(table(in_browser(chosen.out / "report.html", chosen.backbones)))


if __name__ == "__main__":
    main()
