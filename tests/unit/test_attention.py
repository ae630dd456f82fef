"""Attention caught from fused networks: certified for every family, over the patches, and nothing changed by looking."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from visionvitals import api, core, registry
from visionvitals.errors import VitalsError
from visionvitals.probes import attention

FAMILIES = registry.names("backbones")
RANDOM = "?pretrained=false"
VIT = f"timm:test_vit{RANDOM}&size=64"


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=FAMILIES)
    found = registry.load("backbones", spec.family).load(spec, device=torch.device("cpu"))
    assert isinstance(found, core.Backbone)
    return found


def pictures(backbone: core.Backbone, n: int = 2) -> Tensor:
    return torch.rand(n, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(0))


GLOBAL, WINDOW, REDUCED, CHANNEL, CLASS, OTHER = "global", "window", "reduced", "channel", "class-only", "other"
SMALL = {"img_size": 64, "depth": 2}
NARROW = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3}
PATCH14 = {"img_size": 56, "depth": 2}
ONES: dict[str, Any] = {"depths": (1, 1, 1, 1)}
TIMM: list[tuple[str, dict[str, Any], int, int, set[str]]] = [
    # name, keyword arguments, image side, attention calls, geometries
    ("vit_tiny_patch16_224", SMALL, 64, 2, {GLOBAL}),
    ("deit_tiny_distilled_patch16_224", SMALL, 64, 2, {GLOBAL}),
    ("deit3_small_patch16_224", SMALL, 64, 2, {GLOBAL}),
    ("vit_small_patch14_dinov2", PATCH14, 56, 2, {GLOBAL}),
    ("vit_small_patch14_reg4_dinov2", PATCH14, 56, 2, {GLOBAL}),
    ("eva02_tiny_patch14_224", PATCH14, 56, 2, {GLOBAL}),
    ("beit_base_patch16_224", NARROW, 64, 2, {GLOBAL}),
    ("vit_small_patch16_dinov3", SMALL, 64, 2, {GLOBAL}),
    ("vit_relpos_small_patch16_224", SMALL, 64, 2, {GLOBAL}),
    ("naflexvit_base_patch16_gap", {"depth": 2, "embed_dim": 48, "num_heads": 3}, 64, 2, {GLOBAL}),
    ("vit_base_patch16_siglip_224", NARROW, 64, 3, {GLOBAL, CLASS}),
    ("mobilevit_xxs", {}, 128, 9, {WINDOW}),
    ("pvt_v2_b0", {}, 64, 8, {REDUCED, GLOBAL}),
    ("twins_pcpvt_small", {"img_size": 64, **ONES}, 64, 4, {REDUCED, GLOBAL}),
    ("twins_svt_small", {"img_size": 224, "embed_dims": (16, 32, 64, 128), **ONES}, 224, 4, {WINDOW, GLOBAL}),
    ("pit_ti_224", {"depth": (1, 1, 1)}, 224, 3, {GLOBAL}),
    ("maxvit_rmlp_pico_rw_256", {"img_size": 64}, 64, 22, {WINDOW, GLOBAL}),
    ("hiera_tiny_224", {"stages": (1, 1, 1, 1)}, 224, 4, {WINDOW, REDUCED}),
    ("tiny_vit_5m_224", {}, 224, 10, {WINDOW, GLOBAL}),
    (
        "swin_tiny_patch4_window7_224",
        {"img_size": 112, "depths": (2, 1), "embed_dim": 24, "num_heads": (2, 2)},
        112,
        3,
        {WINDOW},
    ),
    (
        "swinv2_tiny_window8_256",
        {"img_size": 64, "depths": (2, 1), "embed_dim": 24, "num_heads": (2, 2)},
        64,
        3,
        {WINDOW, GLOBAL},
    ),
    ("cait_xxs24_224", SMALL, 64, 4, {GLOBAL, CLASS}),
    ("xcit_nano_12_p16_224", SMALL, 64, 4, {CHANNEL, CLASS}),
    ("tnt_s_legacy_patch16_224", SMALL, 64, 4, {WINDOW, GLOBAL}),
    ("convit_tiny", {"img_size": 64, "depth": 11}, 64, 11, {GLOBAL}),
    ("levit_128s", {}, 224, 11, {GLOBAL, REDUCED}),
    ("crossvit_9_240", {}, 240, 18, {GLOBAL, CLASS}),
    ("mvitv2_tiny", {"img_size": 64}, 64, 10, {REDUCED, GLOBAL}),
    ("volo_d1_224", {"img_size": 64}, 64, 20, {WINDOW, GLOBAL, CLASS}),
    ("gcvit_xxtiny", {}, 224, 12, {WINDOW, GLOBAL}),
    (
        "davit_tiny",
        {"embed_dims": (16, 32, 64, 128), "num_heads": (1, 2, 4, 8), **ONES},
        64,
        8,
        {WINDOW, CHANNEL, GLOBAL},
    ),
    ("visformer_tiny", {"img_size": 64}, 64, 8, {GLOBAL}),
    ("coat_lite_tiny", {"img_size": 64}, 64, 8, {OTHER}),
    ("test_resnet", {}, 64, 0, set()),
    ("test_convnext", {}, 64, 0, set()),
]
TORCHVISION: list[tuple[str, Callable[[], nn.Module], int, set[str]]] = [
    ("vit", lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 16, 32, num_classes=5), 2, {GLOBAL}),
    (
        "swin",
        lambda: torchvision.models.SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4], num_classes=5),
        2,
        {WINDOW},
    ),
    (
        "maxvit",
        lambda: torchvision.models.MaxVit((64, 64), 16, 2, [16, 16], [1, 1], 8, 0.0, num_classes=5),
        4,
        {WINDOW},
    ),
]
HUGGING_FACE = ("ViT", "DeiT", "Dinov2", "Dinov2WithRegisters", "DINOv3ViT", "Beit", "Swin")


def certify(module: nn.Module, side: int, calls: int, geometries: set[str], *, prefix: int = 0) -> None:
    """Every map times its values is what the network computed; the network answers as before."""
    module.eval()
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    for rows in ("prefix", "all"):
        maps: list[attention.Map] = []
        with torch.no_grad():
            plain = answer(module, images)
            with attention.watch(module, 2, maps.append, prefix=prefix, grid=None, rows=rows):
                watched = answer(module, images)
        assert torch.allclose(watched, plain, atol=1e-6)
        assert [m.block for m in maps] == list(range(calls))
        assert {m.geometry for m in maps} == geometries
        assert all(m.residual < 1e-4 for m in maps), [m.residual for m in maps]
        assert all(m.rows.dtype == torch.float32 and m.rows.isfinite().all() for m in maps)
        if rows == "prefix" and prefix:
            assert {m.rows.shape[2] for m in maps if m.geometry == GLOBAL} <= {prefix, 1}


def answer(module: nn.Module, images: Tensor) -> Tensor:
    out = module(images)
    found = out if isinstance(out, Tensor) else out[0]
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize(("name", "kwargs", "side", "calls", "geometries"), TIMM, ids=[row[0] for row in TIMM])
def test_every_family_of_timm_is_certified(
    name: str, kwargs: dict[str, Any], side: int, calls: int, geometries: set[str]
) -> None:
    module = timm.create_model(name, **kwargs)
    certify(module, side, calls, geometries, prefix=getattr(module, "num_prefix_tokens", 0))


@pytest.mark.parametrize(("name", "make", "calls", "geometries"), TORCHVISION, ids=[row[0] for row in TORCHVISION])
def test_torchvision_is_certified(name: str, make: Callable[[], nn.Module], calls: int, geometries: set[str]) -> None:
    certify(make(), 64, calls, geometries, prefix=int(name == "vit"))


@pytest.mark.parametrize("name", HUGGING_FACE)
def test_hugging_face_is_certified(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    plain = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    windows = {"depths": [1, 1], "num_heads": [2, 2], "embed_dim": 16, "window_size": 4, "patch_size": 4}
    config = getattr(transformers, f"{name}Config")(image_size=64, **(windows if name == "Swin" else plain))
    module = getattr(transformers, f"{name}Model")(config)
    prefix = {"DeiT": 2, "Dinov2WithRegisters": 5, "DINOv3ViT": 1 + getattr(config, "num_register_tokens", 0)}.get(
        name, 1
    )
    certify(module, 64, 2, {WINDOW if name == "Swin" else GLOBAL}, prefix=0 if name == "Swin" else prefix)


def test_the_fast_path_of_torch_is_seen_too() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval().requires_grad_(False)
    tokens = torch.rand(2, 5, 16)
    maps: list[attention.Map] = []
    with torch.no_grad(), attention.watch(nn.Sequential(layer), 2, maps.append, prefix=1, grid=None, rows="all"):
        layer(tokens)
    (found,) = maps
    _, weights = layer.self_attn(tokens, tokens, tokens, average_attn_weights=False)
    torch.testing.assert_close(found.rows, weights, atol=1e-6, rtol=0)
    assert found.residual < 1e-4


class Spelled(nn.Module):
    """Both other ways to attend, with every argument by its name, as some networks call them."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.multi = nn.MultiheadAttention(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        m, along = self.multi, x.transpose(0, 1)
        pooled, _ = functional.multi_head_attention_forward(
            query=along[:1], key=along, value=along, embed_dim_to_check=8, num_heads=2, in_proj_weight=m.in_proj_weight,
            in_proj_bias=m.in_proj_bias, bias_k=None, bias_v=None, add_zero_attn=False, dropout_p=0.0,
            out_proj_weight=m.out_proj.weight, out_proj_bias=m.out_proj.bias, training=False, need_weights=False,
        )  # fmt: skip
        scores = functional.softmax(input=x @ x.mT, dim=-1)
        return torch.matmul(scores, x) + pooled.transpose(0, 1)


def test_arguments_by_name_are_understood() -> None:
    maps: list[attention.Map] = []
    module = nn.Sequential(Spelled()).eval()
    with torch.no_grad(), attention.watch(module, 2, maps.append, prefix=1, grid=None):
        module(torch.rand(2, 5, 8))
    assert [(m.geometry, tuple(m.rows.shape)) for m in maps] == [(CLASS, (2, 2, 1, 5)), (GLOBAL, (2, 1, 1, 5))]
    assert all(m.residual < 1e-6 for m in maps)


class Mixture(nn.Module):
    """A softmax that weighs branches, not tokens; and one that multiplies nothing."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.weights, self.inner = nn.Parameter(torch.rand(3)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.weights.softmax(0) @ torch.stack([x, x + 1, self.inner(x)]).flatten(1)
        return mixed.view_as(x) * x.softmax(-1)


def test_a_softmax_that_is_no_attention_gives_no_map() -> None:
    maps: list[attention.Map] = []
    with torch.no_grad(), attention.watch(nn.Sequential(Mixture()), 2, maps.append, prefix=0, grid=None):
        Mixture()(torch.rand(2, 5, 4))
    assert maps == []


class Attend(nn.Module):
    """Fused attention of three given tensors, within a module."""

    def __init__(self, **options: Any) -> None:
        nn.Module.__init__(self)
        self.options, self.inner = options, nn.Identity()

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, **self.options)


def seen(module: nn.Module, *given: Tensor, rows: Any = "all") -> attention.Map:
    maps: list[attention.Map] = []
    with (
        torch.no_grad(),
        attention.watch(nn.Sequential(module), len(given[0]), maps.append, prefix=1, grid=None, rows=rows),
    ):
        module(*given)
    return maps[0]


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.rand(2, 1, 5, 5) > 0.3},
        {"attn_mask": torch.rand(5, 5)},
        {"attn_mask": torch.rand(2, 3, 1, 5)},
        {"enable_gqa": True},
    ],
    ids=["scale", "causal", "mask of bools", "mask", "mask of keys", "grouped queries"],
)
@pytest.mark.parametrize("rows", ["prefix", "all"])
def test_what_a_call_was_given_is_in_the_map(options: dict[str, Any], rows: str) -> None:
    mask = options.get("attn_mask")
    if mask is not None and mask.dtype == torch.bool:
        options = {"attn_mask": mask | torch.eye(5, dtype=torch.bool)}
    heads = 1 if options.get("enable_gqa") else 3
    q, k, v = torch.randn(2, 3, 5, 4), torch.randn(2, heads, 5, 4), torch.randn(2, heads, 5, 4)
    assert seen(Attend(**options), q, k, v, rows=rows).residual < 1e-5


def test_half_precision_is_computed_again_in_float32() -> None:
    q, k, v = (torch.randn(2, 3, 5, 4).half() for _ in range(3))
    found = seen(Attend(), q, k, v)
    exact = (q.float() @ k.float().mT / 2).softmax(-1)
    torch.testing.assert_close(found.rows, exact)
    assert 0 < found.residual < attention.TOLERANCE


def test_an_image_that_overflowed_is_nan_and_the_others_are_certified() -> None:
    q, k, v = (torch.randn(2, 3, 5, 4).half() for _ in range(3))
    q[1] = float("inf")
    found = seen(Attend(), q, k, v)
    assert found.residual < attention.TOLERANCE
    assert found.rows[0].isfinite().all()
    assert found.rows[1].isnan().all()


def test_a_map_that_is_not_the_networks_own_is_refused(vit: core.Backbone) -> None:
    found = attention.record(vit, pictures(vit))[0]
    with pytest.raises(
        VitalsError, match=r"map times values must be the network's own result. Got 'a residual of 0.5'"
    ):
        attention.over_patches(found._replace(residual=0.5), vit.card)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "windows"),
        ("test_convnext", "must have attention"),
        ("levit_128s", "the network has no patch grid"),
    ],
)
def test_maps_that_are_not_over_the_patches_are_refused(name: str, reason: str) -> None:
    size = {"swin_tiny_patch4_window7_224": "224", "levit_128s": "224"}.get(name, "64")
    backbone = load(f"timm:{name}{RANDOM}" + ("" if size == "224" else f"&size={size}"))
    block = 0 if name.startswith("swin") else -1
    with pytest.raises(VitalsError, match=reason):
        attention.patch_rows(backbone, pictures(backbone), block=block)
    assert "attention" not in backbone.card.provides


def test_a_network_without_prefix_is_asked_by_its_mean() -> None:
    backbone = load(f"timm:vit_relpos_small_patch16_224{RANDOM}&size=64&model.depth=2")
    images = pictures(backbone)
    whole = attention.record(backbone, images, rows="all")[-1]
    torch.testing.assert_close(attention.patch_rows(backbone, images), whole.rows.mean(dim=2), atol=1e-6, rtol=0)


def test_watching_changes_nothing_and_leaves_nothing(vit: core.Backbone) -> None:
    images = pictures(vit)
    plain = vit.logits(images)
    _, watched = attention.record_with_logits(vit, images)
    assert torch.equal(plain, watched)
    assert all(block.attn.fused_attn for block in vit.module.blocks)  # type: ignore[union-attr]
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in vit.module.modules())


def test_prefix_rows_are_rows_of_the_whole_map(vit: core.Backbone) -> None:
    images = pictures(vit)
    for few, whole in zip(attention.record(vit, images), attention.record(vit, images, rows="all"), strict=True):
        assert whole.rows.shape[2] == 17
        torch.testing.assert_close(few.rows, whole.rows[:, :, :1], atol=1e-6, rtol=0)


def test_rows_do_not_depend_on_the_batch(vit: core.Backbone) -> None:
    images = pictures(vit, 5)
    alone = torch.cat([attention.patch_rows(vit, images[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(attention.patch_rows(vit, images), alone, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def vit() -> core.Backbone:
    return load(VIT)


def test_the_card_tells_whether_there_is_attention_over_the_patches(vit: core.Backbone) -> None:
    assert "attention" in vit.card.provides
    assert "attention" not in load(f"timm:test_resnet{RANDOM}&size=64").card.provides


def test_rows_are_those_of_the_network_unfused(vit: core.Backbone) -> None:
    """The map as the unfused network itself computes it, seen by a hook on its attention dropout."""
    images = pictures(vit)
    fused = attention.patch_rows(vit, images)
    last = vit.module.blocks[-1].attn  # type: ignore[index, union-attr]
    seen: list[Tensor] = []
    handle = last.attn_drop.register_forward_hook(lambda _m, _a, output: seen.append(output))  # type: ignore[union-attr, operator]
    last.fused_attn = False  # type: ignore[union-attr]
    try:
        vit.logits(images)
    finally:
        last.fused_attn = True  # type: ignore[union-attr]
        handle.remove()
    torch.testing.assert_close(fused, seen[0][:, :, 0, 1:], atol=1e-6, rtol=0)


def test_queries_and_blocks_that_are_not_there_are_named(vit: core.Backbone) -> None:
    images = pictures(vit)
    with pytest.raises(VitalsError, match=r"`query` must be in \[0, 0\]"):
        attention.patch_rows(vit, images, query=1)
    with pytest.raises(VitalsError, match=r"has 6 attention calls, so `block` must be in \[-6, 5\]"):
        attention.patch_rows(vit, images, block=6)
    with pytest.raises(VitalsError, match="must have attention"):
        attention.patch_rows(load(f"timm:test_resnet{RANDOM}&size=64"), torch.rand(1, 3, 64, 64))


def test_rollout_of_all_blocks_is_the_product_of_their_mixed_maps(vit: core.Backbone) -> None:
    images = pictures(vit)
    flow = torch.eye(17)
    for found in attention.record(vit, images, rows="all"):
        mixed = found.rows.mean(dim=1) + torch.eye(17)
        flow = mixed / mixed.sum(dim=2, keepdim=True) @ flow
    torch.testing.assert_close(attention.patch_rows(vit, images, rollout=True)[:, 0], flow[:, 0, 1:], atol=1e-6, rtol=0)


class Twice(nn.Module):
    """The mean over two passes of one network, or over two networks."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(x) + self.other(x.flip(-1))) / 2


@pytest.mark.parametrize("networks", [1, 2])
def test_attention_of_two_passes_is_no_sequence(networks: int) -> None:
    ones = [timm.create_model("test_vit", img_size=64).eval() for _ in range(networks)]
    mean = load(api.backbone(Twice(ones[0], ones[-1]), name=f"mean_{networks}", size=64))
    alone = load(api.backbone(ones[0], name=f"alone_{networks}", size=64))
    assert "attention" in alone.card.provides
    assert not any("one part" in note for note in alone.card.notes)
    assert "attention" not in mean.card.provides
    assert any("also passes around `" in note for note in mean.card.notes)
    with pytest.raises(VitalsError, match="attention calls are 2 sequences that do not depend on each other"):
        attention.patch_rows(mean, pictures(mean))
