"""Laws that every backbone plug-in keeps, checked on the spellings that it declares to load offline."""

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from visionvitals import core, registry
from visionvitals.errors import VitalsError

CPU = torch.device("cpu")
FAMILIES = [*registry.names("backbones"), str(Path(__file__).parents[1] / "plugins" / "mosaic.py")]
"""Those that are installed, and that of docs/write_a_backbone.md by its path."""
EXAMPLES = [
    f"{family}:{spelling.partition(':')[2]}"
    for family in FAMILIES
    for spelling in registry.load("backbones", family).EXAMPLES
]


def fresh(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=FAMILIES)
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


loaded = cache(fresh)


def pictures(backbone: core.Backbone, n: int = 3) -> Tensor:
    return torch.rand(n, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_plug_in_declares_examples_and_says_what_it_is(family: str) -> None:
    examples = registry.load("backbones", family).EXAMPLES
    assert isinstance(examples, tuple)
    name = Path(family).stem
    assert all(registry.parse(spelling, families=[name]).family == name for spelling in examples)
    assert registry.summary("backbones", family).endswith(".")


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_the_card_is_plain_data_and_true(spelling: str) -> None:
    backbone = loaded(spelling)
    card = backbone.card
    assert card.spec == spelling
    json.dumps(asdict(card))
    assert len(card.digest) == 64
    assert card.parameters == sum(p.numel() for p in backbone.module.parameters()) > 0
    assert ("features" in card.provides) == (backbone.features is not None)
    assert ("token_removal" in card.provides) == (backbone.visible_logits is not None)
    for names in (card.classes, card.class_names):
        assert names is None or len(names) == card.outputs
    assert backbone.device == CPU
    assert not backbone.module.training


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_logits_are_finite_float_and_independent_of_the_batch(spelling: str) -> None:
    backbone = loaded(spelling)
    images = pictures(backbone)
    logits = backbone.logits(images)
    assert logits.shape == (3, backbone.card.outputs)
    assert logits.dtype == torch.float32
    assert bool(logits.isfinite().all())
    torch.testing.assert_close(backbone.logits(images[1:2]), logits[1:2], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(backbone.logits(images), logits, atol=0, rtol=0)


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_gradients_flow_to_images_that_ask_for_them_and_cost_nothing_otherwise(spelling: str) -> None:
    backbone = loaded(spelling)
    images = pictures(backbone, 1)
    assert not backbone.logits(images).requires_grad
    images.requires_grad_()
    (slope,) = torch.autograd.grad(backbone.logits(images).square().sum(), images)
    assert bool((slope != 0).any())
    assert not any(p.requires_grad for p in backbone.module.parameters())
    with torch.no_grad():
        assert not backbone.logits(images).requires_grad


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_features_are_vectors_and_differ_between_images(spelling: str) -> None:
    backbone = loaded(spelling)
    if backbone.features is None:
        pytest.skip("provides no features")
    features = backbone.features(pictures(backbone))
    assert features.ndim == 2
    assert len(features) == 3
    assert not torch.equal(features[0], features[1])


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_removed_tokens_are_gone_and_the_others_are_all_there(spelling: str) -> None:
    backbone = loaded(spelling)
    if backbone.visible_logits is None:
        pytest.skip("cannot remove tokens")
    images = pictures(backbone)
    assert backbone.card.patch_grid is not None
    n = backbone.card.patch_grid[0] * backbone.card.patch_grid[1]
    everything = torch.ones(3, n, dtype=torch.bool)
    torch.testing.assert_close(backbone.visible_logits(images, everything), backbone.logits(images), atol=1e-5, rtol=0)
    order = torch.rand(3, n, generator=torch.Generator().manual_seed(1)).argsort(dim=1)
    visible = order < n // 2
    partial = backbone.visible_logits(images, visible)
    torch.testing.assert_close(backbone.visible_logits(images[1:2], visible[1:2]), partial[1:2], atol=1e-5, rtol=1e-4)
    shown = torch.nn.functional.interpolate(
        visible.view(3, 1, *backbone.card.patch_grid).float(), size=images.shape[2:], mode="nearest"
    )
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(2))
    hidden_changed = torch.where(shown > 0, images, noise)
    torch.testing.assert_close(backbone.visible_logits(hidden_changed, visible), partial, atol=1e-6, rtol=1e-5)
    shown_changed = torch.where(shown > 0, noise, images)
    assert not torch.allclose(backbone.visible_logits(shown_changed, visible), partial, atol=1e-6)
    torch.testing.assert_close(backbone.visible_logits(images, everything), backbone.logits(images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_loading_again_gives_the_same_weights_and_leaves_global_randomness_alone(spelling: str) -> None:
    before = torch.random.get_rng_state()
    again = fresh(spelling)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert again.card == loaded(spelling).card


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_training_mode_and_foreign_sizes_are_refused(spelling: str) -> None:
    backbone = loaded(spelling)
    height, width = backbone.card.preprocess.size
    with pytest.raises(VitalsError, match="takes images of shape"):
        backbone.logits(torch.rand(1, 3, height + 8, width))
    backbone.module.train()
    try:
        with pytest.raises(VitalsError, match="evaluation mode only"):
            backbone.logits(pictures(backbone))
    finally:
        backbone.module.eval()


@pytest.mark.parametrize("spelling", EXAMPLES)
def test_an_unknown_option_is_refused(spelling: str) -> None:
    with pytest.raises(VitalsError, match="no option `meen`"):
        fresh(f"{spelling}{'&' if '?' in spelling else '?'}meen=0.5")
