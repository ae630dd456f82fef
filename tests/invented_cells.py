"""Cells with invented values, written by the store's own writer, for tests of what reads them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionvitals.core import BackboneCard, BackboneSpec, Cell, ImageSetCard, Place, Preprocess, Scores
from visionvitals.figure import COMMON
from visionvitals.run import groups, wide
from visionvitals.run.parts import together
from visionvitals.run.store import Store


@dataclass(frozen=True, kw_only=True)
class Condition:
    fraction: float = 0.0
    other: BackboneSpec = BackboneSpec("")  # noqa: RUF009
    run: int = 0


CELL = Cell(
    study="holes",
    version=1,
    condition=Condition(),
    backbone=BackboneCard(
        spec="tiny:vit",
        architecture="vit",
        digest="aa",
        preprocess=Preprocess(size=(64, 64), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
        outputs=2,
        parameters=1,
    ),
    images=ImageSetCard(spec="shapes:test", digest="bb", n=2, classes=("a", "b"), class_names=("a", "b")),
)
OTHER = dataclasses.replace(CELL.backbone, spec="tiny:cnn", digest="cc")
Items = Mapping[str, float]


def keep(
    root: Path, items: Items | Mapping[Place, Items], *, parts: int = 1, axes: tuple[str, ...] = (), **cell: Any
) -> str:
    """One cell of top-1 values, with the fields of the cell that differ."""
    other = BackboneSpec(cell.get("companions", (("", ""),))[0][0])
    condition = Condition(fraction=cell.pop("fraction", 0.5), run=cell.pop("run", 0), other=other)
    places: Any = items if axes else {(): items}
    ids = list(dict.fromkeys(item for here in places.values() for item in here))
    size = -(-len(ids) // parts)
    written = []
    for start in range(0, len(ids), size):
        some = ids[start : start + size]
        blocks = [
            Scores([i for i in some if i in here], {"top1": [here[i] for i in some if i in here]}, at)
            for at, here in places.items()
        ]
        blocks += [Scores(blocks[0].items, {"prediction": [3.0] * len(blocks[0].items)}, blocks[0].at)]
        written.append(wide.gather(blocks, study="holes", axes=axes, metrics=COMMON, ids=some, start=start))
    store, made = Store(root / "store"), dataclasses.replace(CELL, condition=condition, **cell)
    whole = together([store.lay(made, numbers, axes=axes) for numbers in written])
    whole.facts["n"] = len(ids)
    store.finish(whole)
    return whole.id


def grouped(root: Path, weather: list[str], *, digest: str = "bb", classes: tuple[str, ...] = ("a", "b")) -> None:
    """Say of invented images 0000, 0001, ... what weather they show; the classes alternate."""
    card = ImageSetCard(spec="", digest=digest, n=len(weather), classes=classes, class_names=classes)
    ids = [f"{i:04d}" for i in range(len(weather))]
    found = groups.of_labels(card, ids, [i % 2 for i in range(len(weather))], {"weather": weather})
    groups.keep(root, digest, found)
