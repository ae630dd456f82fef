"""From a plan to a run folder with a report: what the command line and a notebook call."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from visionvitals.core import Backbone

if TYPE_CHECKING:
    from visionvitals.plan.request import Plan
    from visionvitals.run.runner import Outcome
    from visionvitals.run.shards import Shard


def measure(
    plan: "Plan",
    *,
    out: Path,
    command: Sequence[str],
    device: str | None = None,
    batch_size: int | None = None,
    workers: int | None = None,
    reuse: Sequence[str | Path] = (),
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
    from visionvitals.run import calibrate, devices, folder, requests, runner, shards

    folder.refuse_another(out, plan)
    chosen = devices.choose_device(device)
    say(f"Planning on {chosen}")
    rates: dict[str, float] = {}

    def visit(loaded: Backbone) -> None:
        rates[loaded.card.spec] = calibrate.rate(loaded, batch_size=1, seconds=0.1)

    mine = None if shard is None else shards.share_of(requests.content_of(out), plan, shard)
    if mine == {}:
        return runner.Outcome(measured=0, found=0, failed=(), warnings=())
    only = None if mine is None else set(mine.values())
    planned = planner.make(plan, device=chosen, visit=visit, only=only)
    skipped = f", {len(planned.skips)} skipped (see `vitals plan` or the report)" if planned.skips else ""
    say(f"{len(planned.cells)} cells{skipped}")
    return runner.execute(
        planned,
        out=out,
        device=chosen,
        batch_size=batch_size,
        workers=workers,
        command=command,
        reuse=[Path(each) for each in reuse],
        rates=rates,
        mine=None if mine is None else frozenset(mine),
        by="" if shard is None else f"{shard.index}-of-{shard.count}",
        milestone=milestones.writer(out, say) if shard is None else lambda headline: None,
        studies=studies,
        earlier=earlier,
    )
