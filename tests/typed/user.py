"""What a user of the installed package writes, checked by `mypy --strict`: a network, pictures, a run, a study of one file."""

from dataclasses import dataclass
from typing import Any, assert_type

import torch

import visionvitals as vv
from visionvitals.results.compare import Difference
from visionvitals.study import BackboneCard, Batch, ImageSetCard, Preset, require


class Mean(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))


net = vv.backbone(Mean(), name="mean", classes=["a", "b", "c"], size=32)
assert_type(net, str)
pets = vv.images([torch.zeros(3, 32, 32)], [0], name="pets", classes=["a", "b", "c"])
run = vv.audit([net, "tiny:vit"], data=pets, out="runs/a", studies=["clean"], preset="quick")
assert_type(run, vv.Run)
assert_type(run.signs(), list[dict[str, Any]])
assert_type(run.compare("mean", "tiny:vit"), list[Difference])
assert_type(run.card("mean"), str)
assert_type(vv.gate(run, "gate.toml").exit_code, int)


@dataclass(frozen=True, kw_only=True)
class Condition:
    strength: float = 0.5

    def __post_init__(self) -> None:
        require(0 <= self.strength <= 1, "`strength` must be in [0, 1]", self.strength)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    return [Condition(strength=s) for s in ((0.5,) if preset == "quick" else (0.25, 0.5))]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    assert_type(images.n, int)
    return "too small" if backbone.preprocess.size[0] < 8 else None


def perturb(condition: Condition, batch: Batch, seed: int) -> torch.Tensor:
    assert_type(batch.ids, tuple[str, ...])
    return batch.images * condition.strength


def mistakes() -> None:
    """Each line must be reported, else --strict reports an unused `ignore`."""
    vv.audit(["tiny:vit"], data=pets, out="runs/a", preset="fast")  # type: ignore[arg-type]
    vv.audit(["tiny:vit"], data=pets)  # type: ignore[call-arg]
    vv.images([], name=3)  # type: ignore[arg-type]
    run.tables()  # type: ignore[attr-defined]
