"""A plug-in is a file: `backbones/x.py`, `datasets/x.py`, `studies/x.py`, `training/recipes/x.py`. The folder is the registry.

Other packages add to a kind through the entry-point group `visionvitals.<kind>`; a single file is named by its path
(`./my_study.py`). Names that start with `_` are helpers, not plug-ins. Listing imports nothing.

A spelling is `family:name[@checkpoint][?key=value&key=value]`, the same for backbones and for image sets. A plug-in declares its options
as one frozen dataclass `Options` of fields made by `option`, and its function reads them through `reads(Options)`: once, with their types.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib
import importlib.util
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints
from urllib.parse import unquote

from visionvitals import source
from visionvitals.errors import VitalsError, blamed, near, require, shortened

Kind = Literal["backbones", "datasets", "studies", "recipes"]
_ROOT = Path(__file__).parent
_FOLDERS = {"recipes": "training/recipes"}  # the other kinds are called as their folders
_O = TypeVar("_O")
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Spec:
    """A parsed spelling.

    Attributes:
        text: the spelling as the user gave it; it is what tables show.
        family: the plug-in file that reads it, e.g. `timm`.
        name: what the family is asked for, e.g. `deit_tiny_patch16_224` or a folder.
        checkpoint: a local weights file after `@`, or None.
        options: the `?key=value` pairs, as strings; `reads` gives them their types.
    """

    text: str
    family: str
    name: str
    checkpoint: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def only(self, *known: str) -> dict[str, str]:
        """The options, after refusing any key that is not in `known` (near names are listed)."""
        for key in self.options:
            if key not in known:
                raise VitalsError(f"`{self.text}`: `{self.family}:` has no option `{key}`. {near(key, known)}")
        return self.options


def parse(text: str, *, families: list[str]) -> Spec:
    """Read `family:name[@checkpoint][?key=value]`.

    Raises:
        VitalsError: no family, an unknown family, an option without `=`, or one that is given twice.

    Example:
        >>> parse("timm:resnet50@w.safetensors?crop=0.9", families=["timm"]).options
        {'crop': '0.9'}
    """
    rest, _, query = text.partition("?")
    family, colon, name = rest.partition(":")
    must = "A spelling must be `family:name[@checkpoint][?key=value]` with a known family"
    usual = next((each for each in ("folder", "timm") if each in families), None)
    meant = (
        f"Did you mean `{usual}:{shortened(text)}`? "
        if usual and text and not colon and family not in {*families, *names("studies")}
        else ""
    )
    require(
        bool(colon) and family in families,
        must,
        text,
        lambda: meant + (_misplaced(family) or near("" if meant else family, families)),
    )
    name, _, checkpoint = name.partition("@")
    parts = [part.partition("=") for part in query.split("&")] if query else []
    require(all(key and equals for key, equals, _ in parts), "Options must read `?key=value&key=value`", text)
    twice = [key for key, count in Counter(key for key, _, _ in parts).items() if count > 1]
    require(not twice, f"`{text}`: an option must be given once", ", ".join(twice))
    return Spec(
        text, family, unquote(name), unquote(checkpoint) or None, {key: unquote(value) for key, _, value in parts}
    )


def _misplaced(family: str) -> str:
    """What to do with a family of the other kind: image sets and backbones are often given in each other's place."""
    if family in names("studies"):
        return f"`{family}` is a study: write studies with commas and no space, `--studies clean,{family}`."
    if family in names("datasets"):
        return f"`{family}:` is an image set: give it to `--data`."
    return f"`{family}:` is a backbone: give it without `--data`." if family in names("backbones") else ""


def named(text: str) -> tuple[str, str]:
    """(the short name that a user gives a spelling, "" for none; the spelling).

    Example:
        >>> named("deit=timm:deit_tiny_patch16_224"), named("folder:val?crop=0.9")
        (('deit', 'timm:deit_tiny_patch16_224'), ('', 'folder:val?crop=0.9'))
    """
    name, equals, spelling = text.partition("=")
    return (name, spelling) if equals and name.strip() and not set(name) & set("?@#&%:/") else ("", text)


def in_memory(spelling: str) -> bool:
    """Whether it names what was given in this Python process, and no other process can load."""
    return spelling.startswith("memory:")


def way(spelling: str, *options: str, value: str = "...") -> str:
    """How its user says something of a backbone: by options of the spelling, or where a module is given.

    Example:
        >>> way("timm:resnet50", "mean", "std"), way("memory:net", "mean", "std")
        ('`?mean=...&std=...`', '`visionvitals.backbone(..., mean=..., std=...)`')
    """
    if in_memory(spelling):
        return f"`visionvitals.backbone(..., {', '.join(f'{name}=...' for name in options)})`"
    return f"`?{'&'.join(f'{name}={value}' for name in options)}`"


def option(default: Any, meaning: str, *, read: Callable[[str], Any] | None = None) -> Any:
    """A field of a plug-in's `Options`.

    Args:
        default: its value where the spelling does not say.
        meaning: a few words for `vitals list`.
        read: string -> value; raises ValueError with what the value must be ("a share in (0, 1]"). By default the field's type reads it:
            `str`, `Path`, `bool`, `int` and `float` (finite, at least 0) or a `Literal` of strings, each also with `| None`.
    """
    return field(default=default, metadata={"meaning": meaning, "read": read})


def free(meaning: str) -> Any:
    """A field that takes every option `FIELD.KEY=VALUE` as a mapping KEY -> VALUE: Python literals where they are such, else strings."""
    return field(default_factory=dict, metadata={"meaning": meaning, "free": True})


def reads(kind: type[_O]) -> Callable[[Callable[Concatenate[Spec, _O, _P], _R]], Callable[Concatenate[Spec, _P], _R]]:
    """Decorates a plug-in's function of (spec, options, ...), so that it is called with (spec, ...) and gets the options typed.

    The one place where errors get their spelling: what is raised below says what must hold, and `SPELLING: ` goes before it.
    """

    def decorate(function: Callable[Concatenate[Spec, _O, _P], _R]) -> Callable[Concatenate[Spec, _P], _R]:
        @functools.wraps(function)
        def called(spec: Spec, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            try:
                return function(spec, options(spec, kind), *args, **kwargs)
            except VitalsError as error:
                said = str(error)
                raise type(error)(said if said.startswith(f"`{spec.text}`") else f"`{spec.text}`: {said}") from error

        return called

    return decorate


def options(spec: Spec, kind: type[_O]) -> _O:
    """The options of a spelling as the dataclass `kind`, read and checked.

    Raises:
        VitalsError: a key that `kind` has not (near ones are listed), or a value that cannot be read or is out of range.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass, by the contract of a plug-in
    types = get_type_hints(kind)
    given: dict[str, Any] = {}
    for key, text in spec.options.items():
        name, dot, inner = key.partition(".")
        if name not in fields or bool(dot and inner) != bool(fields[name].metadata.get("free")):
            known = [f"{n}.KEY" if f.metadata.get("free") else n for n, f in fields.items()]
            raise VitalsError(f"`{spec.text}`: `{spec.family}:` has no option `{key}`. {near(key, known)}")
        if inner:
            given.setdefault(name, {})[inner] = literal(text)
            continue
        try:
            given[name] = (fields[name].metadata.get("read") or functools.partial(_typed, types[name]))(text)
        except ValueError as error:
            raise VitalsError(f"`{spec.text}`: `{key}` must be {error}. Got {text!r}.") from None
    return kind(**given)


def literal(text: str) -> Any:
    """`true`, `false`, `none` and Python literals as values, anything else as the string that it is."""
    plain = {"true": True, "false": False, "none": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def described(kind: type[Any]) -> list[tuple[str, str, str]]:
    """(name, default, meaning) of each option of a dataclass `Options`; the default is empty where it is the plug-in's own choice."""
    found = []
    for f in dataclasses.fields(kind):
        name = f"{f.name}.KEY" if f.metadata.get("free") else f.name
        default = "" if f.default is None or f.default is dataclasses.MISSING else str(f.default)
        found.append((name, default, f.metadata.get("meaning", "")))
    return found


def _typed(kind: Any, text: str) -> Any:
    """A string as a value of a field's type.

    Raises:
        ValueError: with what it must be.
    """
    if get_origin(kind) is Literal:
        known: tuple[str, ...] = get_args(kind)
        if text not in known:
            raise ValueError(known[0] if len(known) == 1 else f"one of {', '.join(known)}")
        return text
    inner = [each for each in get_args(kind) if each is not type(None)]
    if inner:
        return _typed(inner[0], text)
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise ValueError("`true` or `false`")
        return text.lower() == "true"
    if kind is int:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError("a whole number of at least 0")
        return int(text)
    return number(text, "a number of at least 0") if kind is float else kind(text)


def number(text: str, must: str, *, above: float = -math.inf, low: float = 0.0, high: float = math.inf) -> float:
    """A finite number in [low, high], larger than `above`.

    Raises:
        ValueError: it is none; `must` says what it must be.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high and value > above):
        raise ValueError(must)
    return value


def names(kind: Kind) -> list[str]:
    """The plug-ins of a kind, sorted: our files, then what other packages declare. Imports none of them."""
    own = {path.stem for path in _folder(kind).glob("[!_]*.py")}
    return sorted(own | {point.name for point in entry_points(group=f"visionvitals.{kind}")})


def load(kind: Kind, name: str) -> ModuleType:
    """Import one plug-in by name, or a single file by its path.

    Raises:
        VitalsError: no such plug-in (near names are listed) or no such file.
    """
    if name.endswith(".py"):
        return _from_file(Path(name))
    if (_folder(kind) / f"{name}.py").is_file() and not name.startswith("_"):
        return importlib.import_module(f"visionvitals.{_FOLDERS.get(kind, kind).replace('/', '.')}.{name}")
    for point in entry_points(group=f"visionvitals.{kind}", name=name):
        with blamed(f"The installed plug-in `{name}` must be importable"):
            module = point.load()
        assert isinstance(module, ModuleType)
        return module
    raise VitalsError(f"Nothing in `vitals list {kind}` is called `{shortened(name)}`. {near(name, names(kind))}")


def summary(kind: Kind, name: str) -> str:
    """The first line of a plug-in's docstring, read without importing it."""
    own = Path(name) if name.endswith(".py") else _folder(kind) / f"{name}.py"
    points = () if own.is_file() else entry_points(group=f"visionvitals.{kind}", name=name)
    path = next((file for point in points if (file := source.file_of(point.module))), own)
    if not path.is_file():
        return ""
    with blamed(f"`{name}` must be a Python file"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


@functools.cache
def declared(kind: Kind, name: str, constant: str) -> Any:
    """A constant that one of our plug-ins sets to a literal, read without importing it; None where there is none."""
    path = _folder(kind) / f"{name}.py"
    if name not in names(kind) or not path.is_file():
        return None
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == constant for t in node.targets):
            return ast.literal_eval(node.value)
    return None


def _folder(kind: Kind) -> Path:
    return _ROOT / _FOLDERS.get(kind, kind)


def _from_file(path: Path) -> ModuleType:
    """A file is executed once in a process for each of its contents, so that its classes are the same at every load.

    Raises:
        VitalsError: no such file, or whatever it raises, with the line.
    """
    try:
        do = "Name the file with its folder, such as ./mine.py."
        require(path.is_file(), "A path that ends in .py must be a Python file that exists", str(path), do)
        content = hashlib.sha256(os.fsencode(path.resolve()) + b"\0" + path.read_bytes()).hexdigest()[:12]
    except (OSError, ValueError) as error:  # closed, a name that is too long, a NUL in it
        got = f"{shortened(str(path))!r}: {getattr(error, 'strerror', None) or error}"
        raise VitalsError(f"A plug-in path must be a Python file that can be read. Got {got}.") from error
    name = f"visionvitals_plugin_{path.stem}_{content}"
    if name in sys.modules:
        return sys.modules[name]
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    try:
        with blamed(f"`{path}` must be importable", str(path)):
            found.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
