"""A backbone without a classifier beside one that has one: its features are never taken for answers, and all that needs none is measured."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from visionvitals import core, registry, study
from visionvitals.backbones import _parts
from visionvitals.datasets.base import labels
from visionvitals.errors import VitalsError
from visionvitals.plan import planner
from visionvitals.plan.request import Plan, Section
from visionvitals.probes import gradient

CPU = torch.device("cpu")
HEADLESS = "timm:test_vit?pretrained=false&size=64&model.num_classes=0"
CONVOLUTIONS = "timm:test_resnet?pretrained=false&size=64"
WHY = "has no classifier: what it gives are features"


def load(spelling: str) -> core.Backbone:
    spec = registry.parse(spelling, families=registry.names("backbones"))
    found = registry.load("backbones", spec.family).load(spec, device=CPU)
    assert isinstance(found, core.Backbone)
    return found


FACTORIES = """
import timm, torch, torchvision
from torch import nn

def cut():
    made = torchvision.models.shufflenet_v2_x0_5(weights=None)
    made.fc = nn.Identity()
    return made

def of_timm():
    return timm.create_model("test_resnet", num_classes=0)

def whole():
    return torchvision.models.shufflenet_v2_x0_5(weights=None, num_classes=7)

def passes_elsewhere():  # an Identity of that name that is not the end
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.out = nn.Identity(), nn.Linear(3, 5)
        def forward(self, x):
            return self.out(self.head(x.mean((2, 3))))
    return Net()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("headless")
    (where / "net.py").write_text(FACTORIES)
    state = _parts.seeded(lambda: timm.create_model("test_vit", img_size=64, num_classes=0), seed=0).state_dict()
    save_file(state, where / "headless.safetensors")
    return where


@pytest.mark.parametrize(
    ("spelling", "width"),
    [
        (HEADLESS, 64),
        ("timm:test_resnet?pretrained=false&size=64&model.num_classes=0", None),
        ("checkpoint:{}/headless.safetensors?arch=test_vit&model.img_size=64", 64),
        ("python:{}/net.py:cut?size=64", 1024),
        ("python:{}/net.py:of_timm?size=64", None),
    ],
)
def test_a_network_without_a_classifier_has_features_and_no_outputs(
    spelling: str, width: int | None, files: Path
) -> None:
    backbone = load(spelling.format(files))
    assert backbone.card.outputs == 0
    assert backbone.card.classes is None
    assert "features" in backbone.card.provides
    assert any(note.startswith(WHY) for note in backbone.card.notes)
    assert backbone.features is not None
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = backbone.features(images)
    assert found.ndim == 2
    assert width in (None, found.shape[1])
    with pytest.raises(VitalsError, match="needs a classifier"):
        gradient.predicted(backbone, images)


@pytest.mark.parametrize(("name", "outputs"), [("whole", 7), ("passes_elsewhere", 5)])
def test_a_classifier_is_not_mistaken(name: str, outputs: int, files: Path) -> None:
    assert load(f"python:{files}/net.py:{name}?size=64").card.outputs == outputs


def test_classes_of_a_network_without_a_classifier_are_refused(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("\n".join(f"c{k}" for k in range(64)))
    with pytest.raises(VitalsError, match="`classes` needs a classifier"):
        load(f"{HEADLESS}&classes={tmp_path}/classes.txt")


@pytest.mark.parametrize("classes", [tuple("0123"), tuple(f"c{k}" for k in range(64)), ("n01440764", "n01443537")])
def test_no_set_of_classes_makes_features_into_answers(classes: tuple[str, ...]) -> None:
    """Numbered folders, and as many classes as there are features."""
    images = core.ImageSetCard(spec="folder:x", digest="0", n=8, classes=classes, class_names=classes)
    with pytest.raises(VitalsError, match=WHY):
        labels.align(images, load(HEADLESS).card)


def test_beside_a_classifier_only_what_needs_answers_is_skipped() -> None:
    data = "shapes:test?variant=conflict"
    asked = tuple(Section(name=name, preset="quick") for name in study.names())
    other = Section(name="salient", values={"source": ("model",), "model": (HEADLESS, CONVOLUTIONS), "grid": ((8, 8),)})
    plan = Plan(backbones=("tiny:vit", HEADLESS), data=(data,), studies=(*asked, other))
    found = planner.make(plan, device=CPU)
    of = {spec: {cell.study for cell in found.cells if cell.backbone.spec == spec} for spec in plan.backbones}
    answers = {name for name, each in found.studies.items() if each.labels == "outputs"} | {"shape_bias"}
    assert of[HEADLESS] == {"artefacts", "correlation", "fewshot", "segmentation", "transfer"}
    assert {"clean", "attack", "salient", "correlation", "fewshot", "transfer"} <= of["tiny:vit"]
    reasons = {(skip.study, skip.reason) for skip in found.skips if skip.backbone == HEADLESS}
    assert {name for name, reason in reasons if WHY in reason} == answers
    named = [cell.condition for cell in found.cells if getattr(cell.condition, "model", "") == HEADLESS]
    assert len(named) == 1  # a source of saliency needs no classifier, but attention
    assert any(skip.reason.endswith("test_resnet has none") for skip in found.skips)


def test_a_patch_is_not_made_on_a_network_without_a_classifier() -> None:
    section = Section(name="adversarial_patch", values={"source": ("*",)})
    plan = Plan(backbones=("tiny:vit", HEADLESS), data=("shapes:test",), studies=(section,))
    found = planner.make(plan, device=CPU)
    assert [cell.condition.source for cell in found.cells] == ["tiny:vit"]
    assert any(skip.reason.endswith(f"`source` {HEADLESS} has no classifier") for skip in found.skips)


# --- transformers


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "vocab_size": 50000,
}


def saved(kind: str, where: Path) -> Any:
    """A small backbone of transformers, saved as it saves it, and itself."""
    transformers = pytest.importorskip("transformers")
    make = {
        "dinov2": lambda t: t.Dinov2Model(t.Dinov2Config(**SMALL)),
        "dinov3": lambda t: t.DINOv3ViTModel(t.DINOv3ViTConfig(**SMALL, num_register_tokens=2)),
        "vit": lambda t: t.ViTModel(t.ViTConfig(**SMALL), add_pooling_layer=False),
        "convnext": lambda t: t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1])),
        "clip": lambda t: t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=SMALL, projection_dim=16)),
        "siglip": lambda t: t.SiglipModel(t.SiglipConfig(text_config=TEXT, vision_config=SMALL)),
        "clip_classifier": lambda t: t.CLIPForImageClassification(
            t.CLIPConfig(text_config=TEXT, vision_config=SMALL, projection_dim=16, num_labels=3)
        ),
        "siglip_classifier": lambda t: t.SiglipForImageClassification(
            t.SiglipConfig(text_config=TEXT, vision_config=SMALL, num_labels=3)
        ),
    }[kind]
    model = _parts.seeded(lambda: make(transformers), seed=0).eval()
    model.save_pretrained(where)
    look = {"size": {"height": 64, "width": 64}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (where / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **look}))
    return model


def pooled(kind: str, model: Any, x: Tensor) -> Tensor:
    tower = model.vision_model if kind in ("clip", "siglip") else model
    out = tower(x)
    found: Tensor = out.last_hidden_state[:, 0] if kind == "vit" else out.pooler_output
    return found.flatten(1)


@pytest.mark.parametrize(
    ("kind", "provides"),
    [
        ("dinov2", {"features", "token_removal", "attention", "tokens"}),
        ("dinov3", {"features", "attention", "tokens"}),
        ("vit", {"features", "token_removal", "attention", "tokens"}),
        ("convnext", {"features", "maps"}),
        ("clip", {"features", "token_removal", "attention", "tokens"}),
        ("siglip", {"features", "token_removal", "attention", "tokens"}),
    ],
)
def test_backbones_of_transformers_give_their_pooled_features(kind: str, provides: set[str], tmp_path: Path) -> None:
    model = saved(kind, tmp_path)
    backbone = load(f"hf:{tmp_path}")
    assert (backbone.card.outputs, set(backbone.card.provides)) == (0, provides)
    assert backbone.features is not None
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = pooled(kind, model, (images - 0.5) / 0.5)
    torch.testing.assert_close(backbone.features(images), expected)
    assert load(f"hf:{tmp_path}").card.digest == backbone.card.digest


@pytest.mark.parametrize("kind", ["clip_classifier", "siglip_classifier"])
def test_clip_and_siglip_classifiers_have_tokens_and_attention(kind: str, tmp_path: Path) -> None:
    saved(kind, tmp_path)
    backbone = load(f"hf:{tmp_path}")
    assert backbone.card.outputs == 3
    assert {"token_removal", "attention", "tokens"} <= set(backbone.card.provides)
    assert backbone.card.prefix_tokens == (kind == "clip_classifier")
    assert backbone.visible_logits is not None
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(2, 16, dtype=torch.bool)
    torch.testing.assert_close(backbone.visible_logits(images, everything), backbone.logits(images))
    upper = torch.arange(16).expand(2, 16) < 8
    changed = images.clone()
    changed[:, :, 32:] = 0
    torch.testing.assert_close(backbone.visible_logits(changed, upper), backbone.visible_logits(images, upper))
    assert not np.allclose(backbone.logits(changed), backbone.logits(images), atol=1e-6)


class _Wrapped(torch.nn.Module):
    """A user's class around a network without a head."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(images)
        return found


class _Passing(torch.nn.Module):
    """A classifier whose `head` does nothing more after its linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.head = torch.nn.Linear(3, 12), torch.nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.fc(images.mean(dim=(2, 3))))
        return found


def test_features_in_a_wrapper_are_no_answers_and_an_empty_head_behind_a_linear_one_is() -> None:
    import torchvision

    import visionvitals as vv

    resnet = torchvision.models.resnet18()
    resnet.fc = torch.nn.Identity()
    bare = {
        "vit": _Wrapped(timm.create_model("test_vit", num_classes=0, img_size=64)),
        "resnet": torch.nn.Sequential(resnet),
        "twice": _Wrapped(torch.nn.Sequential(resnet)),
    }
    for name, module in bare.items():
        assert planner.load_backbone(vv.backbone(module, name=name, size=64), device=CPU).card.outputs == 0, name
    assert planner.load_backbone(vv.backbone(_Passing(), name="passing", size=64), device=CPU).card.outputs == 12
