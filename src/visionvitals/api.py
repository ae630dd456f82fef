"""What a notebook uses: the functions behind the command line, for networks and pictures that live in Python. `reading.Run` is what they
give back.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from visionvitals.core import Interpolation, Preprocess, Preset
from visionvitals.errors import VitalsError, near, require
from visionvitals.numerics import Numerics, Precision
from visionvitals.reading import Run
from visionvitals.remote import AnyPath, RemotePath, located, on_disk

if TYPE_CHECKING:
    import torch

    from visionvitals.results.gate import Verdict


def backbone(
    module: "torch.nn.Module",
    *,
    name: str,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | tuple[int, int] = 224,
    resize: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> str:
    """A module of this process as a spelling, for `audit`. It is copied when it is measured.

    Args:
        module: normalised images float (b, 3, h, w) -> logits (b, k).
        name: of the network in tables, at most 100 characters.
        classes: keys of its outputs in their order (wnids, folder names), where it has them.
        mean, std: of the normalisation, on the [0, 1] scale; by default ImageNet's, with a note in the report.
        size: input in pixels, or (height, width).
        resize: pixels of the shorter side before the crop; by default 8/7 of the longer side of `size`, with a note. Pictures that have the
            network's own size already are enlarged by it and cropped: `resize=size` takes them as they are.
        interpolation: of the resize.

    Returns:
        `memory:NAME`.

    Raises:
        VitalsError: no module, one of TorchScript, or a value of another form.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
        >>> vv.backbone(net, name="net", classes=["cat", "dog"], size=32)
        'memory:net'
    """
    from visionvitals.backbones import memory

    found = _plain(size)
    sides = [found, found] if type(found) is int else found
    two = isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides)
    require(two, "`size` must be pixels, or (height, width)", size)
    height, width = sides
    known = get_args(Interpolation)
    require(interpolation in known, "`interpolation` must be known", interpolation, near(str(interpolation), known))
    channels: list[tuple[float, float, float]] = []
    for key, given, usual in (("mean", mean, memory.USUAL.mean), ("std", std, memory.USUAL.std)):
        given = usual if given is None else given
        values = _plain(given)
        three = (
            isinstance(values, list) and len(values) == 3 and all(isinstance(value, int | float) for value in values)
        )
        require(three, f"`{key}` must have three numbers", given)
        channels.append((float(values[0]), float(values[1]), float(values[2])))
    preprocess = Preprocess(
        size=(height, width),
        resize=round(max(height, width) * 8 / 7) if resize is None else _whole("resize", resize),
        interpolation=interpolation,
        mean=channels[0],
        std=channels[1],
    )
    open_ = [key for key, given in (("mean", mean), ("std", std)) if given is None]
    notes = [f"{' and '.join(open_)} not given to `backbone`: ImageNet's usual were taken"] if open_ else []
    if resize is None:
        told = f"scaled to {preprocess.resize} pixels on the shorter side, then cropped to {height}x{width}"
        notes.append(f"resize not given to `backbone`: pictures are {told}, those of that size too")
    return memory.hold(_name(name), _module(module), preprocess=preprocess, classes=_keys(classes), notes=tuple(notes))


def images(
    pictures: Any, labels: Sequence[Any] | None = None, *, name: str, classes: Sequence[str] | None = None
) -> str:
    """Pictures of this process as a spelling, for `audit`.

    Args:
        pictures: Pillow images, or arrays (h, w, 3) or (3, h, w), uint8 or float in [0, 1]; or, without `labels`, pairs of one and its
            label, such as a torch data set.
        labels: whole numbers (of Python, numpy or torch) or names of classes.
        name: of the set in tables, at most 100 characters.
        classes: names in the order of whole-number labels; without `labels`, those of the data set where it has `classes`.

    Returns:
        `memory:NAME`.

    Raises:
        VitalsError: a picture of another form, another number of labels, or a label that is no whole number or name, or no class.

    Example:
        >>> import numpy as np
        >>> pictures = np.zeros((4, 32, 32, 3), dtype=np.uint8)
        >>> pictures[2:] = 255
        >>> vv.images(pictures, ["cat", "cat", "dog", "dog"], name="pets", classes=["cat", "dog"])
        'memory:pets'
    """
    from visionvitals.datasets import memory

    if labels is None:
        classes = getattr(pictures, "classes", None) if classes is None else classes
        pictures, labels = memory.parted(pictures)
    return memory.hold(_name(name), pictures, labels, _keys(classes))


def audit(
    backbones: "str | torch.nn.Module | Sequence[str | torch.nn.Module]",
    *,
    data: str | Sequence[str] = (),
    out: str | AnyPath,
    data_for: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
    studies: str | Sequence[str] = "all",
    preset: Preset = "default",
    limit: int | None = None,
    seed: int = 0,
    decoder: Literal["pillow", "fast"] = "pillow",
    precision: Precision = "fp32",
    compile: bool = False,
    channels_last: bool = False,
    half_width: float | None = None,
    minutes: float | None = None,
    device: "str | torch.device | None" = None,
    batch_size: int | None = None,
    workers: int | None = None,
    reuse: "Run | str | AnyPath | Sequence[Run | str | AnyPath]" = (),
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    rules: str | Path | None = None,
    until_decided: bool = False,
    baseline: "Run | str | AnyPath | None" = None,
) -> Run:
    """Measure backbones on image sets, as `vitals audit` does; what the run folder holds already is not measured again.

    Args:
        backbones: spellings, or modules, which are called by the name of their class; see `backbone` to say more of them.
        data: image sets, spelled.
        out: the run folder, a path or the URL of one on an object store (`s3://bucket/run`).
        data_for: study -> image sets of its own, instead of `data`.
        studies: names or paths of files, with commas between or as a list; "all" for every study.
        preset, limit, seed, decoder, precision, compile, channels_last, half_width, minutes, device, batch_size, workers, reuse, engine,
            address, rules, until_decided, baseline: as the options of `vitals audit`; `gate` gives the verdict of the last look of rules.

    Returns: the run.

    Raises:
        VitalsError: anything that cannot be planned, or cells that failed; what was measured is kept with a report, as after a Ctrl-C.

    Example:
        >>> run = vv.audit("tiny:cnn", data="shapes:test?n=24", studies="clean", preset="quick", out=folder / "one")
        >>> run.signs()[0]["clean top-1"].n
        24
    """
    from visionvitals import deciding
    from visionvitals.plan import request
    from visionvitals.report import milestones
    from visionvitals.report.build import build
    from visionvitals.run.progress import say

    run, against = Run(_folder("out", out)), None if baseline is None else _folder("baseline", baseline)
    spelled, names, own = _spelled(backbones), ",".join(_texts("studies", studies)), _own(data_for)
    how: dict[str, Any] = {"preset": preset, "limit": _count("limit", limit)}
    how |= {"seed": _whole("seed", seed, least=-(2**63), most=2**63 - 1), "decoder": decoder}
    by: dict[str, Any] = {"precision": precision, "compile": compile, "channels_last": channels_last}
    how |= {"half_width": _number("half_width", half_width), "minutes": _number("minutes", minutes)}
    files = {"rules": None if rules is None else str(rules), "baseline": None if against is None else str(against)}
    told = {"data": data, "data_for": dict(data_for), "studies": names, **how, **by, "out": str(out), **files}
    how["numerics"] = Numerics(**by)
    asked = request.plan(spelled, _texts("data", data), request.sections(names), data_for=own, **how)
    said = _call(spelled, **told, until_decided=until_decided)
    file = _path("rules", rules) if rules is not None else None
    asked = deciding.asked(asked, until_decided=until_decided, rules=file, baseline=against)
    counts = {"batch_size": _count("batch_size", batch_size), "workers": _count("workers", workers, most=4096)}
    machine: dict[str, Any] = {"device": device and str(device), "engine": engine, "address": address, **counts}
    machine["reuse"] = [_folder("reuse", each) for each in _several(reuse)]
    try:
        outcome, _ = deciding.measured(asked, out=run.folder, command=(said,), **machine)
    except KeyboardInterrupt:
        if milestones.stopped(run.folder, go_on="the same call again", say=say):
            milestones.write(run.folder)
        raise
    if outcome.measured:
        build(run.results)
    if outcome.failed:
        raise VitalsError(f"{len(outcome.failed)} cells failed: {outcome.failed[0]} The rest is kept in {run.folder}.")
    return run


def gate(run: "Run | str | AnyPath", rules: str | Path, *, baseline: "Run | str | AnyPath | None" = None) -> "Verdict":
    """Judge a run by a file of rules, see docs/decide.md.

    Args:
        run, baseline: runs, or their folders; `baseline` is what `not_worse_by` compares with.
        rules: the file.

    Returns:
        The verdict: `status`, `exit_code`, and an outcome per rule, backbone and image set.

    Raises:
        VitalsError: bad rules, or a baseline that was measured on something else.

    Example:
        >>> rules = folder / "gate.toml"
        >>> _ = rules.write_text('[[rule]]\\nsign = "clean top-1"\\nat_least = 0.5')
        >>> verdict = vv.gate(run, rules)
        >>> verdict.status, verdict.exit_code, [(outcome.backbone, outcome.status) for outcome in verdict.outcomes]
        ('pass', 0, [('tiny:vit', 'pass'), ('tiny:cnn', 'pass')])
    """
    from visionvitals.results import gate as gates

    against = None if baseline is None else _folder("baseline", baseline)
    return gates.judged(_folder("run", run), _path("rules", rules), baseline=against)[0]


def _own(data_for: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    """(study, image set of its own) of each."""
    require(isinstance(data_for, Mapping), "`data_for` must name image sets by study, {study: spelling}", data_for)
    return [(name, text) for name, sets in data_for.items() for text in _texts("data_for", sets)]


def _several(given: Any) -> list[Any]:
    return list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]


def _spelled(backbones: "str | torch.nn.Module | Sequence[str | torch.nn.Module]") -> list[str]:
    """Spellings; a module is called by its class."""
    given = _several(backbones)
    called = [type(_module(each)).__name__ for each in given if not isinstance(each, str)]
    twice = sorted({name for name in called if called.count(name) > 1})
    do = "Give each a name: `visionvitals.backbone(module, name=...)`."
    require(not twice, "Only one module of a class must be given without a name", ", ".join(twice), do)
    return [each if isinstance(each, str) else backbone(each, name=type(_module(each)).__name__) for each in given]


def _module(given: Any) -> "torch.nn.Module":
    """A module whose code can be read: of a compiled one that which was compiled, whose answers are the same."""
    import torch

    require(isinstance(given, torch.nn.Module), "A backbone must be a torch.nn.Module", type(given).__name__)
    do = "Give the module that it was made of."
    require(
        not isinstance(given, torch.jit.ScriptModule), "A backbone must not be TorchScript", type(given).__name__, do
    )
    found: torch.nn.Module = getattr(given, "_orig_mod", given)
    return found


def _folder(what: str, given: "Run | str | AnyPath") -> AnyPath:
    if isinstance(given, Run):
        return given.folder
    return located(given) if isinstance(given, str | RemotePath) else _path(what, given)


def _path(what: str, given: Any) -> Path:
    require(isinstance(given, str | PathLike), f"`{what}` must be a path", given)
    return on_disk(given)


def _call(spelled: Sequence[str], **given: Any) -> str:
    """The call of `audit` that goes on with a run, without what has its default."""
    usual = {name: parameter.default for name, parameter in inspect.signature(audit).parameters.items()}
    words = [repr(spelled), *(f"{key}={value!r}" for key, value in given.items() if value != usual[key])]
    return f"visionvitals.audit({', '.join(words)})"


def _whole(what: str, given: Any, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """A whole number of Python, numpy or torch as Python's."""
    found = _plain(given)
    require(
        type(found) is int and least <= found <= most, f"`{what}` must be a whole number from {least} to {most}", given
    )
    return int(found)


def _count(what: str, given: Any, *, most: int = 2**31 - 1) -> int | None:
    return None if given is None else _whole(what, given, most=most)


def _number(what: str, given: Any) -> float | None:
    found = _plain(given)
    require(found is None or type(found) in (int, float), f"`{what}` must be a number", given)
    return None if found is None else float(found)


def _plain(given: Any) -> Any:
    """Numbers of numpy and torch as Python's, those in a list, a tuple or an array as a list; anything else as it is."""
    if isinstance(given, list | tuple):
        return [_plain(each) for each in given]
    return given.tolist() if hasattr(given, "tolist") else given


def _keys(classes: Any) -> tuple[str, ...] | None:
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    found = tuple(classes) if several else ()
    names = several and all(isinstance(each, str) for each in found)
    require(classes is None or names, "`classes` must be names", list(found[:5]) if several else classes)
    return None if classes is None else found


def _texts(what: str, given: Any) -> tuple[str, ...]:
    found = tuple(_several(given))
    do = "A module is given as `visionvitals.backbone(...)`, pictures as `visionvitals.images(...)`."
    require(all(isinstance(each, str) for each in found), f"`{what}` must be a spelling, or several", given, do)
    return found


def _name(name: str) -> str:
    good = isinstance(name, str) and bool(name) and not set(name) & set("?@#&=%") and name == name.strip()
    require(good, "A name must be a word without ? @ # & = %", name)
    require(name.isprintable() and len(name) <= 100, "A name must have at most 100 characters, all printable", name)
    return name
