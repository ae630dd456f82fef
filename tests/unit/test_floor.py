"""Forward passes are the only cost: nothing outside the network waits for the device, and a device is kept as busy as by a bare loop."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from visionvitals import study
from visionvitals.core import Backbone, Scores
from visionvitals.job import Job
from visionvitals.perturb import patches
from visionvitals.plan import planner
from visionvitals.randomness import permutation, stream
from visionvitals.run import wide

CPU = torch.device("cpu")
SWEEPS: Mapping[str, Mapping[str, Any]] = {
    "clean": {},
    "occlusion": {"fraction": 0.5, "fill": "noise", "grid": (8, 8)},
    "shuffle": {"grid": (4, 4)},
    "corner": {"inner": (40, 40)},
    "corruption": {"corruption": "gaussian_noise"},
}


def job_of(name: str, backbone: Backbone, *, n: int, batch_size: int, **values: Any) -> tuple[study.Study, Job]:
    chosen, size = study.load(name), backbone.card.preprocess.size
    pixels = np.random.default_rng(0).integers(0, 256, (n, *size, 3), dtype=np.uint8)
    labels = np.arange(n) % backbone.card.outputs
    ids = tuple(map(str, range(n)))
    condition = chosen.Condition(**values)
    return chosen, Job(
        backbone=backbone, condition=condition, ids=ids, pixels=pixels, labels=labels, batch_size=batch_size
    )


def numbers(chosen: study.Study, job: Job) -> wide.Wide:
    how = {"study": chosen.name, "axes": chosen.axes, "metrics": chosen.metrics, "ids": list(job.ids)}
    return wide.gather(chosen.measure(job), **how)  # type: ignore[arg-type]


class Waits(TorchDispatchMode):
    """Notes every operation whose result the host must know before it goes on."""

    ASK = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "bincount")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in self.ASK:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", SWEEPS)
def test_nothing_outside_the_network_waits_for_a_batch(name: str) -> None:
    backbone = planner.load_backbone("tiny:cnn", device=CPU)
    chosen, job = job_of(name, backbone, n=12, batch_size=4, **SWEEPS[name])
    with Waits() as waits:
        blocks = list(chosen.measure(job))
    assert len(blocks) == 3
    assert waits.found == []


def test_the_instrument_sees_what_waits() -> None:
    with Waits() as waits:
        assert bool((torch.arange(3) > 1).any())
    assert waits.found


@pytest.mark.parametrize("grid", [(2, 2), (3, 4), (12, 12), (1, 1), (6, 2)])
def test_a_shuffle_moves_each_cell_whole(grid: tuple[int, int]) -> None:
    rows, columns = grid
    height, width = 12 // rows, 12 // columns
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    order = permutation(stream(0, ["a", "b", "c"], "test"), rows * columns)
    expected = torch.empty_like(images)
    for k in range(3):
        for cell, source in enumerate(order[k].tolist()):
            (r, c), (i, j) = divmod(cell, columns), divmod(source, columns)
            taken = images[k, :, i * height : (i + 1) * height, j * width : (j + 1) * width]
            expected[k, :, r * height : (r + 1) * height, c * width : (c + 1) * width] = taken
    found = patches.shuffle(images, order, grid)
    assert torch.equal(found, expected)
    assert found.is_contiguous()


def test_columns_of_tensors_arrays_and_lists_are_one() -> None:
    values = [0.25, 0.5, float("nan"), 1.0, 0.0]
    kinds: list[Any] = [
        [torch.tensor(values[:2]), torch.tensor(values[2:], dtype=torch.float64)],
        [torch.tensor(values[:2]), np.array(values[2:])],
        [values[:2], values[2:]],
    ]
    ids = list("abcde")

    def blocks(parts: Any) -> Iterator[Scores]:
        return (Scores(ids[slice(*at)], {"top1": part}) for at, part in zip([(0, 2), (2, 5)], parts, strict=True))

    metrics = study.load("clean").metrics
    made = [wide.gather(blocks(parts), study="x", axes=(), metrics=metrics, ids=ids) for parts in kinds]
    for one in made:
        column = one.blocks[()].values["top1"]
        assert column.dtype == np.float64
        np.testing.assert_array_equal(column, values)


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("name", [*SWEEPS, "salient"])
def test_no_batch_waits_for_the_gpu(name: str) -> None:
    backbone = planner.load_backbone("tiny:cnn", device=torch.device("cuda"))
    more = {"source": "gradient", "grid": (8, 8)} if name == "salient" else SWEEPS[name]
    chosen, job = job_of(name, backbone, n=64, batch_size=8, **more)
    blocks = chosen.measure(job)
    next(blocks)  # saliency is computed, memory pinned, kernels chosen
    with waiting_is_an_error():
        assert len(list(blocks)) == 7


@pytest.mark.gpu
@cuda
@pytest.mark.parametrize("network", ["deit_tiny_patch16_224", "resnet50"])
@pytest.mark.parametrize("name", ["clean", "occlusion", "shuffle", "corner"])
def test_a_study_keeps_a_gpu_as_busy_as_a_bare_loop(name: str, network: str) -> None:
    """Images a second beside the loop of timm's benchmark script, in the same call: one batch that lies on the device, ten passes before the
    clock starts, forty after. timm does not ship that script, so the loop is written out."""
    device = torch.device("cuda")
    backbone = planner.load_backbone(f"timm:{network}?pretrained=false", device=device)
    batch, passes = 128, 40
    chosen, job = job_of(name, backbone, n=batch * passes, batch_size=batch)
    one = torch.randn(batch, 3, 224, 224, device=device)

    def bare(times: int) -> None:
        with torch.inference_mode():
            for _ in range(times):
                backbone.module(one)
        torch.cuda.synchronize()

    def seconds(work: Any) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    bare(10)
    numbers(chosen, job)
    turns = [(seconds(lambda: bare(passes)), seconds(lambda: numbers(chosen, job))) for _ in range(5)]
    ratio = float(np.median([plain / ours for plain, ours in turns]))
    assert ratio >= 0.95, f"{ratio:.3f} of the images a second of the bare loop"
