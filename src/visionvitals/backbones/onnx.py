"""An ONNX file, by onnxruntime: the network as it is delivered, float or quantised. Needs `[onnx]`.

`onnx:FILE`. One input of float images (n, 3, height, width), one output of logits (n, k), or one of several that is called `logits`. The input
size is that of the file; where the file leaves it open, `size` says it. Options: `size`, `resize`, `crop`, `interpolation`, `mean`, `std`
(`mean=0&std=1` where the file normalises by itself), `classes`, `order`. Logits only: what needs gradients, attention, tokens or features is skipped.
"""

import importlib.util
from collections.abc import Iterator
from math import prod
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
ON_CPU = "onnxruntime cannot use CUDA here (the package onnxruntime-gpu can), so it computes on the CPU"
_TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16}


@reads(Options)
def load(spec: Spec, options: Options, *, device: torch.device) -> core.Backbone:
    """The backbone of an ONNX file.

    Raises:
        VitalsError: the extra is not installed, no such file, one that is not ONNX or lacks its data, operators that onnxruntime does not
            know, other inputs or outputs than said above, a network in training mode.
    """
    path = _program.file_of(spec, ".onnx")
    proto = _read(path)
    _require_evaluation(proto)
    data = _data(path, proto)
    session, notes = _session(path, device)
    shape, kind = _input(session)
    output = _output(session)
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        given = images.to(kind).contiguous().cpu().numpy()
        return torch.from_numpy(session.run([output], {name: given})[0]).to(images.device)

    batch, _, height, width = shape
    made = _program.Program(
        run=run,
        architecture=f"ONNX opset {max((each.version for each in proto.opset_import if not each.domain), default=0)}",
        digest=_program.digest([path, *data]),
        size=(height, width),
        least=batch or 1,
        most=batch,
        alone=any("DynamicQuantize" in each.op_type for each in proto.graph.node),
        parameters=sum(prod(each.dims) for each in proto.graph.initializer),
        notes=notes,
    )
    return _program.assemble(made, options, spec=spec, device=device)


def files(spec: Spec) -> tuple[Path, ...]:
    """See `plan.cards`: the data that the file keeps beside itself."""
    path = _program.file_of(spec, ".onnx")
    return tuple(_data(path, _read(path)))


def _read(path: Path) -> Any:
    """What the file holds, without the data beside it.

    Raises:
        VitalsError: it is not ONNX.
    """
    lacking = [each for each in ("onnx", "onnxruntime") if importlib.util.find_spec(each) is None]
    if lacking:
        raise VitalsError(f'It needs {" and ".join(lacking)}. Install it: pip install "visionvitals[onnx]"')
    import onnx
    from google.protobuf.message import DecodeError

    must = f"{path} must be a whole ONNX file"
    try:
        proto = onnx.load(str(path), load_external_data=False, format="protobuf")
    except DecodeError as error:
        raise VitalsError(f"{must}. Got: {error}. Export or fetch it again.") from error
    require(len(proto.graph.node) > 0 and len(proto.graph.output) > 0, must, "one without a network")
    return proto


def _data(path: Path, proto: Any) -> list[Path]:
    """The files beside it that hold its weights.

    Raises:
        VitalsError: one is missing, or lies elsewhere.
    """
    names = sorted(
        {pair.value for each in _tensors(proto.graph) for pair in each.external_data if pair.key == "location"}
    )
    for name in names:
        inside = not Path(name).is_absolute() and ".." not in Path(name).parts
        require(inside, f"{path} must have its data in its own folder or below", name)
        must = f"{path} keeps its weights in a file of its own, which must lie in the same folder"
        require((path.parent / name).is_file(), must, f"no {name}", "Copy it there, or export into one file.")
    return [path.parent / name for name in names]


def _tensors(graph: Any) -> Iterator[Any]:
    """All tensors that a graph stores, also those of its branches."""
    yield from graph.initializer
    for node in graph.node:
        for each in node.attribute:
            yield each.t
            for inner in (each.g, *each.graphs) if each.g.node or each.graphs else ():
                yield from _tensors(inner)


def _require_evaluation(proto: Any) -> None:
    """Refuse batch normalisation that uses the statistics of the batch."""
    wrong = [n.name or n.op_type for n in proto.graph.node for a in n.attribute if a.name == "training_mode" and a.i]
    must = "A network is scored in evaluation mode only"
    require(not wrong, must, f"training mode in {', '.join(wrong[:3])}", "Call `model.eval()` before it is exported.")


def _session(path: Path, device: torch.device) -> tuple[Any, tuple[str, ...]]:
    """Ready to compute, in float32 where the file says so, on as many threads as torch uses; and a note where it is not on the device."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4  # what is wrong is raised too
    settings.use_deterministic_compute = True
    here = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda" and here:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0, "use_tf32": "0"}))
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=providers, disable_fallback=True)
    except Exception as error:  # of the runtime, of many kinds
        said = " ".join(str(error).split())[:300]
        do = "Operators of a library of its own cannot be run; a newer file may need a newer onnxruntime."
        raise VitalsError(
            f"It must be a network that onnxruntime {onnxruntime.__version__} can run. Got: {said}. {do}"
        ) from error
    missed = device.type == "cuda" and "CUDAExecutionProvider" not in session.get_providers()
    return session, (ON_CPU,) * missed


def _input(session: Any) -> tuple[list[int | None], torch.dtype]:
    """(batch, 3, height, width), None where open, and the type of the images."""
    found = session.get_inputs()
    must = "It must have one input, the images"
    require(len(found) == 1, must, f"{len(found)}: {', '.join(each.name for each in found)}")
    shape: list[int | None] = [side if isinstance(side, int) and side > 0 else None for side in found[0].shape]
    do = "Export it so that it takes float images; `mean=0&std=1` is for a file that normalises by itself."
    require(found[0].type in _TYPES, "Its input must be of float or float16", found[0].type, do)
    _require_channels(shape)
    return shape, _TYPES[found[0].type]


def _require_channels(shape: list[int | None]) -> None:
    got = f"({', '.join(str(side or 'any') for side in shape)})"
    do = ""
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        do = "It has the channels last: export it with the channels first, or put a transposition before it."
    require(len(shape) == 4 and shape[1] in (3, None) and not do, "Its input must be (n, 3, height, width)", got, do)


def _output(session: Any) -> str:
    found = session.get_outputs()
    named = [each for each in found if each.name == "logits"]
    chosen = named or found
    must = "It must have one output, or one that is called `logits`"
    require(len(chosen) == 1, must, ", ".join(each.name for each in found), "Export it with the logits alone.")
    k = chosen[0].shape
    must = "A network must give logits of shape (n, k)"
    require(not k or len(k) == 2, must, f"`{chosen[0].name}` of shape {tuple(k)}", "Export it with its classifier.")
    return str(chosen[0].name)
