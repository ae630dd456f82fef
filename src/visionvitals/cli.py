"""The command `vitals`: one command per intention. Every heavy import is inside the function that needs it."""

import dataclasses
import functools
import os
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

import visionvitals
from visionvitals import cli_hand, cli_read, cli_shape, cli_words
from visionvitals.errors import Terminated, VitalsError, require, shortened
from visionvitals.numerics import Numerics, Precision
from visionvitals.options import SAID, Count, PresetName, RunFolder, Seed, Threads
from visionvitals.remote import AnyPath, RemotePath
from visionvitals.run.progress import say
from visionvitals.show.command import show
from visionvitals.terminal import complain, print_line, show_plan, show_vital_signs

if TYPE_CHECKING:
    from visionvitals.plan.request import Plan
    from visionvitals.run.shards import Shard

app = App(
    name="vitals",
    help="Measure how robust vision backbones are: what they still recognise when images are occluded, shuffled, corrupted or attacked.",
    version=visionvitals.__version__,
    result_action="return_value",
    default_parameter=SAID,
)
app.command(show)
app.command(cli_shape.responses)
app.command(cli_shape.consistency)
app.command(cli_shape.stylize)
app.command(cli_shape.train)
for each in (
    cli_read.status,
    cli_read.clean,
    cli_read.report,
    cli_read.table,
    cli_read.compare,
    cli_read.gate,
    cli_read.cache,
    cli_read.explain,
):
    app.command(each)
app.command(cli_read.list_, name="list")
app.command(cli_hand.card)
app.command(cli_hand.note)
app.command(cli_hand.serve)
_typed: ContextVar[tuple[str, ...]] = ContextVar("typed", default=())
DEMO_IMAGES = 512
DEMO = "clean,occlusion,shuffle,corner,shape_bias,attention,segmentation,depth,transfer,fewshot"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Choices:
    """What to measure. It is the same in `audit`, in `plan`, and in a plan file.

    Attributes:
        data: An image set, `family:name`, e.g. folder:/data/val. Give it again for several.
        data_for: An image set for one study only, `study=family:name`, e.g. segmentation=masks:/data/cows. Give it again for several.
        studies: Names separated by commas, or all. See `vitals list studies`.
        limit: At most this many images of each set, drawn by the seed.
        seed: Seed of all random draws.
        decoder: pillow is the reference; fast needs the extra [fast].
        precision: Number format of the passes that are scored; what bf16 and fp16 change is measured first. See docs/numerics.md.
        compile: Compile these passes.
        channels_last: Keep weights and images of these passes in this layout.
        half_width: Percentage points, e.g. 1.0. A cell ends when the interval of its first share (mostly top-1) is this narrow on both sides.
        minutes: Time to spend. Every cell gets 256 images; the rest of the time goes to the widest intervals.
    """

    data: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    data_for: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    studies: str = "all"
    preset: PresetName = "default"
    limit: Count = None
    seed: Seed = 0
    decoder: Literal["pillow", "fast"] = "pillow"
    precision: Precision = "fp32"
    compile: Annotated[bool, Parameter(negative=())] = False
    channels_last: Annotated[bool, Parameter(negative=())] = False
    half_width: float | None = None
    minutes: float | None = None

    def plan(self, backbones: Sequence[str]) -> "Plan":
        from visionvitals.plan import request

        return request.plan(
            backbones,
            self.data,
            request.sections(self.studies),
            data_for=[text.partition("=")[::2] for text in self.data_for],
            preset=self.preset,
            seed=self.seed,
            limit=self.limit,
            decoder=self.decoder,
            numerics=Numerics(precision=self.precision, compile=self.compile, channels_last=self.channels_last),
            half_width=self.half_width,
            minutes=self.minutes,
        )


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Machine:
    """How to measure. It never changes the numbers, and may differ when a run is resumed.

    Attributes:
        device: cpu, cuda, cuda:N or mps; by default the best there is. cuda:0,cuda:1, all or cpu:N for several processes.
        batch_size: Images per forward pass, by default 128 on a GPU and 32 elsewhere. Halved where memory runs out.
        workers: Decoding threads, by default one per core.
        reuse: Take equal cells from this run folder instead of measuring them. Give it again for several.
        engine: local, or ray for a cluster, with the extra [ray]. See docs/cluster.md.
        address: Address of the Ray cluster: auto, HOST:6379 or ray://HOST:10001; by default a Ray on this machine.
    """

    device: str | None = None
    batch_size: Count = None
    workers: Threads = None
    reuse: Annotated[tuple[RunFolder, ...], Parameter(negative=())] = ()
    engine: Literal["local", "ray"] = "local"
    address: str | None = None


@app.command
def demo(*, out: RunFolder = Path("runs/demo"), machine: Machine = Machine()) -> int:
    """Audit the two embedded networks on the embedded images. No download; 33 seconds on two idle cores (docs/install.md).

    Args:
        out: The run folder, or its URL on an object store (s3://bucket/run).
    """
    data = f"shapes:test?n={DEMO_IMAGES}"
    asked = Choices(data=(data,), studies=DEMO, preset="quick").plan(["tiny:vit", "tiny:cnn"])
    return _audit([asked], out, machine)


@app.command
def audit(
    *backbones: str,
    out: RunFolder,
    rules: Path | None = None,
    until_decided: Annotated[bool, Parameter(negative=())] = False,
    baseline: RunFolder | None = None,
    choices: Choices = Choices(),
    machine: Machine = Machine(),
) -> int:
    """Measure backbones on image sets and write a report. The same command again resumes; another one into the same folder adds to it.

    Args:
        backbones: `family:name[@checkpoint][?key=value]`, e.g. timm:resnet50.tv_in1k. See `vitals list backbones`.
        out: The run folder, or its URL on an object store (s3://bucket/run).
        rules: A file of rules, for --until-decided.
        until_decided: Measure only as many images as the rules need, and exit as `vitals gate` does.
        baseline: The run that `not_worse_by` of the rules compares with.
    """
    from visionvitals import deciding

    plan = choices.plan(backbones)
    return _audit([deciding.asked(plan, until_decided=until_decided, rules=rules, baseline=baseline)], out, machine)


@app.command
def plan(
    *what: str,
    out: RunFolder | None = None,
    choices: Choices = Choices(),
    device: str | None = None,
    batch_size: Count = None,
) -> int:
    """Show what would run, what would be skipped and why, and how long it would take.

    Args:
        what: Backbones as for `audit`, or one plan file (.toml).
        out: Keep the request in this run folder, for `vitals run DIR`; nothing is kept without it.
        device: As for `audit`; of several, the speed of the first is measured, and the time is for that one alone.
        batch_size: Images per forward pass of that measurement.
    """
    from visionvitals.plan import planner
    from visionvitals.run import calibrate, devices, fleet, folder

    asked = _plan_of(what, choices)
    if out is not None:
        folder.refuse_another(out, asked)
    chosen, *_ = [devices.choose_device(name) for name in fleet.devices_of(device)]
    batch = batch_size or devices.default_batch_size(chosen)
    rate = functools.partial(calibrate.rate, batch_size=batch)
    planned = planner.make(asked, device=chosen, rate=rate, batch_size=batch)
    show_plan(planned, planned.rates, str(chosen))
    if out is not None:
        folder.claim(out, planned, command=("vitals", *_typed.get()))
        print_line(f"Kept. To measure it: vitals run {shlex.quote(str(out))}")
    return 0


@app.command
def run(
    what: RunFolder,
    /,
    *,
    out: RunFolder | None = None,
    shard: str | None = None,
    trust: Annotated[bool, Parameter(negative=())] = False,
    machine: Machine = Machine(),
) -> int:
    """Run a plan file, or go on with a run folder, alone or as one of several processes.

    Args:
        what: A plan file (.toml), or the run folder of an earlier run.
        out: The run folder, for a plan file.
        shard: Only the share I/N of a planned run, I from 0; auto asks SLURM, Kubernetes or torchrun.
        trust: Execute the code that a run folder from elsewhere names: studies, backbones and image sets by path, `python:` functions.
    """
    from visionvitals.plan import plan_file
    from visionvitals.run import requests, shards

    chosen = None if shard is None else shards.read(shard)
    if isinstance(what, RemotePath) or os.path.isdir(what):
        require(out is None or out == what, "A run goes on in its own folder", str(out), "Leave `--out` out.")
        asked = requests.read_plans(what, trusted=trust)
        try:
            return _audit(asked, what, machine) if chosen is None else _each(asked, what, machine, chosen)
        except VitalsError as error:
            calls = requests.calls(requests.content_of(what))
            raise VitalsError("\n".join([str(error), *(f"It was begun by: {call}" for call in calls)])) from error
    do = f"First `vitals plan {shlex.quote(str(what))} --out DIR`, then `vitals run DIR --shard {shard}` in every process."
    require(chosen is None, "`--shard` needs the run folder of what was planned", str(what), do)
    do = f"Try `vitals run {what} --out runs/1`."
    exists = "`vitals run` must be given a plan file (.toml) or a run folder that exists"
    require(os.path.isfile(what) or what.suffix == ".toml", exists, str(what), "To begin a run: `vitals audit`.")
    require(out is not None, "`--out` must name the run folder of a plan file", None, do)
    assert out is not None
    return _audit([plan_file.read(what)], out, machine)


def _audit(asked: "Sequence[Plan]", out: AnyPath, machine: Machine) -> int:
    """Plan, run, report; 1 where a cell failed."""
    from visionvitals.run import folder

    done = [folder.finished(out, plan) if plan.until is None else None for plan in asked]
    if None in done:
        return _each([plan for plan, found in zip(asked, done, strict=True) if found is None], out, machine)
    found = sum(n for n in done if n is not None)
    say(f"0 cells measured, {found} found from before: the run is complete, and nothing that it depends on has changed")
    if folder.report_is_current(out):
        print_line(f"Report: {out / 'report.html'}")
    else:
        _finish(out)
    return 0


def _each(asked: "Sequence[Plan]", out: AnyPath, machine: Machine, shard: "Shard | None" = None) -> int:
    """Measure one request after the other, until one is stopped."""
    code = 0
    for plan in asked:
        code = max(code, _measure(plan, out, machine, shard))
        if code > 1:
            break
    return code


def _measure(asked: "Plan", out: AnyPath, machine: Machine, shard: "Shard | None") -> int:
    from visionvitals.deciding import measured
    from visionvitals.report import milestones
    from visionvitals.results import verdicts, words
    from visionvitals.run import status

    go_on = f"vitals run {shlex.quote(str(out))}" + (f" --shard {shard}" if shard else "")
    how = {"command": ("vitals", *_typed.get()), "shard": shard, "say": say}
    try:
        outcome, verdict = measured(asked, out=out, **how, **vars(machine))  # type: ignore[arg-type]
    except (KeyboardInterrupt, Terminated) as stop:
        if milestones.stopped(out, go_on=go_on, say=say) and shard is None:
            print_line(f"Report so far: {milestones.write(out)}")
        return 130 if isinstance(stop, KeyboardInterrupt) else 143
    done = f"{words.count(outcome.measured, 'cell')} measured"
    say(f"{done}, {outcome.found} found from before, {len(outcome.failed)} failed")
    left = sum(p.missing + p.failed for p in status.of(out)[0]) if shard else 0
    if left:
        say(
            f"Left to other shares: {words.count(left, 'cell')} of the run; `vitals run {shlex.quote(str(out))}` measures those that no share takes"
        )
    elif outcome.measured + outcome.found:
        _finish(out)
    for sentence in outcome.failed:
        say(f"Failed: {sentence}")
    if outcome.failed:
        say(f"The rest is kept. To try these again: {go_on}")
    if verdict is not None:
        print_line("\n".join(verdicts.text(verdict)))
    return 1 if outcome.failed else 0 if verdict is None else verdict.exit_code


def _finish(out: AnyPath) -> None:
    """The vital signs on the terminal, and the report; what was measured is read once."""
    from visionvitals import results
    from visionvitals.report.build import build

    run = results.load(out)
    show_vital_signs(run)
    print_line(f"Report: {build(run)}")


def _plan_of(what: Sequence[str], choices: Choices) -> "Plan":
    """The plan of a file, or of backbones and flags."""
    from visionvitals.plan import plan_file

    if not (len(what) == 1 and what[0].endswith(".toml")):
        return choices.plan(what)
    given = [f"--{f.name}" for f in dataclasses.fields(choices) if getattr(choices, f.name) != f.default]
    do = f"Write it into {what[0]}."
    require(not given, "A plan file takes no further options", ", ".join(given), do)
    return plan_file.read(Path(what[0]))


def _terminate(number: int, frame: object) -> None:
    raise Terminated


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0; 1 where a cell failed; 2 for what the user can mend; 3 where a gate is undecided; 130 after
    Ctrl-C, 143 after SIGTERM."""
    typed = tuple(sys.argv[1:] if words is None else words)
    _typed.set(typed)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(typed, exit_on_error=False, print_error=False)
    except (CycloptsError, VitalsError) as error:
        complain(str(error) if isinstance(error, VitalsError) else cli_words.said(error, app, typed))
        return 2
    except KeyboardInterrupt:
        return 130
    except Terminated:
        return 143
    except OSError as error:  # a path of the user's: too long, a file in place of a folder, closed; or the disk is full
        where = "" if error.filename is None else f" Got {shortened(str(error.filename))}."
        complain(f"The disk refused: {error.strerror or error}.{where} Name another path, or make room.")
        return 2
    return code if isinstance(code, int) else 0
