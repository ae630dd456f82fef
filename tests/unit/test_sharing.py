"""Shared passes: equal to the network's own, taken only where nobody looks inside, and never changed by what is kept."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from visionvitals import scoring, study
from visionvitals.backbones import _sharing, _token_removal
from visionvitals.core import Backbone
from visionvitals.inside import heads
from visionvitals.job import Embeddings, Job
from visionvitals.perturb.cells import covers_whole_patches
from visionvitals.plan.planner import load_backbone
from visionvitals.probes import tokens

SMALL = (
    "pretrained=false&size=48&model.img_size=48&model.depth=2&model.embed_dim=48&model.num_heads=3&model.num_classes=7"
)
DISTILLED = f"timm:deit_tiny_distilled_patch16_224?{SMALL}"
REGISTERS = f"timm:vit_tiny_patch16_224?{SMALL}&model.reg_tokens=3"
AVERAGE = f"timm:vit_tiny_patch16_224?{SMALL}&model.class_token=false&model.global_pool=avg"
NORMED = f"timm:vit_tiny_patch16_224?{SMALL}&model.qk_norm=true&model.init_values=0.1&model.pre_norm=true"
BOTH = ("last block", "patch embedding")
SHARING = {"tiny:vit": BOTH, DISTILLED: BOTH, REGISTERS: BOTH, NORMED: BOTH, AVERAGE: ("patch embedding",)}


def load(spelling: str) -> Backbone:
    return load_backbone(spelling, device=torch.device("cpu"))


def own(backbone: Backbone, images: Tensor) -> Tensor:
    """What the module itself answers."""
    p = backbone.card.preprocess
    with torch.inference_mode():
        answer: Tensor = backbone.module(
            (images - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
        )
    return answer


def far(a: Tensor, b: Tensor) -> float:
    """The largest difference, of the largest value."""
    return float((a - b).abs().max() / b.abs().max())


def work(backbone: Backbone, condition: Any, n: int = 9, **more: Any) -> Job:
    size = backbone.card.preprocess.size
    given: dict[str, Any] = {
        "ids": tuple(f"image {i}" for i in range(n)),
        "pixels": np.random.default_rng(0).integers(0, 256, (n, *size, 3), dtype=np.uint8),
        "labels": np.arange(n, dtype=np.int64) % backbone.card.outputs,
    }
    return Job(backbone=backbone, condition=condition, **(given | more))


def aligned(backbone: Backbone) -> list[tuple[str, Any]]:
    """Every condition of whole patches: fills, and shuffles."""
    rows, columns = backbone.card.patch_grid or (0, 0)
    grids = [
        (r, c) for r, c in itertools.product(range(1, rows + 1), range(1, columns + 1)) if rows % r == columns % c == 0
    ]
    occlusion, shuffle, salient = (study.load(name).Condition for name in ("occlusion", "shuffle", "salient"))
    found = [
        ("occlusion", occlusion(fraction=0.5, grid=grid, fill=fill))
        for grid in grids
        for fill in ("black", "mean", "gray")
    ]
    found += [
        ("occlusion", occlusion(fraction=0.5, grid=grids[-1], fill=fill)) for fill in ("blur", "noise")
    ]  # never shared
    return (
        found
        + [("shuffle", shuffle(grid=grid)) for grid in grids]
        + [("salient", salient(source="gradient", grid=grids[-1]))]
    )


def logits(job: Job, name: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The logits that a study scored."""
    seen: list[Tensor] = []
    answers = study.answers
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "answers", lambda out, *rest: seen.append(out) or answers(out, *rest))
        for _ in study.load(name).measure(job):
            pass
    return torch.cat(seen)


@pytest.mark.parametrize(("spelling", "shares"), SHARING.items())
def test_the_shared_pass_is_that_of_the_network(
    spelling: str, shares: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(spelling)
    assert backbone.shares == shares
    few: list[int] = []
    last = _sharing._last
    monkeypatch.setattr(_sharing, "_last", lambda block, x, reads: few.append(reads) or last(block, x, reads))
    images = torch.rand(5, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert far(backbone.logits(images), own(backbone, images)) < 1e-5
    assert backbone.patches is not None
    assert far(backbone.patches.logits(backbone.patches.embed(images)), own(backbone, images)) < 1e-5
    assert few == [1 + (spelling == DISTILLED)] * 2 * ("last block" in shares)


@pytest.mark.parametrize("spelling", SHARING)
def test_every_mask_and_shuffle_of_whole_patches_has_the_answers_of_its_pixels(
    spelling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load(spelling)
    without = dataclasses.replace(backbone, patches=None, logits=lambda images: own(backbone, images))
    first = work(backbone, None)
    kept = Embeddings(backbone, first.pixels)
    for name, condition in aligned(backbone):
        assert covers_whole_patches(condition.grid, backbone.card)
        given = without if name != "salient" else dataclasses.replace(backbone, patches=None)
        plain = logits(dataclasses.replace(first, backbone=given, condition=condition), name, monkeypatch)
        for batch_size in (1, 7, 32):
            for embeddings in (None, kept) if batch_size == 7 else (kept,):
                job = work(backbone, condition, pixels=first.pixels, batch_size=batch_size, embeddings=embeddings)
                assert far(logits(job, name, monkeypatch), plain) < 1e-5, (name, condition, batch_size)


def test_what_is_kept_belongs_to_its_pixels_and_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load("tiny:vit")
    condition = study.load("occlusion").Condition(fraction=0.25, grid=(8, 8))
    job = work(backbone, condition, batch_size=4)
    kept = Embeddings(backbone, job.pixels)
    first = logits(dataclasses.replace(job, embeddings=kept), "occlusion", monkeypatch)
    assert len(kept.maps) == 3
    for other in (job.pixels[::2], 255 - job.pixels, np.roll(job.pixels, 1, axis=0)):
        n = len(other)
        changed = dataclasses.replace(job, pixels=other, ids=job.ids[:n], labels=job.labels[:n])
        alone = logits(changed, "occlusion", monkeypatch)
        assert torch.equal(logits(dataclasses.replace(changed, embeddings=kept), "occlusion", monkeypatch), alone)
    part = dataclasses.replace(job, pixels=job.pixels[4:], ids=job.ids[4:], labels=job.labels[4:], embeddings=kept)
    assert torch.equal(logits(part, "occlusion", monkeypatch), first[4:])  # found under its place in the whole
    assert len(kept.maps) == 3
    stranger = dataclasses.replace(job, backbone=dataclasses.replace(backbone))
    logits(dataclasses.replace(stranger, batch_size=3, embeddings=kept), "occlusion", monkeypatch)
    assert len(kept.maps) == 3


def test_what_does_not_fit_is_computed_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = load("tiny:vit")
    job = work(backbone, study.load("shuffle").Condition(grid=(4, 4)), batch_size=2)
    kept = Embeddings(backbone, job.pixels)
    alone = logits(job, "shuffle", monkeypatch)
    monkeypatch.setattr(Embeddings, "MOST", 2 * 128 * 64 * 4)
    for _ in range(2):
        assert torch.equal(logits(dataclasses.replace(job, embeddings=kept), "shuffle", monkeypatch), alone)
        assert [x.nbytes for x in kept.maps.values()] == [2 * 128 * 64 * 4]


def test_whoever_looks_inside_sees_every_block_and_every_token() -> None:
    backbone = load(DISTILLED)
    images = torch.rand(2, 3, 48, 48)
    assert backbone.patches is not None
    last = backbone.module.blocks[-1]  # type: ignore[index, union-attr]
    seen: list[Tensor] = []
    handle = last.mlp.register_forward_hook(lambda _m, _a, output: seen.append(output))
    try:
        assert not backbone.patches.free()
        assert torch.equal(backbone.logits(images), own(backbone, images))
        assert seen[0].shape[1] == 2 + 9
    finally:
        handle.remove()
    assert backbone.patches.free()
    blocks, _ = tokens.record(backbone, images, tokens.layout(backbone))
    assert {tuple(x.shape[1:]) for x in blocks} == {(11, 48)}
    p = backbone.card.preprocess
    normal = (images - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    both = heads.answers(backbone.module, normal)
    for token, answer in zip(("class", "distillation"), both, strict=True):
        assert torch.equal(backbone.heads[token](images), answer)


def test_a_changed_part_computes_as_it_was_changed() -> None:
    backbone = load("tiny:vit")
    images = torch.rand(2, 3, 64, 64)
    attention: Any = backbone.module.blocks[-1].attn  # type: ignore[index, union-attr]
    attention.forward = lambda x, **_: torch.zeros_like(x)
    assert torch.equal(backbone.logits(images), own(backbone, images))
    del attention.forward
    assert far(backbone.logits(images), own(backbone, images)) < 1e-5


def test_gradients_are_those_of_the_plain_pass() -> None:
    backbone = load("tiny:vit")
    images = torch.rand(3, 3, 64, 64)

    def slope(function: Any) -> Tensor:
        asked = images.clone().requires_grad_()
        return torch.autograd.grad(function(asked).square().sum(), asked)[0]

    p = backbone.card.preprocess
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (p.mean, p.std))
    assert torch.equal(slope(backbone.logits), slope(lambda x: backbone.module((x - mean) / std)))


@pytest.mark.parametrize("spelling", ["tiny:vit", DISTILLED, REGISTERS])
def test_removed_tokens_are_those_of_the_plain_pass(spelling: str) -> None:
    backbone = load(spelling)
    assert backbone.visible_logits is not None
    rows, columns = backbone.card.patch_grid or (0, 0)
    images = torch.rand(4, 3, *backbone.card.preprocess.size)
    visible = (torch.arange(rows * columns) % 3 > 0).expand(4, -1)
    spared = backbone.visible_logits(images, visible)
    handle = backbone.module.register_forward_hook(lambda *_: None)  # somebody looks
    plain = backbone.visible_logits(images, visible)
    handle.remove()
    assert 0 < far(spared, plain) < 1e-5


@pytest.mark.parametrize(
    "spelling",
    [
        "tiny:cnn",
        "timm:resnet18?pretrained=false&size=64",
        "timm:eva02_tiny_patch14_224?pretrained=false&size=56&model.depth=2",
    ],
)
def test_other_networks_share_nothing(spelling: str) -> None:
    backbone = load(spelling)
    assert (backbone.shares, backbone.patches) == ((), None)


def test_a_network_that_answers_alike_or_is_of_another_class_is_not_certified() -> None:
    from timm.models.vision_transformer import VisionTransformer

    class Other(VisionTransformer):
        def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
            return super().forward_head(x, pre_logits) * 2

    small: dict[str, Any] = {
        "img_size": 32,
        "patch_size": 16,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
        "num_classes": 5,
    }
    pictures = torch.rand(2, 3, 32, 32)
    for made, shares in ((VisionTransformer(**small), BOTH), (Other(**small), ())):
        made.eval()
        with torch.no_grad():
            torch.nn.init.normal_(made.head.weight)
            tokens_of = _token_removal.find(made)
            assert _sharing.find(made, made, tokens_of, pictures).shares == shares
            torch.nn.init.zeros_(made.head.weight)
            assert _sharing.find(made, made, tokens_of, pictures).shares == ()
