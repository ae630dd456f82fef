"""docs/reproduce.md: every command on it parses as the command line would take it, and no table stands without one."""

import re
import shlex
from pathlib import Path

import pytest

from visionvitals import registry, study
from visionvitals.backbones import timm
from visionvitals.backbones._t2t_network import VARIANTS
from visionvitals.cli import app
from visionvitals.plan import plan_file, request
from visionvitals.show._draw import KINDS
from visionvitals.training import recipe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))


def commands(text: str) -> list[list[str]]:
    """The words of every command in the blocks of a page."""
    blocks = re.findall(r"^```\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line) for line in lines]


COMMANDS = commands(PAGE)


def check_spelling(text: str) -> None:
    """A backbone: its family, its options, and the network that it names."""
    spec = request.parse("backbones", text)
    options = registry.options(spec, registry.load("backbones", spec.family).Options)
    if spec.family == "t2t":
        assert spec.name in VARIANTS
    else:
        assert timm.published(spec.name if spec.family == "timm" else options.arch)


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words[:2]) + " " + words[-1])
def test_a_command_parses(words: list[str]) -> None:
    assert words[0] == "vitals"
    command, bound, _ = app.parse_args(words[1:], exit_on_error=False, print_error=False)
    assert command.__name__ == words[1]
    given = bound.arguments
    if words[1] == "audit":
        plan = given["choices"].plan(given["backbones"])
        for spelling in plan.backbones:
            check_spelling(spelling)
        for spelling in plan.sets:
            request.parse("datasets", spelling)
        assert all(section.name in study.names() for section in plan.studies)
    elif words[1] == "run":
        assert plan_file.read(ROOT / words[2]).studies
    elif words[1] == "show":
        assert given["kind"] in KINDS
        for spelling in given["model"]:
            check_spelling(spelling)
    elif words[1] == "train":
        asked = recipe.asked(given["recipe"], given.get("settings", ()), data=given.get("data"), test=given.get("test"))
        for spelling in filter(None, (asked.model, asked.teacher)):
            check_spelling(spelling)
    else:
        assert words[1] in ("table", "responses", "stylize")


def test_no_table_stands_without_a_command() -> None:
    with_table = [name for name, text in SECTIONS.items() if re.search(r"^\|---", text, flags=re.MULTILINE)]
    assert len(with_table) >= 15
    assert [name for name in with_table if name != "The networks" and not commands(SECTIONS[name])] == []


def test_every_weights_file_of_the_paper_has_its_spelling() -> None:
    spellings = re.findall(r"`((?:timm|t2t|checkpoint):[^`]*)`", SECTIONS["The networks"])
    assert len(spellings) >= 12
    for text in spellings:
        check_spelling(text)
    for name in ("deit_t_sin", "deit_s_sin", "deit_t_sin_dist", "deit_s_sin_dist", "no_pos_deit_t", "patch_38_deit_t"):
        assert any(f"{name}.pth" in word for words in COMMANDS for word in words)
