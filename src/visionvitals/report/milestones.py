"""The report of a run that goes on: written when the vital signs are there, and again as more comes."""

import time
from collections.abc import Callable

from visionvitals.errors import VitalsError
from visionvitals.remote import AnyPath

EVERY = 60.0
"""Seconds between two reports at least,"""
SHARE = 20.0
"""and so many times as long as the last one took: at most a twentieth of the time goes into them."""


def writer(out: AnyPath, say: Callable[[str], None]) -> Callable[[bool], None]:
    """A function for `runner.execute`: called after each cell, it writes the report where enough time has passed since the last one.

    Called with True, all vital signs are there: then it writes one in any case.
    """
    due = time.monotonic() + EVERY

    def milestone(headline: bool) -> None:
        nonlocal due
        began = time.monotonic()
        if not headline and began < due:
            return
        try:
            path = write(out)
        except VitalsError as error:  # the run is worth more than its report
            say(f"The report so far could not be written: {error}")
        else:
            say(f"Report so far, with every vital sign: {path}" if headline else f"Report so far: {path}")
        now = time.monotonic()
        due = now + max(EVERY, SHARE * (now - began))

    return milestone


def stopped(out: AnyPath, *, go_on: str, say: Callable[[str], None]) -> bool:
    """Say what is kept of a run that was stopped, and how to go on; whether there is anything for a report."""
    from visionvitals.run import status

    if not (out / "plan.json").is_file():
        say("\nStopped before anything was planned, so nothing is kept. Give the same command again.")
        return False
    found = status.of(out)[0]
    kept, left = sum(p.done for p in found), sum(p.missing + p.failed for p in found)
    say(f"\nStopped. {kept} of {kept + left} cells are kept. To go on: {go_on}")
    return kept > 0


def write(out: AnyPath) -> AnyPath:
    """The report of what is there; it says what is missing."""
    from visionvitals import results
    from visionvitals.report.build import build

    return build(results.load(out))
