"""One occlusion sweep, done as a run does it and as the published evaluation script does it, side by side.

    python benchmarks/decode_again.py --images ../shared/data/imagenet_sample

The published way: for every fraction and run a new loader decodes, resizes and crops every image again; one unseeded mask
a batch; black before normalisation; forward; accuracy. (Its loop, on a current torch: the original no longer runs.) Ours: decode
once into the cache, which starts empty here and is part of the time, then every condition reads it. Both use the same network, batch size,
number of fractions and runs; loader workers as given. Both times are printed with the CPU seconds of all processes.
"""

import argparse
import math
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from visionvitals import registry
from visionvitals.core import Job
from visionvitals.datasets import _cache
from visionvitals.run import memory
from visionvitals.studies import occlusion

NETWORK = "timm:deit_tiny_patch16_224?pretrained=false"
FRACTIONS = tuple(d / 10 for d in range(10))


class Folder(Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, root: Path) -> None:
        self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in {".jpeg", ".jpg", ".png"})
        self.transform = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor()])

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.open(self.files[index]).convert("RGB")), 0


def published_way(root: Path, module: torch.nn.Module, *, batch_size: int, workers: int) -> None:
    normalise = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    data = Folder(root)
    for fraction in FRACTIONS:
        loader = DataLoader(data, batch_size=batch_size, num_workers=workers)
        with torch.no_grad():
            for images, labels in loader:
                patches = images.view(-1, 3, 14, 16, 14, 16).clone()
                for cell in np.random.choice(196, math.floor(fraction * 196), replace=False):
                    patches[:, :, cell // 14, :, cell % 14] = 0
                (module(normalise(patches.view_as(images))).argmax(1) == labels).sum()


def our_way(root: Path, *, batch_size: int) -> None:
    spec = registry.parse(f"folder:{root}", families=["folder"])
    images = registry.load("datasets", "folder").open(spec)
    network = registry.parse(NETWORK, families=["timm"])
    backbone = registry.load("backbones", "timm").load(network, device=torch.device("cpu"))
    data = _cache.decoded(images, backbone.card.preprocess, decoder="pillow", limit=None, seed=0)
    for fraction in FRACTIONS:
        job = Job(
            backbone=backbone,
            condition=occlusion.Condition(fraction=fraction),
            ids=data.ids,
            pixels=data.pixels,
            labels=data.labels,
            batch_size=batch_size,
        )
        for _ in occlusion.measure(job):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    network = registry.parse(NETWORK, families=["timm"])
    module = registry.load("backbones", "timm").load(network, device=torch.device("cpu")).module
    memory.keep()  # for both
    walls, processors = [], []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["VISIONVITALS_CACHE"] = folder
            ours = clock(lambda: our_way(arguments.images, batch_size=arguments.batch_size))
        size, workers = arguments.batch_size, arguments.workers
        theirs = clock(lambda: published_way(arguments.images, module, batch_size=size, workers=workers))  # noqa: B023
        walls.append(theirs[0] / ours[0])
        processors.append(theirs[1] / ours[1])
        print(
            f"published {theirs[0]:6.1f} s wall {theirs[1]:6.1f} s CPU   ours {ours[0]:6.1f} s wall {ours[1]:6.1f} s CPU"
        )
    print(f"times faster: {statistics.median(walls):.2f} by wall, {statistics.median(processors):.2f} by CPU (medians)")


def clock(work: object) -> tuple[float, float]:
    """Wall and CPU seconds; the latter with those of the loader's workers, which have ended by then."""
    assert callable(work)
    before, start = os.times(), time.perf_counter()
    work()
    wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


if __name__ == "__main__":
    main()
