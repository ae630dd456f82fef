"""What a network answers to two fixed pictures: what digests cannot know, such as helpers in other files and the libraries' numerics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from visionvitals.answers import Answers

LIBRARIES = ("torch", "torchvision", "timm", "transformers", "onnxruntime")
KEPT = 32
"""Outputs that are kept of a network that has more, evenly spaced."""
UNSTABLE = "its answers to one picture differ from pass to pass, or with the other pictures of the batch, so its numbers cannot be repeated exactly"


def pictures(size: tuple[int, int], device: torch.device) -> Float[Tensor, "2 3 h w"]:
    """Two pictures that are the same everywhere: coarse squares and fine grain, made of whole numbers in [0, 255] and divided by 255."""
    height, width = size
    row, column = torch.arange(height)[:, None], torch.arange(width)[None]
    planes = []
    for k in range(6):
        coarse = (row * 8 // height * 37 + column * 8 // width * 101 + k * 59) ** 2 % 191
        fine = (row * 7919 + column * 104729 + k * 1299709) * 2654435761 // 65536 % 65
        planes.append(coarse + fine)
    return torch.stack(planes).view(2, 3, height, width).to(device, torch.float32) / 255


@contextmanager
def exact(device: torch.device) -> Iterator[None]:
    """A context without gradients and TF32, after which torch's global randomness is as it was."""
    cuda = device.type == "cuda"
    before = torch.get_float32_matmul_precision()
    convolutions = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[device] if cuda else []),
        convolutions if cuda else nullcontext(),
    ):
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def ask(logits: Callable[[Tensor], Any], size: tuple[int, int], device: torch.device) -> Answers:
    """The answers of a network: to both pictures at once, and, to see whether they are stable, again, to each alone, and behind six others.

    Args:
        logits: images (b, 3, h, w) in [0, 1] -> (b, k).
        size: (height, width) of its input.
        device: where it is.
    """
    with exact(device):
        both = pictures(size, device)
        many = both.repeat(4, 1, 1, 1)
        ways = [logits(both), logits(both), torch.cat([logits(both[:1]), logits(both[1:])]), logits(many)[-2:]]
    first, *others = (_kept(x) for x in ways)
    stable = all(first.differs(other) is None for other in others)
    return Answers(logits=first.logits, stable=stable and bool(first.logits), versions=first.versions)


def _kept(logits: Float[Tensor, "2 k"]) -> Answers:
    """Six digits of some outputs; none where one is not finite."""
    k = logits.shape[1]
    columns = [i * k // KEPT for i in range(KEPT)] if k > KEPT else list(range(k))
    rows = logits.detach().float().cpu()[:, columns]
    numbers = tuple(tuple(float(f"{x:.6g}") for x in row) for row in rows.tolist()) if rows.isfinite().all() else ()
    return Answers(
        logits=numbers, stable=True, versions=tuple((name, v) for name in LIBRARIES if (v := _version(name)))
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
