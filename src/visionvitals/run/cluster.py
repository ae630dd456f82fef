"""Ray: an actor for each GPU of a cluster, or for each node where there are none, dealt to by `run.dealing`.

The driver keeps nothing that is not in the run folder, which every node must see: it may die and be started again. An actor gets no work
where its node has other versions, does not see the folder, or resolves the plan to other contents.
"""

import importlib.util
import logging
import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from visionvitals.errors import Terminated, VitalsError, require, shortened
from visionvitals.files import write_safely
from visionvitals.remote import located
from visionvitals.run.dealing import RESTARTS, Done, Task
from visionvitals.run.worker import Worker, here

_SECONDS = 1.0  # of one look
_NODES = 5.0  # between two looks for nodes that have come or died
_OBJECTS = 80 << 20  # bytes for what goes between processes of a Ray on this machine; rows never do


def check(device: str | None, address: str | None) -> None:
    """Refuse what a cluster cannot be asked for.

    Raises:
        VitalsError: Ray is not installed, or a device that is not a kind.
    """
    there = importlib.util.find_spec("ray") is not None
    require(there, "`--engine ray` needs the extra [ray]", "none", "pip install 'visionvitals[ray]'")
    do = "It uses every GPU of the cluster, or one process a node where there are none."
    require(device in (None, "cpu", "cuda"), "`--device` of `--engine ray` must be cpu or cuda", device, do)
    require(address != "", "`--address` must name a cluster", address, "Give auto, HOST:6379 or ray://HOST:10001.")


@dataclass(eq=False)
class _Hand:
    """An actor: its node, its number there, its processors, its handle, what it is asked now (None where it is free), and whether that is a task."""

    node: str
    number: int
    cpus: int
    handle: Any
    asked: Any
    at_work: bool = False


class Cluster:
    """`dealing.Hands` of a cluster.

    Attributes:
        hands: name -> actor.
        dead: those that died since the last look, and what Ray says of it.
        known, passed: ids of nodes: those that were looked at; those that have shown that they resolve the plan as it was planned.
        refused: a sentence for each actor that cannot measure the run.
    """

    def __init__(self, told: Mapping[str, Any], say: Callable[[str], None], device: str | None) -> None:
        import ray

        self.ray, self.told, self.say = ray, told, say
        self.hands: dict[str, _Hand] = {}
        self.stopped = False
        self.dead: dict[str, tuple[_Hand, str]] = {}
        self.restarts: Counter[str] = Counter()
        self.known, self.passed, self.refused = set[str](), set[str](), list[str]()
        gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in self._nodes())
        self.kind = "GPU" if device == "cuda" or (gpus and device is None) else "CPU"
        self.seen = (
            located(told["out"]) / f".tmp-{uuid.uuid4().hex}-nodes"
        )  # swept as any temporary file where the driver is killed

    def __len__(self) -> int:
        return len(self.hands)

    def free(self) -> list[str]:
        return [name for name, hand in self.hands.items() if hand.asked is None]

    def alive(self) -> bool:
        return bool(self.hands or self.dead)

    def give(self, hand: str, task: Task) -> None:
        found = self.hands[hand]
        found.asked, found.at_work = found.handle.do.remote(task), True

    def stop(self, number: int, frame: object) -> None:
        """Let the next look end the run: what a handler raises inside of Ray is lost."""
        self.stopped = True

    def wait(self) -> list[tuple[str, Done | None]]:
        if self.stopped:
            raise Terminated
        if time.monotonic() - self.looked > _NODES:
            self._look()
        asked = {hand.asked: name for name, hand in self.hands.items() if hand.asked is not None}
        if not asked:
            time.sleep(_SECONDS)
            return []
        return [end for ref in self.ray.wait(list(asked), timeout=_SECONDS)[0] for end in self._over(asked[ref])]

    def _over(self, name: str) -> list[tuple[str, Done | None]]:
        """What an actor answers, if that is the end of a task."""
        hand, ray = self.hands[name], self.ray
        task, hand.at_work = hand.at_work, False
        try:
            found = ray.get(hand.asked)
        except ray.exceptions.RayTaskError as error:
            said = f"{type(error.cause).__name__}: {error.cause}"
            found = Done(broke=(said, str(error))) if task else said
        except ray.exceptions.RayError as error:
            self.say(f"[{name}] died")
            self.dead[name] = self.hands.pop(name), " ".join(str(error).split())
            return [(name, None)] if task else []
        hand.asked = None
        if task:
            self.restarts[name] = 0
            return [(name, found)]
        if found:
            ray.kill(self.hands.pop(name).handle)
            self._refuse(name, found)
        else:
            self.passed.add(hand.node)
        return []

    def begin(self) -> None:
        """Start an actor everywhere, and wait until each has answered.

        Raises:
            VitalsError: one cannot measure the run, or there is none.
        """
        write_safely(self.seen, "by every node")
        self._look()
        while self.dead or len(self.free()) < len(self):
            self.wait()
        if listed := "".join(f"\n  {each}" for each in self.refused):
            raise VitalsError(
                f"Every node of the cluster must measure the same. Nothing was begun, since of these:{listed}"
            )
        require(bool(self.hands), f"A cluster must have a {self.kind} to compute on", "none", "See `ray status`.")

    def _look(self) -> None:
        """Start actors on nodes that have none yet, and those that died: where their node is alive, unless they died too often."""
        self.looked = time.monotonic()
        nodes = {node["NodeID"]: node for node in self._nodes()}
        for name, (hand, why) in self.dead.items():
            if hand.node not in nodes:
                self.say(f"[{name}] is lost with its node; the others go on with its work")
            elif self.restarts[name] == RESTARTS:
                self._refuse(name, f"it died {RESTARTS + 1} times: {why}")
            else:
                self.restarts[name] += 1
                self.say(f"[{name}] is started again")
                self._start(name, hand.node, hand.number, hand.cpus)
        self.dead.clear()
        for identifier in nodes.keys() - self.known:
            resources, host = nodes[identifier]["Resources"], nodes[identifier]["NodeManagerHostname"]
            gpus, cpus = (int(resources.get(kind, 0)) for kind in ("GPU", "CPU"))
            for number in range(gpus if self.kind == "GPU" else min(cpus, 1)):
                name = f"{host} {identifier[:6]}" + (f", GPU {number}" if self.kind == "GPU" else "")
                self._start(name, identifier, number, cpus // gpus if self.kind == "GPU" else cpus)
        self.known |= nodes.keys()

    def _nodes(self) -> list[Mapping[str, Any]]:
        return [node for node in self.ray.nodes() if node["Alive"]]

    def _start(self, name: str, node: str, number: int, cpus: int) -> None:
        gpu = self.kind == "GPU"
        where = self.ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        needs = {"num_cpus": cpus, "num_gpus": int(gpu), "max_restarts": 0, "max_task_retries": 0}
        actor = self.ray.remote(Worker).options(**needs, scheduling_strategy=where)
        handle = actor.remote(**self.told, by=f"{node[:12]}-{number}", device="cuda" if gpu else "cpu")
        whole = number == 0 and node not in self.passed
        self.hands[name] = _Hand(node, number, cpus, handle, handle.refusal.remote(here(), str(self.seen), whole))

    def _refuse(self, name: str, why: str) -> None:
        self.refused.append(f"{name}: {shortened(why, 1000)}")
        self.say(f"Left out: {self.refused[-1]}")


@contextmanager
def started(
    told: Mapping[str, Any], say: Callable[[str], None], *, device: str | None, address: str | None
) -> Iterator[Cluster]:
    """The actors of a run, for as long as the context lasts.

    Args:
        told: what all of them are told, see `worker.Worker`.
        say: is told what happens.
        device: `cpu`, `cuda`, or None for the GPUs where the cluster has any.
        address: of the cluster, as `ray.init` reads it; None for that of the environment (`RAY_ADDRESS`), or a Ray of its own on this machine.

    Raises:
        VitalsError: the cluster is not there, or a node cannot measure the run.
    """
    import ray

    joined, before = ray.is_initialized(), signal.getsignal(signal.SIGTERM)
    if not joined:
        _join(address or os.environ.get("RAY_ADDRESS") or "local", say)
    cluster = Cluster(told, say, device)
    main = threading.current_thread() is threading.main_thread()
    try:
        if main:
            signal.signal(signal.SIGTERM, cluster.stop)
        cluster.begin()
        yield cluster
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
        for hand in cluster.hands.values():
            ray.kill(hand.handle)
        cluster.seen.unlink(missing_ok=True)
        if not joined:
            ray.shutdown()


def _join(where: str, say: Callable[[str], None]) -> None:
    """Be the driver of a cluster."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    say("Starting Ray on this machine" if where == "local" else f"Joining the cluster at {where}")
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _OBJECTS} if where == "local" else {}
    try:
        ray.init(address=where, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        do = "See `ray status` there; all machines need the same Ray and the same token."
        said = shortened(" ".join(str(error).split()), 500)
        raise VitalsError(f"`--address` must be a cluster that answers. Got {where}: {said}. {do}") from error
