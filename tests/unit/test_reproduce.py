"""docs/reproduce.md: no table stands without a command, and every weights file of the paper has its spelling; test_pages.py reads the commands."""

import re

from page_checks import ROOT, blocks, check_backbone

PAGE = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))


def test_no_table_stands_without_a_command() -> None:
    with_table = [name for name, text in SECTIONS.items() if re.search(r"^\|---", text, flags=re.MULTILINE)]
    assert len(with_table) >= 15
    assert [
        name
        for name in with_table
        if name != "The networks" and not any(block.is_shell for block in blocks(SECTIONS[name]))
    ] == []


def test_every_weights_file_of_the_paper_has_its_spelling() -> None:
    spellings = re.findall(r"`((?:timm|t2t|checkpoint):[^`]*)`", SECTIONS["The networks"])
    assert len(spellings) >= 12
    for text in spellings:
        check_backbone(text)
    for name in ("deit_t_sin", "deit_s_sin", "deit_t_sin_dist", "deit_s_sin_dist", "no_pos_deit_t", "patch_38_deit_t"):
        assert any(f"{name}.pth" in block.text for block in blocks(PAGE) if block.is_shell)
