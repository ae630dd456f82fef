"""Writes docs/api.md from the docstrings of the public names. Run it after a change: python docs/make_api.py"""

import ast
import inspect
import textwrap
from pathlib import Path
from types import FunctionType

from docstrings import markdown

import visionvitals as vv
from visionvitals import study

FILE = Path(__file__).parent / "api.md"
WIDTH = 100
HEAD = """# API: the public names

What can be imported, and what does each name take and give? These are the public names. Importing the package loads neither torch nor timm."""
NOUNS = "What a plug-in or a study gets and gives. Tensors and arrays: float images are (b, 3, h, w) in [0, 1]."
STUDY = (
    "What the file of a study imports, from `visionvitals.study`. [Write a study](write_a_study.md) uses them in order."
)


def page() -> str:
    """The functions and the run first, then the forms of a plug-in, then what a study imports."""
    ways = ["audit", "backbone", "images", "gate", "Run"]
    kinds = (type, FunctionType)  # not the aliases of types
    own = [name for name in study.__all__ if name not in vv.__all__ and isinstance(getattr(study, name), kinds)]
    parts = [HEAD, "## From Python", "`import visionvitals as vv`; [From Python](python.md) shows them at work."]
    parts += [_described("vv", name, getattr(vv, name)) for name in ways]
    parts += ["## The forms of a plug-in", NOUNS]
    parts += [_described("vv", name, getattr(vv, name)) for name in vv.__all__ if name not in ways]
    parts += ["## For the author of a study", STUDY]
    parts += [_described("study", name, getattr(study, name)) for name in own]
    return "\n\n".join(parts) + "\n"


def _described(home: str, name: str, one: object) -> str:
    if not inspect.isclass(one):
        return "\n\n".join((f"### `{home}.{name}`", _fenced(signature(one)), markdown(inspect.getdoc(one) or "")))
    parts = [f"### `{home}.{name}`", markdown(inspect.getdoc(one) or "")]
    for key, value in vars(one).items():
        of = getattr(value, "func", getattr(value, "fget", value))
        if inspect.isfunction(of) and not key.startswith("_") and inspect.getdoc(of):
            call = _fenced(signature(of)) if of is value else ""
            parts += [f"#### `{name}.{key}`", call, markdown(inspect.getdoc(of) or "")]
    return "\n\n".join(part for part in parts if part)


def signature(function: object) -> str:
    """As its source says it, on one line, or one line for each parameter."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]  # type: ignore[arg-type]
    assert isinstance(tree, ast.FunctionDef)
    given = tree.args
    first = given.posonlyargs + given.args
    defaults = [None] * (len(first) - len(given.defaults)) + given.defaults
    taken = [_taken(*pair) for pair in zip(first, defaults, strict=True) if pair[0].arg != "self"]
    taken += ["*"] if given.kwonlyargs else []
    taken += [_taken(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    result = f" -> {ast.unparse(tree.returns).strip(chr(39))}" if tree.returns else ""
    line = f"{tree.name}({', '.join(taken)}){result}"
    return line if len(line) <= WIDTH else f"{tree.name}(\n    " + ",\n    ".join(taken) + f",\n){result}"


def _taken(given: ast.arg, default: ast.expr | None) -> str:
    kind = f": {ast.unparse(given.annotation).strip(chr(39))}" if given.annotation else ""
    equals = " = " if kind else "="
    return given.arg + kind + (f"{equals}{ast.unparse(default)}" if default is not None else "")


def _fenced(text: str) -> str:
    return f"```python\n{text}\n```"


if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
    print(FILE)
