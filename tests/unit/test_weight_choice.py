"""Which weights of a file are loaded, and where its positions lie: an average beside the last step, a table of another grid."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import build_sincos2d_pos_embed
from torch import Tensor, nn

from visionvitals import core, registry, weight_files
from visionvitals.backbones import _parts
from visionvitals.backbones._positions import columns
from visionvitals.errors import VitalsError

CPU = torch.device("cpu")


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


def state(seed: int) -> dict[str, Tensor]:
    found: dict[str, Tensor] = _parts.seeded(
        lambda: timm.create_model("test_resnet", num_classes=5), seed=seed
    ).state_dict()
    return found


def averaged(seed: int) -> dict[str, Tensor]:
    """As torchvision's training saves it: the state of an `AveragedModel`, which counts its steps."""
    made = _parts.seeded(lambda: timm.create_model("test_resnet", num_classes=5), seed=seed)
    found: dict[str, Tensor] = torch.optim.swa_utils.AveragedModel(made).state_dict()
    assert "n_averaged" in found
    return found


RAW, EMA = state(0), state(1)
BOTH: dict[str, dict[str, Any]] = {
    "timm": {"state_dict": RAW, "state_dict_ema": EMA, "arch": "test_resnet"},
    "deit": {"model": RAW, "model_ema": EMA, "epoch": 3},
    "torchvision": {"model": RAW, "model_ema": averaged(1)},
    "other": {"model": RAW, "ema": {f"module.{key}": value for key, value in EMA.items()}, "ema_decay": 0.99},
    "ours": {"model": RAW, "average": EMA, "step": 7},
}


@pytest.mark.parametrize("form", BOTH)
def test_the_average_is_taken_unless_the_spelling_says_raw(form: str, tmp_path: Path) -> None:
    torch.save(BOTH[form], tmp_path / "last.pth")
    torch.save(RAW, tmp_path / "raw.pth")
    torch.save(EMA, tmp_path / "ema.pth")
    way = "?arch=test_resnet&size=64"
    digest = {name: load(f"checkpoint:{tmp_path}/{name}.pth{way}").card.digest for name in ("raw", "ema")}
    found = {w: load(f"checkpoint:{tmp_path}/last.pth{way}{w}").card for w in ("", "&weights=ema", "&weights=raw")}
    assert digest["raw"] != digest["ema"]
    assert [card.digest for card in found.values()] == [digest["ema"], digest["ema"], digest["raw"]]
    assert any(note.startswith("the average of the weights, `") for note in found[""].notes)
    assert any("is taken from its checkpoint, not the average" in note for note in found["&weights=raw"].notes)
    named = load(f"timm:test_resnet@{tmp_path}/last.pth?size=64&model.num_classes=5&weights=raw").card
    assert named.digest == load(f"timm:test_resnet@{tmp_path}/raw.pth?size=64&model.num_classes=5").card.digest
    assert any("not the average" in note for note in named.notes)


PLACES: dict[str, Any] = {
    "state_dict_EMA": EMA,
    "modelEma": EMA,
    "model-ema": EMA,
    "swa_model": averaged(1),
    "swa_state_dict": EMA,
    "avg_model": EMA,
    "shadow": EMA,
    "extra.state_dict_ema": EMA,
    "callbacks.EMACallback.state": EMA,
    "emas.0": EMA,
}


@pytest.mark.parametrize("place", PLACES)
def test_an_average_is_found_however_it_is_written(place: str, tmp_path: Path) -> None:
    inside = PLACES[place]
    for key in reversed(place.split(".")):
        inside = {key: inside}
    config = {"ema": {"decay": torch.tensor(0.9)}, "swa": True}
    torch.save({"model": RAW, "config": config, **inside}, path := tmp_path / "last.pth")
    found = weight_files.read(path)
    assert found.notes == (
        f"the average of the weights, `{place}`, is taken from its checkpoint; `?weights=raw` takes `model`",
    )
    assert found.state.keys() == EMA.keys()
    assert all(torch.equal(value, EMA[key]) for key, value in found.state.items())
    raw = weight_files.read(path, "raw")
    assert all(torch.equal(value, RAW[key]) for key, value in raw.state.items())
    assert raw.notes == (f"`model` is taken from its checkpoint, not the average of the weights, `{place}`",)


def test_what_is_no_average_changes_nothing_and_one_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    moments = {key: {"exp_avg": value, "exp_avg_sq": value} for key, value in enumerate(RAW.values())}
    others = {"args": {"ema": {"decay": 0.9}}, "loss_avg": {"value": torch.tensor(1.0)}}
    torch.save({"model": RAW, **others, "ema_optimizer": {"state": moments}}, path)
    assert (weight_files.read(path).notes, weight_files.read(path).state.keys()) == ((), RAW.keys())
    torch.save({"model": RAW, "ema_params": list(EMA.values())}, path)
    with pytest.raises(VitalsError, match=r"`ema_params`, must be a state dict\. Got list\. Give `\?weights=raw`"):
        weight_files.read(path)
    assert "not the average of the weights, `ema_params`" in weight_files.read(path, "raw").notes[0]
    torch.save({"model": RAW, "teacher": {f"module.{key}": value for key, value in EMA.items()}}, path)
    note = "its checkpoint holds other weights of the same keys, which are not taken: teacher"
    assert weight_files.read(path).notes == (note,)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_weights_that_are_no_floats_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    """A weight of int8 was taken as a plain number, twenty times too large."""
    key = next(key for key, value in RAW.items() if value.ndim == 4)
    torch.save({**RAW, key: (RAW[key] * 20).to(dtype)}, tmp_path / "quantised.pth")
    said = rf"must hold floats .*1 of another type: {re.escape(key)} \({str(dtype)[6:]}\).*save the weights as floats"
    with pytest.raises(VitalsError, match=said):
        load(f"checkpoint:{tmp_path}/quantised.pth?arch=test_resnet&size=64")
    assert any(not value.is_floating_point() for value in RAW.values()), "counters are integers and load"
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in RAW.items()}, tmp_path / "half.pth")
    assert load(f"checkpoint:{tmp_path}/half.pth?arch=test_resnet&size=64").card.outputs == 5


def test_torchvision_files_hold_averages_too(tmp_path: Path) -> None:
    import torchvision

    raw, ema = (
        _parts.seeded(lambda: torchvision.models.squeezenet1_1(weights=None), seed=seed).state_dict() for seed in (0, 1)
    )
    torch.save({"model": raw, "model_ema": ema}, tmp_path / "both.pth")
    taken = {w: load(f"torchvision:squeezenet1_1@{tmp_path}/both.pth?size=64{w}") for w in ("", "&weights=raw")}
    for backbone, given in zip(taken.values(), (ema, raw), strict=True):
        assert isinstance(backbone.module, nn.Module)
        assert torch.equal(backbone.module.state_dict()["features.0.weight"], given["features.0.weight"])
        assert any("average of the weights" in note for note in backbone.card.notes)


def test_a_choice_that_is_not_there_is_refused(tmp_path: Path) -> None:
    torch.save(RAW, tmp_path / "raw.pth")
    torch.save({"model": RAW, "model_ema": {}, "state_dict_ema": None}, tmp_path / "none.pth")
    torch.save({"model_ema": EMA}, tmp_path / "only.pth")
    torch.save({"model": RAW, "ema": {"decay": 0.9, "shadow_params": list(EMA.values())}}, tmp_path / "list.pth")
    way = "?arch=test_resnet&size=64"
    for name in ("raw", "none"):
        with pytest.raises(VitalsError, match=r"must hold an average of the weights\. Got .*Leave `weights` out"):
            load(f"checkpoint:{tmp_path}/{name}.pth{way}&weights=ema")
        assert (
            load(f"checkpoint:{tmp_path}/{name}.pth{way}").card.notes
            == load(f"checkpoint:{tmp_path}/raw.pth{way}&weights=raw").card.notes
        )
    with pytest.raises(VitalsError, match="must hold other weights than their average"):
        load(f"checkpoint:{tmp_path}/only.pth{way}&weights=raw")
    assert not any("average" in note for note in load(f"checkpoint:{tmp_path}/only.pth{way}").card.notes)
    with pytest.raises(
        VitalsError, match=r"`ema`, must be a state dict\. Got decay, shadow_params\. Give `\?weights=raw`"
    ):
        load(f"checkpoint:{tmp_path}/list.pth{way}")
    with pytest.raises(VitalsError, match="`weights` needs a file"):
        load("timm:test_resnet?pretrained=false&weights=ema")


# --- positions


def with_grid(grid: tuple[int, int], **kwargs: Any) -> nn.Module:
    """A small ViT of timm, patches of 16 pixels, whose positions are sines and cosines over a grid: as smooth as learned ones."""
    size = (16 * grid[0], 16 * grid[1])
    made: Any = _parts.seeded(lambda: timm.create_model("test_vit", img_size=size, num_classes=5, **kwargs), seed=0)
    table = build_sincos2d_pos_embed(list(grid), dim=made.embed_dim)
    with torch.no_grad():
        made.pos_embed[0, -len(table) :] = table
    assert isinstance(made, nn.Module)
    return made.eval()


def answers(module: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Two pictures and the logits of timm's network itself, resampled to another size by timm."""
    module.set_input_size(img_size=size)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, module((images - 0.5) / 0.5)


@pytest.mark.parametrize("grid", [(4, 16), (16, 4), (8, 8), (2, 32)])
@pytest.mark.parametrize("asked", [(4, 16), (16, 4), (8, 8)])
def test_as_many_positions_in_another_grid_are_refused_with_the_size(
    grid: tuple[int, int], asked: tuple[int, int], tmp_path: Path
) -> None:
    torch.save(with_grid(grid).state_dict(), tmp_path / "w.pth")
    size = "x".join(str(16 * side) for side in asked)
    for way in (f"checkpoint:{tmp_path}/w.pth?arch=test_vit&", f"timm:test_vit@{tmp_path}/w.pth?model.num_classes=5&"):
        if grid == asked:
            card = load(f"{way}model.img_size={16 * asked[0]},{16 * asked[1]}").card
            assert (card.patch_grid, card.notes) == (asked, ())
            continue
        native = f"{16 * grid[0]},{16 * grid[1]}"
        with pytest.raises(VitalsError, match=rf"in which {grid[0]} x {grid[1]} are neighbours.*img_size={native}`"):
            load(f"{way}model.img_size={16 * asked[0]},{16 * asked[1]}")
        right = load(f"{way}model.img_size={native}&size={size}&mean=0.5&std=0.5")
        images, expected = answers(with_grid(grid), (16 * asked[0], 16 * asked[1]))
        torch.testing.assert_close(right.logits(images), expected, atol=1e-5, rtol=0)


def test_a_table_that_shows_no_grid_gets_a_note(tmp_path: Path) -> None:
    made = _parts.seeded(lambda: timm.create_model("test_vit", img_size=(64, 256)), seed=0)
    torch.save(made.state_dict(), tmp_path / "w.pth")
    card = load(f"timm:test_vit@{tmp_path}/w.pth?model.img_size=128").card
    assert card.notes == (
        "its positions are taken to lie on 8 x 8 patches, as `model.img_size` says; its file does not show it",
    )


@pytest.mark.parametrize("arch", ["timm:test_vit", "tiny:vit"])
def test_a_file_that_records_its_size_is_resampled_to_the_one_asked_for(arch: str, tmp_path: Path) -> None:
    """Random positions: no guess could tell where they lie."""
    make = registry.load("backbones", arch.partition(":")[0]).network
    kwargs = {"img_size": [64, 256], "num_classes": 5, "patch_size": 16}
    name = arch.partition(":")[2]
    module = _parts.seeded(
        lambda: make(name, kwargs) if arch.startswith("timm") else make(name, **kwargs), seed=0
    ).eval()
    look = {"size": [64, 256], "resize": None, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}
    metadata = {"arch": arch, "kwargs": json.dumps(kwargs), "preprocess": json.dumps(look)}
    save_file(module.state_dict(), tmp_path / "w.safetensors", metadata=metadata)
    for option in ("model.img_size=128,128", "size=128", "size=128&model.img_size=64,256"):
        found = load(f"checkpoint:{tmp_path}/w.safetensors?{option}")
        images, expected = answers(copy.deepcopy(module), (128, 128))
        assert found.card.preprocess.size == (128, 128)
        torch.testing.assert_close(found.logits(images), expected, atol=1e-5, rtol=0)
    same = load(f"checkpoint:{tmp_path}/w.safetensors?model.img_size=64,256")
    images, expected = answers(copy.deepcopy(module), (64, 256))
    torch.testing.assert_close(same.logits(images), expected, atol=1e-5, rtol=0)
    with pytest.raises(VitalsError, match=r"trained with 64 x 256 pixels, so one other size can be asked for"):
        load(f"checkpoint:{tmp_path}/w.safetensors?model.img_size=128,128&size=64")


@pytest.mark.parametrize(
    ("kwargs", "spelled", "way"),
    [
        ({"no_embed_class": True}, "&model.no_embed_class=true", "model.img_size=128"),
        ({"no_embed_class": True}, "", "model.img_size=128&model.no_embed_class=true"),
        (
            {"class_token": False, "global_pool": "avg"},
            "&model.class_token=false&model.global_pool=avg",
            "model.img_size=128",
        ),
        ({}, "", "model.img_size=128"),
    ],
)
def test_another_number_of_positions_is_another_size_not_another_architecture(
    kwargs: dict[str, Any], spelled: str, way: str, tmp_path: Path
) -> None:
    torch.save(with_grid((8, 8), **kwargs).state_dict(), tmp_path / "w.pth")
    spelling = f"checkpoint:{tmp_path}/w.pth?arch=test_vit{spelled}"
    with pytest.raises(VitalsError, match=re.escape(f"if they are a square: give `{way}`")) as refused:
        load(spelling)
    assert "keys look like" not in str(refused.value)
    missing = way if "no_embed_class" not in spelled else way.partition("&")[0]
    assert load(f"{spelling}&{missing}").card.patch_grid == (8, 8)


def test_keys_of_another_size_are_named_with_it() -> None:
    with torch.device("meta"):
        tables = [
            timm.create_model("vit_tiny_patch16_224", img_size=128, no_embed_class=k).state_dict()
            for k in (False, True)
        ]
    assert str(weight_files.likely(tables[0])).endswith("with `model.img_size=128`")
    assert str(weight_files.likely(tables[1])).endswith("with `model.img_size=128` and `model.no_embed_class=true`")
    assert all("`vit_tiny_patch16_224`" in str(weight_files.likely(state)) for state in tables)


@pytest.mark.parametrize("grid", [(14, 14), (8, 8), (4, 16), (7, 28), (28, 7), (9, 16), (16, 9)])
def test_the_columns_of_a_table_are_read_from_it(grid: tuple[int, int]) -> None:
    smooth = build_sincos2d_pos_embed(list(grid), dim=192)
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(0))
    assert columns(smooth) == grid[1]
    assert columns(smooth + 0.2 * noise) == grid[1]
    assert columns(noise) is None
    learned = torch.as_tensor(load("tiny:vit").module.pos_embed)  # 8 x 8
    assert columns(learned[0, 1:]) == 8


@pytest.mark.parametrize(
    ("spelling", "note"),
    [
        ("swin_tiny_patch4_window7_224?size=256", "windows of 7 x 7 patches become 8 x 8"),
        ("swin_tiny_patch4_window7_224?size=224", None),
        ("swinv2_tiny_window8_256?size=128", "windows of 8 x 8 patches become 4 x 4"),
        ("test_vit?size=96", "made for 160 x 160 pixels and shown 96 x 96: its table of positions is resampled"),
        ("test_vit?size=160", None),
        ("test_vit?model.img_size=96", None),  # random weights: nothing was trained for another size
        ("test_resnet?size=96", None),
    ],
)
def test_tables_and_windows_that_were_not_trained_get_a_note(spelling: str, note: str | None) -> None:
    depth = "&model.depths=(1,1,1,1)&model.embed_dim=24&model.num_heads=(1,1,1,1)" if "swin" in spelling else ""
    notes = [
        said for said in load(f"timm:{spelling}&pretrained=false{depth}").card.notes if said.startswith("made for")
    ]
    assert len(notes) == (note is not None)
    assert note is None or note in notes[0]
