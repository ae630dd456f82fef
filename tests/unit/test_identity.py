"""What makes two cells the same work."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from visionvitals.core import BackboneCard, Cell, ImageSetCard, Preprocess
from visionvitals.plan.identity import cell_id, changed, identity, plain


@dataclass(frozen=True, kw_only=True)
class Old:
    fraction: float = 0.0
    grid: tuple[int, int] = (14, 14)


@dataclass(frozen=True, kw_only=True)
class New:
    """`Old` with an option that was added later."""

    fraction: float = 0.0
    grid: tuple[int, int] = (14, 14)
    fill: str = "black"


BACKBONE = BackboneCard(
    spec="tiny:vit",
    architecture="vit",
    digest="aa",
    preprocess=Preprocess(size=(64, 64), resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3),
    outputs=2,
    parameters=1,
)
IMAGES = ImageSetCard(spec="shapes:test", digest="bb", n=4, classes=("a", "b"), class_names=("a", "b"))


def cell(**changes: Any) -> Cell:
    base = Cell(study="occlusion", version=1, condition=Old(fraction=0.5), backbone=BACKBONE, images=IMAGES)
    return dataclasses.replace(base, **changes)


def test_fields_equal_to_their_default_are_left_out() -> None:
    assert changed(Old(fraction=0.5)) == {"fraction": 0.5}
    assert identity(cell())["options"] == {}


def test_an_option_that_is_added_later_orphans_nothing() -> None:
    assert cell_id(cell()) == cell_id(cell(condition=New(fraction=0.5)))
    assert cell_id(cell()) != cell_id(cell(condition=New(fraction=0.5, fill="mean")))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"seed": 1},
        {"limit": 2},
        {"source": "dd"},
        {"decoder": "fast"},
        {"study": "shuffle"},
        {"condition": Old(fraction=0.25)},
        {"backbone": dataclasses.replace(BACKBONE, digest="cc")},
        {
            "backbone": dataclasses.replace(
                BACKBONE, preprocess=dataclasses.replace(BACKBONE.preprocess, mean=(0.4,) * 3)
            )
        },
        {"images": dataclasses.replace(IMAGES, digest="cc")},
        {"images": dataclasses.replace(IMAGES, classes=("b", "a"))},
    ],
    ids=str,
)
def test_what_decides_the_numbers_is_in(changes: dict[str, Any]) -> None:
    assert cell_id(cell(**changes)) != cell_id(cell())


@pytest.mark.parametrize(
    "changes",
    [
        {"backbone": dataclasses.replace(BACKBONE, spec="timm:other", notes=("a note",))},
        {"images": dataclasses.replace(IMAGES, spec="folder:elsewhere")},
    ],
    ids=["backbone", "images"],
)
def test_spellings_and_paths_are_out(changes: dict[str, Any]) -> None:
    assert cell_id(cell(**changes)) == cell_id(cell())


def test_the_id_is_frozen() -> None:
    """If this fails, every stored result is orphaned: bump nothing silently."""
    assert cell_id(cell()) == "occlusion-51988e4d335d6580"


def test_tuples_are_lists_and_nan_is_refused() -> None:
    assert plain({"a": (1, (2.5, None))}) == {"a": [1, [2.5, None]]}
    with pytest.raises(TypeError, match=r"numbers, strings, tuples and None only\. Got nan"):
        plain((1, float("nan")))
