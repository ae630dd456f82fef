"""Cells that other run folders hold already: the same work has the same id, so that its numbers can be taken instead of measured."""

from collections.abc import Mapping, Sequence
from typing import Any

from visionvitals.answers import Answers
from visionvitals.core import BackboneCard, Cell
from visionvitals.plan.identity import plain
from visionvitals.remote import AnyPath
from visionvitals.run import requests
from visionvitals.run.cell import DamagedCell
from visionvitals.run.measure import Running
from visionvitals.run.store import Store


def take(run: Running, missing: Mapping[str, Cell], folders: Sequence[AnyPath]) -> dict[str, Cell]:
    """Take what other folders hold, verified; a network that answered otherwise there gives nothing. The cells that are left.

    Raises:
        VitalsError: one is not a run folder, or the run cannot be written.
    """
    left = dict(missing)
    for folder in folders:
        answered, store = requests.answered(requests.content_of(folder)), Store(folder / "store")
        refused = {spec: why for spec, card in run.planned.backbones.items() if (why := _otherwise(card, answered))}
        taken, held = set(), store.held(left)
        for identifier, cell in left.items():
            if cell.backbone.spec not in refused and identifier in held:
                try:
                    run.store.take(store.cell(identifier), cell)
                except DamagedCell as error:
                    run.warn(f"{folder}: not taken: {error}")
                    continue
                taken.add(identifier)
                run.state.finish_cell(unmeasured=run.images(cell), passes=run.passes(cell))
        for spec, why in refused.items():
            run.warn(f"{folder}: nothing is taken of {spec}: {why}")
        run.state.say(f"{len(taken)} cells taken from {folder}")
        left = {identifier: cell for identifier, cell in left.items() if identifier not in taken}
    return left


def _otherwise(card: BackboneCard, answered: Mapping[str, Mapping[str, Any]]) -> str:
    """How a network of these weights answered otherwise in another run, or ""."""
    here = {"weights": {card.spec: card.digest}, "preprocess": {card.spec: plain(card.preprocess)}}
    kept = answered.get(requests.network(here, card.spec))
    return "" if kept is None or card.answers is None else Answers.read(kept).differs(card.answers) or ""
