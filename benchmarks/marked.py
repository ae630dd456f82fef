"""Tables that a benchmark writes into a page of the documentation, between two marks."""

from collections.abc import Sequence
from pathlib import Path


def write(page: Path, marks: tuple[str, str], tables: Sequence[str]) -> None:
    """Put tables between the marks of a page, in place of what is there."""
    before, rest = page.read_text("utf-8").split(marks[0])
    after = rest.split(marks[1])[1]
    page.write_text("\n".join([before + marks[0], "", "\n\n".join(tables), "", marks[1] + after]), "utf-8")
