"""Backbones: what a spelling means, token removal against a computation by hand, weights files, and the errors users meet."""

import argparse
import json
import pickle
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor, nn

from visionvitals import core, registry, weight_files
from visionvitals.backbones import _hub, _identity, _parts, _preprocess, _token_removal
from visionvitals.core import Preprocess
from visionvitals.errors import VitalsError

CPU = torch.device("cpu")
FAMILIES = registry.names("backbones")
VIT = "timm:test_vit?pretrained=false&size=64"
ASK = "?mean=0.5&std=0.5"


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=FAMILIES)
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


def spec(spelling: str) -> registry.Spec:
    return registry.parse(spelling, families=FAMILIES)


def pictures(backbone: core.Backbone, n: int = 2) -> Tensor:
    return torch.rand(n, 3, *backbone.card.preprocess.size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def vit() -> core.Backbone:
    return load(VIT)


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and a hub and a proxy at a port of this machine that refuses connections."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # the environment of the tests may set it
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path


# --- token removal


def by_hand_timm(module: Any, x: Tensor, kept: Tensor) -> Tensor:
    tokens = module._pos_embed(module.patch_embed(x))
    prefix = module.num_prefix_tokens
    rows = [torch.cat((row[:prefix], row[prefix:][where]))[None] for row, where in zip(tokens, kept, strict=True)]
    return torch.cat([module.forward_head(module.norm(module.blocks(module.norm_pre(row)))) for row in rows])


@pytest.mark.parametrize(
    "spelling", [VIT, "timm:deit_tiny_distilled_patch16_224?pretrained=false&size=48&model.depth=2&model.embed_dim=48"]
)
def test_removing_tokens_equals_gathering_them_by_hand(spelling: str) -> None:
    backbone = load(spelling)
    assert backbone.visible_logits is not None
    assert backbone.card.patch_grid is not None
    n = backbone.card.patch_grid[0] * backbone.card.patch_grid[1]
    images = pictures(backbone)
    order = torch.rand(2, n, generator=torch.Generator().manual_seed(3)).argsort(dim=1)
    visible = order < n // 3
    p = backbone.card.preprocess
    x = (images - torch.tensor(p.mean).view(3, 1, 1)) / torch.tensor(p.std).view(3, 1, 1)
    expected = by_hand_timm(backbone.module, x, visible)
    torch.testing.assert_close(backbone.visible_logits(images, visible), expected, atol=1e-5, rtol=0)
    assert (expected - backbone.logits(images)).abs().max() > 1e-3


def test_torchvision_tokens_equal_gathering_them_by_hand() -> None:
    import torchvision

    def small() -> nn.Module:
        model = torchvision.models.VisionTransformer(16, 4, 2, 2, 16, 32, num_classes=5)
        nn.init.normal_(model.heads.head.weight)
        model.eval().requires_grad_(False)
        assert isinstance(model, nn.Module)
        return model

    model: Any = _parts.seeded(small, seed=0)
    found = _token_removal.find(model)
    assert (found.grid, found.prefix) == ((4, 4), 1)
    assert found.keep is not None
    x = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    kept = torch.tensor([[0, 3, 7], [1, 2, 15]])
    with found.keep(kept):
        got = model(x)
    tokens = (
        torch.cat((model.class_token.expand(2, -1, -1), model._process_input(x)), dim=1) + model.encoder.pos_embedding
    )
    rows = torch.stack([torch.cat((row[:1], row[1:][where])) for row, where in zip(tokens, kept, strict=True)])
    expected = model.heads(model.encoder.ln(model.encoder.layers(rows))[:, 0])
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert (model(x) - got).abs().max() > 1e-3


def test_rotary_positions_leave_with_their_tokens() -> None:
    """EVA with rotary embedding: the order in which the kept tokens are listed must not matter, only where they were."""
    backbone = load("timm:vit_small_patch16_rope_224?pretrained=false&size=64&model.depth=2&model.embed_dim=48")
    for name, parameter in backbone.module.named_parameters():
        if "gamma" in name or name == "head.weight":
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    keep = _token_removal.find(backbone.module).keep
    assert keep is not None
    x = pictures(backbone, 1)
    kept = torch.tensor([[1, 2, 8, 15]])
    outputs = []
    for indices in (kept, kept.roll(1, dims=1), kept + torch.tensor([[0, 1, 0, 0]])):
        with keep(indices), torch.no_grad():
            outputs.append(backbone.module(x))
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=1e-4)
    assert (outputs[0] - outputs[2]).abs().max() > 1e-2


def test_visible_must_be_a_bool_mask_with_equal_counts(vit: core.Backbone) -> None:
    assert vit.visible_logits is not None
    images = pictures(vit)
    with pytest.raises(VitalsError, match="must be bool"):
        vit.visible_logits(images, torch.ones(2, 16))
    with pytest.raises(VitalsError, match=r"must be \(b, 16\)"):
        vit.visible_logits(images, torch.ones(2, 15, dtype=torch.bool))
    with pytest.raises(VitalsError, match="one row for each image"):
        vit.visible_logits(images, torch.ones(1, 16, dtype=torch.bool))
    with pytest.raises(VitalsError, match="equally many"):
        vit.visible_logits(images, torch.arange(32).view(2, 16) < 3)


def test_no_visible_token_leaves_the_class_token_but_nothing_to_pool(vit: core.Backbone) -> None:
    nothing = torch.zeros(2, 16, dtype=torch.bool)
    assert vit.visible_logits is not None
    logits = vit.visible_logits(pictures(vit), nothing)
    assert torch.equal(logits[0], logits[1])
    pooling = load(f"{VIT}&model.global_pool=avg")
    assert pooling.visible_logits is not None
    with pytest.raises(VitalsError, match="at least one must be visible"):
        pooling.visible_logits(pictures(pooling), nothing)


def test_tokens_of_a_convolutional_stem_cannot_be_removed() -> None:
    hybrid = load("timm:vit_tiny_r_s16_p8_224?pretrained=false&size=64&model.depth=1")
    assert hybrid.card.patch_grid == (2, 2)
    assert hybrid.visible_logits is None


# --- evaluation mode (known answer 13 of the protocol notes)


def test_batchnorm_in_training_mode_collapses_on_sorted_batches_and_is_refused(tmp_path: Path) -> None:
    """Two classes, dark and light. In evaluation mode the network tells them apart; with batch statistics on class-sorted batches
    every batch is normalised to the same mean, and accuracy falls to chance."""
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def make():\n"
        "    pool = torch.nn.AdaptiveAvgPool2d(1)\n"
        "    net = torch.nn.Sequential(pool, torch.nn.Flatten(), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 2))\n"
        "    net[2].running_mean.fill_(0.5); net[2].running_var.fill_(0.04)\n"
        "    with torch.no_grad():\n"
        "        net[3].weight.copy_(torch.tensor([[-1.0] * 3, [1.0] * 3])); net[3].bias.zero_()\n"
        "    return net\n"
    )
    backbone = load(f"python:{tmp_path}/net.py:make?size=4&mean=0&std=1")
    noise = torch.rand(2, 64, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.2
    dark, light = noise[0] + 0.2, noise[1] + 0.6
    labels = torch.cat((torch.zeros(64), torch.ones(64)))

    def accuracy(score: Callable[[Tensor], Tensor]) -> float:
        predictions = torch.cat([score(batch).argmax(dim=1) for batch in (dark, light)])
        return float((predictions == labels).float().mean())

    assert accuracy(backbone.logits) == 1.0
    backbone.module.train()
    assert 0.3 < accuracy(backbone.module) < 0.7
    with pytest.raises(VitalsError, match=r"BatchNorm `2` among them"):
        accuracy(backbone.logits)
    with pytest.raises(VitalsError, match="evaluation mode only"):
        _parts.refuse_training_mode(backbone.module)
    backbone.module.eval()
    assert accuracy(backbone.logits) == 1.0


# --- weights files


@pytest.fixture(scope="module")
def files(vit: core.Backbone, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights of `test_vit` in every form in which they may come."""
    folder = tmp_path_factory.mktemp("weights")
    state = timm.create_model("test_vit", pretrained=False, img_size=64).state_dict()
    save_file(state, folder / "plain.safetensors")
    torch.save(state, folder / "plain.pth")
    deit = {"model": state, "args": argparse.Namespace(lr=0.1), "epoch": 3}
    torch.save(deit, folder / "deit.pth")
    torch.save({"state_dict": OrderedDict((f"module.{k}", v) for k, v in state.items())}, folder / "ddp.pth.tar")
    preprocess = {"size": [64, 64], "resize": None, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    said = {
        "arch": "timm:test_vit",
        "kwargs": json.dumps({"img_size": 64}),
        "preprocess": json.dumps(preprocess),
        "classes": json.dumps([f"c{i}" for i in range(1000)]),
    }
    save_file(state, folder / "said.safetensors", metadata=said)
    return {path.name: path for path in folder.iterdir()}


def test_one_network_has_one_digest_whatever_file_it_comes_from(files: dict[str, Path]) -> None:
    arch = "?arch=test_vit&model.img_size=64"
    digests = {load(f"checkpoint:{files[name]}{arch}").card.digest for name in ("plain.safetensors", "plain.pth")}
    digests |= {
        load(f"checkpoint:{files[name]}{arch}").card.digest for name in ("deit.pth", "ddp.pth.tar", "said.safetensors")
    }
    digests |= {load(f"timm:test_vit@{files['plain.pth']}?model.img_size=64&mean=0.1").card.digest}
    assert len(digests) == 1


def test_the_digest_follows_the_weights_and_the_architecture(vit: core.Backbone) -> None:
    assert load(f"{VIT}&seed=0").card.digest == vit.card.digest
    assert load(f"{VIT}&seed=1").card.digest != vit.card.digest
    assert load(f"{VIT}&model.drop_rate=0.5").card.digest != vit.card.digest
    before = _identity.digest(vit.module, architecture="a", build={})
    weight = next(vit.module.parameters()).view(-1)
    old = weight[0].clone()
    try:
        weight[0] = torch.nextafter(old, torch.tensor(9.0))
        assert _identity.digest(vit.module, architecture="a", build={}) != before
    finally:
        weight[0] = old
    assert _identity.digest(vit.module, architecture="a", build={}) == before
    assert _identity.digest(vit.module, architecture="b", build={}) != before


def test_a_file_that_says_what_it_is_needs_no_options(files: dict[str, Path]) -> None:
    card = load(f"checkpoint:{files['said.safetensors']}").card
    assert card.architecture == "test_vit"
    assert card.preprocess == Preprocess(
        size=(64, 64), resize=None, interpolation="bilinear", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
    )
    assert card.classes is not None
    assert card.classes[:2] == ("c0", "c1")
    assert card.notes == ()
    changed = load(f"checkpoint:{files['said.safetensors']}?mean=0.25&crop=0.5").card
    assert changed.preprocess.mean == (0.25, 0.25, 0.25)
    assert changed.preprocess.resize == 128
    assert changed.digest == card.digest


def test_the_number_of_classes_comes_from_the_head(tmp_path: Path) -> None:
    state = timm.create_model("test_resnet", pretrained=False, num_classes=7).state_dict()
    save_file(state, tmp_path / "w.safetensors")
    card = load(f"checkpoint:{tmp_path}/w.safetensors?arch=test_resnet&size=64").card
    assert (card.outputs, card.classes) == (7, None)


def test_another_size_resamples_the_position_embedding(files: dict[str, Path]) -> None:
    backbone = load(f"timm:test_vit@{files['plain.pth']}?model.img_size=64&size=96")
    assert backbone.card.patch_grid == (6, 6)
    assert backbone.card.preprocess.size == (96, 96)
    assert backbone.logits(pictures(backbone)).shape == (2, 1000)


def test_weights_of_another_architecture_are_refused_with_the_keys(files: dict[str, Path]) -> None:
    plain = files["plain.safetensors"]
    with pytest.raises(VitalsError, match=r"missing: conv1\.weight.*unexpected: blocks"):
        load(f"checkpoint:{plain}?arch=resnet18")
    with pytest.raises(VitalsError, match=r"1 of another shape: pos_embed \(1, 17, 64\) instead of \(1, 101, 64\)"):
        load(f"timm:test_vit@{plain}")
    with pytest.raises(VitalsError, match=r"does not say its architecture.*arch=TIMM_NAME"):
        load(f"checkpoint:{plain}")
    with pytest.raises(VitalsError, match=r"has no network `test_vitt`\. Did you mean test_vit"):
        load(f"checkpoint:{plain}?arch=test_vitt")
    with pytest.raises(VitalsError, match="`arch` must name a network"):
        load(f"checkpoint:{plain}?arch=hf:vit")


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("deit_tiny_patch16_224", "`deit_tiny_patch16_224` or `vit_tiny_patch16_224`"),
        ("vit_small_patch32_384", "`vit_small_patch32_384`"),
        ("deit_small_distilled_patch16_224", "`deit_small_distilled_patch16_224`"),
        ("vit_small_patch14_dinov2", "`vit_small_patch14_dinov2`"),
        ("vit_small_patch14_reg4_dinov2", "`vit_small_patch14_reg4_dinov2`"),
        ("resnet18", "`resnet18`"),
        ("resnet50", "`resnet50`"),
        ("test_convnext", None),
    ],
)
def test_keys_are_recognised(name: str, like: str | None) -> None:
    with torch.device("meta"):
        state = timm.create_model(name, pretrained=False).state_dict()
    found = weight_files.likely(state)
    assert found is None if like is None else like in str(found)


class _Shout:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_pickled_code_is_never_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {}, "extra": _Shout()}, tmp_path / "new.pth")
    (tmp_path / "old.pth").write_bytes(pickle.dumps(_Shout(), protocol=2))
    for name in ("new.pth", "old.pth"):
        with pytest.raises(VitalsError, match="pickled code is never executed"):
            load(f"checkpoint:{tmp_path}/{name}?arch=test_vit")
    assert "executed" not in capsys.readouterr().out


def test_damaged_and_absent_files_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    (tmp_path / "half.safetensors").write_bytes(files["plain.safetensors"].read_bytes()[:5000])
    (tmp_path / "half.pth").write_bytes(files["plain.pth"].read_bytes()[:5000])
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"epoch": 1}, tmp_path / "nothing.pth")
    for name, what in [
        ("empty.pth", "not a whole checkpoint"),
        ("half.pth", "not a whole checkpoint"),
        ("half.safetensors", "not a whole safetensors file"),
        ("list.pth", "must hold a state dict"),
        ("nothing.pth", "must be a state dict or hold one under state_dict, model"),
        ("hlaf.pth", r"There is no weights file.*Did you mean half\.pth"),
        ("none/here.pth", "and its folder does not exist"),
    ]:
        with pytest.raises(VitalsError, match=what):
            load(f"checkpoint:{tmp_path}/{name}?arch=test_vit")


# --- preprocessing


def test_timm_preprocessing_is_timms_own() -> None:
    deit = load("timm:deit_tiny_patch16_224?pretrained=false&model.depth=1").card.preprocess
    assert (deit.size, deit.resize, deit.interpolation, deit.mean) == (
        (224, 224),
        248,
        "bicubic",
        (0.485, 0.456, 0.406),
    )
    small = "?pretrained=false&model.depths=(1,1,1,1)&model.dims=(8,16,16,32)"
    stretching = load(f"timm:convnextv2_nano.fcmae_ft_in22k_in1k_384{small}").card
    assert (stretching.preprocess.size, stretching.preprocess.resize, stretching.notes) == ((384, 384), None, ())
    cropping_too = load(
        "timm:vit_medium_patch16_gap_384.sw_in12k_ft_in1k?pretrained=false&model.depth=1"
    ).card.preprocess
    assert (cropping_too.size, cropping_too.resize, cropping_too.stretch) == ((384, 384), 404, True)


BASE = Preprocess(size=(224, 224), resize=256, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def changed(options: str) -> Preprocess:
    from visionvitals.backbones.timm import Options

    read = registry.options(spec(f"timm:x{options}"), Options)
    return _preprocess.override(BASE, read, size=read.size)


@pytest.mark.parametrize(
    ("options", "size", "resize"),
    [
        ("", (224, 224), 256),
        ("?size=384", (384, 384), 438),
        ("?size=96x64", (96, 64), 109),
        ("?crop=0.9", (224, 224), 248),
        ("?crop=1", (224, 224), 224),
        ("?resize=300", (224, 224), 300),
        ("?resize=none", (224, 224), None),
        ("?size=64&resize=none", (64, 64), None),
    ],
)
def test_size_crop_and_resize(options: str, size: tuple[int, int], resize: int | None) -> None:
    found = changed(options)
    assert (found.size, found.resize) == (size, resize)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("crop=1.2", r"`crop` must be a number in \(0, 1\]"),
        ("crop=nan", r"`timm:x\?crop=nan`: `crop` must be a number in \(0, 1\]. Got 'nan'"),
        ("crop=0.9&resize=256", "not both"),
        ("resize=100", "`resize` must be None or at least"),
        ("size=huge", "`size` must be pixels"),
        ("mean=.5,.5", "`mean` must be one or three numbers"),
        ("std=0", "`std` must be one or three positive numbers"),
        ("std=inf", "`std` must be one or three positive numbers"),
        ("mean=-1", "`mean` must be one or three numbers of at least 0"),
        ("seed=-1", "`seed` must be a whole number of at least 0"),
        ("size=0", "`size` must be pixels"),
        ("size=64&size=96", "an option must be given once. Got 'size'"),
        ("depth=3", "has no option `depth`"),
        ("model=3", "has no option `model`"),
        ("interpolation=bicubik", "`interpolation` must be one of nearest, bilinear, bicubic, lanczos. Got 'bicubik'"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(options: str, message: str) -> None:
    with pytest.raises(VitalsError, match=message):
        changed(f"?{options}")


def test_normalisation_is_inside(vit: core.Backbone) -> None:
    other = load(f"{VIT}&mean=0.1,0.2,0.3&std=0.5,0.4,0.3")
    images = pictures(vit)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)
    torch.testing.assert_close(other.logits(images), vit.module((images - mean) / std))


# --- timm's and torchvision's names, keyword arguments, hub


@pytest.mark.parametrize(
    ("spelling", "message"),
    [
        ("timm:deit_tiny_patch16_225", "Did you mean deit_tiny_patch16_224"),
        ("timm:resnet50.tv_in2k", "no weights `tv_in2k` of it. Did you mean tv_in1k"),
        ("timm:test_vit?pretrained=false&model.foo=1", "unexpected keyword argument 'foo'"),
        ("timm:test_vit?pretrained=0", "`pretrained` must be `true` or `false`"),
        ("timm:test_vit?seed=1", "`seed` needs `pretrained=false`"),
        ("timm:mixer_s16_224?pretrained=false&size=64", "takes its own input size only, 224 x 224"),
        (
            "timm:test_vit?pretrained=false&model.in_chans=1",
            "must take pictures of 3 channels, red, green and blue. Got one that takes 1",
        ),
        ("timm:test_vit?pretrained=false&classes=none.txt", "There is no file none.txt"),
        ("torchvision:resnet51", "has no classifier `resnet51`. Did you mean resnet50"),
        ("torchvision:resnet18?weights=V9", "no published weights of that name"),
        ("torchvision:fasterrcnn_resnet50_fpn", "has no classifier"),
        ("torchvision:resnet18?pretrained=false&model.foo=1", "torchvision cannot make it"),
        ("python:torchvision.models:resnet19", "has no function `resnet19`. Did you mean resnet18"),
        ("python:no_such_module:f", "cannot import `no_such_module`"),
        ("python:resnet18", "must be spelled"),
    ],
)
def test_what_cannot_be_is_refused_with_a_way_out(spelling: str, message: str) -> None:
    with pytest.raises(VitalsError, match=message):
        load(spelling)


def test_keyword_arguments_reach_the_network() -> None:
    backbone = load(f"{VIT}&model.depth=1&model.num_classes=3&model.class_token=false&model.global_pool=avg")
    assert backbone.card.outputs == 3
    assert backbone.card.prefix_tokens == 0
    assert len(backbone.module.get_submodule("blocks")._modules) == 1


def test_registers_are_not_passed_off_as_a_class_token(vit: core.Backbone) -> None:
    card = load(
        "timm:vit_medium_patch16_reg4_gap_256?pretrained=false&model.depth=1&model.embed_dim=16&model.num_heads=2"
    ).card
    assert card.prefix_tokens == 4
    assert "has no class token: what is called so is the first of its 4 registers" in card.notes
    assert not any("class token" in note for note in vit.card.notes)


@pytest.mark.parametrize(
    ("spelling", "source"),
    [
        ("timm:test_vit", "https://127.0.0.1:9/timm/test_vit.r160_in1k"),
        ("timm:hf-hub:someone/net", "https://127.0.0.1:9/someone/net"),
        ("torchvision:squeezenet1_1", "https://download.pytorch.org/models/squeezenet1_1"),
        ("hf:someone/net", "https://127.0.0.1:9/someone/net"),
    ],
)
def test_an_unreachable_hub_fails_in_seconds_and_names_the_ways_out(spelling: str, source: str, no_hub: Path) -> None:
    if spelling.startswith("hf:"):
        pytest.importorskip("transformers")
    started = time.monotonic()
    with pytest.raises(VitalsError) as caught:
        load(spelling)
    assert time.monotonic() - started < 5
    message = str(caught.value)
    for part in (
        spelling,
        source,
        "127.0.0.1:9 does not answer",
        str(no_hub),
        "@FILE",
        "HF_ENDPOINT",
        "another spelling",
    ):
        assert part in message or (part == "@FILE" and "hf:./FOLDER" in message)


def test_offline_mode_is_obeyed_without_asking(no_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(VitalsError, match="reason: HF_HUB_OFFLINE is set"):
        load("timm:test_vit")


def test_cached_weights_need_no_hub(no_hub: Path) -> None:
    repository = no_hub / "hub" / "models--timm--test_vit.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots" / "abc").mkdir(parents=True)
    network = timm.create_model("test_vit", pretrained=False)
    save_file(network.state_dict(), repository / "snapshots" / "abc" / "model.safetensors")
    backbone = load("timm:test_vit")
    assert torch.equal(backbone.module.state_dict()["pos_embed"], network.state_dict()["pos_embed"])
    assert load("timm:test_vit.r160_in1k?size=96").card.patch_grid == (6, 6)
    with pytest.raises(VitalsError, match="1000 outputs; timm would fill another head at random"):
        load("timm:test_vit?model.num_classes=3")
    with pytest.raises(VitalsError, match="timm cannot make `test_vit`: RuntimeError"):
        load("timm:test_vit?model.depth=1")


def test_a_lookup_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_arguments: object, **_options: object) -> None:
        time.sleep(1)
        raise OSError("no such host")

    monkeypatch.setattr(_hub, "TIMEOUT", 0.0)
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    for name in ("https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    started = time.monotonic()
    assert "never.example:443 does not answer within" in str(_hub.no_answer("https://never.example"))
    assert time.monotonic() - started < 0.9


# --- transformers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small DINOv2 with registers, saved as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    where = tmp_path_factory.mktemp("hf") / "dinov2"
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        num_register_tokens=3,
        id2label={0: "cat", 1: "dog", 2: "cow"},
    )
    model = _parts.seeded(lambda: transformers.Dinov2WithRegistersForImageClassification(config), seed=0)
    model.save_pretrained(where)
    (where / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "BitImageProcessor",
                "size": {"shortest_edge": 80},
                "crop_size": {"height": 64, "width": 64},
                "do_center_crop": True,
                "resample": 3,
                "image_mean": [0.4, 0.5, 0.6],
                "image_std": [0.2, 0.3, 0.4],
            }
        )
    )
    return where


def test_a_local_folder_of_transformers(folder: Path) -> None:
    backbone = load(f"hf:{folder}")
    card = backbone.card
    assert card.preprocess == Preprocess(
        size=(64, 64), resize=80, interpolation="bicubic", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), crop="floor"
    )
    assert card.class_names == ("cat", "dog", "cow")
    assert (card.patch_grid, card.prefix_tokens, card.blocks) == ((4, 4), 4, 2)
    assert card.provides == ("features", "token_removal", "attention", "tokens")
    assert backbone.visible_logits is not None
    assert backbone.features is not None
    images = pictures(backbone)
    assert backbone.features(images).shape == (2, 64)
    torch.testing.assert_close(
        backbone.visible_logits(images, torch.ones(2, 16, dtype=torch.bool)), backbone.logits(images)
    )
    visible = torch.arange(16).expand(2, 16) < 8
    changed = images.clone()
    changed[:, :, 32:] = 0
    torch.testing.assert_close(backbone.visible_logits(changed, visible), backbone.visible_logits(images, visible))
    assert not torch.allclose(backbone.logits(changed), backbone.logits(images), atol=1e-6)
    assert load(f"hf:{folder}").card == card


def test_missing_head_weights_are_refused_not_made_up(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("classifier")}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text((folder / name).read_text())
    with pytest.raises(VitalsError, match=r"must hold all weights.*2 missing: classifier\.bias, classifier\.weight"):
        load(f"hf:{tmp_path}")


def test_a_folder_without_image_processor_must_be_told(folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(VitalsError, match="has no image processor"):
        load(f"hf:{tmp_path}")
    assert load(f"hf:{tmp_path}{ASK}").card.preprocess.mean == (0.5, 0.5, 0.5)


def test_a_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(VitalsError, match=r"there is no folder .*Did you mean dinov2"):
        load(f"hf:{folder.parent}/dinov3")


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(VitalsError, match=r'pip install "visionvitals\[hf\]"'):
        load("hf:someone/net")


@pytest.mark.parametrize(
    ("processor", "size", "resize", "mean", "std"),
    [
        ({"size": {"height": 224, "width": 224}}, (224, 224), None, 0.5, 0.25),
        ({"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}, (224, 224), 256, 0.5, 0.25),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), 256, 0.5, 0.25),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), None, 0.5, 0.25),
        ({"size": {"shortest_edge": 224}}, (224, 224), 224, 0.5, 0.25),
        ({"size": 224, "do_normalize": False}, (224, 224), 224, 0.0, 1.0),
        ({"size": 224, "do_rescale": False}, (224, 224), 224, 0.5 / 255, 0.25 / 255),
        ({"size": 224, "rescale_factor": 1 / 127.5, "rescale_offset": True}, (224, 224), 224, 0.75, 0.125),
        ({"size": 224, "include_top": True}, (224, 224), 224, 0.5, 0.0625),
    ],
)
def test_image_processors(
    processor: dict[str, Any], size: tuple[int, int], resize: int | None, mean: float, std: float
) -> None:
    from visionvitals.backbones.hf import preprocessing

    found = preprocessing({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "resample": 2, **processor})
    assert (found.size, found.resize) == (size, resize)
    assert found.mean == pytest.approx((mean,) * 3)
    assert found.std == pytest.approx((std,) * 3)


# --- the user's own factory, classes


def test_a_factory_returns_a_module_a_pair_or_a_backbone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from visionvitals import registry\n"
        "from visionvitals.core import Preprocess\n"
        "def module():\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))\n"
        "def pair():\n"
        "    p = Preprocess(size=(8, 8), resize=None, interpolation='nearest', mean=(0, 0, 0), std=(1, 1, 1))\n"
        "    return module(), p\n"
        "def backbone():\n"
        "    spec = registry.parse('timm:test_vit?pretrained=false', families=['timm'])\n"
        "    return registry.load('backbones', 'timm').load(spec, device=torch.device('cpu'))\n"
        "def wrong():\n"
        "    return 3\n"
        "def fails():\n"
        "    return 1 / 0\n"
    )
    where = f"python:{tmp_path}/mine.py"
    single, pair, whole = load(f"{where}:module?size=8"), load(f"{where}:pair"), load(f"{where}:backbone")
    assert single.card.digest == load(f"{where}:module?size=8&mean=0").card.digest
    assert single.features is not None
    assert len(single.card.notes) == 1
    assert pair.card.preprocess.interpolation == "nearest"
    assert pair.card.notes == ()
    assert (whole.card.spec, whole.card.architecture) == (f"{where}:backbone", "test_vit")
    with pytest.raises(VitalsError, match=r"must return a torch\.nn\.Module"):
        load(f"{where}:wrong")
    with pytest.raises(
        VitalsError, match=r"`fails\(\)` must make a network\. Got ZeroDivisionError in .*mine\.py, line 15"
    ):
        load(f"{where}:fails")
    with pytest.raises(VitalsError, match="cannot run on images of 224 x 224"):
        load(f"{where}:module")


def test_classes_come_from_a_file_in_output_order(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("n01440764\nmy_class\n")
    two = f"{VIT}&model.num_classes=2&classes={tmp_path}/classes.txt"
    card = load(two).card
    assert card.classes == ("n01440764", "my_class")
    assert card.class_names == ("tench, Tinca tinca", "my_class")
    with pytest.raises(VitalsError, match=r"has 3 outputs, so there must be as many classes\. Got 2"):
        load(two.replace("num_classes=2", "num_classes=3"))
    (tmp_path / "classes.txt").write_text("a\na\n")
    with pytest.raises(VitalsError, match=r"must occur once. Got 'a'"):
        load(two)


def test_a_thousand_outputs_are_imagenets_and_labels_in_its_order_get_its_keys(vit: core.Backbone) -> None:
    from visionvitals.backbones._classes import named

    assert vit.card.classes is not None
    assert vit.card.class_names is not None
    assert (vit.card.classes[0], vit.card.class_names[999].partition(",")[0]) == ("n01440764", "toilet tissue")
    readable = tuple(name.partition(",")[0].upper() for name in vit.card.class_names)
    assert named(readable).keys == vit.card.classes
    assert named(readable[::-1]).keys == readable[::-1]
