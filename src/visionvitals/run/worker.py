"""A process that measures the tasks it is given, and keeps the backbone of the last one: a child of `run.fleet`, which speaks JSON lines on its
standard input and output, or an actor of `run.cluster`.
"""

import contextlib
import dataclasses
import io
import json
import os
import platform
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visionvitals import source
from visionvitals.errors import VitalsError
from visionvitals.remote import located
from visionvitals.run.dealing import Done, Task
from visionvitals.run.progress import QUIET, say

if TYPE_CHECKING:
    from visionvitals.plan.planner import Planned
    from visionvitals.run.measure import Held


def here() -> dict[str, str]:
    """What must be the same on every machine, in words."""
    code = source.computing()
    versions = {**code["versions"], "python": platform.python_version().rpartition(".")[0]}
    return {**versions, "code of visionvitals": code["package"][:12]}


@dataclass(kw_only=True)
class Worker:
    """One process. What it is told is plain values; nothing is loaded before its first method is called.

    Attributes:
        out, plan: the run folder; what is measured, see `plan_file.to_dict`.
        command, batch_size, workers, reuse: see `runner.execute`.
        folder: where relative paths lead.
        by, device: its name, for the file of its warnings; where it computes.
    """

    out: str
    plan: Mapping[str, Any]
    command: Sequence[str]
    batch_size: int | None
    workers: int | None
    reuse: Sequence[str]
    folder: str
    by: str
    device: str | None
    _planned: "dict[str, Planned]" = field(default_factory=dict)
    _held: "Held | None" = None

    def refusal(self, asked: Mapping[str, str], seen: str, whole: bool) -> str:
        """Why this process cannot measure the run, or "".

        Args:
            asked: what `here` gives where the run was planned.
            seen: a file that lies in the run folder now.
            whole: whether every backbone, image set and study is compared with the plan.
        """
        from visionvitals.plan import plan_file
        from visionvitals.run import precision
        from visionvitals.run.devices import choose_device

        found, asked = ({key: each.get(key, "none") for key in {**here(), **asked}} for each in (here(), asked))
        if apart := [f"{key} {found[key]}, not {value}" for key, value in asked.items() if value != found[key]]:
            return f"it has {', '.join(apart)}"
        if not located(seen).is_file():
            return f"it does not see the run folder {self.out}"
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        try:
            precision.check(plan_file.from_dict(self.plan, source="plan.json").numerics, choose_device(self.device))
            for backbone in self._cells() if whole else ():
                self._resolved(backbone)
        except VitalsError as error:
            return str(error)
        return ""

    def do(self, task: Task) -> Done:
        """Measure what is missing of a task."""
        from visionvitals.run import devices, runner
        from visionvitals.run.store import Store

        os.environ[QUIET] = "1"
        out, said = located(self.out), io.StringIO()
        failures: Mapping[str, str] = {}
        error, broke = "", tuple[str, ...]()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                failures = runner.execute(
                    self._resolved(task.backbone),
                    out=out,
                    device=devices.choose_device(self.device),
                    batch_size=self.batch_size,
                    workers=self.workers,
                    command=self.command,
                    reuse=[located(each) for each in self.reuse],
                    mine=task.mine,
                    by=self.by,
                    held=self._held,
                ).failures
            except VitalsError as ends:
                error = str(ends)
            except Exception as unforeseen:
                broke = f"{type(unforeseen).__name__}: {unforeseen}", traceback.format_exc()
        whole = sorted(Store(out / "store").held(task.mine))
        return Done(whole, dict(failures), said.getvalue().splitlines(), error, broke)

    def _cells(self) -> dict[str, set[str]]:
        """backbone -> ids of its cells that were planned."""
        from visionvitals.run import requests

        found: dict[str, set[str]] = {}
        for request in requests.each(requests.content_of(located(self.out))):
            for cell in request["cells"] if request["plan"] == self.plan else ():
                found.setdefault(cell["backbone"], set()).add(cell["id"])
        return found

    def _resolved(self, backbone: str) -> "Planned":
        """What is to be measured of one backbone, as this process resolves it; a first time loads it.

        Raises:
            VitalsError: it cannot be loaded here, or the weights, pictures or studies are not those that were planned.
        """
        from visionvitals.plan import plan_file, planner
        from visionvitals.run import devices, folder, measure

        self._held = self._held or measure.Held()
        if backbone not in self._planned:
            self._held.forget()
            device, plan = devices.choose_device(self.device), plan_file.from_dict(self.plan, source="plan.json")
            say(f"Loading {plan.names.get(backbone, backbone)}")
            found = planner.make(plan, device=device, only=[backbone])
            folder.join(located(self.out), found, frozenset(self._cells()[backbone]))
            self._planned[backbone] = found
        return self._planned[backbone]


def _hear(lines: "queue.SimpleQueue[str]") -> None:
    """What is said to this process; when nobody is there any more it ends, also in the middle of a task: what is written is whole."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


def main() -> None:
    """Measure tasks until nobody gives any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal's whole group; who started this process ends it
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    lines = queue.SimpleQueue[str]()
    threading.Thread(target=_hear, args=(lines,), daemon=True).start()
    worker, done = Worker(**json.loads(lines.get())), Done()
    while True:
        print(json.dumps(dataclasses.asdict(done)), file=answers, flush=True)
        backbone, parts, cost = json.loads(lines.get())
        done = worker.do(Task(backbone, tuple((cell, part) for cell, part in parts), cost))


if __name__ == "__main__":
    main()
