"""How long will it take? A few short batches on each backbone, times the images and the cells."""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from visionvitals.core import Backbone, Cell
from visionvitals.run import memory

if TYPE_CHECKING:
    import torch


def rate(backbone: Backbone, *, batch_size: int, seconds: float = 1.0) -> float:
    """Forward passes of the backbone, in images per second.

    Args:
        backbone: the network; it sees uniform noise.
        batch_size: the run's own; a smaller one is used where a full batch would take longer than `seconds`.
        seconds: about how long to measure.
    """
    import torch

    memory.keep()  # as a run does
    height, width = backbone.card.preprocess.size
    with torch.inference_mode():
        images = torch.rand(batch_size, 3, height, width, device=backbone.device)
        _timed(backbone, images[:1])  # the first pass allocates and chooses kernels
        one = _timed(backbone, images[:1])
        count = max(1, min(batch_size, int(seconds / max(one, 1e-6))))
        batch = images[:count].contiguous()
        spent, done = 0.0, 0
        while spent < seconds:
            spent += _timed(backbone, batch)
            done += count
    return done / spent


def _timed(backbone: Backbone, images: "torch.Tensor") -> float:
    start = time.perf_counter()
    backbone.logits(images)
    if images.device.type == "cuda":
        import torch

        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start


def images_of(cell: Cell) -> int:
    """How many images a cell measures, readable or not."""
    return cell.images.n if cell.limit is None else min(cell.limit, cell.images.n)


def seconds(cell: Cell, passes: float, rates: Mapping[str, float]) -> float:
    """Of forward passes: the cell's images x its study's passes per image / the rate of its backbone (by spelling)."""
    return images_of(cell) * passes / rates[cell.backbone.spec]
