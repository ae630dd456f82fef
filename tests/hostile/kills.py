"""End processes by `kill -9` at random moments; the same command again must finish, and the results equal those of an undisturbed one.

    python tests/hostile/kills.py            100 kills of a run, 20 of a training, 10 each of stylising, decoding and the report,
                                             10 runs by two processes in one folder
    python tests/hostile/kills.py --quick    3 kills of a run

The moments are spread evenly over the time that the undisturbed command takes, by a seeded draw. A command that ends before its
moment is tried again until as many were killed as asked for. Exit code 1 where anything was lost, changed or half-written.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from box import NOISE, RECIPE, STUDY, TOY, prepare_shared, trusting
from PIL import Image
from run import environment

import visionvitals.cli

PLAN = f"""
backbones = ["{TOY}", "{TOY}?seed=1"]
data = ["{NOISE}"]

[[studies]]
name = "{STUDY}"
strength = [0.1, 0.2, 0.3, 0.4, 0.5]
run = [0, 1]

[[studies]]
name = "clean"
"""


def started(words: tuple[str, ...], log: Path) -> int:
    """The id of a process that runs a command: a copy of this one, in which everything is imported already."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = visionvitals.cli.main(words)
    finally:
        sys.stdout.flush()
        os._exit(code)


def ended(process: int) -> int:
    """The exit code of a process, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@dataclass(frozen=True)
class Kind:
    """What is killed.

    Attributes:
        name: of it.
        kills: how many.
        words: output folder -> the command.
        content: output folder -> what must be equal.
        whole: output folder -> what is half-written, right after a kill, or None.
        fresh: nothing is decoded before.
    """

    name: str
    kills: int
    words: Callable[[Path], tuple[str, ...]]
    content: Callable[[Path], Any]
    whole: Callable[[Path], str | None] = lambda out: None
    fresh: bool = False


def cells(out: Path) -> dict[str, Any]:
    """cell -> the columns of all its parts."""
    import pyarrow.parquet as pq

    found = {}
    for path in sorted(out.glob("store/*/*/cell.json")):
        parts = [part["file"] for part in json.loads(path.read_text()).get("parts", [{"file": "rows.parquet"}])]
        found[path.parent.name] = [pq.ParquetFile(path.parent / name).read().to_pydict() for name in parts]
    return found


def half_cells(out: Path) -> str | None:
    try:
        cells(out)
    except Exception as error:
        return f"a cell counts as finished and is not whole: {error}"
    return None


def weights(out: Path) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    return {key: value.tobytes() for key, value in sorted(load_file(out / "weights.safetensors").items())}


def half_weights(out: Path) -> str | None:
    try:
        return weights(out) and None if (out / "weights.safetensors").exists() else None
    except Exception as error:
        return f"half a file of weights: {error}"


def pictures(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.glob("*/[!.]*.png"))}


def half_pictures(out: Path) -> str | None:
    for path in out.glob("*/[!.]*.png"):
        try:
            Image.open(path).load()
        except Exception as error:
            return f"half a picture: {path.name}: {error}"
    return None


def page(out: Path) -> bool:
    return (out / "report.html").read_text().rstrip().endswith("</html>")


def half_page(out: Path) -> str | None:
    return "half a report" if (out / "report.html").exists() and not page(out) else None


def kinds(root: Path) -> list[Kind]:
    """What is killed, with its inputs below a folder."""
    trust = trusting().get("run", ())
    (root / "plan.toml").write_text(PLAN)
    (root / "recipe.py").write_text(RECIPE.replace("epochs=1", "epochs=4"))
    rng = np.random.default_rng(0)
    for number in range(200):
        path = root / "many" / f"class {number % 4}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(path)
    cpu = ("--device", "cpu")
    many = f"folder:{root / 'many'}"
    decoding = ("audit", TOY, "--data", many, "--studies", "clean", *cpu, "--out")
    styles = ("stylize", many, "--styles", str(root / "shared" / "styles"), "--size", "32", "--workers", "1", "--out")
    run = ("run", str(root / "plan.toml"), *cpu, "--batch-size", "4", *trust, "--out")
    return [
        Kind("a run", 100, lambda out: (*run, str(out)), cells, half_cells),
        Kind(
            "a training",
            20,
            lambda out: ("train", str(root / "recipe.py"), *cpu, "--out", str(out)),
            weights,
            half_weights,
        ),
        Kind("stylising", 10, lambda out: (*styles, str(out)), pictures, half_pictures),
        Kind("decoding", 10, lambda out: (*decoding, str(out)), cells, half_cells, fresh=True),
        Kind("writing a report", 10, lambda out: ("report", str(out)), page, half_page),
    ]


class Hurt:
    """Counts of one kind, and what went wrong."""

    def __init__(self, kind: Kind, root: Path, seed: int) -> None:
        self.kind, self.root, self.draw = kind, root, random.Random(seed)
        self.killed = self.finished = self.equal = 0
        self.wrong: list[str] = []

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A new output folder; for a report, a finished run without one."""
        out = Path(tempfile.mkdtemp(dir=self.root)) / "out"
        if self.kind.name == "writing a report":
            shutil.copytree(self.root / "shared" / "run", out)
            (out / "report.html").unlink(missing_ok=True)
        if self.kind.fresh:
            shutil.rmtree(os.environ["VISIONVITALS_CACHE"], ignore_errors=True)
        try:
            yield out
        finally:
            shutil.rmtree(out.parent)

    def undisturbed(self) -> tuple[Any, float]:
        """(the content, how many seconds it takes) of a command that nobody kills."""
        with self.folder() as out:
            began = time.monotonic()
            code = ended(started(self.kind.words(out), self.root / "log.txt"))
            assert code == 0, (self.root / "log.txt").read_text()
            return self.kind.content(out), time.monotonic() - began

    def once(self, content: Any, seconds: float) -> float:
        """Kill one at a random moment, look at what is there, and give the same command again.

        Returns:
            how long one takes: what was assumed, or less where one ended before its moment.
        """
        log, began = self.root / "log.txt", time.monotonic()
        with self.folder() as out:
            process = started(self.kind.words(out), log)
            time.sleep(self.draw.uniform(0, seconds))
            os.kill(process, signal.SIGKILL)
            if ended(process) != -signal.SIGKILL:
                return min(seconds, time.monotonic() - began)
            self.killed += 1
            if half := self.kind.whole(out):
                self.wrong.append(half)
            code = ended(started(self.kind.words(out), log))
            if code != 0:
                self.wrong.append(f"the same command again: exit code {code}: {log.read_text()[-300:]}")
                return seconds
            self.finished += 1
            if self.kind.content(out) == content:
                self.equal += 1
            else:
                self.wrong.append("other results than undisturbed")
        return seconds

    def together(self, content: Any, seconds: float) -> float:
        """Two processes in one folder, the second a little later."""
        with self.folder() as out:
            logs = [self.root / "log0.txt", self.root / "log1.txt"]
            first = started(self.kind.words(out), logs[0])
            time.sleep(self.draw.uniform(0, seconds / 2))
            codes = [ended(process) for process in (first, started(self.kind.words(out), logs[1]))]
            self.killed += 1
            if codes != [0, 0]:
                self.wrong.append(f"exit codes {codes}: {' | '.join(log.read_text()[-200:] for log in logs)}")
                return seconds
            self.finished += 1
            self.equal += self.kind.content(out) == content
            if self.equal < self.finished:
                self.wrong.append("other results than alone")
        return seconds


def hurt(kind: Kind, root: Path, *, times: int, seed: int = 0, two: bool = False) -> Hurt:
    """Do it `times` times."""
    found = Hurt(kind, root, seed)
    content, seconds = found.undisturbed()
    for _ in range(times * 4):
        if found.killed < times:
            seconds = (found.together if two else found.once)(content, seconds)
    return found


def prepare(root: Path) -> list[Kind]:
    """Import everything, and make the inputs."""
    os.environ["VISIONVITALS_TOY_SLEEP"] = "0.01"
    environment(root)
    prepare_shared(root)
    import timm  # noqa: F401
    import torch  # noqa: F401

    return kinds(root)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 kills of a run only")
    parser.add_argument("--share", type=float, default=1.0, help="of the kills, e.g. 0.1")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    bad = 0
    print(f"{'what':28}{'times':>8}{'finished again':>16}{'equal':>8}{'wrong':>8}")
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder).resolve()
        known = prepare(root)
        for kind, two in [(kind, False) for kind in known] + [(known[0], True)]:
            if asked.quick and (kind is not known[0] or two):
                continue
            times = 3 if asked.quick else max(1, round((10 if two else kind.kills) * asked.share))
            found = hurt(kind, root, times=times, seed=asked.seed, two=two)
            name = f"{kind.name} by two at once" if two else f"kill -9 of {kind.name}"
            print(f"{name:28}{found.killed:8}{found.finished:16}{found.equal:8}{len(found.wrong):8}", flush=True)
            for wrong in dict.fromkeys(found.wrong):
                print(f"  {wrong}", flush=True)
            bad += len(found.wrong) + (found.killed < times)
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
