"""Training curves: how the accuracy on the test pictures grew, epoch by epoch, with its interval over the pictures.

Rows: `top1` of every test picture after every epoch, for each head of the network apart; `training_loss` and `learning_rate` of the
epoch. The network is the moving average of the weights, as it is exported.

They are a record, not a study: `vitals train` keeps their numbers as a cell of a run folder, which `vitals table` and `vitals report` read.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals.core import Cell, Scores
from visionvitals.figure import COMMON, Chart, Metric, Record
from visionvitals.files import write_safely

if TYPE_CHECKING:
    import torch

    from visionvitals.training.data import Pictures
    from visionvitals.training.recipe import Recipe

HEADS = {"top1": "class", "top1_extra": "extra"}
EVERY = "all training pictures"
METRICS = {
    "training_loss": Metric(
        title="training loss",
        meaning="mean loss of the training over an epoch",
        unit="nats",
        better="low",
        over="epochs",
    ),
    "learning_rate": Metric(
        title="learning rate",
        meaning="learning rate of the optimiser at the end of an epoch",
        unit="none",
        better=None,
        over="epochs",
    ),
}
RECORD = Record(
    name="curves",
    title="Training curves",
    asks="How did the accuracy on the test pictures grow, epoch by epoch?",
    axes=("epoch", "head"),
    labels="own",
    metrics={**COMMON, **METRICS},
    charts=(
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
            where={"head": "class"},
            title="Loss",
            reads="Mean over the epoch, with augmentation and smoothing, and of both heads together where there are two.",
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What was trained.

    Attributes:
        recipe: its name.
    """

    recipe: str = ""


def plain(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """One epoch of the history without the answer to each picture."""
    return {key: value for key, value in epoch.items() if key != "right"}


def scores(history: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> Iterator[Scores]:
    """The numbers of a training.

    Args:
        history: one entry an epoch: epoch, loss, lr, and `right`: metric -> uint8 (n,).
        ids: of the n test pictures.
    """
    for done in history:
        at = (done["epoch"], HEADS["top1"])
        yield Scores([EVERY], {"training_loss": [done["loss"]], "learning_rate": [done["lr"]]}, at)
        for name, values in done["right"].items():
            yield Scores(ids, {"top1": values}, (done["epoch"], HEADS[name]))


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
    import torch

    from visionvitals.plan import planner
    from visionvitals.plan.identity import cell_id
    from visionvitals.run import folder, provenance, requests, wide
    from visionvitals.run.store import Store

    card = planner.load_backbone(f"checkpoint:{weights}", device=device).card
    images = test.described()
    condition = Condition(recipe=recipe.name)
    cell = Cell(
        study=RECORD.name, version=RECORD.version, condition=condition, backbone=card, images=images, seed=recipe.seed
    )
    store = Store(out / "store")
    command = ("vitals", *sys.argv[1:])
    if not store.has(cell_id(cell)):
        facts = provenance.collect(device=device, dtype=torch.float32, batch_size=recipe.batch, command=command)
        ids = test.ids or [str(k) for k in range(len(test.labels))]
        numbers = wide.gather(
            scores(history, ids), study=RECORD.name, axes=RECORD.axes, metrics=RECORD.metrics, ids=ids
        )
        about = {
            "provenance": asdict(facts),
            "skipped": [],
            "n": len(ids),
            "seconds": round(seconds, 1),
            "warnings": [],
        }
        store.write(cell, numbers, axes=RECORD.axes, facts=about)
    folder.describe(out, [RECORD])
    plan = {"backbones": [card.spec], "data": [test.spec], "studies": [{"name": RECORD.name}], "preset": "default"}
    content = requests.document(plan, command=command)
    write_safely(out / "plan.json", json.dumps(content, indent=1), replace=False)
