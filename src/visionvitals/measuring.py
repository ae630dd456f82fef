"""From a plan to a run folder with a report: what the command line and a notebook call."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from visionvitals import registry
from visionvitals.errors import require
from visionvitals.files import lexists
from visionvitals.remote import AnyPath, located

if TYPE_CHECKING:
    import torch

    from visionvitals.plan.planner import Planned
    from visionvitals.plan.request import Plan
    from visionvitals.run.dealing import Hands
    from visionvitals.run.runner import Outcome
    from visionvitals.run.shards import Shard

    Start = Callable[[Mapping[str, Any], Callable[[str], None]], AbstractContextManager[Hands]]

Engine = Literal["local", "ray"]
ROUNDS = 2
"""So often what is missing is dealt out: of a cell whose last parts end at one moment on two machines, neither may see that of the other at once."""


def measure(
    plan: "Plan",
    *,
    out: AnyPath,
    command: Sequence[str],
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    reuse: Sequence[str | AnyPath] = (),
    shard: "Shard | None" = None,
    engine: Engine = "local",
    address: str | None = None,
    studies: Collection[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> "Outcome":
    """Measure what a run folder lacks of a plan. While it goes on, the report is written anew now and then, see `report.milestones`.

    Args:
        plan: what to measure, see `plan.request`.
        out: the run folder.
        command: what the user typed, as words.
        device, batch_size, workers, reuse, engine, address: as the options of `vitals audit`.
        shard: only this share of a run that was planned, see `run.shards`; the report is not written then.
        studies: see `run.runner.execute`.
        say: is told how far it is.

    Raises:
        VitalsError: anything that cannot be planned or written. A cell that fails is recorded.
    """
    from visionvitals.plan import plan_file, planner
    from visionvitals.report import milestones
    from visionvitals.run import calibrate, folder, precision, requests, runner, shards
    from visionvitals.run.progress import cells

    folder.refuse_another(out, plan)
    for path in reuse:
        must, do = "`--reuse` must name run folders", "Name the folder that was given to `--out`."
        require(lexists(located(path) / "plan.json"), must, str(path), do)
    chosen, start = _hands(engine, device, address)
    if engine == "local":
        precision.check(plan.numerics, chosen)
    do = "Give each of its processes its own."
    require(start is None or shard is None, "A share runs on one device", device or "--engine ray", do)
    must, do = "A time must be spent by one process", "Give one device, or --half-width."
    require(start is None or plan.minutes is None, must, device or "--engine ray", do)
    local = [text for text in (*plan.backbones, *plan.sets) if registry.in_memory(text)] if start else []
    do = "Save it as a checkpoint or a folder, or use one device."
    require(not local, "What lives in one process cannot be measured by several", ", ".join(local), do)
    mine = None if shard is None else shards.share_of(requests.content_of(out), plan, shard)
    if mine == {}:
        return runner.Outcome(measured=0, found=0)
    say(f"Planning on {chosen}")
    only = None if mine is None else {share.backbone for share in mine.values()}
    rate = partial(calibrate.rate, batch_size=1, seconds=0.1)
    planned = planner.make(plan, device=chosen, rate=rate, only=only)
    skipped = f", {len(planned.skips)} skipped (see `vitals plan` or the report)" if planned.skips else ""
    say(f"{cells(len(planned.cells))}{skipped}")
    for spec, card in planned.backbones.items():
        for note in card.notes if registry.in_memory(spec) else ():
            say(f"Note: {spec}: {note}")
    if start is not None:
        told = {"plan": plan_file.to_dict(plan), "command": command, "batch_size": batch_size, "workers": workers}
        told |= {"reuse": [str(located(path).absolute()) for path in reuse], "folder": os.getcwd()}
        return _dealt(planned, out.absolute(), told, start, milestones.writer(out, say))
    return runner.execute(
        planned,
        out=out,
        device=chosen,
        batch_size=batch_size,
        workers=workers,
        command=command,
        reuse=[located(each) for each in reuse],
        rates=planned.rates,
        mine=None if mine is None else {identifier: share.parts for identifier, share in mine.items()},
        by="" if shard is None else f"{shard.index}-of-{shard.count}",
        milestone=milestones.writer(out, say) if shard is None else lambda headline: None,
        studies=studies,
    )


def _hands(engine: Engine, device: str | None, address: str | None) -> "tuple[torch.device, Start | None]":
    """(where this process computes, how to start the others; None for one process)."""
    from visionvitals.run import cluster, devices, fleet

    if engine == "ray":
        cluster.check(device, address)
        return devices.choose_device(None), partial(cluster.started, device=device, address=address)
    require(engine == "local", "`engine` must be local or ray", engine)
    require(address is None, "`--address` must go with `--engine ray`", address)
    names = fleet.devices_of(device)
    chosen, *others = [devices.choose_device(name) for name in names]
    return chosen, partial(fleet.started, devices=list(map(str, names))) if others else None


def _dealt(
    planned: "Planned", out: AnyPath, told: Mapping[str, Any], start: "Start", milestone: Callable[[bool], None]
) -> "Outcome":
    """Measure in other processes."""
    from visionvitals.run import dealing, folder, requests, runner
    from visionvitals.run.measure import failed
    from visionvitals.run.progress import meter

    store = folder.claim(out, planned, command=told["command"])
    whole, damaged = store.survey(planned.by_id)
    for name in damaged:
        store.set_aside(name)
    missing, failures = planned.by_id.keys() - whole, dict[str, str]()
    cells = [cell for cell in requests.asked_of(requests.content_of(out))["cells"] if cell["id"] in missing]
    cost = sum(cell.get("cost", 1.0) for cell in cells)
    if missing:

        def fail(name: str, why: str, trace: str) -> str:
            return failed(store, state, planned.by_id[name], why, trace)

        with (
            meter(cells=len(missing), images=0, passes=cost) as state,
            start({**told, "out": str(out)}, state.say) as hands,
            state.measuring(),
        ):
            for _ in range(ROUNDS):
                over = store.held(missing) | failures.keys()
                left = [cell for cell in cells if cell["id"] not in over]
                failures |= dealing.deal(dealing.tasks(left, max(len(hands), 1)), hands, state, milestone, fail)
    store.clear()
    measured = store.held(missing)
    lost = sorted(missing - measured - failures.keys())
    failures |= {name: f"{len(lost)} cells: no process was left to measure them" for name in lost[:1]}
    return runner.Outcome(measured=len(measured), found=len(whole), failures=failures)
