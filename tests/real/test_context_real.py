"""Object and background on real photographs of cows, whose masks were drawn by hand."""

import os
from pathlib import Path

import pytest
import torch

from visionvitals import results
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.results import signs
from visionvitals.run import runner

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS = DATA / "weights" / "mobilenetv2_100_same.safetensors"
COWS = DATA / "masks" / "cows"
there = COWS.is_dir() and WEIGHTS.is_file()
pytestmark = [pytest.mark.real, pytest.mark.skipif(not there, reason="VISIONVITALS_REAL_DATA names no folder")]


def test_a_cow_is_known_without_its_meadow_and_the_meadow_is_no_cow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VISIONVITALS_CACHE", str(tmp_path / "cache"))
    for what in ("images", "masks"):
        (tmp_path / "cows" / what).mkdir(parents=True)
        (tmp_path / "cows" / what / "ox").symlink_to(COWS / what)  # the class of ImageNet
    spelling = f"timm:mobilenetv2_100@{WEIGHTS}?model.pad_type=same&mean=.5,.5,.5&std=.5,.5,.5&interpolation=bilinear"
    alone = Section(name="context", values={"where": ("object", "background"), "fill": ("gray",)})
    swapped = Section(name="context", values={"where": ("background",), "fill": ("swap",)})
    asked = Plan(
        backbones=(spelling,), data=(f"masks:{tmp_path / 'cows'}",), studies=(Section(name="clean"), alone, swapped)
    )
    cpu = torch.device("cpu")
    runner.execute(planner.make(asked, device=cpu), out=tmp_path / "run", device=cpu, command=("vitals", "test"))
    run = results.load(tmp_path / "run")
    right = {tuple(p.condition[k] for k in ("where", "fill")): run.estimate(p, "top1") for p in run.of("context")}
    assert {e.n for e in right.values()} == {30}
    assert right["background", "gray"].low > right["object", "gray"].value
    assert right["background", "swap"].low > right["object", "gray"].value, "before another meadow it is still a cow"
    (row,) = signs.vital_signs(run)
    assert row["kept, object only"].value > 2 * row["kept, background only"].value
