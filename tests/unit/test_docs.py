"""The documentation says what the code says."""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import visionvitals as vv

ROOT = Path(__file__).parents[2]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """What a script that writes pages defines."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return lambda name: runpy.run_path(str(ROOT / "docs" / name))


def test_the_pages_of_the_studies_are_those_of_the_docstrings(made: Callable[[str], dict[str, Any]]) -> None:
    here = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "studies").glob("*.md")}
    assert here == made("make_studies.py")["pages"](), "run: python docs/make_studies.py"


def test_the_page_of_the_public_names_is_that_of_their_docstrings(made: Callable[[str], dict[str, Any]]) -> None:
    page = made("make_api.py")["page"]()
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == page, "run: python docs/make_api.py"
    assert all(f"### `vv.{name}`\n" in page for name in vv.__all__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One.\n\nArgs:\n    a, b: two\n        lines.\n    c: x.", "One.\n\n- `a`, `b`: two lines.\n- `c`: x."),
        ("Attributes:\n    a,\n        b: both.", "- `a`, `b`: both."),
        ("Args:\n    a: b.\n\nProse,\nmore.", "- `a`: b.\n\nProse,\nmore."),
        ("Returns: it.", "**Returns:** it."),
        ("Raises:\n    VitalsError: never.", "**Raises:** VitalsError: never."),
        ("See docs/decide.md, not `docs/x.md`.", "See [decide.md](decide.md), not `docs/x.md`."),
        ("Example:\n    >>> 1\n    1", "```python\n>>> 1\n1\n```"),
    ],
)
def test_a_docstring_becomes_markdown(made: Callable[[str], dict[str, Any]], text: str, expected: str) -> None:
    assert made("docstrings.py")["markdown"](text) == expected


@pytest.mark.parametrize("path", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_a_page_begins_with_its_title_and_a_sentence(path: Path) -> None:
    """What it answers, before any command, table or further heading."""
    title, first = path.read_text(encoding="utf-8").split("\n\n", 2)[:2]
    assert title.startswith("# ")
    assert not first.startswith(("#", "`" * 3, "|", "-", "!", ">")), first


def test_links_of_the_readme_and_the_docs_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
