"""Real photographs: the operations do to them what was published, and real networks rely on what is known of their kind."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visionvitals import results
from visionvitals.perturb import cue_checks, suppress
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.run import runner

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS, PHOTOGRAPHS = DATA / "weights", DATA / "imagenet_sample"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (WEIGHTS.is_dir() and PHOTOGRAPHS.is_dir()), reason="VISIONVITALS_REAL_DATA names no folder"
    ),
]
CPU = torch.device("cpu")


def test_the_bilateral_filter_does_to_photographs_what_was_published() -> None:
    """Burgert et al. 2025 at 11 px, on 800 others: local variance .54, high frequencies .49, gradient correlation .85."""
    paths = sorted(PHOTOGRAPHS.glob("*/*"))[::15]
    levels = np.stack([np.asarray(Image.open(p).convert("RGB").resize((224, 224))) for p in paths])
    images = torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255
    found = cue_checks.left(images, suppress.bilateral(images, 11, 170.0, 75.0))
    assert found["local_variance"].mean().item() == pytest.approx(0.54, abs=0.06)
    assert found["high_frequency"].mean().item() == pytest.approx(0.49, abs=0.06)
    assert found["gradient_correlation"].mean().item() == pytest.approx(0.85, abs=0.04)


def test_a_small_convolutional_network_needs_local_shape_and_a_transformer_does_less(tmp_path: Path) -> None:
    """And of both, most answers stay when the picture is mirrored or moved by a few pixels, and fewer upside down."""
    deit, squeeze = (
        f"timm:deit_tiny_patch16_224@{WEIGHTS}/deit_tiny_patch16_224.safetensors",
        f"torchvision:squeezenet1_1@{WEIGHTS}/squeezenet1_1.pth",
    )
    sections = (
        Section(name="reliance", values={"suppress": ("none", "local_shape")}),
        Section(name="geometry", values={"move": ("flip",)}),
        Section(name="geometry", values={"move": ("turn",), "amount": (180.0,)}),
        Section(name="geometry", values={"move": ("shift",), "amount": (4.0,), "edge": ("margin",)}),
    )
    plan = Plan(backbones=(deit, squeeze), data=(f"folder:{PHOTOGRAPHS}",), studies=sections, limit=24)
    runner.execute(planner.make(plan, device=CPU), out=tmp_path, device=CPU)
    run = results.load(tmp_path)

    def mean(study: str, network: str, metric: str, value: str) -> float:
        field = "suppress" if study == "reliance" else "move"
        (point,) = (p for p in run.of(study) if network in p.backbone and p.condition[field] == value)
        return run.estimate(point, metric).value

    left = {name: mean("reliance", name, "top1", "local_shape") for name in ("deit", "squeeze")}
    assert left["squeeze"] < 0.2 < left["deit"] < mean("reliance", "deit", "top1", "none")
    for name in ("deit", "squeeze"):
        same = {move: mean("geometry", name, "same_answer", move) for move in ("flip", "turn", "shift")}
        assert min(same["flip"], same["shift"]) > 0.6
        assert same["turn"] < min(same["flip"], same["shift"])
