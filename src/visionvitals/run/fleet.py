"""Several devices of one machine: a process a device, dealt to by `run.dealing`, started again when it dies."""

import dataclasses
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from subprocess import PIPE, Popen, TimeoutExpired
from typing import Any

from visionvitals.errors import require
from visionvitals.run.dealing import RESTARTS, Done, Task

_SECONDS = 0.5  # that nothing may be heard, until others get their turn


def devices_of(name: str | None) -> list[str | None]:
    """The devices of `--device`, one or several: `cuda:0,cuda:1`, `all` (every GPU), `cpu:4` (four processes); None is the best there is.

    Raises:
        VitalsError: `all` on a machine with no GPU, or no number after `cpu:`.
    """
    if name is None:
        return [None]
    found: list[str | None] = []
    for each in name.split(","):
        if each == "all":
            import torch

            count = torch.cuda.device_count()
            require(count > 0, "`--device all` needs a GPU", "none", "Give cpu:N for N processes.")
            found += [f"cuda:{k}" for k in range(count)]
            continue
        device, _, number = each.partition(":")
        if device == "cpu" and number:
            good = number.isdecimal() and 0 < int(number) <= 4096
            require(good, "`--device cpu:N` must have N, of processes, from 1 to 4096", each, "Try cpu:2.")
        found += ["cpu"] * int(number) if device == "cpu" and number else [each]
    return found


@dataclass(eq=False)
class _Member:
    """One process of the fleet: what it is told first, where its lines go (None when it is over), how often it was started since a task was done,
    whether it waits for one."""

    told: Mapping[str, Any]
    environment: Mapping[str, str]
    heard: "queue.SimpleQueue[tuple[_Member, str | None]]"
    name: str
    restarts: int = 0
    free: bool = False
    over: bool = False
    task: Task | None = None
    process: Popen[str] = field(init=False)
    listener: threading.Thread = field(init=False)

    def start(self) -> None:
        words = [
            sys.executable,
            "-P",
            "-m",
            "visionvitals.run.worker",
            self.told["out"],
            self.name,
        ]  # two for readers of `ps`
        self.process = Popen(words, env=self.environment, stdin=PIPE, stdout=PIPE, text=True)
        self.listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.listener.start()
        self.tell(self.told)

    def tell(self, content: object) -> None:
        """A line for it; where it is dead, that is heard anyway."""
        assert self.process.stdin is not None
        with suppress(OSError):
            self.process.stdin.write(json.dumps(content) + "\n")
            self.process.stdin.flush()

    def end(self) -> int:
        """Its exit code, when it is over and nothing of it is open."""
        code = self.process.wait()
        assert self.process.stdin is not None
        with suppress(OSError):  # what it has not read
            self.process.stdin.close()
        self.listener.join()
        return code

    def _listen(self, process: Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                self.heard.put((self, line))
        self.heard.put((self, None))


class Fleet:
    """`dealing.Hands` of this machine."""

    def __init__(self, told: Mapping[str, Any], say: Callable[[str], None], devices: Sequence[str]) -> None:
        self.say, self.heard = say, queue.SimpleQueue[tuple[_Member, str | None]]()
        threads = max(1, (os.cpu_count() or 1) // max(1, devices.count("cpu")))
        paths = [*filter(None, [os.environ.get("PYTHONPATH")]), *(path or os.getcwd() for path in sys.path)]
        environment = {**({"OMP_NUM_THREADS": str(threads)} if "cpu" in devices else {}), **os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(
            paths
        )  # a process imports what its driver does, from wherever it was called
        self.members: dict[str, _Member] = {}
        for k, device in enumerate(devices):
            name = device if devices.count(device) == 1 else f"{device}, process {k + 1}"
            own = {**told, "by": f"{k}-of-{len(devices)}", "device": device}
            self.members[name] = _Member(own, environment, self.heard, name)

    def __len__(self) -> int:
        return len(self.members)

    def free(self) -> list[str]:
        return [name for name, member in self.members.items() if member.free]

    def alive(self) -> bool:
        return not all(member.over for member in self.members.values())

    def give(self, hand: str, task: Task) -> None:
        member = self.members[hand]
        member.free, member.task = False, task
        member.tell(dataclasses.astuple(task))

    def wait(self) -> list[tuple[str, Done | None]]:
        try:
            member, line = self.heard.get(timeout=_SECONDS)
        except queue.Empty:
            return []
        task, member.task, member.free = member.task, None, line is not None
        if line is None:
            member.over = member.restarts >= RESTARTS
            code, what = member.end(), "given up" if member.over else "started again"
            self.say(f"[{member.name}] died ({code}) and is {what}")
            if not member.over:
                member.restarts += 1
                member.start()
        elif task is not None:
            member.restarts = 0
        return [] if task is None else [(member.name, None if line is None else Done(**json.loads(line)))]


@contextmanager
def started(told: Mapping[str, Any], say: Callable[[str], None], *, devices: Sequence[str]) -> Iterator[Fleet]:
    """A process for each device, for as long as the context lasts.

    Args:
        told: what all of them are told, see `worker.Worker`.
        say: is told what happens.
        devices: see `devices_of`.
    """
    fleet = Fleet(told, say, devices)
    try:
        for member in fleet.members.values():
            member.start()
        yield fleet
    finally:
        running = [member for member in fleet.members.values() if hasattr(member, "listener")]
        for member in running:
            member.process.terminate()
        for member in running:
            try:
                member.process.wait(timeout=30)
            except TimeoutExpired:
                member.process.kill()
            member.end()
