"""Writes docs/studies/<name>.md for every study, from its docstrings and its data. Run it after a change: python docs/make_studies.py"""

import dataclasses
import inspect
from pathlib import Path
from types import ModuleType

from visionvitals import registry
from visionvitals.core import PRESETS
from visionvitals.report import words

FOLDER = Path(__file__).parent / "studies"
SIZE = (224, 224)


def page(name: str, study: ModuleType) -> str:
    """One study: what it asks, the fields of its condition, its presets, and the published numbers that stand beside it."""
    parts = [f"# {study.TITLE} (`{name}`)", inspect.getdoc(study) or ""]
    parts += ["## Condition", _fenced(inspect.getdoc(study.Condition) or "")]
    fields = [f"{f.name} = {words.short(f.default)!s}" for f in dataclasses.fields(study.Condition)]
    parts.append("Defaults: " + ("; ".join(f"`{field}`" for field in fields) if fields else "there is no field") + ".")
    if study.AXES:
        parts.append(f"One pass tells apart: {', '.join(f'`{axis}`' for axis in study.AXES)}.")
    counts = ", ".join(f"`{preset}` {len(study.conditions(preset, SIZE))}" for preset in PRESETS)
    parts += ["## Presets", _said(study), f"Conditions on a 224 x 224 input: {counts}."]
    if study.PUBLISHED:
        head = ["| model | condition | metric | published | on | source |", "|---|---|---|---|---|---|"]
        rows = [
            f"| {p.model} | {words.condition(p.where)} | {p.metric} | {p.value:g} | {p.data} | {p.source} |"
            for p in study.PUBLISHED
        ]
        parts += ["## Published numbers", "\n".join(head + rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write() -> list[Path]:
    """Write all pages; pages of studies that are gone are deleted."""
    FOLDER.mkdir(exist_ok=True)
    written = []
    for name in registry.names("studies"):
        path = FOLDER / f"{name}.md"
        path.write_text(page(name, registry.load("studies", name)), encoding="utf-8")
        written.append(path)
    for path in set(FOLDER.glob("*.md")) - set(written):
        path.unlink()
    return written


def _said(study: ModuleType) -> str:
    return " ".join((inspect.getdoc(study.conditions) or "").split())


def _fenced(text: str) -> str:
    return f"```\n{text}\n```"


if __name__ == "__main__":
    for path in write():
        print(path)
