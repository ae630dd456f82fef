"""A run that grows until the rules of a gate are decided: what `vitals audit --until-decided` and a notebook call.

The images come in the seeded order of `--limit`. The rules are judged at several looks, each with the errors that `stats.looks` allows
it, and the run stops at the first one at which they are decided.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionvitals import stats, study
from visionvitals.errors import near, require
from visionvitals.measuring import measure
from visionvitals.remote import AnyPath, located
from visionvitals.study import BASELINE

if TYPE_CHECKING:
    from visionvitals.plan.request import Plan
    from visionvitals.results.gate import Verdict
    from visionvitals.results.rules import Rule
    from visionvitals.run.runner import Outcome

_SIZE = (224, 224)
"""Of an input, in pixels, where it decides only which grids a preset has."""


def asked(plan: "Plan", *, until_decided: bool, rules: Path | None, baseline: AnyPath | None) -> "Plan":
    """The request to measure a plan, until rules are decided where that is asked; its limit, or all images, are then those of the last look.

    Raises:
        VitalsError: one option without the other; bad rules; a rule on a study, backbone, image set or group that is not asked for, or on
            numbers of several images; no baseline where a rule needs one; an image set that cannot be opened.
    """
    together = until_decided == (rules is not None) and (until_decided or baseline is None)
    do = "To judge a finished run: `vitals gate`."
    options = (("--rules", rules is not None), ("--until-decided", until_decided), ("--baseline", baseline is not None))
    given = ", ".join(name for name, there in options if there)
    require(together, "--rules and --until-decided go together, and --baseline with both", f"only {given}", do)
    if rules is None:
        return plan
    from visionvitals.plan import planner
    from visionvitals.plan.request import Until
    from visionvitals.results import compare, places
    from visionvitals.results import rules as rule_files
    from visionvitals.run import groups, requests

    sections = rule_files.sections(rules)
    known = _studies(plan)
    made = _made(sections, str(rules), known)
    rule_files.with_baseline(made, baseline)
    names = [study.name_of(section.name) for section in plan.studies]
    words = [compare.meant({text: text for text in several}, plan.names) for several in (plan.backbones, plan.sets)]
    opened = {text: planner.open_images(text) for text in plan.sets}
    for rule in made:
        must = f"`{rule.name}` must be of a study that is asked for"
        require(rule.study in names, must, rule.study, f"Add it to --studies. {near(rule.study, names)}")
        must = f"`{rule.name}`, which is relative to clean accuracy, needs the study that measures it"
        require(rule.what.kind != "kept" or BASELINE in names, must, names, f"Add {BASELINE} to --studies.")
        section = plan.studies[names.index(rule.study)]
        only = places.named(rule, *words).data
        parts = [groups.of_set(opened[text]) for text in plan.sets_of(section) if only in (None, text)]
        there = [each for each in parts if each is not None]
        if len(there) == len(parts):
            places.say_group(rule, groups.columns(there))
        must = (
            f"`{rule.name}` must be of a study that measures each image by itself, to be judged while the images grow"
        )
        chosen = known[rule.study]
        points = planner.conditions(section, chosen, preset=plan.preset, size=_SIZE)
        alone = chosen.per_image and not any(map(chosen.needs_all, points))
        require(alone, must, rule.study, "Measure all images, and then use `vitals gate`.")
    most = max(images.card.n for images in opened.values())
    most = most if plan.limit is None else min(most, plan.limit)
    if baseline is not None:
        limits = [request["plan"].get("limit") for request in requests.each(requests.content_of(baseline))]
        if None not in limits and all(rule.ask == "not_worse_by" for rule in made if rule.tier != "advisory"):
            most = min(most, *limits)  # what the baseline has not seen decides nothing
    where = "" if baseline is None else str(baseline.absolute())
    return dataclasses.replace(plan, until=Until(rules=sections, most=most, baseline=where), limit=most)


def measured(
    plan: "Plan",
    *,
    out: AnyPath,
    command: Sequence[str],
    say: Callable[[str], None] = lambda text: None,
    **machine: Any,
) -> "tuple[Outcome, Verdict | None]":
    """Measure a plan; one that says so until its rules are decided, or all images are measured. A run that was stopped goes on at its look.

    The studies of the rules and the baseline grow from look to look, the others are measured at the last one.

    Args:
        plan: from `asked`, or as a run folder kept it.
        out: the run folder.
        command: what the user typed, as words.
        say: is told how far it is.
        machine: the other options of `measuring.measure`.

    Returns:
        How the last look ended, with what was measured in this call for all looks, and its verdict; None without rules.

    Raises:
        VitalsError: what `measuring.measure` and `results.gate.judge` refuse.
    """
    until = plan.until
    if until is None:
        return measure(plan, out=out, command=command, say=say, **machine), None
    from visionvitals.run import fleet

    must, do = "A run that ends when its rules are decided must not be shared", "Run it in one process."
    require(machine.get("shard") is None, must, "a share", do)
    device = machine.get("device")
    require(len(fleet.devices_of(device)) == 1, f"{must} by several devices", device, do)
    require(machine.get("engine") != "ray", f"{must} by a cluster", "--engine ray", do)
    from visionvitals.results import gate, load
    from visionvitals.run import folder
    from visionvitals.run.runner import Outcome

    made = _made(until.rules, "The rules of the run", _studies(plan))
    baseline = located(until.baseline) if until.baseline else None
    there = folder.refuse_another(out, plan)
    stands = 0 if there is None else there["plan"].get("limit", 0)
    growing = {BASELINE, *(rule.study for rule in made)}
    looks = stats.looks(until.most)
    outcomes: list[Outcome] = []

    def at(look: stats.Look, studies: Collection[str] | None) -> None:
        now = dataclasses.replace(plan, limit=look.images)
        if (found := folder.finished(out, now)) is not None:
            outcomes.append(Outcome(measured=0, found=found))
            return
        outcomes.append(measure(now, out=out, command=command, say=say, studies=studies, **machine))

    for look in (look for look in looks if look.images >= stands):
        at(look, growing)
        verdict = gate.judge(load(out, *([baseline] if baseline else [])), made, baseline=baseline, look=look)
        open_, of = sum(o.status == "undecided" for o in verdict.outcomes), len(verdict.outcomes)
        say(f"Look {look.number} of {look.of}, at {look.images:,} of {look.most:,} images: {open_} of {of} undecided")
        failed = outcomes[-1].failed  # a few broken answers fail a cell of few images and not one of many
        if verdict.decided and not failed:
            break
    if any(study.name_of(section.name) not in growing for section in plan.studies):
        at(look, None)
    total = sum(outcome.measured for outcome in outcomes)
    return dataclasses.replace(outcomes[-1], measured=total), verdict


def _studies(plan: "Plan") -> dict[str, study.Study]:
    """Every installed study, and those of the plan."""
    named = {study.name_of(section.name): study.load(section.name) for section in plan.studies}
    return {name: study.load(name) for name in study.names()} | named


def _made(sections: Sequence[Mapping[str, Any]], where: str, known: Mapping[str, study.Study]) -> "list[Rule]":
    from visionvitals.results import rules as rule_files

    return rule_files.made(sections, where, known)
