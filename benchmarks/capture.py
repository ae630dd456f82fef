"""What it costs to look: attention rows and block tokens of DeiT-Tiny against its plain forward pass, and the memory they keep.

`python benchmarks/capture.py [--batch 16] [--rounds 7] [--size 224]`. Random weights, one thread. Medians over rounds in which the
ways take turns, so that a busy machine slows all of them alike; a ratio is the median of the rounds' ratios. CPU time, not wall
clock. Memory: bytes of the maps of one batch, and the peak of the process while ever more images pass through the study.
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from visionvitals import registry
from visionvitals.job import Job
from visionvitals.probes import attention, tokens
from visionvitals.studies import attention as study


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--size", type=int, default=224)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    memory()
    text = f"timm:deit_tiny_patch16_224?pretrained=false&size={given.size}"
    spec = registry.parse(text, families=["timm"])
    backbone = registry.load("backbones", "timm").load(spec, device=torch.device("cpu"))
    images = torch.rand(given.batch, 3, given.size, given.size)
    where = tokens.layout(backbone)
    ways: dict[str, Callable[[], object]] = {
        "plain forward": lambda: backbone.logits(images),
        "attention, prefix rows": lambda: attention.record(backbone, images),
        "attention, all rows": lambda: attention.record(backbone, images, rows="all"),
        "tokens of all blocks": lambda: tokens.record(backbone, images, where),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(given.rounds + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn:  # the first round warms up
                seconds[name].append(time.process_time() - start)
    plain = seconds["plain forward"]
    for name, taken in seconds.items():
        ratio = statistics.median(t / p for t, p in zip(taken, plain, strict=True))
        print(f"{name:24s} {statistics.median(taken) / given.batch * 1e3:7.1f} ms/image  {ratio:5.2f} x plain")
    for rows in ("prefix", "all"):
        size = sum(m.rows.numel() * 4 for m in attention.record(backbone, images, rows=rows))
        print(f"maps of one batch of {given.batch}, {rows} rows: {size / 1e6:.2f} MB")


def memory() -> None:
    """The peak of the process while ever more images pass; what was loaded before is the floor."""
    small = "timm:test_vit?pretrained=false&size=64"
    tiny = registry.load("backbones", "timm").load(registry.parse(small, families=["timm"]), device=torch.device("cpu"))
    for n in (256, 1024, 4096):
        pixels = np.zeros((n, 64, 64, 3), np.uint8)
        job = Job(
            backbone=tiny,
            condition=study.Condition(grid=(4, 4)),
            ids=[str(k) for k in range(n)],
            pixels=pixels,
            labels=np.zeros(n, np.int64),
            exhibits=frozenset({"0"}),
        )
        rows = sum(len(block.items) for block in study.measure(job))
        print(f"study `attention`, {n} images: {rows} rows passed, peak {peak():.0f} MB")


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
