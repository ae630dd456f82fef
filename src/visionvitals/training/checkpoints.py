"""What a training leaves on the disk: a checkpoint to go on from, and the weights to use; each is replaced whole or not at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from visionvitals import registry
from visionvitals.errors import VitalsError, require, shortened
from visionvitals.files import write_safely
from visionvitals.training.data import preprocess
from visionvitals.training.recipe import Recipe, facts

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
WEIGHTS = "weights.safetensors"
HELD: dict[str, Any] = {
    "identity": dict,
    "step": int,
    "total": float,
    "history": list,
    **dict.fromkeys(("model", "average", "optimizer", "scaler"), Mapping),
}
"""What a checkpoint holds, by type."""


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the checkpoint: tensors and plain values only."""
    write_safely(folder / CHECKPOINT, lambda file: torch.save(dict(state), file))


def read(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The checkpoint of a folder, or None where there is none.

    Args:
        folder: of the training.
        identity: recipe and digests of the image sets; they must be the checkpoint's.

    Raises:
        VitalsError: the checkpoint is damaged, or of another training (the fields that differ are listed).
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        said = shortened(" ".join(str(error).split()))
        raise VitalsError(f"{path} is not a whole checkpoint: {said}. Delete it to start again.") from error
    whole = isinstance(state, dict) and all(isinstance(state.get(key), kind) for key, kind in HELD.items())
    require(whole, f"{path} must be the checkpoint of a training", type(state).__name__, "Delete it to start again.")
    usual = {f.name: f.default for f in fields(Recipe)}
    own, asked = usual | state["identity"], usual | dict(identity)
    differ = [
        f"{key} is {own.get(key)!r} there and {asked.get(key)!r} here"
        for key in dict.fromkeys([*asked, *own])
        if own.get(key) != asked.get(key)
    ]
    if differ:
        raise VitalsError(
            f"{folder} holds another training: {'; '.join(differ)}. Give another folder, or delete this one."
        )
    return state


def export(
    folder: Path,
    state: Mapping[str, Tensor],
    recipe: Recipe,
    *,
    kwargs: Mapping[str, Any],
    classes: tuple[str, ...],
    data: Mapping[str, str],
    metrics: Mapping[str, Any],
) -> Path:
    """Write the weights in half precision, with all that is needed to use them.

    The metadata's keys: `arch` (`tiny:vit`), `position` (`none`, where the network has none), and as JSON `kwargs` of the network,
    `preprocess` (size, resize, interpolation, mean, std), `classes`, `recipe` (fields that differ from their default), `metrics` of the
    last epoch, `data` (digests of the image sets, the start and the teacher).
    """
    spec = registry.parse(recipe.model, families=["tiny", "timm"])
    metadata = {
        "arch": f"{spec.family}:{spec.name}",
        "kwargs": json.dumps(kwargs),
        "preprocess": json.dumps(asdict(preprocess(recipe))),
        "classes": json.dumps(classes),
        "recipe": json.dumps(facts(recipe)),
        "metrics": json.dumps(metrics),
        "data": json.dumps(data),
    } | ({"position": spec.options["position"]} if "position" in spec.options else {})
    half = {key: halved(value) for key, value in state.items()}
    path = folder / WEIGHTS
    write_safely(path, safetensors.torch.save(half, metadata))
    return path


def halved(value: Tensor) -> Tensor:
    """Floating-point numbers in half precision, on the CPU; whole numbers as they are."""
    return value.detach().to("cpu", torch.float16 if value.is_floating_point() else None, copy=True).contiguous()


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """One line an epoch, from the checkpoint's own history: a resumed training repeats no line."""
    lines = "".join(json.dumps(epoch) + "\n" for epoch in history)
    write_safely(folder / METRICS, lines)
