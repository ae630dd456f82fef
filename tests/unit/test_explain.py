"""`vitals explain` and `vitals list WORD`: everything that has a name is found by it, and told on one screen."""

import inspect
from pathlib import Path

import pytest

from visionvitals import explaining, listing, registry, study
from visionvitals.errors import VitalsError
from visionvitals.figure import COMMON, KINDS, UNITS
from visionvitals.results.derived_metrics import METRICS

ENTRIES = explaining.entries()
SCREEN = 40
LIGHT = [entry for entry in ENTRIES if not entry.kind.startswith("family")]


@pytest.mark.parametrize("entry", LIGHT, ids=lambda entry: f"{entry.kind}: {entry.name}")
def test_each_is_told_on_one_screen(entry: explaining.Entry) -> None:
    lines = explaining.explained(entry.name)
    assert f"{entry.name}: a {entry.kind}" in lines
    of_one = "\n".join(lines).split("\n\n")
    assert all(len(page.splitlines()) <= SCREEN for page in of_one)
    assert [line for line in lines if len(line) > 80 and len(line.split()) > 1] == []


def test_the_study_in_a_file_of_the_user_is_told() -> None:
    lines = explaining.explained(str(Path(__file__).parents[1] / "plugins" / "toy_study.py"))
    assert lines[0] == "toy_study: a study"
    assert "  Vital signs: with noise." in lines
    assert not any("docs/studies" in line for line in lines)


def test_everything_has_an_entry() -> None:
    found = {kind: {entry.name for entry in ENTRIES if entry.kind == kind} for kind in explaining.PLURALS}
    assert found["study"] == set(registry.names("studies"))
    assert found["recipe"] == set(registry.names("recipes"))
    assert found["metric"] >= {*COMMON, *METRICS}
    assert found["preset"] == {"quick", "default", "paper"}
    signs = [sign for name in study.names() for sign in study.load(name).signs]
    assert found["vital sign"] == {sign.title for sign in signs}
    assert {sign.kind for sign in signs} <= KINDS.keys()
    assert {metric.unit for metric in COMMON.values()} <= UNITS.keys()


def test_a_sentence_is_taken_from_where_it_stands() -> None:
    told = " ".join(" ".join(explaining.explained("ECE")).split())
    assert METRICS["ece"].meaning in told
    assert "Lower is better." in told
    told = " ".join(" ".join(explaining.explained("occlusion")).split())
    assert study.load("occlusion").asks in told
    assert "docs/studies/occlusion.md" in told
    told = " ".join(" ".join(explaining.explained("context")).split())
    assert "What it means for a product." in told
    assert "Pitfalls." in told
    assert "Conventions." not in told


def test_all_of_one_name_are_told() -> None:
    """`unchanged` is a metric of a study, and one that is computed from any run."""
    assert sum(line == "unchanged: a metric" for line in explaining.explained("unchanged")) == 2


def test_a_spelling_is_explained_by_its_family() -> None:
    assert explaining.explained("tiny:vit")[0] == "tiny: a family of backbones"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("oclusion", "Did you mean occlusion"), ("shape", "Names that contain it: shape_bias"), ("", "vitals list")],
)
def test_a_miss_names_what_is_near(name: str, meant: str) -> None:
    with pytest.raises(VitalsError, match=meant):
        explaining.explained(name)


def test_a_study_says_its_pitfalls_under_one_head() -> None:
    """What `explain` looks for is spelled alike in all docstrings."""
    others = ("Pitfall.", "Known weakness", "Read with care", "Meaning", "What this means", "For a product")
    for name in study.names():
        text = inspect.getdoc(registry.load("studies", name)) or ""
        assert [p for p in text.split("\n\n") if p.startswith(others)] == []


def test_a_word_lists_what_has_it_in_its_name() -> None:
    lines = listing.listed("ResNet50")
    assert lines[0] == "models"
    assert "  torchvision:resnet50" in lines
    assert sum(line.startswith("  timm:") for line in lines) == listing.MOST
    more = next(line for line in lines if "more: vitals list 'timm:*resnet50*'" in line)
    assert int(more.split()[1]) + listing.MOST == len(listing.listed("timm:*resnet50*"))
    heads = [line for line in listing.listed("occlusion") if not line.startswith(" ")]
    assert heads == ["studies", "vital signs"]


def test_a_kind_lists_all_of_it() -> None:
    assert {line.split()[0] for line in listing.listed("presets")} == {"presets", "quick", "default", "paper"}
    assert {line.split()[0] for line in listing.listed("metrics")} >= {*COMMON, *METRICS}
