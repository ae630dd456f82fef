"""What reading a finished run costs: CPU seconds and peak memory of `vitals table`, `report` and `status`, each in a process of its own.

The run is built by the store's own writer, with invented answers: the baseline and an occlusion-like study with three runs of each
condition, `--cells` in all on every backbone.

    python benchmarks/results.py --backbones 2 --cells 64 --images 50000 --out /tmp/run
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from visionvitals import figure, study
from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess, Scores
from visionvitals.files import write_safely
from visionvitals.plan.identity import cell_id
from visionvitals.run import folder, requests, wide
from visionvitals.run.store import Store

Shown = Mapping[tuple[str, Any], Sequence[Any]]
"""(study, condition) -> pictures of Pillow."""
NONE: Shown = MappingProxyType({})
VERSION = 1000
"""No installed study has it, so that all readers take what the run says of its studies."""
PREPROCESS = Preprocess(size=(224, 224), resize=256, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
PROVENANCE: dict[str, Any] = {
    "versions": {"visionvitals": "0", "python": "3", "torch": "2"},
    "commit": None,
    "dirty": False,
    "platform": "invented",
    "device": "cpu: none",
    "dtype": "float32",
    "batch_size": 32,
    "threads": 1,
    "command": [],
    "started": "2026-01-01T00:00:00+00:00",
}


@dataclass(frozen=True, kw_only=True)
class Clean:
    """The image as it is."""


@dataclass(frozen=True, kw_only=True)
class Holes:
    """Invented: a fraction of the image is gone."""

    fraction: float = 0.0
    fill: str = "black"
    run: int = 0


RECORDS = (
    figure.Record(
        name=study.BASELINE,
        version=VERSION,
        title="Clean accuracy",
        charts=(figure.Chart(x=""),),
        signs=(figure.Sign(title="top-1", kind="mean"),),
    ),
    figure.Record(
        name="holes",
        version=VERSION,
        title="Holes",
        charts=(figure.Chart(x="fraction", x_title="part that is gone", x_unit="share"),),
        signs=(
            figure.Sign(title="kept", kind="kept", where={"fraction": 0.5}, at="at one half"),
            figure.Sign(title="area", kind="area", x="fraction"),
        ),
        defaults={"fraction": 0.0, "fill": "black"},
    ),
)


def backbone(number: int) -> BackboneCard:
    """An invented network."""
    return BackboneCard(
        spec=f"timm:net{number}",
        architecture=f"net{number}",
        digest=f"{number:064x}",
        preprocess=PREPROCESS,
        outputs=1000,
        parameters=1,
    )


def image_set(images: int) -> ImageSetCard:
    """An invented set of so many images."""
    return ImageSetCard(spec="folder:val", digest="d" * 64, n=images, classes=("a",), class_names=("a",))


def cells(backbones: int, count: int, images: int) -> Iterator[Cell]:
    """The baseline and `count` - 1 cells of holes on every backbone; a hundred fractions at most, then another fill."""
    data = image_set(images)
    points = max(1, -(-(count - 1) // 3))
    per_fill = min(points, 100)
    for card in map(backbone, range(backbones)):
        conditions: list[Any] = [Clean()]
        for k in range(count - 1):
            fill, step = divmod(k // 3, per_fill)
            fraction = step / max(2, per_fill - per_fill % 2)
            conditions.append(Holes(fraction=fraction, fill=f"fill{fill}", run=k % 3))
        for condition in conditions:
            name = study.BASELINE if isinstance(condition, Clean) else "holes"
            yield Cell(study=name, version=VERSION, condition=condition, backbone=card, images=data)


def build(out: Path, made: Sequence[Cell], records: Sequence[figure.Record] = RECORDS, *, shown: Shown = NONE) -> None:
    """Write a finished run of some cells, which share their image set, with random answers.

    Args:
        out: the folder.
        made: the cells; their conditions may have a `fraction`, which lowers the accuracy.
        records: of their studies.
        shown: study and condition -> the pictures that such a cell keeps, of the first images.
    """
    store, images = Store(out / "store"), made[0].images.n
    items = [f"n{i % 1000:08d}/ILSVRC2012_val_{i:08d}.JPEG" for i in range(images)]
    rng = np.random.default_rng(0)
    hard = rng.random(images)
    for number, cell in enumerate(made):
        gone = getattr(cell.condition, "fraction", 0.0)
        right = hard + rng.normal(0, 0.1, images) < (0.8 - 0.01 * int(cell.backbone.digest, 16)) * (1 - gone)
        values = {"top1": right, "top5": right | (hard < 0.9 - gone), "cross_entropy": 3 * rng.random(images) + gone}
        values |= {"prediction": rng.integers(0, 1000, images)}
        block = Scores(items, values)
        columns = wide.gather([block], study=cell.study, axes=(), metrics=figure.COMMON, ids=items)
        facts = {"provenance": PROVENANCE, "skipped": [], "n": images, "seconds": 1.0, "warnings": []}
        pictures = dict(zip(items, shown.get((cell.study, cell.condition), ()), strict=False))
        exhibits = {
            (item, "harp" if right[k] else "teapot", ()): kept for k, (item, kept) in enumerate(pictures.items())
        }
        marks = {item: {"label": "harp", "correct": bool(right[k])} for k, item in enumerate(pictures)}
        store.write(cell, columns, facts=facts, exhibits=exhibits, marks=marks)
        if number % 500 == 499:
            print(f"{number + 1} of {len(made)} cells", file=sys.stderr, flush=True)
    plan = {
        "backbones": list(dict.fromkeys(cell.backbone.spec for cell in made)),
        "data": ["folder:val"],
        "studies": [{"name": record.name} for record in records],
        "preset": "default",
    }
    content = requests.document(
        plan, command=["vitals"], cells=[requests.planned_cell(cell_id(cell), cell) for cell in made]
    )
    write_safely(out / "plan.json", json.dumps(content))
    folder.describe(out, records)


def measure(words: list[str]) -> tuple[float, float, float, int]:
    """(CPU seconds, wall seconds, peak MB, bytes on standard output) of a process. The kernel's own `ru_maxrss` begins with that of the
    parent, so that the peak is read from `/proc`."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    told = f"import sys; from visionvitals.cli import main; code = main({words!r}); "
    told += "sys.stderr.write(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = int(done.stderr.split()[-1]) / 1024
    return cpu, time.perf_counter() - began, peak, len(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbones", type=int, default=2)
    parser.add_argument("--cells", type=int, default=64, help="on every backbone")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--out", type=Path, required=True, help="built where it is not there yet")
    parser.add_argument("--commands", default="status,table,report")
    chosen = parser.parse_args()
    if not (chosen.out / "plan.json").is_file():
        os.fsync = lambda file: None  # type: ignore[assignment]  # an invented run may be lost
        build(chosen.out, list(cells(chosen.backbones, chosen.cells, chosen.images)))
    imports = measure(["table", "--help"])[2]
    print(
        f"{chosen.backbones} backbones x {chosen.cells} cells x {chosen.images} images; imports take {imports:.0f} MB"
    )
    for command in chosen.commands.split(","):
        cpu, wall, peak, size = measure([command, str(chosen.out)])
        print(
            f"{command:8} {cpu:7.2f} CPU s {wall:7.2f} s {peak - imports:7.0f} MB above imports, {size:,} bytes printed"
        )


if __name__ == "__main__":
    main()
