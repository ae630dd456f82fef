"""Several devices of one machine: a process a device, each with its share of the run, started again when it dies.

A process is `vitals run DIR --shard I/N --device D`, which anyone could start by hand; what they have in common is the run folder. Only the
cells that are missing of one request are divided (`shards.CELLS`).
"""

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from visionvitals.errors import require
from visionvitals.remote import AnyPath
from visionvitals.run import shards
from visionvitals.run.progress import QUIET, meter
from visionvitals.run.store import Store

RESTARTS = 3
"""How often a process that dies is started again: a device that kills it every time must not go on for ever."""
_ENDED = (0, 1, 2)  # all is measured; a cell failed, and is recorded; something that the user must mend
_SECONDS = 0.5  # between two looks


def devices_of(name: str | None) -> list[str | None]:
    """The devices of `--device`, one or several: `cuda:0,cuda:1`, `all` (every GPU), `cpu:4` (four processes); None is the best there is.

    Raises:
        VitalsError: `all` on a machine with no GPU, or no number after `cpu:`.
    """
    if name is None:
        return [None]
    if name == "all":
        import torch

        count = torch.cuda.device_count()
        require(count > 0, "`--device all` needs a GPU", "none", "Give cpu:N for N processes.")
        return [f"cuda:{k}" for k in range(count)]
    found: list[str | None] = []
    for each in name.split(","):
        device, _, number = each.partition(":")
        if device == "cpu" and number:
            good = number.isdecimal() and 0 < int(number) <= 4096
            require(good, "`--device cpu:N` must say how many processes", each)
        found += ["cpu"] * int(number) if device == "cpu" and number else [each]
    return found


@dataclass
class _Member:
    """One process of the fleet, and how often it was started."""

    label: str
    command: list[str]
    environment: dict[str, str]
    lines: "queue.SimpleQueue[str]"
    process: subprocess.Popen[str] = field(init=False)
    listener: threading.Thread = field(init=False)
    started: int = 0

    def start(self) -> None:
        self.started += 1
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        self.listener = threading.Thread(target=self._listen, args=(self.process,), daemon=True)
        self.listener.start()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                self.lines.put(f"[{self.label}] {line.rstrip()}")

    def again(self) -> bool:
        """Whether it died, and is worth another try."""
        return self.process.poll() not in (None, *_ENDED) and self.started <= RESTARTS


def measure(out: AnyPath, missing: Collection[str], devices: Sequence[str], *, more: Sequence[str] = ()) -> None:
    """Measure a run that was planned, a process a device.

    Args:
        out: the run folder.
        missing: the ids of the cells that are not there yet.
        devices: see `devices_of`.
        more: options of `vitals run` for each of them.
    """
    store, lines = Store(out / "store"), queue.SimpleQueue[str]()
    threads = max(1, (os.cpu_count() or 1) // max(1, devices.count("cpu")))
    own = {"OMP_NUM_THREADS": str(threads)} if "cpu" in devices else {}
    # whoever executes the code of the folder here has asked whether it may
    base = [sys.executable, "-m", "visionvitals", "run", str(out), "--trust", *more]
    with _listed(missing) as divided, meter(cells=len(missing), images=0, passes=len(missing)) as state:
        fleet = [
            _Member(
                label=device if devices.count(device) == 1 else f"{device}, process {k + 1}",
                command=[*base, "--shard", f"{k}/{len(devices)}", "--device", device],
                environment={**own, **os.environ, QUIET: "1", shards.CELLS: str(divided)},
                lines=lines,
            )
            for k, device in enumerate(devices)
        ]
        try:
            for member in fleet:
                member.start()
            while any(member.process.poll() is None or member.again() for member in fleet) or not lines.empty():
                _relay(lines, state.say)
                for member in filter(_Member.again, fleet):
                    state.say(f"[{member.label}] died ({member.process.returncode}) and is started again")
                    member.start()
                state.count(len(store.held(missing)))
        finally:
            _end(fleet)
            _relay(lines, state.say)


@contextmanager
def _listed(missing: Collection[str]) -> Iterator[Path]:
    """A file with the ids of the cells, for as long as the processes run."""
    with tempfile.TemporaryDirectory(prefix="visionvitals-") as folder:
        path = Path(folder) / "cells.json"
        path.write_text(json.dumps(sorted(missing)))
        yield path


def _relay(lines: "queue.SimpleQueue[str]", say: Callable[[str], None]) -> None:
    """Say what the processes said; wait a little where they said nothing."""
    try:
        say(lines.get(timeout=_SECONDS))
        while True:
            say(lines.get_nowait())
    except queue.Empty:
        return


def _end(fleet: Sequence[_Member]) -> None:
    """Ask every process that still runs to end, and wait for it; one that does not listen is killed."""
    running = [member.process for member in fleet if hasattr(member, "process") and member.process.poll() is None]
    for process in running:
        process.terminate()
    for process in running:
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for member in fleet:
        if hasattr(member, "listener"):
            member.listener.join(timeout=10)
