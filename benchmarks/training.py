"""What the training loop costs over a bare one: images per CPU second, the same network, pictures in memory, one thread.

    python benchmarks/training.py

The bare loop is forward, loss, backward, optimiser on one batch that is ready as floats. Ours adds what a training is: augmented batches
of bytes, the moving average of the weights, clipping, the check of the loss, the live line. Both are timed by what 40 more steps cost
over 10, in turns, so that building a network and the last test do not count; CPU time, because other programs share the machine.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from visionvitals.run import memory
from visionvitals.training import loop
from visionvitals.training.data import Pictures
from visionvitals.training.recipe import Recipe

NETWORKS = {
    "tiny:vit, as embedded": "tiny:vit",
    "tiny:cnn, as embedded": "tiny:cnn",
    "tiny:vit, 16 px patches, width 96, depth 4": "tiny:vit?model.patch_size=16&model.embed_dim=96&model.depth=4",
}
FEW, MANY, BATCH, TURNS = 10, 50, 32, 3


def pictures(n: int) -> Pictures:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    return Pictures(
        pixels=pixels, labels=np.arange(n) % 16, classes=tuple(map(str, range(16))), digest="d", spec="noise"
    )


def ours(model: str, steps: int) -> float:
    """CPU seconds of a training."""
    recipe = Recipe(name="x", model=model, train="a", test="b", epochs=1, batch=BATCH)
    learn, test = pictures(steps * BATCH), pictures(1)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as out:
        loop.fit(recipe, learn, test, out=Path(out), report=lambda _: None)
    return time.process_time() - began


def bare(model: str, steps: int) -> float:
    """CPU seconds of the same steps in the shortest loop."""
    recipe = Recipe(name="x", model=model, train="a", test="b", epochs=1, batch=BATCH)
    images, labels = torch.rand(BATCH, 3, 64, 64), torch.arange(BATCH) % 16
    began = time.process_time()
    module, _ = loop.network.make(recipe, outputs=16)
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    for _ in range(steps):
        loss = functional.cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - began


def main() -> None:
    torch.set_num_threads(1)
    memory.keep()
    for name, model in NETWORKS.items():
        rates: dict[str, list[float]] = {"ours": [], "bare": []}
        for _ in range(TURNS):
            for kind, run in (("ours", ours), ("bare", bare)):
                rates[kind].append((MANY - FEW) * BATCH / (run(model, MANY) - run(model, FEW)))
        kept = [a / b for a, b in zip(rates["ours"], rates["bare"], strict=True)]
        medians = ", ".join(
            f"{kind} {statistics.median(values):.0f} images a CPU second" for kind, values in rates.items()
        )
        print(
            f"{name}: {medians}; kept {statistics.median(kept):.1%} ({min(kept):.1%} to {max(kept):.1%} in {TURNS} turns)"
        )


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
