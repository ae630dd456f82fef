"""The tutorial: its page holds the files that are run here, and they do what it says."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from visionvitals import study
from visionvitals.core import NO_IMAGES, Backbone, BackboneCard, Preprocess
from visionvitals.figure import read, written
from visionvitals.job import Job
from visionvitals.run import wide

ROOT = Path(__file__).parents[2]
FILES = {name: ROOT / "tests" / "plugins" / f"{name}.py" for name in ("stripes", "stripes_shown")}
PAGE = (ROOT / "docs" / "write_a_study.md").read_text(encoding="utf-8")


def job(condition: object, side: int = 32) -> Job:
    """Three grey images before a network whose two logits are the brightness of the upper and of the lower half."""
    pre = Preprocess(size=(side, side), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3)
    card = BackboneCard(spec="x:y", architecture="y", digest="0", preprocess=pre, outputs=2, parameters=0)
    network = Backbone(
        card=card,
        device=torch.device("cpu"),
        module=torch.nn.Identity(),
        logits=lambda images: torch.nn.functional.adaptive_avg_pool2d(images[:, :1], (2, 1)).flatten(1),
    )
    pixels = np.full((3, side, side, 3), 255, dtype=np.uint8)
    return Job(backbone=network, condition=condition, ids=("a", "b", "c"), pixels=pixels, labels=np.array([0, 1, 0]))


def test_the_page_holds_the_files_as_they_are() -> None:
    shown = re.findall(r"```python title=.*?\n(.*?)```", PAGE, flags=re.DOTALL)
    assert shown == [path.read_text(encoding="utf-8") for path in FILES.values()]


@pytest.mark.parametrize(("name", "most"), [("stripes", 40), ("stripes_shown", 70)])
def test_it_is_short(name: str, most: int) -> None:
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= most


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_study_that_removes_every_kth_row(name: str) -> None:
    made = study.load(FILES[name])
    assert made.name == name
    assert made.source, "the file is part of the identity of its cells"
    assert made.perturb is not None
    for every, rows in ((1, range(8)), (2, (1, 3, 5, 7)), (4, (3, 7)), (8, (7,))):
        work = job(made.Condition(every=every))
        (batch,) = work.batches()
        black = (made.perturb(work.condition, batch, 0) == 0).all(dim=1).view(3, 8, 4, 32)
        assert black.all(dim=(2, 3)).tolist() == [[row in rows for row in range(8)]] * 3
        assert black.any(dim=(2, 3)).sum() == 3 * len(rows)
        assert (batch.images == 1).all()
    blocks = made.measure(job(made.Condition(every=8)))
    found = wide.gather(blocks, study=name, axes=made.axes, metrics=made.metrics, ids=("a", "b", "c"))
    assert found.blocks[()].values["top1"].tolist() == [1, 0, 1], "the lower half is darker"
    odd = dataclasses.replace(job(None, side=36).backbone.card)
    assert "do not divide" in str(made.refusal(made.Condition(), odd, NO_IMAGES))
    with pytest.raises(study.VitalsError, match="`every` must be from 1 to 8"):
        made.Condition(every=0)


def test_the_second_brings_a_metric_a_chart_and_a_sign_that_a_reader_needs_no_file_for() -> None:
    made = study.load(FILES["stripes_shown"])
    (block,) = made.measure(job(made.Condition(every=1)))
    assert torch.as_tensor(block.values["certainty"]).tolist() == [0.5] * 3
    kept = read(written(made), source="a run")
    assert kept.metrics["certainty"].share
    assert kept.charts == made.charts
    assert kept.signs == made.signs
