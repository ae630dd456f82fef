"""Taking position out: every family's adapter proves itself, and what cannot be without position is refused with the reason."""

import pytest
import torch
from torch import nn

from visionvitals import registry
from visionvitals.errors import VitalsError
from visionvitals.perturb import patches, position

SMALL = {"depth": 2, "embed_dim": 24, "num_heads": 2, "num_classes": 5}
NETWORKS = {
    "vit_tiny_patch16_224": SMALL | {"img_size": 64},
    "deit3_small_patch16_224": SMALL | {"img_size": 64},
    "vit_small_patch14_reg4_dinov2": SMALL | {"img_size": 56},
    "vit_base_patch16_siglip_224": SMALL | {"img_size": 64},
    "deit_tiny_distilled_patch16_224": SMALL | {"img_size": 64},
    "eva02_tiny_patch14_224": SMALL | {"img_size": 56},
    "vit_small_patch16_dinov3": SMALL | {"img_size": 64},
    "beit_base_patch16_224": SMALL | {"img_size": 64},
    "cait_xxs24_224": SMALL | {"img_size": 64},
}


def network(name: str) -> nn.Module:
    """With random weights, position and layer scale as strong as the rest, so that the proof could fail."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        made: nn.Module = timm.create_model(name, **NETWORKS[name]).eval()
        with torch.no_grad():
            for key, parameter in made.named_parameters():
                last = key.rpartition(".")[2]
                if last.startswith("gamma") or parameter.ndim == 1:
                    parameter.fill_(1.0)
                elif last in ("pos_embed", "relative_position_bias_table", "cls_token", "dist_token"):
                    parameter.normal_()
                else:
                    parameter.normal_(std=2 * parameter[0].numel() ** -0.5)
        return made


def size(name: str) -> tuple[int, int]:
    side = NETWORKS[name]["img_size"]
    return side, side


@pytest.mark.parametrize("name", NETWORKS)
def test_the_answer_depends_on_places_before_and_not_after(name) -> None:
    module = network(name)
    assert position.change(module, size=size(name)) > 1e-3
    module.train()
    position.remove(module, size=size(name))
    assert module.training, "the proof leaves the mode as it was"
    assert position.change(module, size=size(name)) < 5e-6


def test_torchvisions_transformer() -> None:
    from torchvision.models import VisionTransformer

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = VisionTransformer(
            image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=48, num_classes=5
        )
        nn.init.normal_(module.heads.head.weight)
        nn.init.normal_(module.encoder.pos_embedding)
    assert position.change(module, size=(64, 64)) > 1e-3
    position.remove(module, size=(64, 64))
    assert position.change(module, size=(64, 64)) < 5e-6


def test_shuffles_of_whole_patches_change_nothing_and_others_do() -> None:
    """A grid whose cells are whole patches keeps the set of patches: at 224 and 16 px that is 14x14, 7x7 and 2x2, and no other here."""
    import timm

    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = timm.create_model("vit_tiny_patch16_224", depth=2, embed_dim=24, num_heads=2, num_classes=5).eval()
        nn.init.normal_(module.head.weight)
        images = torch.rand(2, 3, 224, 224)
    position.remove(module, size=(224, 224))
    keys = torch.tensor([1, 2])
    from visionvitals import randomness

    with torch.inference_mode():
        before = module(images)
        for grid, same in (
            ((14, 14), True),
            ((7, 7), True),
            ((2, 2), True),
            ((4, 4), False),
            ((8, 8), False),
            ((16, 16), False),
        ):
            moved = patches.shuffle(images, randomness.permutation(keys, grid[0] * grid[1]), grid)
            change = float((module(moved) - before).norm() / before.norm())
            assert (change < 5e-6) == same, (grid, change)
            assert (change > 1e-3) != same, (grid, change)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", 'windows .* "no position" is not defined for it'),
        ("resnet18", "it has no position encoding; its convolutions see .* nothing to remove"),
        ("convnext_atto", "it has no position encoding"),
        ("pit_ti_224", "where it keeps position is not known here"),
        ("convit_tiny", "where it keeps position is not known"),
        ("vit_tiny_r_s16_p8_224", "one patch a token"),
    ],
)
def test_what_cannot_be_without_position_is_refused(name, reason) -> None:
    import timm

    with pytest.raises(VitalsError, match=reason):
        position.remove(timm.create_model(name), size=(224, 224))


def test_an_adapter_that_does_not_do_its_work_is_found_out(monkeypatch) -> None:
    """timm's distilled DeiT takes `pos_embed="none"` and keeps its embedding: the proof must notice such a thing."""
    module = network("deit_tiny_distilled_patch16_224")
    monkeypatch.setattr(position, "_TAKERS", ((type(module), lambda _: None),))
    with pytest.raises(VitalsError, match=r"must give the same answer when the patches .* which changes by"):
        position.remove(module, size=(64, 64))


def test_the_option_of_the_spelling() -> None:
    def load(text: str):
        spec = registry.parse(text, families=["timm"])
        return registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))

    for name in ("test_vit", "deit_tiny_distilled_patch16_224"):
        base = f"timm:{name}?pretrained=false&size=64" + ("&model.depth=2&model.embed_dim=48" if "deit" in name else "")
        known, free = load(base), load(f"{base}&position=none")
        assert known.card.digest != free.card.digest, "results with and without must not mix"
        assert position.change(free.module, size=(64, 64)) < 5e-6
        assert "token_removal" in free.card.provides
    with pytest.raises(VitalsError, match=r"`position` must be none\. Got 'no'"):
        load("timm:test_vit?pretrained=false&size=64&position=no")
