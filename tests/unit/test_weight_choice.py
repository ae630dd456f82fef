"""Which weights of a file are loaded, and where its positions lie: an average beside the last step, a table of another grid."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from visionvitals import core, registry
from visionvitals.backbones import _parts
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
    assert any("is taken of its checkpoint, not the average" in note for note in found["&weights=raw"].notes)
    named = load(f"timm:test_resnet@{tmp_path}/last.pth?size=64&model.num_classes=5&weights=raw").card
    assert named.digest == load(f"timm:test_resnet@{tmp_path}/raw.pth?size=64&model.num_classes=5").card.digest
    assert any("not the average" in note for note in named.notes)


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
