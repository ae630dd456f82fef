"""A cluster that measures a run, simulated part by part (simpy, seeded): GPUs of different speed whose processes die at random. Used by `scale.py`.

What is divided, and how, is the project's own: `run.parts`, `run.shards`, `run.dealing`. Images a second are public figures of forward passes.
"""

import math
import random
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import simpy

from visionvitals import study
from visionvitals.run import parts, shards
from visionvitals.run.dealing import Task, choose, tasks

RATES = {
    "RTX 3090, eager": {"DeiT-S": 4586.0, "ViT-B": 1565.0, "ResNet50": 3219.0},
    "RTX 5090, eager": {"DeiT-S": 10957.0, "ViT-B": 3924.0, "ResNet50": 6356.0},
    "RTX 5090, compiled": {"DeiT-S": 13423.0, "ViT-B": 4396.0, "ResNet50": 12401.0},
}
"""Images a second at 224 px: timm, results/benchmark-infer-*, snapshot aa4b585."""
HOUR = 3600.0


@dataclass(frozen=True)
class World:
    """What is assumed; seconds where nothing else is said. `decode`, `part` and `calls` are measured by `benchmarks/costs.py`.

    Attributes:
        share: of the public images a second that a run reaches.
        cores: for each GPU, to decode with.
        decode: of one core, an image.
        load: of a backbone, from its file to the first answer.
        part: beside the forward passes, of a part of a cell.
        calls: to the store, for a part.
        latency: of one of them, which is waited for.
        restart: from the death of a process until another one takes its place.
        life: the mean of exponential times until a process dies; 0: none does.
        spread: a GPU is slower or faster than the public one by at most this share.
        machine: GPUs of a machine, which share what it has decoded.
    """

    card: str = "RTX 3090, eager"
    share: float = 0.95
    cores: int = 8
    decode: float = 0.0050
    load: float = 10.0
    part: float = 0.010
    calls: int = 7
    latency: float = 0.002
    restart: float = 120.0
    life: float = 0.0
    spread: float = 0.2
    machine: int = 8

    @property
    def beside(self) -> float:
        """Of a part, beside its forward passes."""
        return self.part + self.calls * self.latency

    def forward(self, network: str) -> float:
        """Seconds of a pass of one image."""
        return 1 / (RATES[self.card][network] * self.share)


Cell = Mapping[str, Any]
"""As `plan.json` lists it; its cost is in seconds of a GPU of speed 1."""


def cells_of(world: World, networks: int, conditions: int, images: int) -> list[Cell]:
    """Cells of one pass an image, of networks that are DeiT-S, ViT-B and ResNet50 in turn."""
    occlusion = study.load("occlusion")
    count, found = len(parts.of(occlusion, occlusion.Condition(), images)), []
    for k in range(networks):
        kind = ("DeiT-S", "ViT-B", "ResNet50")[k % 3]
        work = {"backbone": f"{kind} {k}", "images": "set", "cost": images * world.forward(kind), "parts": count}
        found += [{"id": f"{k}-{c}", **work} for c in range(conditions)]
    return found


class Static:
    """`--shard I/N`: everyone knows its own from the beginning. A process that dies and is started again goes on with its share."""

    def __init__(self, cells: Sequence[Cell], gpus: int) -> None:
        backbone = {cell["id"]: cell["backbone"] for cell in cells}
        self.own: list[list[Task]] = []
        for k in range(gpus):
            mine = shards._range(cells, shards.Shard(k, gpus))
            pairs = [(identifier, part) for identifier, share in mine.items() for part in sorted(share.parts)]
            self.own.append([Task(backbone[identifier], ((identifier, part),), 0.0) for identifier, part in pairs])
            self.own[k].reverse()

    def next(self, gpu: int, loaded: str | None) -> Task | None:
        return self.own[gpu].pop() if self.own[gpu] else None

    def died(self, gpu: int, task: Task) -> None:
        self.own[gpu].append(task)


class Dealt:
    """A task is dealt to whoever is free, of the backbone that it has loaded before others, the longest first. What a dead process leaves is
    dealt again, part by part."""

    def __init__(self, cells: Sequence[Cell], gpus: int) -> None:
        self.left = tasks(cells, gpus)
        self.loaded: dict[int, str] = {}

    def next(self, gpu: int, loaded: str | None) -> Task | None:
        others = [spec for k, spec in self.loaded.items() if k != gpu]
        task = choose(self.left, loaded, others)
        if task is not None:
            self.left.remove(task)
            self.loaded[gpu] = task.backbone
        return task

    def died(self, gpu: int, task: Task) -> None:
        self.loaded.pop(gpu, None)
        self.left += task.apart()


@dataclass
class Result:
    """What a simulation saw: seconds, and parts."""

    bound: float
    makespan: float = 0.0
    measured: Counter[tuple[str, int]] = field(default_factory=Counter)
    finished: int = 0
    begun: int = 0
    deaths: int = 0
    lost: float = 0.0

    @property
    def utilisation(self) -> float:
        """All work over what these GPUs could do in that time."""
        return self.bound / self.makespan

    @property
    def twice(self) -> int:
        """Parts that were finished more than once."""
        return self.finished - len(self.measured)

    @property
    def again(self) -> int:
        """Parts that were begun once more because their process died."""
        return self.begun - self.finished


class Simulation:
    """GPUs that measure the parts of some cells until all are there."""

    def __init__(
        self, world: World, cells: Sequence[Cell], gpus: int, hand_out: type[Static | Dealt], seed: int
    ) -> None:
        self.world, self.gpus, self.env, self.rng = world, gpus, simpy.Environment(), random.Random(seed)
        self.hands = hand_out(cells, gpus)
        self.cell = {cell["id"]: cell for cell in cells}
        self.images = {
            key: cell["cost"] / world.forward(cell["backbone"].split()[0]) for key, cell in self.cell.items()
        }
        self.total = sum(cell["parts"] for cell in cells)
        self.decoded: dict[tuple[int, int], simpy.Event] = {}
        self.more = self.env.event()
        speeds = [1 + self.rng.uniform(-world.spread, world.spread) for _ in range(gpus)]
        self.result = Result(bound=sum(cell["cost"] for cell in cells) / sum(speeds))
        for gpu, speed in enumerate(speeds):
            self.env.process(self.process(gpu, speed))

    def run(self) -> Result:
        self.env.run()
        return self.result

    def process(self, gpu: int, speed: float) -> Generator[simpy.Event, None, None]:
        """One place in the cluster: a process, and those that follow it when it dies."""
        while len(self.result.measured) < self.total:
            dies = self.env.now + (self.rng.expovariate(1 / self.world.life) if self.world.life else math.inf)
            loaded: str | None = None
            while self.env.now < dies and len(self.result.measured) < self.total:
                if (task := self.hands.next(gpu, loaded)) is None:
                    yield self.more  # what others do may come back
                    continue
                left = list(task.parts)
                while left and self.env.now < dies:
                    load = 0.0 if loaded == task.backbone else self.world.load
                    if (yield from self.part(gpu, speed, *left[0], load=load, dies=dies)):
                        loaded = task.backbone
                        del left[0]
                if left:
                    cost = task.cost * len(left) / len(task.parts)
                    self.hands.died(gpu, replace(task, parts=tuple(left), cost=cost))
                    self.wake()
            if self.env.now >= dies and len(self.result.measured) < self.total:
                self.result.deaths += 1
                yield self.env.timeout(self.world.restart)
        self.wake()

    def part(
        self, gpu: int, speed: float, identifier: str, part: int, *, load: float, dies: float
    ) -> Generator[simpy.Event, None, bool]:
        """Measure a part; whether it is there before the process dies."""
        began, cell = self.env.now, self.cell[identifier]
        self.result.begun += 1
        if not (there := self.decode(gpu, identifier, part)).processed:
            yield there
        needed = load + cell["cost"] / cell["parts"] / speed + self.world.beside
        yield self.env.timeout(max(min(needed, dies - self.env.now), 0.0))
        if self.env.now >= dies:
            self.result.lost += self.env.now - began
            return False
        self.result.measured[identifier, part] += 1
        self.result.finished += 1
        self.result.makespan = self.env.now
        return True

    def wake(self) -> None:
        self.more.succeed()
        self.more = self.env.event()

    def decode(self, gpu: int, identifier: str, part: int) -> simpy.Event:
        """What a machine has not decoded, it decodes when one of its processes asks first; others wait for that."""
        key = gpu // self.world.machine, part
        if key not in self.decoded:
            cores = self.world.cores * min(self.world.machine, self.gpus)
            images = self.images[identifier] / self.cell[identifier]["parts"]
            self.decoded[key] = self.env.timeout(images * self.world.decode / cores)
        return self.decoded[key]


def simulated(
    world: World, cells: Sequence[Cell], gpus: int, hand_out: type[Static | Dealt], *, seed: int = 0
) -> Result:
    return Simulation(world, cells, gpus, hand_out, seed).run()
