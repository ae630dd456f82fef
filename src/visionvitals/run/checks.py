"""What the clean answers of a network say about how its outputs and its input were read."""

import numpy as np

from visionvitals import registry
from visionvitals.core import Cell
from visionvitals.errors import VitalsError
from visionvitals.run.cell import Stored
from visionvitals.run.measure import Running, Work


class WrongOrder(VitalsError):
    """A guessed order of the outputs is not the one that the network was trained in: going on would measure something else."""


def check_order(run: Running, work: Work, cell: Cell, measured: Stored) -> None:
    """Judge a guessed order of the outputs by what the network says.

    Raises:
        WrongOrder: under another order it is right on over ten points more.
    """
    from visionvitals.datasets.base import labels

    card, images = cell.backbone, cell.images
    aligned = run.planned.alignments[card.spec, images.spec]
    if not aligned.guessed:
        return
    items, said = measured.items(), measured.values(["prediction"])["prediction"]
    labelled = dict(zip(work.data.ids, work.labels(run.planned.studies[cell.study]).tolist(), strict=True))
    wanted = np.array([labelled[item] for item in items])
    scored = np.isfinite(said)
    scored &= [item not in work.data.copies for item in items]  # a copy would choose the order and judge it
    found = labels.better_order(said[scored].astype(np.int64), wanted[scored])
    if found is None:
        return
    order, gain = found
    known = [(name, k) for name, k in zip(images.class_names, aligned.indices, strict=True) if k < len(order)]
    names = ", ".join(f"{name} = output {order[k]}" for name, k in known[:8])
    as_is = (
        ""
        if registry.in_memory(card.spec)
        else ", or say `?order=as-is` where the classes are in the right order all the same"
    )
    raise WrongOrder(
        f"The outputs of `{card.spec}` have no names, and the order in which the classes of `{images.spec}` were taken is not theirs: "
        f"under another order it is right on {gain.value:.0%} more of the images ({gain.low:.0%} to {gain.high:.0%}, n = {gain.n}): {names}"
        f"{', ...' if len(known) > 8 else ''}. Nothing of it was kept. Give the order of its outputs with "
        f"{registry.way(card.spec, 'classes', value='FILE')}{as_is}."
    )


def check_chance(run: Running, cell: Cell, measured: Stored) -> None:
    """Warn where the clean accuracy is that of guessing: something is misread then."""
    from visionvitals.datasets.base import labels as _labels

    card = cell.backbone
    correct, said = measured.values(["top1", "prediction"]).values()
    scored = correct[np.isfinite(correct)]
    warning = _labels.chance_warning(
        float(scored.mean()) if len(scored) else 0.0,
        len(scored),
        how=run.planned.alignments[card.spec, cell.images.spec].how,
        backbone=card,
    )
    if warning is not None:
        run.warn(f"{card.spec} on {cell.images.spec}: {warning}")
    same = np.unique(said[np.isfinite(said)])
    if len(same) == 1 and len(said) >= 10:
        one = f"output {int(same[0])}" if card.class_names is None else card.class_names[int(same[0])]
        run.warn(
            f"{card.spec} on {cell.images.spec}: it answers `{one}` for every image: what it keeps under a perturbation says nothing"
        )
