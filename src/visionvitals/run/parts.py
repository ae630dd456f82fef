"""A cell over many images is measured in parts where a study measures each image by itself (`Study.per_image`): several processes work on
one cell, and one that dies loses no more than its part.

What belongs to a part follows from the number of images alone, so that nobody has to ask anybody, and the rows of a cell are the same
whoever measured them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals.run.cell import Stored
from visionvitals.study import Study

if TYPE_CHECKING:
    from visionvitals.datasets.base.cache import Decoded

SIZE = 4096
"""Images of a part; the last one of a cell has what is left."""


def of(study: Study, images: int) -> list[range]:
    """The parts of a cell of a study over so many images, as positions in their order."""
    size = SIZE if splits(study) else max(images, 1)
    return [range(start, min(start + size, images)) for start in range(0, max(images, 1), size)]


def splits(study: Study) -> bool:
    """Whether some of the images can be measured without the others."""
    return study.per_image and study.item is str


def together(parts: Sequence[Stored]) -> Stored:
    """All parts of a cell, in their order, as what the whole cell says."""
    first, every = parts[0], [part.facts for part in parts]
    if len(every) == 1:
        return first

    def listed(key: str) -> list[Any]:
        return [entry for facts in every for entry in facts.get(key, ())]

    broken = {
        metric: sorted({item for facts in every for item in facts.get("broken", {}).get(metric, ())})
        for metric in dict.fromkeys(listed("broken"))
    }
    whole = {
        "parts": [{**entry, **_apart(facts, every[0])} for facts in every for entry in facts["parts"]],
        "exhibits": listed("exhibits"),
        **{key: {name: v for facts in every for name, v in facts[key].items()} for key in ("sha256", "bytes")},
        **{key: sum(facts[key] for facts in every) for key in ("n", "seconds") if key in every[0]},
        "warnings": list(dict.fromkeys(listed("warnings"))),
        **({"broken": broken} if broken else {}),
    }
    return dataclasses.replace(first, facts={**every[0], **whole})


def _apart(facts: Mapping[str, Any], first: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a part, where it was measured on something else than the first one."""

    def where(facts: Mapping[str, Any]) -> dict[str, Any]:
        found = facts.get("provenance", {})
        return {key: value for key, value in found.items() if key not in ("started", "command")}

    return {} if where(facts) == where(first) else {"provenance": facts["provenance"]}


def some(data: "Decoded", rows: "range | np.ndarray") -> "Decoded":
    """Some of the images of a set, in their order; their pixels are read when they are asked for."""
    at: Any = slice(rows.start, rows.stop) if isinstance(rows, range) else rows

    def picked(whole: Any) -> Any:
        return whole if whole is None else whole[at] if isinstance(at, slice) else _Rows(whole, at)

    ids = tuple(data.ids[row] for row in rows)
    inside = set(ids)
    return dataclasses.replace(
        data,
        ids=ids,
        labels=data.labels[at],
        pixels=picked(data.pixels),
        textures=None if data.textures is None else data.textures[at],
        masks=picked(data.masks),
        splits=None if data.splits is None else tuple(data.splits[row] for row in rows),
        copies={item: first for item, first in data.copies.items() if {item, first} <= inside},
    )


class _Rows:
    """Some rows of a mapped array, as an array that is read when it is indexed."""

    def __init__(self, whole: np.ndarray, rows: np.ndarray) -> None:
        self.whole, self.rows = whole, rows
        self.shape, self.dtype = (len(rows), *whole.shape[1:]), whole.dtype

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.asarray(self.whole[self.rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.whole[self.rows], dtype=dtype)
