"""The documentation says what the code says."""

import re
import runpy
from pathlib import Path

from visionvitals import study
from visionvitals.results import rules

ROOT = Path(__file__).parents[2]


def test_the_pages_of_the_studies_are_those_of_the_docstrings() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_studies.py"))["page"]
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "studies").glob("*.md")}
    assert pages.keys() == set(study.names()), "run: python docs/make_studies.py"
    for name, text in pages.items():
        assert text == page(study.load(name)), f"{name}: run: python docs/make_studies.py"


def test_links_of_the_readme_and_the_docs_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_rules_of_the_docs_are_rules(tmp_path: Path) -> None:
    """Every file of rules that a page shows, and the examples."""
    records = {name: study.load(name) for name in study.names()}
    found = [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.toml")]
    for page in (ROOT / "docs").glob("*.md"):
        found += [
            text
            for text in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
            if "[[rule]]" in text
        ]
    assert len(found) >= 3
    for text in found:
        (tmp_path / "gate.toml").write_text(text, encoding="utf-8")
        assert rules.read(tmp_path / "gate.toml", records)
