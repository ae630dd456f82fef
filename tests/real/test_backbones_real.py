"""Real weights on real photographs reach plausible accuracy, through every family that can read them."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from visionvitals import core, registry, stats, weight_files
from visionvitals.backbones import t2t

DATA = Path(os.environ.get("VISIONVITALS_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
WEIGHTS, PHOTOGRAPHS = DATA / "weights", DATA / "imagenet_sample"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not (WEIGHTS.is_dir() and PHOTOGRAPHS.is_dir()), reason="VISIONVITALS_REAL_DATA names no folder"
    ),
]
RESAMPLE = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


def prepared(path: Path, p: core.Preprocess) -> Tensor:
    """The photograph as the network wants it, by Pillow alone."""
    image = Image.open(path).convert("RGB")
    assert p.resize is not None
    scale = p.resize / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), RESAMPLE[p.interpolation])
    left, top = (image.width - p.size[1]) // 2, (image.height - p.size[0]) // 2
    image = image.crop((left, top, left + p.size[1], top + p.size[0]))
    raw = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(*p.size, 3)
    return raw.permute(2, 0, 1).float() / 255


def top1(backbone: core.Backbone, n: int = 40) -> float:
    assert backbone.card.classes is not None
    folders = sorted(folder for folder in PHOTOGRAPHS.iterdir() if folder.is_dir())[:: 300 // n][:n]
    hits: list[bool] = []
    for start in range(0, n, 8):
        part = folders[start : start + 8]
        images = torch.stack([prepared(min(folder.iterdir()), backbone.card.preprocess) for folder in part])
        predictions = backbone.logits(images).argmax(dim=1).tolist()
        hits += [backbone.card.classes[k] == folder.name for k, folder in zip(predictions, part, strict=True)]
    return sum(hits) / n


@pytest.mark.parametrize(
    ("spelling", "least"),
    [
        ("timm:deit_tiny_patch16_224@{}/deit_tiny_patch16_224.safetensors", 0.65),
        ("checkpoint:{}/deit_tiny_patch16_224.safetensors?arch=deit_tiny_patch16_224", 0.65),
        (
            "timm:mobilenetv2_100@{}/mobilenetv2_100_same.safetensors"
            "?model.pad_type=same&mean=.5,.5,.5&std=.5,.5,.5&interpolation=bilinear",
            0.8,
        ),
        ("torchvision:squeezenet1_1@{}/squeezenet1_1.pth", 0.4),
    ],
    ids=["deit", "deit-checkpoint", "mobilenet", "squeezenet"],
)
def test_accuracy_is_plausible(spelling: str, least: float) -> None:
    assert least <= top1(load(spelling.format(WEIGHTS))) < 1.0


def test_half_the_tokens_of_a_trained_vit_are_almost_enough() -> None:
    """Token removal keeps most of DeiT-Tiny's predictions at 50 %, which a wrong gather (positions, prefix) would destroy."""
    backbone = load(f"timm:deit_tiny_patch16_224@{WEIGHTS}/deit_tiny_patch16_224.safetensors")
    assert backbone.visible_logits is not None
    folders = sorted(folder for folder in PHOTOGRAPHS.iterdir() if folder.is_dir())[::15]
    images = torch.stack([prepared(min(folder.iterdir()), backbone.card.preprocess) for folder in folders])
    order = torch.rand(len(images), 196, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    kept = backbone.visible_logits(images, order < 98).argmax(dim=1)
    assert (kept == backbone.logits(images).argmax(dim=1)).float().mean() > 0.6


@pytest.mark.parametrize("name", t2t.FILES)
def test_the_released_weights_of_t2t_reach_their_published_accuracy(name: str) -> None:
    """Where the authors' file lies beside the other weights. The published top-1 is the number before its name; of photographs that are
    probably training images it is the least."""
    file = WEIGHTS / t2t.FILES[name]
    if not file.is_file():
        pytest.skip(f"no {file.name}")
    backbone = load(f"t2t:{name}@{file}")
    assert backbone.card.notes == ()  # the position table and the random features are those of the authors' code
    assert stats.wilson(round(300 * top1(backbone, 300)), 300).high >= float(file.name.split("_")[0]) / 100


def test_weights_in_the_form_of_the_paper_are_the_same_network(tmp_path: Path) -> None:
    """DeiT-Tiny's trained weights saved as DeiT's training does, with positions and without: the same digest as timm's own file."""
    file = WEIGHTS / "deit_tiny_patch16_224.safetensors"
    state = weight_files.read(file).state
    torch.save({"model": state, "epoch": 299}, tmp_path / "deit_t_sin.pth")
    torch.save({"model": {k: v for k, v in state.items() if k != "pos_embed"}}, tmp_path / "no_pos_deit_t.pth")
    arch = "?arch=deit_tiny_patch16_224"
    plain, without = (
        load(f"checkpoint:{tmp_path}/{name}")
        for name in (f"deit_t_sin.pth{arch}", f"no_pos_deit_t.pth{arch}&position=none")
    )
    assert plain.card.digest == load(f"timm:deit_tiny_patch16_224@{file}").card.digest
    assert without.card.digest == load(f"timm:deit_tiny_patch16_224@{file}?position=none").card.digest
    assert top1(plain) - top1(without) > 0.3  # its own positions were needed
