"""One occlusion sweep, done as a run does it and as the published evaluation script does it, side by side.

    python benchmarks/decode_again.py --images ../shared/data/imagenet_sample

The published way: for every fraction and run a new loader decodes, resizes and crops every image again; one unseeded mask
a batch; black before normalisation; forward; accuracy. (Its loop, on a current torch: the original no longer runs.) Ours: decode
once into the cache, which starts empty here and is part of the time, then every condition reads it, in a process that keeps its freed
memory (`run/memory.py`). Both use the same network (random weights), batch size, fractions and one run, each in a process of its own;
loader workers as given. Wall seconds are printed beside the CPU seconds of all processes.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from visionvitals import registry
from visionvitals.core import Backbone
from visionvitals.datasets.base import cache as _cache
from visionvitals.job import Job
from visionvitals.run import memory
from visionvitals.studies import occlusion

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
    assert len(data), f"no pictures in {root}"
    for fraction in FRACTIONS:
        loader = DataLoader(data, batch_size=batch_size, num_workers=workers)
        with torch.no_grad():
            for images, labels in loader:
                patches = images.view(-1, 3, 14, 16, 14, 16).clone()
                for cell in np.random.choice(196, math.floor(fraction * 196), replace=False):
                    patches[:, :, cell // 14, :, cell % 14] = 0
                (module(normalise(patches.view_as(images))).argmax(1) == labels).sum()


def our_way(root: Path, backbone: Backbone, *, batch_size: int) -> None:
    spec = registry.parse(f"folder:{root}", families=["folder"])
    images = registry.load("datasets", "folder").open(spec)
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
    parser.add_argument("--network", default="deit_tiny_patch16_224")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--side", choices=("published", "ours"), help="one side only, in this process; prints its seconds"
    )
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(one_side(arguments)))
        return
    ratios = []
    for _ in range(arguments.repeats):
        theirs, ours = (in_its_own_process(side) for side in ("published", "ours"))
        ratios.append(np.array(theirs) / np.array(ours))
        print("published {:6.1f} s wall {:6.1f} s CPU   ours {:6.1f} s wall {:6.1f} s CPU".format(*theirs, *ours))
    wall, processor = np.median(ratios, axis=0)
    print(
        f"{arguments.network}: times faster: {wall:.2f} by wall, {processor:.2f} by CPU (medians of {arguments.repeats})"
    )


def in_its_own_process(side: str) -> list[float]:
    done = subprocess.run([sys.executable, *sys.argv, "--side", side], check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_side(arguments: argparse.Namespace) -> tuple[float, float]:
    """Wall and CPU seconds, the latter with those of the loader's workers; loading the network is not counted."""
    network = registry.parse(f"timm:{arguments.network}?pretrained=false", families=["timm"])
    backbone = registry.load("backbones", "timm").load(network, device=torch.device("cpu"))
    size, root = arguments.batch_size, arguments.images
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VISIONVITALS_CACHE"] = folder
        if arguments.side == "ours":
            memory.keep()  # as a run does; the published script does not
        before, start = os.times(), time.perf_counter()
        if arguments.side == "ours":
            our_way(root, backbone, batch_size=size)
        else:
            published_way(root, backbone.module, batch_size=size, workers=arguments.workers)
        wall, after = time.perf_counter() - start, os.times()
    return wall, sum(after[:4]) - sum(before[:4])


if __name__ == "__main__":
    main()
