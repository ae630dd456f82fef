"""What is dealt to whom: plain functions, and the loop over processes that die when they are told."""

from collections import Counter

import pytest

from visionvitals.errors import VitalsError
from visionvitals.run import dealing
from visionvitals.run.dealing import Done, Task
from visionvitals.run.progress import Meter


def cell(name: str, backbone: str = "a", images: str = "x", parts: int = 1, cost: float = 1.0) -> dict[str, object]:
    return {"id": name, "backbone": backbone, "images": images, "parts": parts, "cost": cost}


def test_every_part_is_in_one_task_and_conditions_over_one_range_are_together() -> None:
    cells = [cell(f"{b}{k}", b, parts=3, cost=3.0) for b in "ab" for k in range(40)] + [cell("whole", "a", cost=5.0)]
    found = dealing.tasks(cells, 2)
    every = Counter(pair for task in found for pair in task.parts)
    assert set(every.values()) == {1}
    assert every.keys() == {(c["id"], part) for c in cells for part in range(int(str(c["parts"])))}
    assert sum(task.cost for task in found) == pytest.approx(sum(float(str(c["cost"])) for c in cells))
    assert all(len({part for _, part in task.parts}) == 1 for task in found)
    total = sum(task.cost for task in found)
    assert all(task.cost <= total / (2 * dealing.PIECES) + 1 or len(task.parts) == 1 for task in found)
    assert max(len(task.parts) for task in found) > 1


def test_the_loaded_backbone_first_then_where_most_is_left_for_each_process() -> None:
    left = [Task("a", (("1", 0),), 3.0), Task("b", (("2", 0),), 5.0), Task("b", (("3", 0),), 6.0), Task("c", (), 7.0)]
    assert dealing.choose(left, "a", ["b"]) == left[0]
    assert dealing.choose(left, None, []) == left[2]
    assert dealing.choose(left, None, ["b"]) == left[3], "7 for one of c, 5.5 for each of two of b"
    assert dealing.choose(left, "gone", ["b", "c"]) == left[2]
    assert dealing.choose([], "a", []) is None


class Scripted:
    """Processes whose answers are written down; one that dies is there again for the next task."""

    def __init__(self, count: int, dies_of: set[str] = frozenset(), fails: set[str] = frozenset()) -> None:  # type: ignore[assignment]
        self.names, self.dies_of, self.fails = [f"p{k}" for k in range(count)], dies_of, fails
        self.given: dict[str, Task] = {}
        self.log: list[tuple[str, Task]] = []

    def __len__(self) -> int:
        return len(self.names)

    def free(self) -> list[str]:
        return [name for name in self.names if name not in self.given]

    def alive(self) -> bool:
        return bool(self.names)

    def give(self, hand: str, task: Task) -> None:
        self.given[hand] = task
        self.log.append((hand, task))

    def wait(self) -> list[tuple[str, Done | None]]:
        hand, task = next(iter(self.given.items()))
        del self.given[hand]
        cells = set(task.mine)
        if cells & self.dies_of:
            return [(hand, None)]
        if "ends" in cells:
            return [(hand, Done(error="the disk is full"))]
        if "breaks" in cells:
            return [(hand, Done(sorted(cells - {"breaks"} - self.fails), broke=("KeyError: 1", "Traceback ...")))]
        return [(hand, Done(sorted(cells - self.fails), dict.fromkeys(cells & self.fails, "why")))]


def state() -> Meter:
    return Meter(4, 0, 4.0, lambda text: None, lambda meter: None)


def dealt(hands: Scripted, todo: list[Task], meter: Meter | None = None) -> dict[str, str]:
    return dealing.deal(todo, hands, meter or state(), lambda headline: None, lambda name, why, trace: f"{name}: {why}")


def test_a_free_process_takes_what_a_slow_one_has_not_begun() -> None:
    hands, meter = Scripted(2), state()
    assert dealt(hands, [Task("a", ((str(k), 0),), 1.0) for k in range(4)], meter) == {}
    assert len(hands.log) == 4
    assert {hand for hand, _ in hands.log} == {"p0", "p1"}
    assert (meter.cells_done, meter.passes_done, meter.note) == (4, 4.0, "4/4 parts")


def test_a_task_that_kills_is_dealt_part_by_part_and_takes_no_other_along() -> None:
    hands = Scripted(2, dies_of={"bad"})
    found = dealt(hands, [Task("a", (("good", 0), ("bad", 0), ("fine", 0)), 3.0)])
    assert list(found) == ["bad"]
    assert f"{dealing.TRIES} processes died" in found["bad"]
    done = [task.mine for _, task in hands.log]
    assert sum("bad" in mine for mine in done) == dealing.TRIES
    assert done.count({"good": {0}}) == done.count({"fine": {0}}) == 1


def test_a_failed_cell_is_not_tried_on_its_other_parts() -> None:
    hands = Scripted(1, fails={"bad"})
    todo = [Task("a", (("bad", part), ("good", part)), 2.0) for part in range(3)]
    meter = state()
    assert dealt(hands, todo, meter) == {"bad": "why"}
    assert [sorted(task.mine) for _, task in hands.log] == [["bad", "good"], ["good"], ["good"]]
    assert meter.note == "4/6 parts, 1 failed"


def test_what_nobody_foresaw_is_the_failure_of_its_cells_and_the_rest_goes_on() -> None:
    hands = Scripted(1, fails={"late"})
    todo = [Task("a", (("breaks", 0), ("late", 0), ("good", 0)), 3.0), Task("a", (("breaks", 1), ("fine", 0)), 1.0)]
    assert dealt(hands, todo) == {"breaks": "breaks: KeyError: 1", "late": "late: KeyError: 1"}
    assert [sorted(task.mine) for _, task in hands.log] == [["breaks", "good", "late"], ["fine"]]


def test_what_ends_the_run_ends_it_and_nobody_left_is_no_hang() -> None:
    with pytest.raises(VitalsError, match="the disk is full"):
        dealt(Scripted(2), [Task("a", (("ends", 0),), 1.0)])
    hands = Scripted(0)
    assert dealt(hands, [Task("a", (("1", 0),), 1.0)]) == {}
    assert not hands.log
