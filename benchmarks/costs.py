"""What the engine costs beside the forward passes, step by step, as a table in Markdown: CPU milliseconds of one thread, medians of several rounds.

    OMP_NUM_THREADS=1 python benchmarks/costs.py --images ../shared/data/imagenet_sample
    OMP_NUM_THREADS=1 python benchmarks/costs.py --images DIR --write docs/scale.md      # puts the table between its marks in that page

The network is DeiT-Tiny with random weights at 224 px, the study `occlusion`; a part has as many images as `run.parts` gives it, a cell 50,000.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import marked
import numpy as np
import torch

from visionvitals import study
from visionvitals.core import Cell, Scores
from visionvitals.datasets.base import cache as _cache
from visionvitals.job import Job
from visionvitals.plan import planner, request
from visionvitals.run import folder, parts, runner, wide
from visionvitals.run.shelf import Shelf
from visionvitals.run.store import Store

MARKS = ("<!-- costs: begin -->", "<!-- costs: end -->")
NETWORK = "timm:deit_tiny_patch16_224?pretrained=false"
IMAGES = 50_000
CPU = torch.device("cpu")


def spent(work: Callable[[], object], rounds: int) -> float:
    """CPU seconds of this process, with all that it waits for: the median."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return statistics.median(found)


def measured(images: Path, rounds: int) -> list[tuple[str, float, str]]:
    """(step, CPU milliseconds, of what), in the order in which a run takes them."""
    chosen = study.load("occlusion")
    planned = [_planned(count) for count in (100, 1100)]
    load = spent(lambda: planner.load_backbone(NETWORK, device=CPU), rounds)
    backbone, pictures = planner.load_backbone(NETWORK, device=CPU), planner.open_images(f"folder:{images}")
    decode = spent(lambda: _decoded(backbone, pictures, None), 1)
    with tempfile.TemporaryDirectory() as cache:
        data = _decoded(backbone, pictures, cache)
        job = Job(backbone=backbone, condition=None, ids=data.ids, pixels=data.pixels, labels=data.labels)
        n, batches = len(data.ids), list(job.batches())
        read = spent(lambda: [batch.images.sum() for batch in job.batches()], rounds)
        condition = chosen.conditions("default", backbone.card.preprocess.size)[0]
        assert chosen.perturb is not None
        change = chosen.perturb
        perturb = spent(lambda: [change(condition, batch, 0) for batch in batches], rounds)
        with torch.inference_mode():
            forward = spent(lambda: [backbone.module(batch.images) for batch in batches[:2]], rounds)
        seen = sum(len(batch.ids) for batch in batches[:2])
        keep, join = _kept(
            Cell(
                study="occlusion",
                version=chosen.version,
                condition=condition,
                backbone=backbone.card,
                images=pictures.card,
            )
        )
    each = (planned[1] - planned[0]) / 1000
    return [
        ("plan: a cell is made, identified and listed", each, "cell"),
        ("load: build the network, find its blocks, ask for its answers", load, "backbone"),
        ("decode: read, cut and keep a photograph", decode / n, "image"),
        ("read: a decoded image to floats", read / n, "image"),
        ("perturb: remove cells of an image", perturb / n, "image and pass"),
        ("forward", forward / seen, "image and pass"),
        (f"store: lay a part of {parts.SIZE:,} images and its document", keep, "part"),
        ("join: read all parts of a cell back, verified, and keep the cell", join, "cell of 50,000 images"),
    ]


def _planned(conditions: int) -> float:
    """CPU seconds of a plan of so many conditions, kept in a run folder."""
    values = {"fraction": tuple(k / 10_000 for k in range(conditions)), "grid": ((8, 8),)}
    plan = request.Plan(
        backbones=("tiny:vit",), data=("shapes:test?n=16",), studies=(request.Section(name="occlusion", values=values),)
    )

    def work() -> None:
        with tempfile.TemporaryDirectory() as out:
            folder.claim(Path(out), planner.make(plan, device=CPU), command=("vitals",))

    return spent(work, 3)


def _decoded(backbone: object, pictures: object, cache: str | None) -> object:
    """The image set, decoded into an empty cache."""
    with tempfile.TemporaryDirectory() as other:
        os.environ["VISIONVITALS_CACHE"] = cache or other
        return _cache.decoded(pictures, backbone.card.preprocess, decoder="pillow", limit=None, seed=0, workers=1)


def _kept(cell: Cell) -> tuple[float, float]:
    """CPU seconds of keeping a part, and of joining the parts of a cell."""
    chosen, rng = study.load("occlusion"), np.random.default_rng(0)
    ranges = parts.of(chosen, chosen.Condition(), IMAGES)
    facts = {"n": parts.SIZE, "seconds": 1.0, "warnings": [], "skipped": []}
    times = []
    with tempfile.TemporaryDirectory() as where:
        store = Store(Path(where))
        for rows in ranges:
            ids = [f"val/n01440764/ILSVRC2012_val_{k:08d}.JPEG" for k in rows]
            values = {
                "top1": rng.random(len(ids)) < 0.7,
                "top5": rng.random(len(ids)) < 0.9,
                "prediction": rng.integers(1000, size=len(ids)),
                "cross_entropy": rng.exponential(size=len(ids)),
            }
            known = {name: v.astype(float) for name, v in values.items() if name in chosen.metrics}
            start = time.process_time()
            numbers = wide.gather(
                [Scores(ids, known)], study="occlusion", axes=(), metrics=chosen.metrics, ids=ids, start=rows.start
            )
            store.keep_part(store.lay(cell, numbers, facts=facts), rows)
            times.append(time.process_time() - start)
        start = time.process_time()
        (identifier,) = {name.split("/")[1] for name in store.shelf.names("*/*/*.json")}
        found = [store.part(identifier, rows) for rows in ranges]
        store.finish(parts.together([part for part in found if part is not None]))
        assert store.has(identifier)
        return statistics.median(times[:-1]), time.process_time() - start


def calls() -> float:
    """Calls to the store that a part makes, from its begin until its cell is whole: reads, writes, questions, removals."""
    count = Counter[int]()
    planned = planner.make(
        request.Plan(
            backbones=("tiny:vit",), data=("shapes:test?n=88",), studies=(request.Section(name=study.BASELINE),)
        ),
        device=CPU,
    )
    verbs, usual = ("exists", "present", "read", "write", "names", "remove"), parts.SIZE
    real = {name: getattr(Shelf, name) for name in verbs}
    try:
        for parts.SIZE in (88, 8):
            for name in real:
                setattr(Shelf, name, _counting(real[name], count))
            with tempfile.TemporaryDirectory() as out:
                runner.execute(planned, out=Path(out), device=CPU)
    finally:
        parts.SIZE = usual
        for name, function in real.items():
            setattr(Shelf, name, function)
    return (count[8] - count[88]) / 10  # of 11 parts, and of one


def _counting(real: Callable[..., Any], count: Counter[int]) -> Callable[..., Any]:
    def called(*given: Any, **named: Any) -> Any:
        count[parts.SIZE] += 1
        return real(*given, **named)

    return called


def table(found: Sequence[tuple[str, float, str]]) -> str:
    lines = ["| step | CPU ms | for each |", "|---|---:|---|"]
    return "\n".join([*lines, *(f"| {step} | {_short(1000 * seconds)} | {of} |" for step, seconds, of in found)])


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", type=Path, help="the page that gets the table between its marks")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    found = [table(measured(given.images, given.rounds)), f"Calls to the store for each part: {calls():.1f}."]
    print("\n\n".join(found))
    if given.write:
        marked.write(given.write, MARKS, found)


if __name__ == "__main__":
    main()
