"""Whose code a run folder names. A plan may name Python files, functions and exported programs; going on with a run executes them.

A run that this user began here goes on by itself: the state directory of the user holds a digest of the run's random token and of its plan,
under the place of the run folder. A folder that came from elsewhere, was moved, or has another plan by now needs `--trust`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import platformdirs

from visionvitals import registry
from visionvitals.errors import VitalsError
from visionvitals.files import write_safely
from visionvitals.remote import AnyPath


def code_of(asked: Any) -> list[str]:
    """The spellings in a plan, at any depth, that name code: a Python file, a function of `python:`, or a program of
    `exported:`, which torch unpickles.

    Example:
        >>> code_of({"backbones": ["timm:resnet50", "python:net.py:make?seed=1"], "studies": [{"name": "/a/mine.py"}]})
        ['python:net.py:make?seed=1', '/a/mine.py']
    """
    return list(dict.fromkeys(text for text in _texts(asked) if _names_code(text)))


def record(out: AnyPath, content: Mapping[str, Any]) -> None:
    """Note that this user began the run in `out`; a home that cannot be written only means that `--trust` must be given later."""
    if code_of(_plans(content)):
        try:
            write_safely(_note(out), _proof(content))
        except OSError:
            return


def is_ours(out: AnyPath, content: Mapping[str, Any]) -> bool:
    """Whether the run was begun here by this user, or names no code."""
    if not code_of(_plans(content)):
        return True
    try:
        return _note(out).read_text(encoding="utf-8") == _proof(content)
    except (OSError, ValueError):
        return False


def check(out: AnyPath, content: Mapping[str, Any]) -> None:
    """Refuse to execute code that the plans of a run folder name, unless the run was begun here.

    Raises:
        VitalsError: it was not; what would be executed is listed.
    """
    if is_ours(out, content):
        return
    code = code_of(_plans(content))
    listed = "\n  ".join(text if len(text) <= 200 else f"{text[:197]}..." for text in code[:20])
    more = f"\n  and {len(code) - 20} more" if len(code) > 20 else ""
    raise VitalsError(
        f"The run in {out} was not begun here by you, and going on with it would execute:\n  {listed}{more}\n"
        "Read that code. If you trust it, give `--trust`."
    )


def _plans(content: Mapping[str, Any]) -> list[Any]:
    return [request["plan"] for request in (content, *content.get("later", ()))]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(each)


def _names_code(text: str) -> bool:
    rest, _, options = registry.named(text)[1].partition("?")
    family = rest.partition(":")[0]
    if any(_names_code(unquote(pair.partition("=")[2])) for pair in options.split("&") if options):
        return True  # an image set whose class names it takes
    return family in ("python", "exported") or family.endswith(".py") or text.endswith(".py")


def _note(out: AnyPath) -> Path:
    place = hashlib.sha256(str(out.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return platformdirs.user_state_path("visionvitals") / "begun" / place[:32]


def _proof(content: Mapping[str, Any]) -> str:
    plans = json.dumps(_plans(content), sort_keys=True)
    return hashlib.sha256(f"{content['token']}\0{plans}".encode()).hexdigest()
