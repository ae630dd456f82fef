"""What a notebook uses: the functions behind the command line, for networks and pictures that live in Python. `reading.Run` is what they
give back.
"""

import inspect
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

from visionvitals.core import Interpolation, Preprocess, Preset
from visionvitals.errors import VitalsError, near, require
from visionvitals.reading import Run

if TYPE_CHECKING:
    import torch

    from visionvitals.results.gate import Verdict


def backbone(
    module: "torch.nn.Module",
    *,
    name: str,
    classes: Sequence[str] | None = None,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
    size: int | tuple[int, int] = 224,
    resize: int | None = None,
    interpolation: Interpolation = "bicubic",
) -> str:
    """A module of this process as a spelling, for `audit`. It is copied when it is measured.

    Args:
        module: normalised images float (b, 3, h, w) -> logits (b, k).
        name: of the network in tables.
        classes: keys of its outputs in their order (wnids, folder names), where it has them.
        mean, std: of the normalisation, on the [0, 1] scale.
        size: input in pixels, or (height, width).
        resize: pixels of the shorter side before the crop; by default 8/7 of the longer side of `size`.
        interpolation: of the resize.

    Returns:
        `memory:NAME`.

    Raises:
        VitalsError: no module, or a value of another form.

    Example:
        >>> import torch
        >>> net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
        >>> vv.backbone(net, name="net", classes=["cat", "dog"], size=32)
        'memory:net'
    """
    import torch

    from visionvitals.backbones import memory

    require(isinstance(module, torch.nn.Module), "A backbone must be a torch.nn.Module", type(module).__name__)
    sides = (size, size) if isinstance(size, int) else size
    two = isinstance(sides, Sequence) and len(sides) == 2 and all(isinstance(side, int) for side in sides)
    require(two, "`size` must be pixels, or (height, width)", size)
    height, width = sides
    known = get_args(Interpolation)
    require(interpolation in known, "`interpolation` must be known", interpolation, near(str(interpolation), known))
    channels: list[tuple[float, float, float]] = []
    for key, given in (("mean", mean), ("std", std)):
        three = isinstance(given, Sequence) and len(given) == 3 and all(isinstance(x, int | float) for x in given)
        require(three, f"`{key}` must have three numbers", given)
        channels.append((float(given[0]), float(given[1]), float(given[2])))
    preprocess = Preprocess(
        size=(height, width),
        resize=round(max(height, width) * 8 / 7) if resize is None else resize,
        interpolation=interpolation,
        mean=channels[0],
        std=channels[1],
    )
    return memory.hold(_name(name), module, preprocess=preprocess, classes=classes)


def images(
    pictures: Any, labels: Sequence[Any] | None = None, *, name: str, classes: Sequence[str] | None = None
) -> str:
    """Pictures of this process as a spelling, for `audit`.

    Args:
        pictures: Pillow images, or arrays (h, w, 3) or (3, h, w), uint8 or float in [0, 1]; or, without `labels`, pairs of one and its
            label, such as a torch data set.
        labels: whole numbers (of Python, numpy or torch) or names of classes.
        name: of the set in tables.
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
        classes = classes if classes is not None else getattr(pictures, "classes", None)
        pairs = [pictures[k] for k in range(len(pictures))]
        pictures, labels = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return memory.hold(_name(name), pictures, labels, classes)


def audit(
    backbones: "str | torch.nn.Module | Sequence[str | torch.nn.Module]",
    *,
    data: str | Sequence[str] = (),
    out: str | Path,
    data_for: Mapping[str, str | Sequence[str]] = MappingProxyType({}),
    studies: str | Sequence[str] = "all",
    preset: Preset = "default",
    limit: int | None = None,
    seed: int = 0,
    decoder: Literal["pillow", "fast"] = "pillow",
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    reuse: Sequence[str | Path] = (),
    rules: str | Path | None = None,
    until_decided: bool = False,
    baseline: "Run | str | Path | None" = None,
) -> Run:
    """Measure backbones on image sets, as `vitals audit` does; what the run folder holds already is not measured again.

    Args:
        backbones: spellings, or modules, which are called by the name of their class; see `backbone` to say more of them.
        data: image sets, spelled.
        out: the run folder.
        data_for: study -> image sets of its own, instead of `data`.
        studies: names or paths of files, with commas between or as a list; "all" for every study.
        preset, limit, seed, decoder, device, batch_size, workers, reuse: as the options of `vitals audit`.
        rules, until_decided, baseline: as its options; only as many images are measured as the rules need. `gate` with the same rules
            then gives the verdict of the last look.

    Returns:
        The run.

    Raises:
        VitalsError: anything that cannot be planned, or cells that failed; what was measured is kept.

    Example:
        >>> run = vv.audit("tiny:cnn", data="shapes:test?n=24", studies="clean", preset="quick", out=folder / "one")
        >>> run.signs()[0]["clean top-1"].n
        24
    """
    from visionvitals import deciding
    from visionvitals.plan import request
    from visionvitals.report.build import build

    given = [backbones] if not isinstance(backbones, Sequence) or isinstance(backbones, str) else list(backbones)
    spelled = [each if isinstance(each, str) else backbone(each, name=type(each).__name__) for each in given]
    names = studies if isinstance(studies, str) else ",".join(_texts("studies", studies))
    seed = _whole("seed", seed, least=-(2**63), most=2**63 - 1)
    limit = None if limit is None else _whole("limit", limit)
    own = [(name, text) for name, sets in data_for.items() for text in ([sets] if isinstance(sets, str) else sets)]
    asked = request.plan(
        spelled,
        (data,) if isinstance(data, str) else _texts("data", data),
        request.sections(names),
        data_for=own,
        preset=preset,
        seed=seed,
        limit=limit,
        decoder=decoder,
    )
    against = _folder(baseline)
    told = {"data": data, "data_for": dict(data_for), "studies": names, "preset": preset, "limit": limit, "seed": seed}
    files = {"rules": None if rules is None else str(rules), "baseline": None if against is None else str(against)}
    said = _call(spelled, **told, decoder=decoder, out=str(out), **files, until_decided=until_decided)
    where = Path(out)
    asked = deciding.asked(
        asked, until_decided=until_decided, rules=None if rules is None else Path(rules), baseline=against
    )
    outcome, _ = deciding.measured(
        asked, out=where, command=(said,), device=device, batch_size=batch_size, workers=workers, reuse=reuse
    )
    run = Run(where)
    if outcome.measured:
        build(run.results)
    if outcome.failed:
        raise VitalsError(f"{len(outcome.failed)} cells failed: {outcome.failed[0]} The rest is kept in {where}.")
    return run


def gate(run: "Run | str | Path", rules: str | Path, *, baseline: "Run | str | Path | None" = None) -> "Verdict":
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

    require(run is not None, "A gate must be given a run", run)
    here = _folder(run)
    assert here is not None
    return gates.judged(here, Path(rules), baseline=_folder(baseline))[0]


def _folder(run: "Run | str | Path | None") -> Path | None:
    return None if run is None else run.folder if isinstance(run, Run) else Path(run)


def _call(spelled: Sequence[str], **given: Any) -> str:
    """The call of `audit` that goes on with a run, without what has its default."""
    usual = {name: parameter.default for name, parameter in inspect.signature(audit).parameters.items()}
    words = [repr(spelled), *(f"{key}={value!r}" for key, value in given.items() if value != usual[key])]
    return f"visionvitals.audit({', '.join(words)})"


def _whole(what: str, given: Any, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """A whole number of Python or numpy as Python's."""
    good = type(given) is not bool and isinstance(given, Integral) and least <= int(given) <= most
    require(good, f"`{what}` must be a whole number from {least} to {most}", given)
    return int(given)


def _texts(what: str, given: Any) -> tuple[str, ...]:
    good = isinstance(given, Sequence) and all(isinstance(each, str) for each in given)
    do = "A module is given as `visionvitals.backbone(...)`, pictures as `visionvitals.images(...)`."
    require(good, f"`{what}` must be a spelling, or several", given, do)
    return tuple(given)


def _name(name: str) -> str:
    good = isinstance(name, str) and bool(name) and not set(name) & set("?@#&=%") and name == name.strip()
    require(good, "A name must be a word without ? @ # & = %", name)
    return name
