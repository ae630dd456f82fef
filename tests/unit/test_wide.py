"""What a study yields becomes rows, checked: an order that belongs to the images, and a fault that is named."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from visionvitals.core import Scores
from visionvitals.errors import VitalsError
from visionvitals.figure import COMMON, Metric
from visionvitals.run import wide

IDS = ["a", "b", "c"]
METRICS = {**COMMON, "score": Metric(title="score", meaning="of a class", unit="none", better="high", over="classes")}


def gather(*blocks: Any, axes: Sequence[str] = ()) -> wide.Wide:
    return wide.gather(blocks, study="mine", axes=axes, metrics=METRICS, ids=IDS)


def test_blocks_are_joined_and_stand_in_the_order_of_the_images() -> None:
    late = Scores(["c", "a"], {"top1": torch.tensor([1.0, 0.0]), "cross_entropy": [0.5, 2.0]})
    (block,) = gather(late, Scores(["b"], {"top1": np.array([1])})).blocks.values()
    assert block.items == IDS
    assert block.values["top1"].tolist() == [0, 1, 1]
    assert np.array_equal(block.values["cross_entropy"], [2.0, np.nan, 0.5], equal_nan=True)


@pytest.mark.parametrize(
    "apart", [(["a", "c"], ["b"]), (["b"], ["a", "c"]), (["a"], ["b", "c"]), (["a", "b"], ["b", "c"])]
)
def test_two_groups_of_images_are_joined_as_if_they_were_one(apart: tuple[list[str], list[str]]) -> None:
    values = {"a": (1.0, 0.5), "b": (np.nan, 2.0), "c": (0.0, np.inf)}

    def of(ids: list[str]) -> wide.Wide:
        both = Scores(ids, {"top1": [values[i][0] for i in ids], "cross_entropy": [values[i][1] for i in ids]}, (1,))
        some = [i for i in ids if i != "a"]
        blocks = [both, Scores(some, {"top1": [values[i][0] for i in some]}, (2,))]
        return wide.gather(blocks, study="mine", axes=("k",), metrics=METRICS, ids=ids)

    found, expected = wide.joined(of(apart[0]), of(apart[1]), IDS), of(IDS)
    assert repr(found.table(("k",)).to_pydict()) == repr(expected.table(("k",)).to_pydict())
    assert found.points() == expected.points()
    assert (found.start, found.stop, found.broken) == (expected.start, expected.stop, expected.broken)


def test_items_that_are_no_images_keep_their_order_behind_the_images() -> None:
    found = gather(Scores(["z", "y"], {"score": [1.0, 2.0]}), Scores(IDS, {"top1": [1, 1, 1]}))
    assert found.blocks[()].items == ["a", "b", "c", "z", "y"]
    assert found.metrics == ["score", "top1"]


def test_places_are_told_apart_and_written_down() -> None:
    found = gather(Scores(IDS, {"top1": [1, 0, 1]}, (1, "x")), Scores(["b"], {"top1": [1]}, (2, "x")), axes=("k", "w"))
    assert [(p["at"], p["rows"], p["metrics"]) for p in found.points()] == [
        ([1, "x"], [0, 3], ["top1"]),
        ([2, "x"], [3, 4], ["top1"]),
    ]
    assert found.table(("k", "w")).to_pydict() == {
        "item": ["a", "b", "c", "b"],
        "top1": [1.0, 0.0, 1.0, 1.0],
        "at_k": [1, 1, 1, 2],
        "at_w": ["x", "x", "x", "x"],
    }


def test_equal_items_have_equal_keys() -> None:
    one, two = (gather(Scores(IDS, {m: [0, 0, 0]})).points()[0]["items"] for m in ("top1", "cross_entropy"))
    assert one == two != gather(Scores(["a", "b"], {"top1": [0, 0]})).points()[0]["items"]


def test_what_is_not_finite_is_counted_by_item() -> None:
    found = gather(
        Scores(IDS, {"top1": [np.nan, 1, 1], "cross_entropy": [np.inf, np.nan, 1]}), Scores(["k"], {"score": [np.nan]})
    )
    assert found.broken == {"top1": ["a"], "cross_entropy": ["a", "b"], "score": ["k"]}


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ((), "must yield at least one value"),
        (("a", "top1", 1.0), r"must yield `study\.Scores`"),
        (Scores(IDS, {"topp1": [1, 1, 1]}), r"must declare its metrics in METRICS\. Got 'topp1'\. Did you mean top1"),
        (Scores(IDS, {"top1": [1, 1]}), r"as many values of `top1` as items\. Got \(2, 3\)"),
        (Scores(["a", "a"], {"top1": [1, 1]}), r"one value of `top1` to an item and place\. Got two for 'a'"),
        (Scores(["a", "q"], {"top1": [1, 1]}), r"`top1` to images of the set only\. Got 'q'"),
        (Scores(IDS, {"top1": [1, 1, 1]}, (3,)), "where a block stands on its axes"),
        (Scores(IDS, {"top1": [1, 77, 1]}), r"keep `top1` in \[0, 1\], as its unit `share` says\. Got 77\.0"),
        (Scores(IDS, {"cross_entropy": [1, -1, 1]}), r"keep `cross_entropy` in \[0, inf\]"),
    ],
)
def test_a_fault_of_a_study_is_named(block: Any, said: str) -> None:
    with pytest.raises(VitalsError, match=said):
        gather(*([block] if block else []))


def test_two_blocks_may_not_hold_one_item_twice() -> None:
    with pytest.raises(VitalsError, match="Got two for 'b'"):
        gather(Scores(IDS, {"top1": [1, 1, 1]}), Scores(["b"], {"top1": [1]}))


def test_no_advice_is_worded_for_blocks_that_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking for near names in every block took a second a cell of 50,000 images."""
    monkeypatch.setattr(wide, "near", lambda *_: pytest.fail("nothing is wrong"))
    assert gather(Scores(IDS, {"top1": [1, 0, 1]})).metrics == ["top1"]
