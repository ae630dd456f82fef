"""Who measures what next, where several processes measure one run: a task is dealt to each that is free, whatever the others do.

Processes of this machine (`run.fleet`) and of a cluster (`run.cluster`) are dealt to alike. Which task is next is a plain function of what is
left and of who is at work on what; no number depends on it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from visionvitals.errors import VitalsError
from visionvitals.run.progress import Meter

PIECES = 16
"""About so many tasks a process are made at least where the cells allow it, so that nobody waits long for the last one."""
RESTARTS = 3
"""How often a process that dies, without a task done in between, is started again: a device that kills it every time must not go on for ever."""
TRIES = 3
"""So many processes may die of a task until it is given up."""


@dataclass(frozen=True)
class Task:
    """What one process measures in one visit: of one backbone, some conditions over one range of images.

    Attributes:
        backbone: its spelling.
        parts: (id of a cell, number of a part of it, see `run.parts`), each once.
        cost: forward passes times images, in all.
    """

    backbone: str
    parts: tuple[tuple[str, int], ...]
    cost: float

    @property
    def mine(self) -> dict[str, set[int]]:
        """id -> numbers of its parts."""
        found: dict[str, set[int]] = {}
        for name, part in self.parts:
            found.setdefault(name, set()).add(part)
        return found

    def apart(self, without: Collection[str] = ()) -> "list[Task]":
        """A task for each part, less those of some cells."""
        each = self.cost / len(self.parts)
        return [Task(self.backbone, (pair,), each) for pair in self.parts if pair[0] not in without]


@dataclass(frozen=True)
class Done:
    """What a process answers when a task is over; rows are in the store alone.

    Attributes:
        cells: ids of the cells of the task that are whole now.
        failed: id -> why, in a sentence.
        said: lines for the user.
        error: why the whole run must end, or "".
        broke: what was raised that nobody foresaw, and its traceback: the cells that are not whole have failed; or nothing.
    """

    cells: Sequence[str] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    said: Sequence[str] = ()
    error: str = ""
    broke: Sequence[str] = ()


class Hands(Protocol):
    """Processes that measure, by name: how many there are; who waits for a task; whether any is there, or will be; a task for one that waits; what
    ended since the last call, waiting a little: (who, what it answers, or None where it died of its task)."""

    def __len__(self) -> int: ...
    def free(self) -> list[str]: ...
    def alive(self) -> bool: ...
    def give(self, hand: str, task: Task) -> None: ...
    def wait(self) -> list[tuple[str, Done | None]]: ...


def tasks(cells: Iterable[Mapping[str, Any]], hands: int) -> list[Task]:
    """All parts of some cells, each in one task.

    Args:
        cells: as `plan.json` lists them.
        hands: how many processes there are.
    """
    groups: dict[tuple[str, str, int], list[tuple[str, float]]] = {}
    for cell in cells:
        for part in range(count := cell.get("parts", 1)):
            each = float(cell.get("cost", 1.0)) / count
            groups.setdefault((cell["backbone"], cell["images"], part), []).append((cell["id"], each))
    most, found = sum(cost for group in groups.values() for _, cost in group) / (PIECES * hands) or 1.0, []
    for (backbone, _, part), group in groups.items():
        pieces: dict[int, list[tuple[str, float]]] = {}
        before = 0.0
        for name, cost in group:
            pieces.setdefault(int(before / most), []).append((name, cost))
            before += cost
        found += [
            Task(backbone, tuple((n, part) for n, _ in each), sum(c for _, c in each)) for each in pieces.values()
        ]
    return found


def choose(left: Sequence[Task], loaded: str | None, at_work: Sequence[str]) -> Task | None:
    """The next task of a process, one of `left`: the longest of the backbone that it has loaded; else of the backbone of which the most is left
    for each process that is at work on it. None where nothing is left.

    Args:
        left: what nobody has.
        loaded: the backbone of this process.
        at_work: those of the others, one for each.
    """
    costs: dict[str, float] = {}
    for task in left:
        costs[task.backbone] = costs.get(task.backbone, 0.0) + task.cost
    if loaded not in costs:
        loaded = max(costs, key=lambda text: costs[text] / (1 + at_work.count(text)), default=None)
    return max((task for task in left if task.backbone == loaded), key=lambda task: task.cost, default=None)


def deal(
    todo: Sequence[Task],
    hands: Hands,
    state: Meter,
    milestone: Callable[[bool], None],
    fail: Callable[[str, str, str], str],
) -> dict[str, str]:
    """Let processes measure tasks until none is left, or nobody.

    A task whose process died is dealt again, part by part, so that one that kills its process takes no other one along; it is given up after
    `TRIES`. A cell that failed is not tried again.

    Args:
        todo, hands: what is measured, and by whom.
        state, milestone: are told how far it is.
        fail: records that a cell failed, where its process could not: (id, why, traceback) -> a sentence.

    Returns:
        id -> why it failed, in a sentence.

    Raises:
        VitalsError: a process says that the run must end.
    """
    left, given, loaded = list(todo), dict[str, Task](), dict[str, str]()
    deaths, whole, failed = dict[Task, int](), set[str](), dict[str, str]()
    parts, ended, cost = sum(len(task.parts) for task in todo), 0, 0.0
    while left or given:
        for hand in hands.free():
            others = [spec for other, spec in loaded.items() if other != hand]
            if (task := choose(left, loaded.get(hand), others)) is not None:
                left.remove(task)
                given[hand], loaded[hand] = task, task.backbone
                hands.give(hand, task)
        if not given and not hands.alive():
            break
        for hand, done in hands.wait():
            task = given.pop(hand)
            if done is None:
                del loaded[hand]
                tried = deaths.get(task, 0) + 1
                if tried < TRIES:
                    left += (again := task.apart())
                    deaths |= dict.fromkeys(again, tried)
                else:
                    why = f"{tried} processes died while they measured it"
                    failed |= {name: fail(name, why, "") for name in task.mine}
                continue
            for line in done.said:
                state.say(f"[{hand}] {line}")
            if done.error:
                raise VitalsError(f"{hand}: {done.error}")
            broken = task.mine.keys() - set(done.cells) if done.broke else ()
            if new := {**done.failed, **{name: fail(name, *done.broke) for name in broken}}:
                failed |= new
                spoilt = [each for each in left if each.mine.keys() & new.keys()]
                left = [each for each in left if each not in spoilt]
                left += [part for each in spoilt for part in each.apart(without=new)]
            whole.update(done.cells)
            cost, ended = cost + task.cost, ended + len(task.parts)
            state.count(len(whole), cost, f"{ended}/{parts} parts" + (f", {len(failed)} failed" if failed else ""))
            milestone(False)
    return failed
