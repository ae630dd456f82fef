"""A plug-in is a file: `backbones/x.py`, `datasets/x.py`, `studies/x.py`, `training/recipes/x.py`. The folder is the registry.

Other packages add to a kind through the entry-point group `visionvitals.<kind>`; a single file is named by its path
(`./my_study.py`). Names that start with `_` are helpers, not plug-ins. Listing imports nothing.

A spelling is `family:name[@checkpoint][?key=value&key=value]`, the same for backbones and for image sets.
"""

import ast
import importlib
import importlib.util
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Literal
from urllib.parse import unquote

from visionvitals.errors import VitalsError, near, require

Kind = Literal["backbones", "datasets", "studies", "recipes"]
_ROOT = Path(__file__).parent
_FOLDERS = {"recipes": "training/recipes"}  # the other kinds are called as their folders


@dataclass(frozen=True)
class Spec:
    """A parsed spelling.

    Attributes:
        text: the spelling as the user gave it; it is what tables show.
        family: the plug-in file that reads it, e.g. `timm`.
        name: what the family is asked for, e.g. `deit_tiny_patch16_224` or a folder.
        checkpoint: a local weights file after `@`, or None.
        options: the `?key=value` pairs, as strings.
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
        VitalsError: no family, an unknown family, or an option without `=`.

    Example:
        >>> parse("timm:resnet50@w.safetensors?crop=0.9", families=["timm"]).options
        {'crop': '0.9'}
    """
    rest, _, query = text.partition("?")
    family, colon, name = rest.partition(":")
    require(
        bool(colon) and family in families,
        "A spelling must be `family:name[@checkpoint][?key=value]` with a known family",
        text,
        near(family, families),
    )
    name, _, checkpoint = name.partition("@")
    parts = [part.partition("=") for part in query.split("&")] if query else []
    require(all(key and equals for key, equals, _ in parts), "Options must read `?key=value&key=value`", text)
    return Spec(
        text, family, unquote(name), unquote(checkpoint) or None, {key: unquote(value) for key, _, value in parts}
    )


def labels(texts: Iterable[str]) -> dict[str, str]:
    """Spelling -> the shortest name that tells it apart from the others, for tables and charts. Short spellings stay whole.

    Example:
        >>> list(labels(["tiny:vit", "timm:resnet50@/data/weights/a.pth", "timm:resnet50@/data/weights/b.pth"]).values())
        ['tiny:vit', 'resnet50@a', 'resnet50@b']
    """
    forms = {text: _forms(text) for text in texts}
    taken = Counter(form for several in forms.values() for form in several)
    return {text: next(form for form in several if taken[form] == 1) for text, several in forms.items()}


def _forms(text: str) -> list[str]:
    """Ever longer names of a spelling; the last one is the spelling itself."""
    rest, _, options = text.partition("?")
    if len(text) <= 28 or ":" not in rest:  # short, or shortened already
        return [text]
    name, _, checkpoint = rest.partition(":")[2].partition("@")
    path = Path(name)
    short = f"{path.parent.name}/{path.name}" if path.suffix == ".csv" else _stem(path) if path.suffix else path.name
    short = short if path.is_absolute() or "/" in name else name
    with_file = f"{short}@{_stem(Path(checkpoint))}" if checkpoint else short
    return list(dict.fromkeys([short, with_file, f"{with_file}?{options}" if options else with_file, text]))


def _stem(path: Path) -> str:
    """A file goes by its name; `weights.*`, as a training calls what it writes, by that of its folder."""
    return path.parent.name if path.stem == "weights" and path.parent.name else path.stem


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
        module = point.load()
        assert isinstance(module, ModuleType)
        return module
    raise VitalsError(f"No {kind} plug-in is called `{name}`. {near(name, names(kind))}")


def summary(kind: Kind, name: str) -> str:
    """The first line of a plug-in's docstring, read without importing it."""
    path = Path(name) if name.endswith(".py") else _folder(kind) / f"{name}.py"
    if not path.is_file():
        return ""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _folder(kind: Kind) -> Path:
    return _ROOT / _FOLDERS.get(kind, kind)


def _from_file(path: Path) -> ModuleType:
    require(path.is_file(), "A plug-in path must be a Python file", str(path))
    name = f"visionvitals_plugin_{path.stem}"
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
    return module
