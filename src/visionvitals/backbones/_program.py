"""A network that is a program in a file: one function from a batch of images to logits. Nothing inside can be seen, and no gradient passes."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from visionvitals import core
from visionvitals.backbones import _answers, _options, _outputs, _parts, _preprocess
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

_ALONE = 1e-4
"""Of the largest logit: what a picture beside it may change of an answer before each picture is given alone."""
ALONE = "its answers depend on the other pictures of a batch (as where the scales of integers are taken from a whole batch), so pictures are given one by one"


@dataclass(frozen=True, kw_only=True)
class Options(_options.Look):
    """What the spelling of a program may say."""

    size: _options.Size | None = _options.size()


@dataclass(frozen=True, kw_only=True)
class Program:
    """What a family reads from a file.

    Attributes:
        run: normalised images (n, 3, h, w), float32, on the device -> its answer.
        architecture: how reports name it.
        digest: sha256 of all that the file holds.
        size: (height, width) of its input; None for each side that the file leaves open.
        least, most: how many images it takes at once; None for any number.
        alone: it is known that its answers depend on the pictures beside; else it is tried.
        parameters: number of weights.
        notes: warnings for the report.
    """

    run: Callable[[Tensor], object]
    architecture: str
    digest: str
    size: tuple[int | None, int | None]
    least: int = 1
    most: int | None = None
    alone: bool = False
    parameters: int = 0
    notes: tuple[str, ...] = ()


class Answering(nn.Module):
    """The program for any number of images: they are parted, and what is too small is filled up with copies of its last image."""

    def __init__(self, program: Program, *, alone: bool = False) -> None:
        super().__init__()
        self.program, self.alone = program, alone

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Tensor:
        step = 1 if self.alone else self.program.most or len(images)
        with torch.no_grad():
            found = [self._asked(images[k : k + step]) for k in range(0, len(images), step)]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _asked(self, images: Tensor) -> Tensor:
        n = len(images)
        more = images[-1:].expand(max(0, self.program.least - n), -1, -1, -1)
        answer = _parts.logits_of(self.program.run(torch.cat([images, more]) if len(more) else images))
        rows = max(n, self.program.least)
        if not isinstance(answer, Tensor) or answer.ndim == 0 or len(answer) != rows:
            _outputs.require_logits(answer, rows=rows)
        return answer[:n].to(torch.float32) if answer.is_floating_point() else answer[:n]


def assemble(program: Program, options: Options, *, spec: Spec, device: torch.device) -> core.Backbone:
    """The backbone of a program: logits only.

    Raises:
        VitalsError: no input size, or another one than that of the file; what `_parts.assemble` refuses.
    """
    preprocess = _preprocess.override(_preprocess.IMAGENET, options, size=_sized(program, options.size))
    alone = program.alone or _depends(program, preprocess, device)
    network = _parts.Network(
        module=Answering(program, alone=alone),
        architecture=program.architecture,
        preprocess=preprocess,
        build={"file": program.digest},
        notes=program.notes + (_preprocess.ASSUMED,) * _open(options) + (ALONE,) * alone,
    )
    made = _parts.assemble(network, spelling=spec.text, device=device, classes=options.classes, order=options.order)
    card = replace(made.card, parameters=program.parameters, inference_only=True)
    return replace(made, card=card, remade=None)


def _sized(program: Program, asked: _options.Size | None) -> _options.Size:
    height, width = program.size
    if asked is None:
        require(
            height is not None and width is not None,
            "The file must say the size of its input",
            f"{height or 'any'} x {width or 'any'} pixels",
            "Say what it was made for: `?size=224`, or `?size=HEIGHTxWIDTH`.",
        )
        assert height is not None
        assert width is not None
        return height, width
    fits = height in (None, asked[0]) and width in (None, asked[1])
    must = f"The file takes pictures of {height or 'any'} x {width or 'any'} pixels, so `size` must be that"
    require(fits, must, f"{asked[0]}x{asked[1]}", "Leave `size` out, or export the network again.")
    return asked


def _open(options: Options) -> bool:
    """Whether the spelling leaves open how pictures become its input."""
    cut = options.resize is None and options.crop is None
    return cut or None in (options.interpolation, options.mean, options.std)


def _depends(program: Program, preprocess: core.Preprocess, device: torch.device) -> bool:
    """Whether another picture beside it changes an answer. What cannot run is refused later, with its reason."""
    mean, std = (torch.tensor(x, device=device).view(1, 3, 1, 1) for x in (preprocess.mean, preprocess.std))
    with _answers.exact(device):
        images = (_answers.pictures(preprocess.size, device) - mean) / std
        dark = torch.cat(
            [images[:1], images[1:] / 4]
        )  # another range, and at least as many pictures as it takes at once
        many = torch.cat([dark, images[1:].expand(max(0, (program.most or 2) - 2), -1, -1, -1)])
        try:
            alone = torch.cat([Answering(program)(each[None]) for each in dark])
            beside = Answering(program)(many)[: len(dark)]
        except Exception:
            return False
        # every picture: where the largest value of a batch sets a scale, it is the darker ones that change
        apart = (alone - beside).abs().amax(dim=1) > _ALONE * alone.abs().amax(dim=1)
        return bool(alone.isfinite().all()) and bool(apart.any())


def file_of(spec: Spec, suffix: str) -> Path:
    """The file that a spelling names.

    Raises:
        VitalsError: there is none; near names are listed.
    """
    path = Path(spec.name if spec.checkpoint is None else f"{spec.name}@{spec.checkpoint}").expanduser()
    if not path.is_file():
        beside = [each.name for each in path.parent.glob(f"*{suffix}")] if path.parent.is_dir() else []
        raise VitalsError(f"There is no file {path}. {near(path.name, beside)}".rstrip())
    return path


def digest(paths: Iterable[Path]) -> str:
    """sha256 of the contents of files, in order."""
    made = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            made.update(hashlib.file_digest(file, "sha256").digest())
    return made.hexdigest()
