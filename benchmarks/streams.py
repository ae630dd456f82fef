"""What an image set in shards costs: the memory of a process that measures one part of it, and a first pass from tars beside one from files.

    python benchmarks/streams.py --out DIR [--small 8192 --large 200704 --pictures 2048 --repeats 3]

Writes seeded pictures below DIR. Memory: two sets of tiny pictures in tars of 1,024, planned once each with an empty cache;
then one process measures one part of 4,096 (`vitals run --shard`), and its largest resident size is read. First pass: photographs-like
pictures of 256 px, once in tars and once in class folders, are opened and decoded with empty caches, in turn in this process.
"""

import argparse
import io
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from visionvitals.core import Preprocess
from visionvitals.datasets.base import cache
from visionvitals.plan import planner

SHARD, PART = 1024, 4096
HOW = Preprocess(size=(224, 224), resize=256, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


def picture(index: int, side: int) -> bytes:
    """A JPEG: smooth colours and some noise."""
    rng = np.random.default_rng(index)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize(
        (side, side), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-12, 13, (side, side, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def tars(folder: Path, count: int, side: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-count // SHARD)
    for number in range(shards):
        path = folder / f"{number:06d}.tar"
        if path.exists():
            continue
        with tarfile.open(folder / "unfinished", "w") as file:
            for index in range(number * SHARD, min((number + 1) * SHARD, count)):
                for ending, data in (("jpg", picture(index, side)), ("cls", str(index % 16).encode())):
                    member = tarfile.TarInfo(f"{index:08d}.{ending}")
                    member.size = len(data)
                    file.addfile(member, io.BytesIO(data))
        (folder / "unfinished").rename(path)
    return f"webdataset:{folder}/{{000000..{shards - 1:06d}}}.tar"


def class_folders(folder: Path, count: int, side: int) -> str:
    for index in range(count):
        path = folder / f"{index % 16:02d}" / f"{index:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(index, side))
    return f"folder:{folder}"


def vitals(*words: str) -> tuple[float, float]:
    """(largest resident size in MB, CPU seconds) of a command in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "visionvitals", *words], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, words
    return used.ru_maxrss / 1e3, used.ru_utime + used.ru_stime


def memory(out: Path, counts: list[int], repeats: int) -> None:
    found: dict[int, list[float]] = {}
    for count in counts:
        text = tars(out / "tiny" / str(count), count, 16)
        run = out / f"run-{count}"
        for folder in (run, out / "cache"):
            shutil.rmtree(folder, ignore_errors=True)
        took = vitals("plan", "tiny:cnn", "--data", text, "--studies", "clean", "--out", str(run))
        print(f"{count:,} pictures, plan: {took[0]:.0f} MB, {took[1]:.1f} CPU seconds", flush=True)
    for repeat in range(repeats):
        for count in counts:
            copy = out / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(out / f"run-{count}", copy)
            parts = -(-count // PART)
            shard = f"{random.Random(repeat).randrange(parts)}/{parts}"
            words = ("run", str(copy), "--device", "cpu", "--shard", shard)
            found.setdefault(count, []).append(vitals(*words, "--trust")[0])
    for count, sizes in found.items():
        print(
            f"{count:,} pictures, a process that measures {PART:,}: {statistics.median(sizes):.0f} MB of {len(sizes)} runs"
        )
    small, large = (statistics.median(found[count]) for count in counts)
    print(f"difference: {large - small:.1f} MB; labels of the larger set: {8 * counts[1] / 1e6:.1f} MB")


def first_pass(out: Path, count: int, repeats: int) -> None:
    texts = {"tars": tars(out / "tars", count, 256), "files": class_folders(out / "files", count, 256)}
    rates: dict[str, list[float]] = {name: [] for name in texts}
    for _ in range(repeats):
        for name, text in texts.items():
            shutil.rmtree(out / "cache", ignore_errors=True)
            started = time.process_time()
            n = len(np.asarray(cache.decoded(planner.open_images(text), HOW).labels))
            rates[name].append(n / (time.process_time() - started))
    for name, each in rates.items():
        print(f"first pass from {name}: {statistics.median(each):.0f} pictures a CPU second")
    print(f"ratio: {statistics.median(a / b for a, b in zip(rates['tars'], rates['files'], strict=True)):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--small", type=int, default=2 * PART)
    parser.add_argument("--large", type=int, default=49 * PART)
    parser.add_argument("--pictures", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    os.environ["VISIONVITALS_CACHE"] = str(given.out / "cache")
    memory(given.out, [given.small, given.large], given.repeats)
    first_pass(given.out, given.pictures, given.repeats)
    print(f"this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
