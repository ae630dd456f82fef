"""What a run costs above the forward passes of its networks, and where that goes.

    OMP_NUM_THREADS=1 python benchmarks/floor.py --images DIR
    OMP_NUM_THREADS=1 python benchmarks/floor.py --images DIR --entry
    OMP_NUM_THREADS=1 python benchmarks/floor.py --images DIR --plans

Cells are measured by `run.runner` as `vitals audit` measures them (pictures for the report, files, progress and all), from a warm cache; saliency
is computed before. After each cell the bare network sees the same batches, `Backbone.logits` of images that are ready: normalisation
and network. Two ratios: `bare`, a cell over these passes, interleaved, and `own`, a cell over the passes within it (forward and backward ones
of an attack), which sees less of what else the machine does. On a CPU by processor time of the process, on a GPU by wall time.

Parts, in milliseconds an image: `read` from the decode cache, in its own thread; `transfer`, bytes to floats on the device; `perturb`, all that
a study does beside; `score`, from logits to checked columns; `store`, pictures, files and their documents. A cell has costs that do not grow with
its images: `store` of 96 images is an upper bound for that of more.

`--entry`: processor seconds of `vitals audit` from where torch and timm are imported to the first row, on the first 24 pictures, in a process of its
own. `--plans`: processor seconds of `vitals plan` of 20 networks, twice.
"""

import argparse
import contextlib
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
NETWORKS = (
    "timm:deit_tiny_patch16_224?pretrained=false",
    "timm:resnet50?pretrained=false",
    "timm:mobilenetv2_100?pretrained=false",
)
PARTS = ("read", "transfer", "perturb", "score", "store")
SWEEPS: dict[str, dict[str, tuple[Any, ...]]] = {
    "clean": {},
    "occlusion": {"fraction": (0.25, 0.5, 0.75)},
    "salient": {"source": ("gradient", "self"), "drop": ("salient", "non-salient")},
    "shuffle": {"grid": ((4, 4), (8, 8), (14, 14))},
    "corner": {"corner": ("top-left", "bottom-right")},
    "reliance": {"suppress": ("global_shape", "local_shape", "texture", "colour")},
    "geometry": {"move": ("rotate",), "amount": (15.0,)},
    "missingness": {"fraction": (0.5,), "fill": ("black", "mean")},
    "calibration": {},
    "artefacts": {},
    "stability": {"masks": (40,), "colours": (2,), "fill": ("colours",)},
    "context": {"where": ("object", "background"), "fill": ("noise",), "strength": (60.0,)},
    "attack": {"method": ("pgd",), "eps": (1 / 255,), "steps": (5,), "restarts": (1,)},
}
PLANNED = (
    "tiny:vit", "tiny:cnn", *(f"timm:{name}?pretrained=false" for name in (
        "deit_tiny_patch16_224", "vit_tiny_patch16_224", "vit_small_patch32_224", "deit3_small_patch16_224", "resnet18", "resnet34",
        "resnet50", "mobilenetv2_100", "mobilenetv3_small_100", "efficientnet_b0", "convnext_atto", "convnext_femto",
        "regnetx_002", "regnety_002", "levit_128s", "mobilevit_xxs", "ghostnet_100", "test_vit",
    )),
)  # fmt: skip
ENTRY = """
import time, torch, timm
start = time.process_time()
from visionvitals import cli
from visionvitals.run import progress
advance, first = progress.Meter.advance, []
def noted(self, *given):
    first.append(time.process_time() - start)
    advance(self, *given)
progress.Meter.advance = noted
code = cli.main()
print("first row after", first[0] if first else None)
raise SystemExit(code)
"""


class Clock:
    """Seconds by name, each without those of what it calls: of the main thread's processor time, or on a GPU, which is waited for, by the wall."""

    def __init__(self, device: Any) -> None:
        self.device, self.spent = device, Counter[str]()
        self._open: list[str] = []
        self._since = 0.0

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.thread_time()
        import torch

        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _turn(self) -> None:
        now = self._now()
        if self._open:
            self.spent[self._open[-1]] += now - self._since
        self._since = now

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            with self.within(name):
                return function(*given, **named)

        return run

    def each(self, name: str, blocks: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.within(name):
                block = next(blocks, None)
            if block is None:
                return
            yield block


@contextlib.contextmanager
def hooked(clock: Clock, network: Any) -> Iterator[Any]:
    """While it lasts, what a run does is timed; gives the network whose passes are."""
    import torch

    from visionvitals import job, scoring
    from visionvitals.run import store, wide

    gather = wide.gather
    places: list[tuple[Any, str, Any]] = [
        (job, "to_float", clock.timed("transfer", job.to_float)),
        (scoring, "answers", clock.timed("score", scoring.answers)),
        (wide, "gather", lambda blocks, **how: clock.timed("score", gather)(clock.each("perturb", blocks), **how)),
        (store.Store, "lay", clock.timed("store", store.Store.lay)),
        (torch.autograd, "grad", clock.timed("passes", torch.autograd.grad)),
    ]
    before = [getattr(where, name) for where, name, _ in places]
    for where, name, other in places:
        setattr(where, name, other)
    try:
        shared = network.patches
        if shared is not None:  # a pass that starts at the embeddings of patches is one
            parts = {name: clock.timed("passes", getattr(shared, name)) for name in ("embed", "logits")}
            shared = shared._replace(**parts)
        yield dataclasses.replace(network, logits=clock.timed("passes", network.logits), patches=shared)
    finally:
        for (where, name, _), own in zip(places, before, strict=True):
            setattr(where, name, own)


def measured(planned: Any, network: Any, folder: Path, *, batches: list[Any], timed: bool) -> list[dict[str, float]]:
    """Seconds of each cell: `whole`, `bare`, and where `timed` those of its parts and `passes`, by study."""
    import torch

    from visionvitals.plan import planner
    from visionvitals.run import runner

    device, keep, load = network.device, runner.keeping.keep, planner.load_backbone
    now = time.process_time if device.type == "cpu" else time.perf_counter
    clock, found = Clock(device), list[dict[str, float]]()

    def cell(run: Any, work: Any, one: Any) -> None:
        clock.spent.clear()
        start, own = now(), time.thread_time()
        with clock.within("store") if timed else contextlib.nullcontext():
            keep(run, work, one)
        whole, own = now() - start, time.thread_time() - own
        parts = dict(clock.spent) | {"read": whole - own if device.type == "cpu" else 0.0}
        start = now()
        with torch.inference_mode():
            for images in batches:
                network.logits(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        bare = now() - start
        found.append({"study": one.study, "whole": whole, "bare": bare, **(parts if timed else {})})

    with hooked(clock, network) if timed else contextlib.nullcontext(network) as seen:
        planner.load_backbone = lambda text, *, device: seen
        runner.keeping.keep = cell
        try:
            outcome = runner.execute(planned, out=folder, device=device)
        finally:
            planner.load_backbone, runner.keeping.keep = load, keep
    assert not outcome.failed, outcome.failed
    return found


def floor(spelling: str, data: str, studies: list[str], *, repeats: int, limit: int, device: Any) -> None:
    import torch

    from visionvitals.datasets.base import cache
    from visionvitals.pixels import to_float
    from visionvitals.plan import planner, request
    from visionvitals.run import devices

    def plan(*names: str) -> Any:
        sections = tuple(request.Section(name=name, values=SWEEPS[name]) for name in names)
        asked = request.Plan(backbones=(spelling,), data=(data,), studies=sections, limit=limit)
        return planner.make(asked, device=device)

    planned, network = plan(*studies), planner.load_backbone(spelling, device=device)
    seen = cache.decoded(
        planned.sets[data], network.card.preprocess, decoder="pillow", limit=limit, seed=0, workers=None
    )
    n, step = len(seen.ids), devices.default_batch_size(device)
    batches = [to_float(torch.from_numpy(seen.pixels[k : k + step].copy()), device) for k in range(0, n, step)]
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        if "salient" in studies:
            measured(plan("salient"), network, Path(folder, "warm"), batches=[], timed=False)
        for k in range(repeats):
            timed = measured(planned, network, Path(folder, f"{k}"), batches=batches, timed=True)
            plain = timed
            if device.type == "cuda":  # waiting at each part costs time
                plain = measured(planned, network, Path(folder, f"{k}-plain"), batches=batches, timed=False)
            for one, other in zip(timed, plain, strict=True):
                rows[str(one["study"])].append(one | {"whole": other["whole"], "bare": other["bare"]})
    bare = statistics.median(row["bare"] for cells in rows.values() for row in cells) / n * 1000
    print(
        f"{network.card.architecture}, {n} images, batches of {step}, {device}: {bare:.2f} ms an image by the bare network"
    )
    print(f"{'':12}{'own':>8}{'bare':>8} (range)        " + "".join(f"{part:>10}" for part in PARTS) + "   ms an image")
    for name, cells in rows.items():
        own = statistics.median(row["whole"] / row["passes"] for row in cells)
        ratios = sorted(row["whole"] / row["bare"] for row in cells)
        parts = [statistics.median(row.get(part, 0.0) for row in cells) / n * 1000 for part in PARTS]
        text = f"{statistics.median(ratios):8.3f} ({ratios[0]:.3f}-{ratios[-1]:.3f}) " if name != "attack" else " " * 23
        print(f"{name:12}{own:8.3f}{text}" + "".join(f"{part:10.3f}" for part in parts), flush=True)


def entry(spelling: str, images: Path, *, repeats: int) -> None:
    """CPU seconds to the first row: the first time, and with what the cache knows by then."""
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, "small")
        for source in sorted(path for path in images.iterdir() if path.is_dir())[:24]:
            (small / source.name).mkdir(parents=True)
            picture = sorted(source.iterdir())[0]
            (small / source.name / picture.name).write_bytes(picture.read_bytes())
        time.sleep(3)  # what has just been written is not remembered
        environment = {**os.environ, "VISIONVITALS_CACHE": f"{folder}/cache"}
        for k in range(repeats + 1):
            words = ["audit", spelling, "--data", f"folder:{small}", "--studies", "occlusion", "--preset", "quick"]
            command = [sys.executable, "-c", ENTRY, *words, "--out", f"{folder}/{k}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            print("nothing cached " if k == 0 else "warm cache     ", done.stdout.strip().splitlines()[-1], flush=True)


def plans(images: Path, *, repeats: int) -> None:
    """CPU seconds of `vitals plan`, in a process of its own each time."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "VISIONVITALS_CACHE": f"{folder}/cache"}
        for k in range(repeats + 1):
            words = ["plan", *PLANNED, "--data", f"folder:{images}", "--studies", "occlusion", "--preset", "quick"]
            before = os.times()
            subprocess.run(
                [sys.executable, "-m", "visionvitals", *words], capture_output=True, check=True, env=environment
            )
            spent = sum(os.times()[2:4]) - sum(before[2:4])
            print(
                f"{len(PLANNED)} networks, {'nothing cached' if k == 0 else 'warm cache'}: {spent:.1f} CPU s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", required=True, help="a folder of class folders, or `masks:DIR`")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--studies", nargs="+", default=[name for name in SWEEPS if name != "context"], choices=SWEEPS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=int, default=96)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--entry", action="store_true")
    parser.add_argument("--plans", action="store_true")
    asked = parser.parse_args()
    if asked.entry or asked.plans:
        if asked.entry:
            entry(asked.networks[0], Path(asked.images), repeats=asked.repeats)
        if asked.plans:
            plans(Path(asked.images), repeats=asked.repeats)
        return
    import torch

    torch.set_num_threads(1)
    for spelling in asked.networks:
        floor(
            spelling,
            asked.images if ":" in asked.images else f"folder:{asked.images}",
            asked.studies,
            repeats=asked.repeats,
            limit=asked.limit,
            device=torch.device(asked.device),
        )


if __name__ == "__main__":
    main()
