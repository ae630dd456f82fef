"""What a sweep costs above its pure forward passes.

    python benchmarks/sweep.py --images ../shared/data/imagenet_sample

For each network every condition of the `quick` preset is measured as a run does it (batches from the warm cache, perturbation,
normalisation, forward, rows, Parquet part), and right after it the bare network is called on the same number of batches of the same
shape, already normalised, in the same process. The ratio of the two sums is the cost of everything that is not the network. Token removal
is left out: its forward passes are shorter than a full one. The weights are random: they do not change the time.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from visionvitals import registry, study
from visionvitals.core import Cell
from visionvitals.datasets.base import cache as _cache
from visionvitals.job import Job
from visionvitals.run import memory, wide
from visionvitals.run.store import Store

NETWORKS = ("timm:deit_tiny_patch16_224?pretrained=false", "timm:mobilenetv2_100?pretrained=false")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    memory.keep()  # as a run does
    spec = registry.parse(f"folder:{arguments.images}", families=registry.names("datasets"))
    images = registry.load("datasets", "folder").open(spec)
    for text in NETWORKS:
        network = registry.parse(text, families=registry.names("backbones"))
        backbone = registry.load("backbones", network.family).load(network, device=device)
        data = _cache.decoded(images, backbone.card.preprocess, decoder="pillow", limit=None, seed=0)
        first = torch.rand(arguments.batch_size, 3, *backbone.card.preprocess.size, device=device)
        with torch.inference_mode():
            backbone.module(first)
        for name in ("clean", "occlusion", "shuffle", "corner"):
            chosen = study.load(name)
            conditions = chosen.conditions("quick", backbone.card.preprocess.size)
            ratios, processors = [], []
            for _ in range(arguments.repeats):
                swept = bare = np.zeros(2)
                for condition in conditions:
                    job = Job(
                        backbone=backbone,
                        condition=condition,
                        ids=data.ids,
                        pixels=data.pixels,
                        labels=data.labels,
                        batch_size=arguments.batch_size,
                    )
                    cell = Cell(
                        study=name,
                        version=chosen.version,
                        condition=condition,
                        backbone=backbone.card,
                        images=images.card,
                    )
                    swept = swept + timed(lambda: keep(cell, chosen, job), device)  # noqa: B023
                    bare = bare + timed(lambda: forward(backbone.module, first, len(data.ids)), device)  # noqa: B023
                ratios.append(swept[0] / bare[0])
                processors.append(swept[1] / bare[1])
            rate = len(data.ids) * len(conditions) / swept[0]
            print(
                f"{backbone.card.architecture:28} {name:10} {len(conditions):3} cells  {rate:7.1f} images/s  "
                f"sweep / forward = {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f}) by wall, "
                f"{statistics.median(processors):.3f} ({min(processors):.3f} to {max(processors):.3f}) by CPU"
            )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB, torch {torch.__version__}, {device}, {torch.get_num_threads()} threads")


def timed(work: object, device: torch.device) -> np.ndarray:
    """Wall and CPU seconds; the latter say more on a machine that others use too."""
    assert callable(work)
    start = time.perf_counter(), time.process_time()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return np.array([time.perf_counter() - start[0], time.process_time() - start[1]])


def keep(cell: Cell, chosen: study.Study, job: Job) -> None:
    numbers = wide.gather(
        chosen.measure(job), study=chosen.name, axes=chosen.axes, metrics=chosen.metrics, ids=list(job.ids)
    )
    with tempfile.TemporaryDirectory() as folder:
        Store(Path(folder)).write(cell, numbers, axes=chosen.axes)


def forward(module: torch.nn.Module, batch: torch.Tensor, images: int) -> None:
    with torch.inference_mode():
        for start in range(0, images, len(batch)):
            module(batch[: min(len(batch), images - start)])


if __name__ == "__main__":
    main()
