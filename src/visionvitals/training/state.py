"""What changes while a network is trained: its weights, their moving average, the optimiser."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import nn

from visionvitals import randomness
from visionvitals.errors import blamed, require
from visionvitals.training import network
from visionvitals.training.distributed import Team
from visionvitals.training.recipe import Recipe
from visionvitals.training.start import Start

_OPTIMIZERS = {"adamw": "adamw", "sgd": "momentum"}  # timm's names; its own "sgd" has Nesterov's momentum


@dataclass
class State:
    """All that a training changes, and the keyword arguments that make the network again."""

    module: nn.Module
    kwargs: Mapping[str, Any]
    optimizer: torch.optim.Optimizer
    average: Any
    scaler: torch.amp.GradScaler
    step: int = 0
    total: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """All of it as tensors and plain values."""
        return {
            "step": self.step,
            "total": self.total,
            "history": self.history,
            "model": self.module.state_dict(),
            "average": self.average.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }


def begin(recipe: Recipe, outputs: int, team: Team, start: Start | None, saved: Mapping[str, Any] | None) -> State:
    """A new network, with the weights that it starts from, or the one that was saved. The same seed gives all processes the same weights."""
    torch.manual_seed(int(randomness.stream(recipe.seed, ["weights"], "train/init")))
    module, kwargs = network.make(recipe, outputs=outputs, start=start)
    if recipe.teacher:
        must = "A student needs a second token for what its teacher says: `tiny:vit_distilled`, or a distilled DeiT of timm"
        require(isinstance(module, VisionTransformerDistilled), must, recipe.model)
        assert isinstance(module, VisionTransformerDistilled)
        module.set_distilled_training(True)
    module.to(team.device)
    state = State(
        module=module,
        kwargs=kwargs,
        optimizer=create_optimizer_v2(
            module, opt=_OPTIMIZERS[recipe.optimizer], lr=recipe.lr, weight_decay=recipe.weight_decay, momentum=0.9
        ),
        average=ModelEmaV3(module, decay=recipe.ema, use_warmup=True),
        scaler=torch.amp.GradScaler(team.device.type, enabled=recipe.precision == "float16"),
    )
    if saved is not None:
        with blamed("The checkpoint must hold the state of this network; delete it to start again"):
            module.load_state_dict(saved["model"])
            state.average.module.load_state_dict(saved["average"])
            state.optimizer.load_state_dict(saved["optimizer"])
            state.scaler.load_state_dict(saved["scaler"])
        state.step, state.total, state.history = saved["step"], saved["total"], saved["history"]
    return state
