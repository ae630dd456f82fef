"""The identity of Python code: what a file means, whatever its comments, layout and docstrings. Needs no torch."""

import ast
import functools
import hashlib
import inspect
import platform
from collections.abc import Sequence
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import visionvitals

PACKAGE = Path(__file__).parent
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg", "transformers", "onnxruntime")


def digest(path: str | Path) -> str:
    """sha256 of a Python file's syntax tree without docstrings, so that a comment or an empty line changes nothing.

    The tree enters as `ast.unparse` writes it, which depends less on the version of Python than its dump.

    Raises:
        SyntaxError: the file is no Python.
    """
    tree = ast.parse(Path(path).read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and _documented(node):
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "surrogatepass")).hexdigest()


def of(thing: object) -> str | None:
    """`digest` of the file that defines a module, a class, a function or an object's class; None where there is none to read."""
    for candidate in (thing, type(thing)):
        try:
            path = inspect.getsourcefile(inspect.unwrap(candidate))  # type: ignore[arg-type]  # refused below
        except (TypeError, OSError):
            continue
        return digest(path) if path and Path(path).is_file() else None
    return None


def file_of(module: str) -> Path | None:
    """The file of a module that can be imported, without executing it or its packages, as a look-up of the whole name would; None where there
    is none."""
    where: Sequence[str] | None = None
    origin = None
    whole = ""
    for part in module.split("."):
        whole = f"{whole}.{part}" if whole else part
        found = PathFinder.find_spec(whole, where) if part else None
        if found is None:
            return None
        origin, where = found.origin, found.submodule_search_locations or ()
    return None if origin is None else Path(origin)


@functools.cache
def versions() -> dict[str, str]:
    """Versions by name, read without importing anything."""
    found = {"visionvitals": visionvitals.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def computing() -> dict[str, Any]:
    """What computes: every file of this package, and the versions of the libraries below it."""
    made = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        made.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes())
    return {"package": made.hexdigest(), "versions": versions()}


def _documented(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    first = node.body[0] if node.body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
