"""The table of docs/blocks.md: every module of the libraries has a row, and what is found in a few networks is what the rows say."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import benchmark_files
import pytest

ROOT = Path(__file__).parents[2]
GOLDEN: list[dict[str, Any]] = json.loads((ROOT / "tests" / "golden" / "blocks.json").read_text("utf-8"))
HANDFUL = (
    *("timm convnext", "timm maxxvit", "timm resnet", "timm vision_transformer", "timm edgenext", "timm pvt_v2"),
    *("transformers cvt", "transformers deit", "transformers levit", "transformers pvt", "transformers siglip"),
    *("transformers swin", "transformers perceiver"),
)


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return benchmark_files.loaded("blocks")


def test_every_module_has_a_row(benchmark: ModuleType) -> None:
    assert [row["name"] for row in GOLDEN] == benchmark.names()


def test_the_page_shows_the_rows(benchmark: ModuleType) -> None:
    page = (ROOT / "docs" / "blocks.md").read_text("utf-8")
    assert page.split(benchmark.MARKS[0])[1].split(benchmark.MARKS[1])[0].splitlines() == list(benchmark.table(GOLDEN))


@pytest.mark.parametrize("name", HANDFUL)
def test_what_is_found_is_what_the_row_says(benchmark: ModuleType, name: str) -> None:
    kept = next(row for row in GOLDEN if row["name"] == name)
    assert benchmark.row(name, kept["network"]) == kept
