"""What a training leaves on the disk: a checkpoint to go on from, and the weights to use; each is replaced whole or not at all."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from visionvitals import registry
from visionvitals.errors import VitalsError
from visionvitals.training.data import preprocess
from visionvitals.training.recipe import Recipe, facts

CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.jsonl"
WEIGHTS = "weights.safetensors"


def replace_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a temporary file, and put it in the place of `path` when it is on the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save(folder: Path, state: Mapping[str, Any]) -> None:
    """Write the checkpoint: tensors and plain values only."""
    replace_whole(folder / CHECKPOINT, lambda path: torch.save(dict(state), path))


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
        raise VitalsError(f"{path} is not a whole checkpoint: {error}. Delete it to begin anew.") from error
    usual = {f.name: f.default for f in fields(Recipe)}
    own, asked = usual | state["identity"], usual | dict(identity)
    differ = [
        f"{key} is {own.get(key)!r} there and {asked.get(key)!r} here"
        for key in dict.fromkeys([*asked, *own])
        if own.get(key) != asked.get(key)
    ]
    if differ:
        raise VitalsError(
            f"{folder} holds another training: {'; '.join(differ)}. Give another folder, or begin anew without resuming."
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
    last epoch, `data` (digests of the image sets and of the teacher).
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
    replace_whole(path, lambda temporary: safetensors.torch.save_file(half, temporary, metadata))
    return path


def halved(value: Tensor) -> Tensor:
    """Floating-point numbers in half precision, on the CPU; whole numbers as they are."""
    return value.detach().to("cpu", torch.float16 if value.is_floating_point() else None, copy=True).contiguous()


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """One line an epoch, from the checkpoint's own history: a resumed training repeats no line."""
    lines = "".join(json.dumps(epoch) + "\n" for epoch in history)
    replace_whole(folder / METRICS, lambda path: path.write_text(lines, encoding="utf-8"))
