"""Training curves: how the accuracy on the test pictures grew, epoch by epoch, with its interval over the pictures.

Rows: `top1` of every test picture after every epoch, for each head of the network apart; `training_loss` and `learning_rate` of the
epoch. The network is the moving average of the weights, as it is exported.

This file is read as a study, so that `vitals table` and `vitals report` show the folder of a training as they show a run. It measures
nothing by itself: `vitals train` keeps its rows.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals.core import BackboneCard, Cell, ImageSetCard, Job, Preset, Row
from visionvitals.figure import Chart, Published, Sign

if TYPE_CHECKING:
    import torch

    from visionvitals.training.data import Pictures
    from visionvitals.training.recipe import Recipe

VERSION = 1
TITLE = "Training curves"
AXES = ("epoch", "head")
LABELS = "own"
CHARTS = (
    Chart(
        x="epoch",
        x_title="epoch",
        facet=("head",),
        reads="Accuracy on the test pictures after each epoch. A curve that still rises at its end has not learned all it can.",
    ),
    Chart(
        x="epoch",
        x_title="epoch",
        metric="training_loss",
        y_title="training loss in nats",
        where={"head": "class"},
        title="Loss",
        reads="Mean over the epoch, with augmentation and smoothing, and of both heads together where there are two.",
    ),
)
SIGNS: tuple[Sign, ...] = ()
PUBLISHED: tuple[Published, ...] = ()
HEADS = {"top1": "class", "top1_extra": "extra"}
EVERY = "all training pictures"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What was trained.

    Attributes:
        recipe: its name.
    """

    recipe: str = ""


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """None: these rows come from a training."""
    return []


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    return "training curves are kept by `vitals train`"


def passes(condition: Condition) -> float:
    return 0


def measure(job: Job) -> Iterator[Row]:
    yield from ()


def plain(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """One epoch of the history without the answer to each picture."""
    return {key: value for key, value in epoch.items() if key != "right"}


def rows(history: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Iterator[Row]:
    """The rows of a training.

    Args:
        history: one entry an epoch: epoch, loss, lr, and `right`: metric -> uint8 (n,).
        ids: of the n test pictures.
    """
    for done in history:
        at = (done["epoch"], HEADS["top1"])
        yield Row(EVERY, "training_loss", done["loss"], at)
        yield Row(EVERY, "learning_rate", done["lr"], at)
        for name, values in done["right"].items():
            for item, value in zip(ids, values.tolist(), strict=True):
                yield Row(item, "top1", float(value), (done["epoch"], HEADS[name]))


def keep(
    out: Path,
    recipe: "Recipe",
    history: Sequence[Mapping[str, Any]],
    *,
    weights: Path,
    test: "Pictures",
    device: "torch.device",
    seconds: float,
) -> None:
    """Write the curves of a finished training into its folder as one cell of a run folder."""
    from visionvitals import registry
    from visionvitals.run import provenance
    from visionvitals.run.identity import cell_id
    from visionvitals.run.identity import plain as as_json
    from visionvitals.run.store import Store

    spec = registry.parse(f"checkpoint:{weights}", families=["checkpoint"])
    card = registry.load("backbones", "checkpoint").load(spec, device=device).card
    cell = Cell(
        study="curves",
        version=VERSION,
        condition=Condition(recipe=recipe.name),
        backbone=card,
        images=test.described(),
        seed=recipe.seed,
    )
    store = Store(out / "store")
    command = ("vitals", *sys.argv[1:])
    if not store.has(cell_id(cell)):
        import torch

        facts = provenance.collect(device=device, dtype=torch.float32, batch_size=recipe.batch, command=command)
        ids = test.ids or [str(k) for k in range(len(test.labels))]
        about = {
            "provenance": as_json(facts),
            "skipped": [],
            "n": len(ids),
            "seconds": round(seconds, 1),
            "warnings": [],
        }
        store.write(cell, rows(history, ids), facts=about, exhibits={}, axes=AXES)
    plan = {"backbones": [card.spec], "data": [test.spec], "studies": [__file__]}
    path = out / "plan.json"
    if not path.is_file():
        from visionvitals.files import write_safely

        content = {"plan": plan, "command": list(command), "cells": [], "skips": [], "notes": []}
        write_safely(path, json.dumps(content, indent=1))
