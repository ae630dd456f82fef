"""mosaic: one linear layer over the mean colours of N x N tiles, `mosaic:N[@weights.pt][?outputs=16&classes=FILE]`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from visionvitals.backbones import Backbone, Network, Preprocess, Spec, assemble, option, reads, require, seeded

EXAMPLES = ("mosaic:4", "mosaic:8?outputs=3")
LOOK = Preprocess(size=(64, 64), resize=72, interpolation="bilinear", mean=(0.5,) * 3, std=(0.25,) * 3)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a `mosaic:` spelling may say."""

    outputs: int = option(16, "number of classes")
    classes: Path | None = option(None, "file with one class a line, in output order")


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> Backbone:
    """The network, with the weights of the file after `@` or random ones."""
    known = spec.name in ("1", "2", "4", "8", "16")
    require(known, "N in `mosaic:N` must be 1, 2, 4, 8 or 16", spec.name)
    module = seeded(lambda: network(int(spec.name), options.outputs), seed=0)
    if spec.checkpoint is not None:
        module.load_state_dict(torch.load(spec.checkpoint, weights_only=True))
    made = Network(module=module, architecture=f"mosaic_{spec.name}", preprocess=LOOK)
    return assemble(made, spelling=spec.text, device=device, classes=options.classes)


def network(tiles: int, outputs: int) -> nn.Module:
    """Normalised images (b, 3, 64, 64) -> logits (b, outputs)."""
    mean = nn.AvgPool2d(64 // tiles)
    return nn.Sequential(mean, nn.Flatten(), nn.Linear(3 * tiles**2, outputs))
