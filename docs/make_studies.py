"""Writes docs/studies/<name>.md for every study, from its docstrings and its data, and their index. Run it after a change:
python docs/make_studies.py"""

import inspect
from pathlib import Path

from docstrings import markdown

from visionvitals import registry
from visionvitals.core import PRESETS
from visionvitals.results import words
from visionvitals.study import COMMON, Study, load, names

FOLDER = Path(__file__).parent / "studies"
SIZE = (224, 224)


def page(study: Study) -> str:
    """One study: what it asks, the fields of its condition, its presets, its metrics, and the published numbers beside it."""
    asks, _, told = _documented(registry.load("studies", study.name)).partition("\n\n")
    parts = [f"# {study.title} (`{study.name}`)", asks, _pictures(study.name), told]
    parts += ["## Condition", _documented(study.Condition)]
    fields = [f"{name} = {words.short(default)!s}" for name, default in study.defaults.items()]
    parts.append("Defaults: " + ("; ".join(f"`{field}`" for field in fields) if fields else "there is no field") + ".")
    if study.axes:
        parts.append(f"One pass tells apart: {', '.join(f'`{axis}`' for axis in study.axes)}.")
    counts = ", ".join(f"`{preset}` {len(study.conditions(preset, SIZE))}" for preset in PRESETS)
    parts += ["## Presets", _said(study), f"Conditions on a 224 x 224 input: {counts}."]
    own = [f"- `{name}` ({m.unit}): {m.meaning}" for name, m in study.metrics.items() if name not in COMMON]
    parts += ["## Its own metrics", "\n".join(own)] if own else []
    if study.published:
        head = ["| model | condition | metric | published | on | source |", "|---|---|---|---|---|---|"]
        rows = [
            f"| {p.model} | {words.condition(p.where)} | {p.metric} | {p.value:g} | {p.data} | {p.source} |"
            for p in study.published
        ]
        parts += ["## Published numbers", "\n".join(head + rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def index() -> str:
    """Every study with the question that it asks."""
    head = "# The studies\n\nWhich questions can be asked of a network? Each study is one, with a page of its own."
    studies = [load(name) for name in names()]
    named = ", ".join(f"`{study.name}`" for study in studies if study.on_request)
    how = "`--studies occlusion,shuffle` chooses some. Without it, `vitals audit` runs all that fit the network and the pictures"
    how += f", except {named}, which takes many passes an image and must be named." if named else "."
    rows = [f"| [{study.title}]({study.name}.md) | `{study.name}` | {study.asks} |" for study in studies]
    return "\n\n".join((head, how, "\n".join(("| study | name | asks |", "|---|---|---|", *rows)))) + "\n"


def pages() -> dict[str, str]:
    """File name -> content, of everything in the folder."""
    return {"index.md": index()} | {f"{name}.md": page(load(name)) for name in names()}


def write() -> list[Path]:
    """Write all pages; pages of studies that are gone are deleted."""
    FOLDER.mkdir(exist_ok=True)
    written = {FOLDER / name: text for name, text in pages().items()}
    for path, text in written.items():
        path.write_text(text, encoding="utf-8")
    for path in set(FOLDER.glob("*.md")) - set(written):
        path.unlink()
    return list(written)


def _pictures(name: str) -> str:
    """What the gallery has of a study: what is done to a picture, and a figure."""
    there = FOLDER.parent / "images" / "gallery"
    shown = {f"{name}.webp": "What the networks see", f"{name}.svg": "What the study shows of the embedded networks"}
    return "\n\n".join(
        f"![{says}](../images/gallery/{file})" for file, says in shown.items() if (there / file).exists()
    )


def _documented(one: object) -> str:
    return markdown(inspect.getdoc(one) or "", docs="../")


def _said(study: Study) -> str:
    return " ".join((inspect.getdoc(registry.load("studies", study.name).conditions) or "").split())


if __name__ == "__main__":
    for path in write():
        print(path)
