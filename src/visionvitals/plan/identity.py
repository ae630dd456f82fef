"""What makes two cells the same work: canonical JSON of what determines their numbers, hashed.

Fields equal to their default are left out, so that a new option does not orphan old results. Weights, data and folders enter by
digest, so that a path can move and a changed content is other work. Not part of it: spelling, device, batch size, workers, engine.
"""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, get_type_hints

from visionvitals.core import BackboneSpec, Cell, FolderSpec

IDENTITY_VERSION = 2


def cell_id(cell: Cell) -> str:
    """A readable prefix and 16 hexadecimal digits, e.g. `occlusion-1f0c...`; usable as a folder name."""
    text = json.dumps(identity(cell), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{cell.study}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def work_id(cell: Cell) -> str:
    """The id of the same work on all images: equal for cells whose images are the beginning of one seeded order."""
    return cell_id(dataclasses.replace(cell, limit=None, half_width=None, minutes=None))


def identity(cell: Cell) -> dict[str, Any]:
    """The facts that determine the numbers of a cell, as plain JSON values."""
    contents = dict(cell.companions)
    named = {**spelled(cell.condition), **folders(cell.condition)}
    condition = changed(cell.condition) | {name: contents[spec] for name, spec in named.items() if spec in contents}
    return {
        "identity": IDENTITY_VERSION,
        "study": cell.study,
        "version": cell.version,
        "condition": condition,
        "weights": cell.backbone.digest,
        "preprocess": changed(cell.backbone.preprocess),
        "classes": cell.backbone.classes,
        "data": cell.images.digest,
        "data_classes": cell.images.classes,
        "options": {
            k: v
            for k, v in changed(cell).items()
            if k not in ("study", "version", "condition", "backbone", "images", "companions")
        },
    }


@functools.lru_cache(maxsize=64)
def order_of(classes: tuple[str, ...] | None) -> str:
    """A digest of a list of classes, which is long and the same in every cell of a network or an image set."""
    return hashlib.sha256(json.dumps(classes).encode()).hexdigest()


def spelled(condition: Any) -> Mapping[str, str]:
    """field -> spelling of another backbone, of the fields of type `BackboneSpec` that are not empty."""
    return {name: spec for name, spec in _fields(condition, BackboneSpec).items() if spec}


def folders(condition: Any) -> Mapping[str, str]:
    """field -> path, of the fields of type `FolderSpec` that differ from their default."""
    found = _fields(condition, FolderSpec)
    return {f.name: found[f.name] for f in dataclasses.fields(condition) if found.get(f.name, f.default) != f.default}


def _fields(condition: Any, kind: object) -> dict[str, str]:
    types = get_type_hints(type(condition))
    return {name: str(getattr(condition, name)) for name, found in types.items() if found is kind}


def changed(value: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their default, as plain JSON values."""
    result = {}
    for f in dataclasses.fields(value):
        current = getattr(value, f.name)
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        if default is dataclasses.MISSING or current != default:
            result[f.name] = plain(current)
    return result


def plain(value: Any) -> Any:
    """Dataclasses, tuples and mappings as what JSON can hold, recursively.

    Raises:
        TypeError: a value with no canonical form (a NaN, an open object).
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise TypeError(f"An identity holds numbers, strings, tuples and None only. Got {value!r}.")
