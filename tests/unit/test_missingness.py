"""Missingness: what is no answer is not counted as one."""

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from visionvitals.job import Job
from visionvitals.plan.planner import load_backbone
from visionvitals.studies import missingness


def test_an_image_without_an_answer_when_whole_has_none_that_could_change() -> None:
    """Its logits are not finite; class 0 was taken for its answer, so that it counted as changed."""
    tiny = load_backbone("tiny:cnn", device=torch.device("cpu"))

    def logits(images: Tensor) -> Tensor:
        return tiny.logits(images).masked_fill((images[:, :1].amin(dim=(2, 3)) > 0.5), math.nan)

    pixels = np.random.default_rng(0).integers(0, 100, (4, 64, 64, 3), dtype=np.uint8)
    pixels[2] += 150
    job = Job(
        backbone=dataclasses.replace(tiny, logits=logits),
        condition=missingness.Condition(fraction=0.25, grid=(8, 8)),
        ids=[str(k) for k in range(4)],
        pixels=pixels,
        labels=np.zeros(4, dtype=np.int64),
        batch_size=3,
    )
    found: dict[str, list[float]] = {}
    for block in missingness.measure(job):
        for name in block.values:
            found.setdefault(name, []).extend(float(v) for v in block.values[name])
    for name in ("unchanged", "clean_probability"):
        assert [math.isnan(v) for v in found[name]] == [False, False, True, False]
    assert not any(math.isnan(v) for v in found["prediction"]), "with black cells it has an answer"
