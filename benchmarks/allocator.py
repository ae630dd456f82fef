"""What keeping freed memory is worth on a CPU: the same forward passes in two processes, with and without `run.memory.keep`.

python benchmarks/allocator.py
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

NETWORKS = ("deit_tiny_patch16_224", "mobilenetv2_100")


def passes(keep: bool, batch_size: int) -> None:
    import timm
    import torch

    from visionvitals.run import memory

    assert not keep or memory.keep()
    images = torch.rand(batch_size, 3, 224, 224)
    for name in NETWORKS:
        module = timm.create_model(name).eval()
        with torch.inference_mode():
            for _ in range(2):
                module(images)
            start, before = time.perf_counter(), os.times()
            for _ in range(max(1, 128 // batch_size)):
                module(images)
        wall, after = time.perf_counter() - start, os.times()
        print(wall, after.user + after.system - before.user - before.system)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--child", choices=["keep", "plain"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return passes(arguments.child == "keep", arguments.batch_size)
    found: dict[str, list[list[float]]] = {"keep": [], "plain": []}
    for _ in range(arguments.repeats):
        for how, measured in found.items():
            command = [sys.executable, __file__, "--child", how, "--batch-size", str(arguments.batch_size)]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            measured.append([float(x) for x in lines])
    for place, name in enumerate(NETWORKS):
        for offset, clock in enumerate(("wall", "CPU")):
            column = 2 * place + offset
            ratios = [p[column] / k[column] for p, k in zip(found["plain"], found["keep"], strict=True)]
            print(
                f"{name:24} {clock:4}  plain / keep = {statistics.median(ratios):.2f}  ({min(ratios):.2f} to {max(ratios):.2f})"
            )
    return None


if __name__ == "__main__":
    main()
