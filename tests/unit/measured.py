"""What a study measures of a job, without the engine that stores it."""

from types import ModuleType

import torch

from visionvitals import study
from visionvitals.core import Place
from visionvitals.job import Job
from visionvitals.run import wide

Values = dict[tuple[str, str, Place], float]
"""(item, metric, place) -> value."""


def measured(module: ModuleType, work: Job) -> Values:
    """Every value that a study yields, NaN included, once the engine would take them all."""
    made = study.load(module.__name__.rpartition(".")[2])
    blocks = list(made.measure(work))
    wide.gather(blocks, study=made.name, axes=made.axes, metrics=made.metrics, ids=work.ids)
    return {
        (item, metric, block.at): value
        for block in blocks
        for metric, column in block.values.items()
        for item, value in zip(block.items, torch.as_tensor(column).double().tolist(), strict=True)
    }
