"""One training in several processes: plain torch.distributed from torchrun's environment, nothing else.

    torchrun --nproc-per-node 4 -m visionvitals train deit --data folder:/data/train --test folder:/data/val --out runs/deit

A step's pictures are cut into equal parts, as many as processes times accumulated parts; what is drawn for a part (dropout, mixing)
depends on its number alone. So two processes compute what one process computes that accumulates two parts.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from visionvitals.errors import VitalsError, require

PATIENCE = timedelta(hours=6)  # the first process may decode a large image set while the others wait


@dataclass(frozen=True)
class Team:
    """The processes of one training.

    Attributes:
        rank: number of this one.
        size: how many there are.
        device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """The network whose backward pass averages the gradients over the processes."""
        if self.size == 1:
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices)

    def quiet(self, wrapped: nn.Module, *, quiet: bool) -> AbstractContextManager[Any]:
        """Within it gradients stay local, for all but the last of the accumulated parts."""
        if quiet and isinstance(wrapped, DistributedDataParallel):
            return wrapped.no_sync()
        return nullcontext()

    def sum(self, value: Tensor) -> Tensor:
        """The sum over the processes, in all of them."""
        if self.size > 1:
            torch.distributed.all_reduce(value)
        return value

    def wait(self) -> None:
        """Go on when all have come here."""
        self.sum(torch.zeros(1, device=self.device))

    def leave(self) -> None:
        """End the group."""
        if self.size > 1:
            torch.distributed.destroy_process_group()


def join(device: torch.device | str) -> Team:
    """The team that the environment describes: of one, unless torchrun started this process.

    Raises:
        VitalsError: the variables do not fit together, or not all processes came.
    """
    device = torch.device(device)
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return Team(0, 1, device)
    rank, local = _number("RANK", 0), _number("LOCAL_RANK", 0)
    require(0 <= rank < size, "`RANK` must be below `WORLD_SIZE`", (rank, size), "Start it with torchrun.")
    if device.type == "cuda":
        here = torch.cuda.device_count()
        require(local < here, "Each process of a machine needs a GPU of its own", f"{here} GPUs, LOCAL_RANK {local}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    else:
        os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    team = Team(rank, size, device)
    found = int(team.sum(torch.ones(1, device=device)).item())
    must = "All processes must have joined, or each would train a network of its own"
    require(found == size == torch.distributed.get_world_size(), must, f"{found} of {size}")
    return team


def share(batch: int, team: Team, micro: int | None) -> tuple[int, int]:
    """(parts that each process accumulates, pictures a part) so that a step has the recipe's batch.

    Args:
        batch: of the recipe.
        team: the processes.
        micro: pictures that fit into memory at once; None for all.

    Raises:
        VitalsError: the batch cannot be cut into equal parts.
    """
    must = f"The recipe's batch of {batch} must be a multiple of the number of processes"
    require(batch % team.size == 0, must, team.size, "Change `batch`, or start another number of processes.")
    each = batch // team.size
    part = min(micro or each, each)
    must = f"The {each} pictures of a process must be a multiple of `--micro-batch`"
    require(part >= 1 and each % part == 0, must, micro)
    return each // part, part


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise VitalsError(
            f"The environment variable {name} must be a number. Got {text!r}. torchrun sets it."
        ) from None
