"""The files that docs/cluster.md hands out: they parse, and what they call exists."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from visionvitals.cli import app

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "examples" / "cluster").iterdir())


def calls(text: str) -> list[list[str]]:
    """The words of every call of `vitals` in a file, comments and continued lines too."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    found = [re.search(r"\bvitals,? (plan|run|audit|status)\b[^\[\]`]*", line.replace(",", " ")) for line in lines]
    return [shlex.split(each[0].replace("NET...", "NET"), comments=True)[1:] for each in found if each]


def test_every_file_is_in_the_manual() -> None:
    said = (ROOT / "docs" / "cluster.md").read_text()
    assert len(FILES) >= 4
    assert all(f"../examples/cluster/{path.name}" in said for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_parses_and_its_options_exist(path: Path) -> None:
    text = path.read_text()
    if path.suffix == ".yaml":
        assert all(document["kind"] and document["spec"] for document in yaml.safe_load_all(text))
    else:
        subprocess.run(["bash", "-n", str(path)], check=True)
    found = calls(text)
    assert found
    for words in found:
        command = app[words[0]]
        known = {name for argument in command.assemble_argument_collection() for name in argument.names}
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"{words}: {given - known}"
