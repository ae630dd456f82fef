"""What sharing saves: a sweep of masks and shuffles on whole patches, against the plain forward passes of the network.

    python benchmarks/sharing.py --images ../shared/data/imagenet_sample

For each network every condition of whole patches is measured as a run does it (batches from the warm cache, what is done to the images, the
pass, the scores), one cell after the other, and before and after each batch the bare network (`module`, all blocks, all tokens) is called on
a batch of the same shape, already normalised, in the same process. Of several runs the first one is taken: others find more embeddings. The
first cell embeds the patches, the others find them. Printed is the mean over the cells of the median over their batches, for every
repetition, and the median of these. The weights are random: they do not change the time.
"""

import argparse
import resource
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from visionvitals import study
from visionvitals.core import Backbone
from visionvitals.datasets.base import cache
from visionvitals.datasets.base.cache import Decoded
from visionvitals.job import Embeddings, Job
from visionvitals.perturb.cells import covers_whole_patches
from visionvitals.plan.planner import load_backbone, open_images
from visionvitals.run import devices, memory

NETWORKS = ("timm:deit_tiny_patch16_224?pretrained=false", "timm:deit_small_patch16_224?pretrained=false")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=Path, required=True, help="a folder of class folders")
    parser.add_argument("--limit", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--device", default=None)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    arguments = parser.parse_args()
    device = devices.choose_device(arguments.device)
    memory.keep()  # as a run does
    images = open_images(f"folder:{arguments.images}")
    for text in arguments.networks.split(","):
        backbone = load_backbone(text, device=device)
        data = cache.decoded(images, backbone.card.preprocess, decoder="pillow", limit=arguments.limit, seed=0)
        for name in ("occlusion", "shuffle"):
            found = study.load(name).conditions(arguments.preset, backbone.card.preprocess.size)
            aligned = [c for c in found if covers_whole_patches(c.grid, backbone.card) and c.run == 0]
            groups = {"masks": [c for c in aligned if getattr(c, "fill", "") in ("black", "mean")]}
            groups |= {"token removal": [c for c in aligned if getattr(c, "fill", "") == "token"]}
            groups = {k: c for k, c in groups.items() if c} if name == "occlusion" else {"shuffles": aligned}
            for group, conditions in groups.items():
                ratios = [
                    sweep(backbone, data, name, conditions, arguments.batch_size) for _ in range(arguments.repeats)
                ]
                listed = ", ".join(f"{ratio:.3f}" for ratio in ratios)
                print(
                    f"{backbone.card.architecture:24} {group:14} {len(conditions):3} cells of {len(data.ids)} images: "
                    f"{statistics.median(ratios):.3f} of the plain passes by CPU time ({listed})",
                    flush=True,
                )


def sweep(backbone: Backbone, data: Decoded, name: str, conditions: list[object], batch_size: int) -> float:
    """The CPU time of a batch over that of the plain passes before and after it: the mean over the cells of the median over their batches."""
    chosen, kept = study.load(name), Embeddings(backbone, data.pixels)
    images = torch.rand(batch_size, 3, *backbone.card.preprocess.size, device=backbone.device)

    def plain() -> float:
        with torch.inference_mode():
            return spent(lambda: backbone.module(images), backbone.device)

    ratios = []
    for condition in conditions:
        job = Job(
            backbone=backbone,
            condition=condition,
            ids=data.ids,
            pixels=data.pixels,
            labels=data.labels,
            batch_size=batch_size,
            embeddings=kept,
        )
        blocks, of_cell, before = chosen.measure(job), [], plain()
        for _ in range(len(data.ids) // batch_size):
            took = spent(lambda: next(blocks), backbone.device)  # noqa: B023
            after = plain()
            of_cell.append(2 * took / (before + after))
            before = after
        ratios.append(statistics.median(of_cell))
    return statistics.mean(ratios)


def spent(work: Callable[[], None], device: torch.device) -> float:
    """CPU seconds of this process, all threads."""
    start = resource.getrusage(resource.RUSAGE_SELF)
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    end = resource.getrusage(resource.RUSAGE_SELF)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


if __name__ == "__main__":
    main()
