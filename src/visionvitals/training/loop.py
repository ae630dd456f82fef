"""The training loop, in plain PyTorch with timm's parts: AdamW, cosine, moving average of the weights, exact resume after a kill.

Order and augmentation of the pictures are a hash of (seed, epoch, picture), dropout and mixing a hash of (seed, step, part of the batch),
so a resumed training on the CPU equals the uninterrupted one bit for bit, and several processes compute what one does. In the folder
of a training:

    checkpoint.pt         what a resume needs, replaced every minute and after every epoch
    metrics.jsonl         one line an epoch: training loss, accuracy of the averaged weights on the test set
    weights.safetensors   the averaged weights of the last whole epoch in half precision; final when the training is over
    teacher/              the same of a teacher that is a recipe, trained before the student
    store/, plan.json     at the end: the curves, for `vitals table` and `vitals report`
"""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from visionvitals.errors import VitalsError, require
from visionvitals.files import sweep
from visionvitals.run import memory
from visionvitals.run.progress import duration
from visionvitals.training import checkpoints, curves, data, distributed, measure, network, start, teacher
from visionvitals.training.data import Pictures
from visionvitals.training.distributed import Team
from visionvitals.training.recipe import Recipe, facts, learning_rate
from visionvitals.training.state import State, begin
from visionvitals.training.step import Objective, gradient

SAVE_SECONDS = 60.0
REPORT_SECONDS = 5.0
Report = Callable[[str], None]


def train(
    recipe: Recipe,
    *,
    out: Path,
    device: torch.device | str = "cpu",
    resume: bool = True,
    micro: int | None = None,
    workers: int | None = None,
    report: Report = print,
) -> Path | None:
    """Train a recipe's network on its image sets.

    Args:
        recipe: see `Recipe`.
        out: folder of this training; made where missing. With several processes all must see the same one.
        device: where to compute; with several processes, each takes a GPU of that kind.
        resume: go on from the checkpoint in `out` where there is one; False begins anew and replaces it.
        micro: pictures that fit into memory at once; a step's gradient is accumulated over as many parts as that needs. Batch
            normalisation sees one part at a time, so a network that has it learns otherwise.
        workers: processes that augment ahead; by default one per core beside a GPU, none on the CPU.
        report: is given one plain line every few seconds.

    Returns:
        The final weights, see `checkpoints.export`; None in all processes but the first.

    Raises:
        VitalsError: the network, the teacher or an image set is unknown or they do not fit each other, `out` holds another training,
            or the loss is not finite.
    """
    require(out.is_dir() or not out.exists(), "`--out` must be a folder", str(out), "Give another one.")
    team = distributed.join(device)
    say = report if team.leads else _silent
    try:
        path = _together(recipe, out, team, resume=resume, micro=micro, workers=workers, report=say)
        return path if team.leads else None
    finally:
        team.leave()


def _together(recipe: Recipe, out: Path, team: Team, **how: Any) -> Path:
    """`train` by a team that has met; a teacher that is a recipe comes first."""
    network.make(recipe, outputs=2)  # a wrong spelling is refused before pictures are decoded
    if first := teacher.first(recipe):
        how["report"](f"{recipe.name}: first its teacher, {first.name}")
        _together(first, teacher.folder(out), team, **how)
    for leads in (True, False):  # the first process decodes, the others find it done
        if team.leads == leads:
            learn = data.load_pictures(recipe.train, recipe, how["report"], learn=True)
            test = data.load_pictures(recipe.test, recipe, how["report"])
        team.wait()
    return fit(recipe, learn, test, out=out, team=team, **how)


def fit(
    recipe: Recipe,
    learn: Pictures,
    test: Pictures,
    *,
    out: Path,
    team: Team | None = None,
    resume: bool = True,
    micro: int | None = None,
    workers: int | None = None,
    report: Report = print,
) -> Path:
    """`train` on pictures that are loaded already, by the processes of `team`; by default by this one on the CPU."""
    team = team or Team(0, 1, torch.device("cpu"))
    data.require_fit(learn, test, recipe)
    parts, length = distributed.share(recipe.batch, team, micro)
    must = "Mixup and CutMix pair the pictures of a part, so a part must have an even number of them"
    require(length % 2 == 0 or not (recipe.mixup or recipe.cutmix), must, length)
    memory.keep()
    out.mkdir(parents=True, exist_ok=True)
    images = learn.described()
    begun = start.load(recipe, images, report=report) if recipe.start else None
    told = teacher.spelled(recipe, out)
    source = teacher.load(told, images, device=team.device, report=report) if told else None
    digests = {"train": learn.digest, "test": test.digest}
    digests |= {name: one.digest for name, one in (("start", begun), ("teacher", source)) if one is not None}
    identity = facts(recipe) | {f"digest of {name}": digest for name, digest in digests.items()}
    sweep(out)
    saved = checkpoints.read(out, identity) if resume else None
    with _own_generators(team.device):
        state = begin(recipe, len(learn.classes), team, begun, saved)
        if saved is not None:
            left = recipe.epochs * (len(learn.labels) // recipe.batch) - state.step
            told = (
                f"going on from step {state.step:,}"
                if left
                else f"complete, {state.step:,} steps: nothing is left to do"
            )
            report(f"{recipe.name}: {told}")
        objective = Objective(recipe, len(learn.classes), source)
        kept = _Kept(recipe, learn, test, out, team, state, digests, identity)
        clock = _Clock(state.step)
        _descend(kept, objective, clock, parts=parts, length=length, workers=_workers(workers, team), report=report)
        path = kept.export()
        if team.leads:
            kept.metrics()
            seconds, device = time.monotonic() - clock.began, team.device
            curves.keep(out, recipe, state.history, weights=path, test=test, device=device, seconds=seconds)
        team.wait()
        return path


class _Clock:
    """When something was last said and saved, in seconds of the monotonic clock; and where this process began."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.began = self.said = self.saved = time.monotonic()


@dataclass(frozen=True)
class _Kept:
    """What a training leaves in its folder; only the first process writes."""

    recipe: Recipe
    learn: Pictures
    test: Pictures
    out: Path
    team: Team
    state: State
    digests: Mapping[str, str]
    identity: Mapping[str, Any]

    def save(self) -> None:
        """The checkpoint."""
        if self.team.leads:
            checkpoints.save(self.out, {"identity": dict(self.identity)} | self.state.plain())

    def export(self) -> Path:
        """The averaged weights."""
        if not self.team.leads:
            return self.out / checkpoints.WEIGHTS
        state = self.state
        return checkpoints.export(
            self.out,
            state.average.module.state_dict(),
            self.recipe,
            kwargs=state.kwargs,
            classes=self.learn.classes,
            data=self.digests,
            metrics=curves.plain(state.history[-1]),
        )

    def metrics(self) -> None:
        """The history, a line an epoch."""
        if self.team.leads:
            checkpoints.write_metrics(self.out, [curves.plain(epoch) for epoch in self.state.history])


def _descend(
    kept: _Kept, objective: Objective, clock: _Clock, *, parts: int, length: int, workers: int, report: Report
) -> None:
    """All steps that are left, epoch by epoch; each process takes `parts` parts of `length` pictures a step."""
    recipe, state, team = kept.recipe, kept.state, kept.team
    wrapped = team.wrap(state.module.train())
    a_pass = len(kept.learn.labels) // recipe.batch  # steps
    steps = recipe.epochs * a_pass
    while state.step < steps:
        epoch, position = divmod(state.step, a_pass)
        places = _places(recipe, team, epoch, range(position, a_pass), parts, length)
        coming = data.stream(kept.learn, recipe, places, workers=workers, pin=team.device.type == "cuda")
        for _ in range(position, a_pass):
            now = learning_rate(recipe, state.step, steps)
            value = _step(state, objective, wrapped, coming, team=team, parts=parts, lr=now)
            if not math.isfinite(value):
                raise VitalsError(_not_finite(value, epoch, state.step, now, kept.out))
            if time.monotonic() - clock.said >= REPORT_SECONDS:
                clock.said = time.monotonic()
                report(_progress(recipe, clock, state.step, steps, epoch, value))
            if state.step % a_pass and time.monotonic() - clock.saved >= SAVE_SECONDS:
                kept.save()
                clock.saved = time.monotonic()
        report(f"{recipe.name}: epoch {epoch + 1} done, {_measured(state, recipe, kept.test, team, now, a_pass)}")
        kept.save()
        kept.export()
        kept.metrics()
        clock.saved = time.monotonic()


def _step(
    state: State,
    objective: Objective,
    wrapped: nn.Module,
    coming: Iterator[tuple[Tensor, Tensor]],
    *,
    team: Team,
    parts: int,
    lr: float,
) -> float:
    """One step of the optimiser; its mean loss. Where that is not finite, the weights stay as they are and no step is counted."""
    for group in state.optimizer.param_groups:
        group["lr"] = lr
    state.optimizer.zero_grad()
    value = gradient(objective, wrapped, coming, team=team, parts=parts, step=state.step, scaler=state.scaler)
    if not math.isfinite(value):
        return value
    if objective.recipe.clip:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.module.parameters(), objective.recipe.clip)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.step += 1
    state.average.update(state.module, state.step)
    state.total += value
    return value


def _progress(recipe: Recipe, clock: _Clock, step: int, steps: int, epoch: int, loss: float) -> str:
    rate = (step - clock.first) * recipe.batch / (clock.said - clock.began)
    left = duration((steps - step) * recipe.batch / rate)
    return (
        f"{recipe.name}: epoch {epoch + 1}/{recipe.epochs}, step {step:,}/{steps:,}, "
        f"loss {loss:.3f}, {rate:,.0f} images/s, {left} left"
    )


def _places(
    recipe: Recipe, team: Team, epoch: int, steps: range, parts: int, length: int
) -> list[tuple[int, int, int]]:
    """(epoch, first, last) of this process's parts of the steps of an epoch, in order."""
    own = [(team.rank * parts + k) * length for k in range(parts)]
    starts = [step * recipe.batch + start for step in steps for start in own]
    return [(epoch, start, start + length) for start in starts]


def _measured(state: State, recipe: Recipe, test: Pictures, team: Team, lr: float, a_pass: int) -> str:
    """Measure the averaged weights at the end of an epoch, add it to the history, and say it."""
    found = measure.right(state.average.module, test, recipe, team)
    top1 = {name: round(float(v.float().mean()), 6) for name, v in found.items()}
    done = {"epoch": state.step // a_pass, "step": state.step, "loss": state.total / a_pass, "lr": lr}
    state.history.append(done | top1 | {"right": found})
    state.total = 0.0
    shown = ", ".join(f"test {name.replace('_', ' of the ')} {v:.4f}" for name, v in top1.items())
    return f"mean loss {done['loss']:.4f}, {shown}"


def _own_generators(device: torch.device) -> AbstractContextManager[None]:
    """The caller's generators stay as they are."""
    fork: AbstractContextManager[None] = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
    return fork


def _workers(asked: int | None, team: Team) -> int:
    """Beside a GPU the pictures are made ahead by the other cores, shared with the processes of this machine."""
    if asked is not None:
        return asked
    return 0 if team.device.type == "cpu" else max(1, (os.cpu_count() or 2) // max(1, torch.cuda.device_count()) - 1)


def _silent(_line: str) -> None: ...


def _not_finite(value: float, epoch: int, step: int, lr: float, out: Path) -> str:
    kept = (
        "The last good checkpoint and weights are kept in"
        if (out / checkpoints.CHECKPOINT).is_file()
        else "Nothing is kept in"
    )
    return (
        f"The loss must be finite. Got {value} in epoch {epoch + 1}, step {step + 1}, at a learning rate of {lr:.3g}. The training "
        f"has stopped. {kept} {out}. Train again into another folder with a smaller `lr`, a longer `warmup` or a smaller `clip`."
    )
