"""Other numerics than float32: a network that answers by them, and what that changes, measured on pictures of the run before it begins.

Only passes whose answers are scored (`job.Job.answered`) are computed so. Gradients, features, what looks inside, and other networks that a condition
names stay float32, compiled by nobody.
"""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from visionvitals import stats
from visionvitals.core import Backbone
from visionvitals.errors import VitalsError, require
from visionvitals.files import matching, write_safely
from visionvitals.numerics import FP32, Numerics, said
from visionvitals.pixels import to_float
from visionvitals.remote import AnyPath
from visionvitals.run import devices, documents
from visionvitals.run.shelf import Unwritable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from visionvitals.datasets.base.cache import Decoded

PICTURES = 256
"""At most so many pictures are answered both ways."""


def check(numerics: Numerics, device: "torch.device") -> None:
    """Try a small network by these numerics, before any work.

    Raises:
        VitalsError: the device lacks the precision, or nothing can be compiled here.
    """
    import torch

    if numerics == FP32:
        return
    must, do = (
        f"`--precision {numerics.precision}` needs a device that computes so",
        "Leave it out, or take another device.",
    )
    emulated = device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False)
    require(numerics.precision != "bf16" or not emulated, must, str(device), do)
    small = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(32, 2)).to(device).eval()
    images = torch.zeros(2, 3, 4, 4, device=device)
    with torch.inference_mode():
        try:
            with _autocast(numerics, device):
                small(images)
        except (RuntimeError, TypeError) as error:
            raise VitalsError(f"{must}. Got {device}: {_first(error)}. {do}") from error
        if numerics.compile:
            try:
                torch.compile(small)(images)
            except Exception as error:  # of the compiler, of many kinds
                must = "`--compile` needs a compiler: a C++ one for a CPU, Triton for a GPU"
                raise VitalsError(f"{must}. Got: {_first(error)}. Install one, or leave --compile out.") from error


def answering(backbone: Backbone, numerics: Numerics) -> Backbone:
    """The network with `logits` and `visible_logits` by these numerics, as float32; the weights are shared, and so is their layout.

    One compilation serves all batches of a size: a smaller one, the last of a set, is filled up with its first image. Token removal
    is not compiled, since each fraction would be another shape.
    """
    import torch

    logits, visible = backbone.logits, backbone.visible_logits
    if numerics.channels_last:
        backbone.module.to(memory_format=torch.channels_last)
    if numerics.compile:
        assert backbone.remade is not None
        logits = _filled(backbone.remade(lambda own: torch.compile(own, dynamic=False)))

    def by(run: "Callable[..., Tensor]") -> "Callable[..., Tensor]":
        def answer(images: "Tensor", *more: "Tensor") -> "Tensor":
            given = images.contiguous(memory_format=torch.channels_last) if numerics.channels_last else images
            with _autocast(numerics, backbone.device):
                return run(given, *more).float()

        return answer

    return dataclasses.replace(
        backbone, logits=by(logits), visible_logits=by(visible) if visible else None, patches=None
    )


def _autocast(numerics: Numerics, device: "torch.device") -> "torch.autocast":
    import torch

    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return torch.autocast(device.type, kinds[numerics.precision], enabled=numerics.precision != "fp32")


def _filled(run: "Callable[[Tensor], Tensor]") -> "Callable[[Tensor], Tensor]":
    """Every batch with as many images as the largest one before; where that fails, as where memory runs out, the next one begins anew."""
    import torch

    size = 0

    def answer(images: "Tensor") -> "Tensor":
        nonlocal size
        size = max(size, len(images))
        more = images[:1].expand(size - len(images), -1, -1, -1)
        try:
            return run(torch.cat([images, more]) if len(more) else images)[: len(images)]
        except Exception:
            size = 0
            raise

    return answer


def calibrated(
    out: AnyPath, backbone: Backbone, numerics: Numerics, data: "Decoded", images: str, batch_size: int
) -> tuple[Backbone, str]:
    """The network by these numerics, and a warning where it is slower so. What they change is measured on pictures of a set and kept with the
    run, once for each network.

    Raises:
        VitalsError: it cannot compute so, or the disk refuses.
    """
    path = out / f"numerics.{backbone.card.digest[:12]}.json"
    if documents.spared(path, documents.NUMERICS, []) is not None:
        return answering(backbone, numerics), ""
    import torch

    count = min(PICTURES, len(data.ids))
    exact, slow = _asked(backbone, data, count, batch_size)
    made = answering(backbone, numerics)
    try:
        fast, quick = _asked(made, data, count, batch_size)
    except Exception as error:
        raise VitalsError(
            f"`{backbone.card.spec}` must compute by {numerics}. Got: {_first(error)}. Measure it by fp32, in another --out."
        ) from error
    apart = float((fast - exact).abs().max() / exact.abs().max())
    share = stats.estimate((fast.argmax(dim=1) != exact.argmax(dim=1)).double().numpy(), bounds=(0.0, 1.0))
    content = {
        "backbone": backbone.card.spec,
        "images": images,
        "numerics": dataclasses.asdict(numerics),
        "n": count,
        "speed": slow / quick,
        "changed": [share.value, share.low, share.high],
        "error": apart if torch.isfinite(fast).all() and apart == apart else None,
    }
    try:
        write_safely(path, json.dumps(content, indent=1, allow_nan=False))
    except OSError as failed:
        raise Unwritable(out, failed) from failed
    return made, _sentence(content) if quick > slow else ""


def lines(out: AnyPath) -> list[str]:
    """What other numerics changed, a sentence for each network; a damaged document costs no reader its work."""
    found = [documents.spared(path, documents.NUMERICS, []) for path in matching(out, "numerics.*.json")]
    return [_sentence(each) for each in found if each is not None]


def _sentence(of: dict[str, Any]) -> str:
    value, low, high = (f"{100 * x:.1f}" for x in of["changed"])
    error = "not finite" if of["error"] is None else f"{of['error']:.1e} of the largest logit"
    pace = f"{of['speed']:.2f} times the images per second of fp32"
    return (
        f"{of['backbone']} answers by {said(of['numerics'])}: {pace}{', so it is slower' if of['speed'] < 1 else ''}; on {of['n']} pictures of "
        f"{of['images']} {value} % of the answers are others ({low} to {high} %), largest error of a logit {error}"
    )


def _asked(backbone: Backbone, data: "Decoded", count: int, batch_size: int) -> "tuple[Tensor, float]":
    """The logits of the first pictures, and the median over their batches of the seconds for an image. The first batch is asked twice. Where memory
    runs out, again with half the batch."""
    import torch

    answers, spent = [], []
    try:
        with torch.inference_mode():
            for start in [0, *range(0, count, batch_size)]:
                batch = to_float(data.pixels[start : min(start + batch_size, count)], backbone.device)
                began = time.perf_counter()
                answers.append(backbone.logits(batch).float().cpu())  # waits for the device
                spent.append((time.perf_counter() - began) / len(batch))
        return torch.cat(answers[1:]), statistics.median(spent[1:])
    except Exception as error:
        if batch_size == 1 or not devices.out_of_memory(error):
            raise
    return _asked(backbone, data, count, batch_size // 2)


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
