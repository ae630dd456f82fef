"""A cell over many images is measured in parts where a study measures each image by itself (`Study.per_image`): several processes work on
one cell, and one that dies loses no more than its part.

What belongs to a part follows from the number of images alone, so that nobody has to ask anybody, and the rows of a cell are the same
whoever measured them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from visionvitals.run.cell import Stored
from visionvitals.study import Study

SIZE = 4096
"""Images of a part; the last one of a cell has what is left."""


def of(study: Study, condition: Any, images: int, *, may_stop: bool = False) -> list[range]:
    """The parts of a cell of a study, at a condition, over so many images, as positions in their order. One that may stop early is measured by one process."""
    size = SIZE if study.splits(condition) and not may_stop else max(images, 1)
    return [range(start, min(start + size, images)) for start in range(0, max(images, 1), size)]


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
        "skipped": [list(pair) for pair in dict.fromkeys(map(tuple, listed("skipped")))],
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
