"""Images per second of `vitals stylize`: whole copies by `fourier` from JPEG to PNG, and `adain` in batches against one by one.

    python benchmarks/stylize.py --data folder:data/imagenet_sample --styles data/textures

Wall time says something on a quiet machine only, so CPU time of the whole process is told too: with two cores and nothing beside, at
most 2 / (CPU seconds per image) images a second. AdaIN's weights are random, which costs the same.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from visionvitals.perturb.stylize import fourier
from visionvitals.plan import planner
from visionvitals.stylize import copy, networks, styles


def cpu() -> float:
    used = os.times()
    return used.user + used.system


def copies(data: str, folder: Path, size: int, repeats: int, workers: int) -> None:
    images = planner.open_images(data)
    with tempfile.TemporaryDirectory() as temporary:
        found = styles.scan(folder, size, kept=Path(temporary) / "s.json", workers=workers, progress=lambda _n: None)
        walls, cpus = [], []
        for turn in range(repeats + 1):  # the first one warms up
            out = Path(temporary) / str(turn)
            stylised = copy.Stylised(images, found, fourier, size)
            start, before = time.perf_counter(), cpu()
            done = copy.run(stylised, out, part=(0, 1), batch_size=32, workers=workers, progress=lambda _n: None)
            walls.append((time.perf_counter() - start) / done.made)
            cpus.append((cpu() - before) / done.made)
        wall, busy = statistics.median(walls[1:]), statistics.median(cpus[1:])
        print(
            f"fourier, {done.made} pictures to {size} px: {1 / wall:.0f} images/s by the clock with {workers} threads;",
            end=" ",
        )
        print(
            f"{busy * 1000:.1f} ms of CPU an image ({min(cpus[1:]) * 1000:.1f} to {max(cpus[1:]) * 1000:.1f}):", end=" "
        )
        print(f"{1 / busy:.0f} images/s a core")


def batches(size: int, repeats: int) -> None:
    torch.manual_seed(0)
    transfer = networks.Adain(networks.encoder().eval(), networks.decoder().eval())
    content, style = torch.rand(2, 4, 3, size, size)
    transfer(content, style)
    ratios, whole = [], []
    for _ in range(repeats):
        start = cpu()
        transfer(content, style)
        middle = cpu()
        for k in range(4):
            transfer(content[k : k + 1], style[k : k + 1])
        ratios.append((cpu() - middle) / (middle - start))
        whole.append((middle - start) / 4)
    each = statistics.median(whole)
    print(
        f"adain at {size} px: {each:.2f} s of CPU an image in batches of 4; one by one {statistics.median(ratios):.2f} x that"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--styles", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--skip-adain", action="store_true")
    arguments = parser.parse_args()
    copies(arguments.data, arguments.styles, arguments.size, arguments.repeats, arguments.workers)
    if not arguments.skip_adain:
        batches(arguments.size, min(3, arguments.repeats))


if __name__ == "__main__":
    main()
