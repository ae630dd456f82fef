"""What PGD costs beside the passes that it cannot do without: the same forward and backward passes, bare, in one process.

python benchmarks/attack.py [--networks resnet18,deit_tiny_patch16_224] [--norm l2]

Random weights, one thread, CPU time, medians of ratios. `bare`: a forward pass of the clean images, for each step a forward pass, the
loss and a backward pass to the image, and a last forward pass, whose logits are scored. `attack`: `perturb.attacks.pgd` from a random
start without early stop, which also draws, steps, projects, checks and verifies. `stopping`: with early stop, as in a study.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import timm
import torch
from torch import Tensor
from torch.nn import functional

from visionvitals import randomness
from visionvitals.perturb import attacks


def bare(logits: attacks.Logits, images: Tensor, labels: Tensor, *, steps: int) -> None:
    with torch.no_grad():
        logits(images)
    for _ in range(steps):
        x = images.detach().requires_grad_()
        torch.autograd.grad(functional.cross_entropy(logits(x), labels, reduction="sum"), x)
    with torch.no_grad():
        logits(images)


def cpu_seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", default="resnet18,mobilenetv2_100,deit_tiny_patch16_224")
    parser.add_argument("--norm", default="linf", choices=["linf", "l2"])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    images = torch.rand(arguments.images, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    keys = (randomness.stream(0, [str(k) for k in range(arguments.images)], "benchmark"),)
    eps = {"linf": 4 / 255, "l2": 1.0}[arguments.norm]
    for name in arguments.networks.split(","):
        module = timm.create_model(name).eval().requires_grad_(False)
        network = torch.nn.Sequential(module)
        with torch.no_grad():
            labels = network(images).argmax(dim=1)
        pgd = partial(
            attacks.pgd, network, images, labels, norm=arguments.norm, eps=eps, steps=arguments.steps, keys=keys
        )
        ways: dict[str, Callable[[], object]] = {
            "bare": partial(bare, network, images, labels, steps=arguments.steps),
            "attack": partial(pgd, early_stop=False),
            "stopping": pgd,
        }
        for function in ways.values():  # the first call allocates and chooses kernels
            function()
        spent = [{how: cpu_seconds(function) for how, function in ways.items()} for _ in range(arguments.repeats)]
        ratios = {how: sorted(turn[how] / turn["bare"] for turn in spent) for how in ways}
        print(
            f"{name:24} {arguments.norm}  bare {statistics.median(turn['bare'] for turn in spent):.2f} s  "
            f"attack / bare = {statistics.median(ratios['attack']):.3f} ({ratios['attack'][0]:.3f} to {ratios['attack'][-1]:.3f})  "
            f"with early stop {statistics.median(ratios['stopping']):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
