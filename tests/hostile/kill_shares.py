"""End processes that share a run by `kill -9` at random moments; `vitals run DIR` must finish it, with the rows of one undisturbed process.

    python tests/hostile/kill_shares.py            100 kills: of one process, of 1, 2 and 5 shares, of the four processes of `--device cpu:4`, of the
                                                   workers, nodes and drivers of a Ray of three nodes on this machine (left out where it is not installed)
    python tests/hostile/kill_shares.py --tenth    a tenth of them, of one process and of shares only

A run of two networks and five studies (of single images, of several places, of several images) over 22 pictures, in parts of 8. The moments
are spread evenly over the time that the undisturbed processes take, by a seeded draw; in every second try the first share is started twice.
Afterwards every file of every cell must be there once, with the content of one undisturbed process, and no other one. Exit code 1 where
anything was lost, changed, doubled or left over.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from kills import ended, started
from run import environment

from visionvitals.files import is_temporary
from visionvitals.report import build
from visionvitals.run import parts
from visionvitals.run.store import Store

SIZE = 8
PLAN = ("plan", "tiny:vit", "tiny:cnn", "--data", "shapes:test?n=24", "--limit", "22", "--preset", "quick")
STUDIES = ("--studies", "clean,occlusion,depth,correlation,lesion")


class Way(NamedTuple):
    """What is killed: so many processes with these shares of a run, or those that one command starts on so many devices, or nodes of a Ray."""

    name: str
    kills: int
    shares: tuple[str, ...] = ()
    devices: int = 0
    nodes: int = 0
    slower: float = 1.0
    """than one process that does all, as a first guess."""


WAYS = (
    Way("one process", 10),
    Way("1 share", 10, ("0/1",)),
    Way("2 shares", 20, ("0/2", "1/2")),
    Way("5 shares", 20, ("0/5", "1/5", "2/5", "3/5", "4/5"), slower=1.5),
    Way("--device cpu:4", 20, devices=4, slower=6.0),
    Way("Ray", 20, nodes=3, slower=2.0),
)


def run(out: Path, *more: str) -> tuple[str, ...]:
    return ("run", str(out), "--batch-size", "4", *(more or ("--device", "cpu")))


def content(out: Path) -> dict[str, Any]:
    """cell -> all that its readers see, with the checksum of every file, each of which is read; not where each part was measured."""
    store = Store(out / "store")
    whole, damaged = store.survey()
    assert not damaged, damaged
    found: dict[str, Any] = {}
    for name in sorted(whole):
        facts = store.cell(name).facts
        found[name] = {key: facts.get(key) for key in ("exhibits", "sha256", "n", "warnings", "broken")}
        found[name]["parts"] = [{key: part[key] for key in ("file", "images", "points")} for part in facts["parts"]]
    return found


def apart(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Where two contents differ, or ""."""
    cells = sorted(found.keys() ^ expected.keys())
    facts = [
        f"{name}: {k}"
        for name in found.keys() & expected.keys()
        for k in expected[name]
        if found[name][k] != expected[name][k]
    ]
    return ", ".join([*cells, *sorted(facts)][:3])


def left_over(out: Path) -> list[str]:
    """Files of the store that no cell names; not the temporary ones of killed writers, which are swept after a day."""
    store = Store(out / "store")
    named = {f"{cell.id}/{part['file']}" for cell in store.cells() for part in cell.facts["parts"]}
    named |= {f"{cell.id}/cell.json" for cell in store.cells()}
    there = {f"{path.parent.name}/{path.name}" for path in (out / "store").glob("*/*/*.*") if not is_temporary(path)}
    failed = {path.name for path in (out / "store").glob("*/*.failed.json")}
    return sorted(there - named | failed)


@dataclass
class Hurt:
    """What was tried of one way of sharing.

    Attributes:
        root: where its folders are made.
        planned: a run folder in which nothing is measured yet.
        expected: the content that one undisturbed process gives.
        draw: of the moments.
    """

    root: Path
    planned: Path
    expected: dict[str, Any]
    draw: random.Random
    killed: int = 0
    runs: int = 0
    equal: int = 0
    wrong: list[str] = field(default_factory=list)

    def folder(self) -> Path:
        out = Path(tempfile.mkdtemp(dir=self.root)) / "run"
        shutil.copytree(self.planned, out)
        return out

    def finish(self, out: Path) -> None:
        """Go on with what is left, and compare."""
        log = self.root / "log.txt"
        self.runs += 1
        code = ended(started(run(out), log))
        if code != 0:
            self.wrong.append(f"`vitals run DIR` ended with {code}: {log.read_text()[-300:]}")
        elif differs := apart(content(out), self.expected):
            self.wrong.append(f"other results than one undisturbed process: {differs}")
        elif left := left_over(out):
            self.wrong.append(f"left over: {left[:3]}")
        else:
            self.equal += 1
        shutil.rmtree(out.parent)

    def once(self, way: Way, seconds: float) -> float:
        """Try it; how many seconds it takes, as far as is known by now."""
        if way.devices:
            return self.fleet(way.devices, seconds)
        if way.nodes:
            return self.ray(way.nodes, seconds)
        return self.processes([("--device", "cpu", "--shard", share) for share in way.shares] or [()], seconds)

    def processes(self, options: Sequence[tuple[str, ...]], seconds: float) -> float:
        """Processes that die at moments of their own; in every second try the first is started twice. How many seconds they take."""
        out, began = self.folder(), time.monotonic()
        commands = [*options, *(options[:1] if self.runs % 2 else [])]
        moments = sorted((self.draw.uniform(0, seconds), k) for k in range(len(commands)))
        logs = [self.root / f"log{k}.txt" for k in range(len(commands))]
        running = [started(run(out, *more), log) for more, log in zip(commands, logs, strict=True)]
        for moment, k in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            os.kill(running[k], signal.SIGKILL)  # where it has ended, nobody has waited for it yet
        codes = [ended(process) for process in running]
        self.killed += codes.count(-signal.SIGKILL)
        bad = [k for k, code in enumerate(codes) if code not in (0, -signal.SIGKILL)]
        self.wrong += [f"a process ended with {codes[k]}: {logs[k].read_text()[-300:]}" for k in bad]
        self.finish(out)
        return seconds if 2 * codes.count(-signal.SIGKILL) >= len(codes) else 0.8 * seconds

    def fleet(self, count: int, seconds: float) -> float:
        """A command that starts processes, of which three die; it is killed itself in every second try. How many seconds it takes."""
        out, log = self.folder(), self.root / "log0.txt"
        command, gone = started(run(out, "--device", f"cpu:{count}"), log), set[int]()
        while not children(command) and os.waitid(os.P_PID, command, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(0.05)
        for _ in range(3):
            time.sleep(self.draw.uniform(0, seconds / 3))
            if living := sorted(children(command) - gone):
                victim = self.draw.choice(living)
                os.kill(victim, signal.SIGKILL)
                gone.add(victim)
        orphans = children(command) - gone if self.runs % 2 else set[int]()
        if self.runs % 2:
            os.kill(command, signal.SIGKILL)
        code = ended(command)
        self.killed += len(gone) + (code == -signal.SIGKILL)
        if code not in (0, -signal.SIGKILL):
            self.wrong.append(f"the command ended with {code}: {log.read_text()[-300:]}")
        while any(Path(f"/proc/{process}").exists() for process in orphans):
            time.sleep(0.1)  # they go on, or end where nobody listens to them
        self.finish(out)
        return seconds

    def ray(self, count: int, seconds: float) -> float:
        """A cluster in which a worker dies, and then a node, once work has begun; the driver dies too in every second try. How many seconds it takes."""
        from ray.cluster_utils import Cluster

        out, log = self.folder(), self.root / "log0.txt"
        small = {"num_cpus": 1, "object_store_memory": 80 << 20}
        made = Cluster(initialize_head=True, head_node_args=small)
        try:
            nodes = [made.add_node(**small) for _ in range(count - 1)]
            words = [*run(out, "--engine", "ray"), "--address", made.address]
            with log.open("wb") as stream:
                driver = subprocess.Popen([sys.executable, "-m", "visionvitals", *words], stdout=stream, stderr=stream)
            while not any((out / "store").glob("*/*/*.json")) and driver.poll() is None:
                time.sleep(0.1)
            time.sleep(self.draw.uniform(0, seconds / 3))
            if there := sorted(p for node in nodes for p in workers(node)):
                os.kill(self.draw.choice(there), signal.SIGKILL)
                self.killed += 1
            time.sleep(self.draw.uniform(0, seconds / 3))
            if driver.poll() is None:
                made.remove_node(self.draw.choice(nodes), allow_graceful=False)
                self.killed += 1
            if self.runs % 2:
                time.sleep(self.draw.uniform(0, seconds / 3))
                driver.kill()
            code = driver.wait()
            self.killed += code == -signal.SIGKILL
            if code not in (0, -signal.SIGKILL):
                self.wrong.append(f"the driver ended with {code}: {log.read_text()[-300:]}")
        finally:
            made.shutdown()
        self.finish(out)
        return seconds


def workers(node: Any) -> set[int]:
    """The ids of the processes of a node of a Ray that measure: of those that its raylet has started."""
    (raylet,) = node.all_processes["raylet"]
    named = {process: Path(f"/proc/{process}/cmdline") for process in children(raylet.process.pid)}
    return {
        process for process, name in named.items() if name.exists() and name.read_bytes().startswith(b"ray::Worker")
    }


def children(process: int) -> set[int]:
    """The ids of the processes that one has started, and not waited for yet."""
    try:
        tasks = Path(f"/proc/{process}/task").glob("*/children")
        return {int(word) for task in tasks for word in task.read_text().split()}
    except OSError:
        return set()


def prepared(root: Path) -> tuple[Path, dict[str, Any], float]:
    """(a run that is planned, what one undisturbed process makes of it, in how many seconds), with everything imported and decoded."""
    environment(root)
    (root / "sitecustomize.py").write_text(f"from visionvitals.run import parts\n\nparts.SIZE = {SIZE}\n")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    parts.SIZE = SIZE
    build.build = lambda run: run.folder / "report.html"  # `kills.py` kills what writes it
    import timm  # noqa: F401
    import torch  # noqa: F401

    log, planned, once = root / "log.txt", root / "planned", root / "once"
    assert ended(started((*PLAN, *STUDIES, "--out", str(planned)), log)) == 0, log.read_text()
    shutil.copytree(planned, once)
    began = time.monotonic()
    assert ended(started(run(once), log)) == 0, log.read_text()
    seconds = time.monotonic() - began
    return planned, content(once), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenth", action="store_true", help="10 kills of shares only")
    parser.add_argument("--only", metavar="WAY", help="only one of the ways, by its name")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    bad = 0
    print(f"{'what is killed':20}{'kills':>8}{'runs':>8}{'equal':>8}{'wrong':>8}")
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder).resolve()
        planned, expected, seconds = prepared(root)
        for way in WAYS:
            if (asked.tenth and (way.devices or way.nodes)) or (way.nodes and find_spec("ray") is None):
                continue
            if asked.only and asked.only != way.name:
                continue
            times = way.kills // 10 if asked.tenth else way.kills
            found = Hurt(root, planned, expected, random.Random(f"{asked.seed}/{way.name}"))
            took = seconds * way.slower
            while found.killed < times and found.runs < 4 * times:
                took = found.once(way, took)
            print(f"{way.name:20}{found.killed:8}{found.runs:8}{found.equal:8}{len(found.wrong):8}", flush=True)
            for wrong in dict.fromkeys(found.wrong):
                print(f"  {wrong}", flush=True)
            bad += len(found.wrong) + (found.killed < times)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
