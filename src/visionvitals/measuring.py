"""From a plan to a run folder with a report: what the command line and a notebook call."""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from visionvitals import registry
from visionvitals.errors import require
from visionvitals.remote import AnyPath, located

if TYPE_CHECKING:
    from visionvitals.plan.planner import Planned
    from visionvitals.plan.request import Plan
    from visionvitals.run.runner import Outcome
    from visionvitals.run.shards import Shard


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
    studies: Collection[str] | None = None,
    earlier: Sequence[int] = (),
    say: Callable[[str], None] = lambda text: None,
) -> "Outcome":
    """Measure what a run folder lacks of a plan. While it goes on, the report is written anew now and then, see `report.milestones`.

    Args:
        plan: what to measure, see `plan.request`.
        out: the run folder.
        command: what the user typed, as words.
        device, batch_size, workers, reuse: as the options of `vitals audit`.
        shard: only this share of a run that was planned, see `run.shards`; the report is not written then.
        studies, earlier: see `run.runner.execute`.
        say: is told how far it is.

    Raises:
        VitalsError: anything that cannot be planned or written. A cell that fails is recorded.
    """
    from visionvitals.plan import planner
    from visionvitals.report import milestones
    from visionvitals.run import calibrate, devices, fleet, folder, requests, runner, shards

    folder.refuse_another(out, plan)
    names = fleet.devices_of(device)
    chosen, *others = [devices.choose_device(name) for name in names]
    require(not (others and shard), "A share runs on one device", device, "Give each of its processes its own.")
    local = [text for text in (*plan.backbones, *plan.sets) if registry.in_memory(text)] if others else []
    do = "Save it as a checkpoint or a folder, or use one device."
    require(not local, "What lives in one process cannot be measured by several", ", ".join(local), do)
    mine = None if shard is None else shards.share_of(requests.content_of(out), plan, shard)
    if mine == {}:
        return runner.Outcome(measured=0, found=0, failed=(), warnings=())
    say(f"Planning on {chosen}")
    only = None if mine is None else {share.backbone for share in mine.values()}
    rate = functools.partial(calibrate.rate, batch_size=1, seconds=0.1)
    planned = planner.make(plan, device=chosen, rate=rate, only=only)
    skipped = f", {len(planned.skips)} skipped (see `vitals plan` or the report)" if planned.skips else ""
    say(f"{len(planned.cells)} cells{skipped}")
    if others:
        return _by_fleet(
            planned, out, list(map(str, names)), command=command, batch_size=batch_size, workers=workers, reuse=reuse
        )
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
        earlier=earlier,
    )


def _by_fleet(
    planned: "Planned",
    out: AnyPath,
    names: Sequence[str],
    *,
    command: Sequence[str],
    batch_size: int | None,
    workers: int | None,
    reuse: Sequence[str | AnyPath],
) -> "Outcome":
    """Plan here, measure in a process a device."""
    from visionvitals.run import fleet, folder, runner

    store = folder.claim(out, planned, command=command)
    missing = planned.by_id.keys() - store.survey(planned.by_id)[0]
    given = {"--batch-size": batch_size, "--workers": workers}
    more = [word for key, value in given.items() if value is not None for word in (key, str(value))]
    fleet.measure(out, missing, names, more=[*more, *(w for path in reuse for w in ("--reuse", str(path)))])
    records = {record["id"]: record for record in store.failures() if record["id"] in missing}
    failed = [f"{r['cell']['study']} on {r['cell']['backbone']['spec']}: {r['error']}" for r in records.values()]
    held = store.held(missing)
    left = len(missing - records.keys() - held)
    failed += [f"{left} cells whose process died {fleet.RESTARTS + 1} times"] if left else []
    return runner.Outcome(
        measured=len(held), found=len(planned.by_id) - len(missing), failed=tuple(failed), warnings=()
    )
