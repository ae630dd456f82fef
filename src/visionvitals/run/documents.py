"""The JSON documents of a run folder, read with suspicion: regular files of a sane size, in the form in which they are written.

A form says what JSON must be: a type or a tuple of types; `[form]` for a list of such; `[form, form]` for a list of just these;
`{key: form}` for an object with these keys at least, of which `key?` may be missing; `{str: form}` for an object of such values; or a
function that says whether a value is right.
"""

import hashlib
import json
from datetime import datetime
from types import NoneType
from typing import Any

from visionvitals.errors import Unreachable, VitalsError
from visionvitals.files import lexists, read_regular
from visionvitals.remote import AnyPath


def _plain(value: Any, depth: int = 4) -> bool:
    """A value of a condition: numbers, words, and lists of them."""
    nested = isinstance(value, list) and depth > 0 and all(_plain(v, depth - 1) for v in value)
    return nested or isinstance(value, str | int | float | NoneType)


def _time(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value) is not None
    except (TypeError, ValueError):
        return False


def _cost(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1e18


def _parts(value: Any) -> bool:
    return isinstance(value, int) and 0 < value <= 1_000_000


_NUMBER = int, float
_MAYBE = int, NoneType
_CONDITION = {str: _plain}
_WORK = {"study": str, "condition": _CONDITION, "backbone": str, "images": str}
_BACKBONE = {
    "spec": str,
    "architecture": str,
    "digest": str,
    "classes?": str,
    "preprocess": {
        "size": [int, int],
        "resize": _MAYBE,
        "interpolation": str,
        "mean": [_NUMBER],
        "std": [_NUMBER],
    },
    "outputs": int,
    "parameters": int,
    "patch_grid": lambda value: value is None or fits(value, [int, int]),
    "notes": [str],
}
_NUMERICS = {"precision": str, "compile": bool, "channels_last": bool}
_PROVENANCE = {
    "versions": {str: str},
    "commit": (str, NoneType),
    "dirty": bool,
    "platform": str,
    "device": str,
    "dtype": str,
    "shares?": [str],
    "batch_size": int,
    "threads": int,
    "started": _time,
}
CELL = {
    "cell": {
        "study": str,
        "version": int,
        "condition": _CONDITION,
        "backbone": _BACKBONE,
        "images": {"spec": str, "digest": str, "classes?": str, "n": int, "notes": [str]},
        "seed": int,
        "limit": _MAYBE,
        "decoder": str,
        "companions": [[str, str]],
        "source": str,
        "numerics?": _NUMERICS,
    },
    "axes": [str],
    "parts": [{
        "file": str,
        "points": [{"at": [(str, int, float)], "rows": [int, int], "items": str, "metrics": [str]}],
        "provenance?": _PROVENANCE,
    }],
    "exhibits": [{"item": str, "caption": str, "file": str, "at": [(str, int, float)], "label?": str, "correct?": bool}],
    "sha256": {str: str},
    "bytes": {str: int},
    "skipped?": [[str, str]],
    "seconds?": _NUMBER,
    "broken?": {str: [str]},
    "stopped?": {"images": int, "of": int, "look": int, "looks": int, "by": str},
    "provenance?": _PROVENANCE,
}  # fmt: skip
"""Of `cell.json`, beside its schema and id."""
FAILURE = {
    "id": str,
    "cell": {"study": str, "condition": _CONDITION, "backbone": {"spec": str}},
    "error": str,
    "traceback": str,
}
_ANSWERS = {"logits": [[_NUMBER]], "stable": bool, "versions": [[str, str]]}
_REQUEST: dict[str, Any] = {
    "plan": {
        "backbones": [str],
        "data": [str],
        "studies": [{"name": str, "data?": [str]}],
        "preset": str,
        "limit?": _MAYBE,
        **{f"{key}?": form for key, form in _NUMERICS.items()},
        "until?": {
            "rules": [{str: lambda value: True}],
            "most": lambda value: isinstance(value, int) and value > 0,
            "baseline": str,
        },
        "half_width?": _NUMBER,
        "minutes?": _NUMBER,
    },
    "digests": {str: {str: lambda value: True}},
    "answers": {str: _ANSWERS},
    "cells": [{"id": str, **_WORK, "cost?": _cost, "parts?": _parts}],
    "again?": [_WORK],
    "skips": [{"reason": str, **_WORK}],
    "notes": [str],
    "command": [str],
    "versions": {str: str},
    "stamp": str,
    "started": _time,
    "token": str,
}
PLAN = {**_REQUEST, "later?": [_REQUEST], "superseded?": [str], "answered?": {str: _ANSWERS}}
"""Of `plan.json`, beside its schema."""
STUDIES: dict[type, dict[str, Any]] = {str: {}}
WARNINGS = [str]
NOTES = [{"time": _time, "text": str}]
NUMERICS = {
    "backbone": str,
    "images": str,
    "numerics": _NUMERICS,
    "n": int,
    "speed": _NUMBER,
    "changed": [_NUMBER, _NUMBER, _NUMBER],
    "error": (*_NUMBER, NoneType),
}
GROUPS = {"images": str, "items": [str], "columns": {str: {"names": [str], "of": [int]}}}


def is_cell(facts: Any) -> bool:
    """Whether JSON is a `cell.json` that names files of its own only, each with its checksum and its size."""
    if not fits(facts, CELL):
        return False
    used, known = {each["file"] for each in (*facts["parts"], *facts["exhibits"])}, facts["sha256"].keys()
    inside = not any(part in ("", ".", "..") for name in known for part in name.split("/"))
    return used <= known and known == facts["bytes"].keys() and inside


def fits(value: Any, form: Any) -> bool:
    """Whether JSON is of a form."""
    if isinstance(form, type | tuple):
        return isinstance(value, form)
    if isinstance(form, list):
        if not isinstance(value, list):
            return False
        if len(form) > 1:
            return len(value) == len(form) and all(map(fits, value, form))
        return all(fits(v, form[0]) for v in value)
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return False
        if str in form:
            return all(fits(v, form[str]) for v in value.values())
        return all(fits(value[k], f) if (k := key.rstrip("?")) in value else k != key for key, f in form.items())
    return bool(form(value))


def parsed(data: bytes, form: Any) -> Any:
    """JSON of a form.

    Raises:
        ValueError: it is none, or is of another form; it says why.
    """
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("lists in lists without end") from None
    if not fits(found, form):
        raise ValueError("another content than visionvitals writes there")
    return found


def read(path: AnyPath, form: Any) -> Any:
    """A document of a run folder.

    Raises:
        VitalsError: it cannot be read, or is not of this form.
    """
    try:
        return parsed(read_regular(path), form)
    except (OSError, ValueError) as error:
        do = "Name another folder, or restore the file."
        raise VitalsError(f"{path} must be JSON as visionvitals wrote it. Got: {error}. {do}") from error


def spared(path: AnyPath, form: Any, noticed: list[str]) -> Any:
    """A document that a run can do without: None where it is missing, or is damaged, which is noticed."""
    try:
        return read(path, form) if lexists(path) else None
    except Unreachable:
        raise
    except VitalsError as error:
        noticed.append(f"Left out: {error} `vitals run` writes it again.")
        return None


def sealed(content: dict[str, Any]) -> bytes:
    """JSON that begins with the sha256 of all that follows, so that a single changed digit is noticed."""
    rest = json.dumps(content, separators=(",", ":"), allow_nan=False)[1:].encode()
    return _seal(rest) + rest


def unsealed(data: bytes) -> tuple[Any, bool]:
    """(the JSON, whether it is as `sealed` wrote it).

    Raises:
        ValueError: no JSON.
    """
    head, comma, rest = data.partition(b",")
    return parsed(data, dict), head + comma == _seal(rest)


def _seal(rest: bytes) -> bytes:
    return b'{"digest":"%b",' % hashlib.sha256(rest).hexdigest().encode()
