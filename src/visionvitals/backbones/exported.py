"""A program of torch.export, a `.pt2` file. Loading one may execute code that its maker put into it.

`exported:FILE.pt2`. One input of float images (n, 3, height, width), one output of logits (n, k), or a mapping with `logits`. The input size is
that of the file; where the file leaves it open, `size` says it. Options: `size`, `resize`, `crop`, `interpolation`, `mean`, `std`
(`mean=0&std=1` where the program normalises by itself), `classes`, `order`. Logits only: what needs gradients, attention, tokens or features
is skipped.

`torch.export.load` unpickles what it finds, so this family counts as code, as `python:` does: name only files whose maker you trust. A run folder from
elsewhere that names one is not gone on with, unless you give `--trust`.
"""

import logging
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from visionvitals import core
from visionvitals.backbones import _program
from visionvitals.errors import VitalsError, require
from visionvitals.registry import Spec, reads

EXAMPLES: tuple[str, ...] = ()
Options = _program.Options
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone of an exported program.

    Raises:
        VitalsError: no such file, one that torch cannot load, other inputs than said above, a network in training mode.
    """
    path = _program.file_of(spec, ".pt2")
    program = _read(path)
    _require_evaluation(program.graph)
    images = _images(program)
    (least, most), _, height, width = (_bounds(side, program.range_constraints) for side in images.shape)
    module = _moved(program, device)
    kind = images.dtype

    def run(given: Tensor) -> Any:
        return module(given.to(kind).contiguous())

    held = [*program.parameters(), *program.buffers()]
    made = _program.Program(
        run=run,
        architecture="exported program",
        digest=_program.digest([path]),
        size=(_fixed(height), _fixed(width)),
        least=max(1, least),
        most=most,
        parameters=sum(each.numel() for each in held),
    )
    return _program.assemble(made, options, spec=spec, device=device)


def files(spec: Spec) -> tuple[Path, ...]:
    """See `plan.cards`."""
    return ()


def _read(path: Path) -> Any:
    must = f"{path} must be a program that torch.export.save wrote"
    require(zipfile.is_zipfile(path), must, "another type of file", "Weights alone are read by `checkpoint:`.")
    log = logging.getLogger("torch.export")
    before, log.disabled = log.disabled, True  # it logs the error that is raised
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(str(path))
    except Exception as error:  # of torch's reader, of many kinds
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        do = f"Export it with the torch that reads it ({torch.__version__})."
        raise VitalsError(f"{must}. Got {said}. {do}") from error
    finally:
        log.disabled = before


def _require_evaluation(graph: Any) -> None:
    """Refuse batch normalisation that uses the statistics of the batch, and dropout that drops."""
    wrong = []
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        names = [each.name for each in schema.arguments] if schema else []
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        wrong += [node.name for key in ("train", "training") if given.get(key) is True]
    must = "A network is scored in evaluation mode only"
    require(not wrong, must, f"training mode in {', '.join(wrong[:3])}", "Call `model.eval()` before it is exported.")


def _images(program: Any) -> Tensor:
    """The stand-in of its one input: a tensor of floats, (n, 3, height, width)."""
    names = program.graph_signature.user_inputs
    found = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    must = "It must have one input, the images"
    require(len(names) == 1 and len(found) == 1, must, f"{len(names)}: {', '.join(map(str, names))}")
    images = found[0]
    if not isinstance(images, Tensor):
        raise VitalsError(f"{must}. Got {type(images).__name__}.")
    require(images.dtype in _FLOATS, "Its input must be of float32, float16 or bfloat16", str(images.dtype))
    shape = tuple(str(side) for side in images.shape)
    do = "It has the channels last: export it with the channels first." if len(shape) == 4 and shape[3] == "3" else ""
    fits = images.ndim == 4 and (not isinstance(images.shape[1], int) or images.shape[1] == 3)
    require(fits, "Its input must be (n, 3, height, width)", f"({', '.join(shape)})", do)
    return images


def _bounds(side: Any, ranges: Any) -> tuple[int, int | None]:
    """(least, most) of one side of its input, None where there is no most."""
    if isinstance(side, int):
        return side, side
    found = ranges.get(side.node.expr)
    if found is None:
        return 1, None
    low, high = int(found.lower), found.upper
    try:
        return low, int(high) if int(high) < 1_000_000 else None
    except (TypeError, ValueError, OverflowError, AttributeError):
        return low, None


def _fixed(bounds: tuple[int, int | None]) -> int | None:
    return bounds[0] if bounds[0] == bounds[1] else None


def _moved(program: Any, device: torch.device) -> Any:
    """Its function on the device: tensors that it makes on the way are made there too."""
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, device).module()
