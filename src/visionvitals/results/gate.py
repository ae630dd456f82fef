"""A gate: rules about a run, each judged by an interval, never by a point estimate.

`pass`: the whole interval meets the rule. `breach`: none of it does. `undecided`: it holds the threshold; more images would decide.
`missing`: there is no such number in the run. Critical rules: breach and missing give exit code 1, undecided 3. Supporting ones: each of
these gives 3. Advisory ones are shown only. Of several, 1 stands over 3 over 0.

Several critical judgements are several chances to be wrong: with k of them for one network (a rule counts once for every image set that it holds
for) each has an interval at 1 - 0.05 / k (Bonferroni), so that a network that keeps all of them is breached by chance in at most 5 % of the
cases. All other rules are judged at 95 %. One of several looks at a growing run has in place of .05 the share of it that `stats.looks` allows.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from visionvitals import stats
from visionvitals.errors import require
from visionvitals.remote import AnyPath
from visionvitals.results import compare, places, signs, slices, words
from visionvitals.results import rules as rule_files
from visionvitals.results.read import load
from visionvitals.results.rules import Rule, consistent
from visionvitals.results.run import Run
from visionvitals.run import requests

Status = Literal["pass", "breach", "undecided", "missing"]
ALPHA = 0.05
CHANCE = "no better than chance on clean images"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One rule on one backbone and one image set.

    Attributes:
        rule: of the file.
        backbone, data: names in the run; empty where nothing of the rule was measured.
        condition: the fields that the rule leaves open, as they were chosen.
        status: see above.
        estimate: what was judged: the number itself; for `not_worse_by` how much better it is than the baseline's (for a relative
            margin: than what must be kept of it), n = 0 where it is missing.
        higher: whether more of it is better.
        level: of its interval.
        more: about how many images more would decide, or None.
        left: images of the set that were not measured; None of a group, or where the number is of other items.
        reason: why it is missing.
    """

    rule: Rule
    backbone: str = ""
    data: str = ""
    condition: str = ""
    status: Status
    estimate: stats.Estimate = stats.NOTHING
    higher: bool = True
    level: float
    more: int | None = None
    left: int | None = None
    reason: str = ""

    @property
    def exit_code(self) -> int:
        """Of this rule alone."""
        if self.status == "pass" or self.rule.tier == "advisory":
            return 0
        return 1 if self.rule.tier == "critical" and self.status in ("breach", "missing") else 3

    @property
    def asked(self) -> str:
        """What the rule asks, e.g. `at least 60 %`."""
        r = self.rule
        if r.ask != "not_worse_by":
            return f"{r.ask.replace('_', ' ')} {self._size(r.value)}{' %' if self.rule.share else ''}"
        if r.relative:
            bound, kept = ("at least", 1 - r.value) if self.higher else ("at most", 1 + r.value)
            return f"{bound} {100 * kept:.4g} % of the baseline"
        return f"not worse than the baseline by more than {self._size(r.value)}{' points' if self.rule.share else ''}"

    @property
    def measured(self) -> str:
        """What was found, e.g. `62.1 % (60.2 to 64.0), n = 3,000`."""
        if self.status == "missing":
            return self.reason
        e, against = self.estimate, self.rule.ask == "not_worse_by"
        unit = (" points" if against else " %") if self.rule.share else ""
        worse = against and e.value < 0
        sign = "+" if against and not worse else ""
        if math.isnan(e.low):
            return f"{e.value * (100 if self.rule.share else 1):.1f}{' %' if self.rule.share else ''}, no interval, n = {words.n(e)}"
        scale, digits = (100, 1) if self.rule.share else (1, 3)
        value, low, high = (scale * x for x in ((0 - e.value, 0 - e.high, 0 - e.low) if worse else e[:3]))
        between = " to ".join(words.ends(low, high, digits, sign=sign)).replace("−", "-")
        beside = f" {'worse' if worse else 'better'} than {'that' if self.rule.relative else 'the baseline'}" * against
        return f"{value:{sign}.{digits}f}{unit} ({between}){beside}, n = {words.n(e)}{self._more}"

    @property
    def _more(self) -> str:
        """What it would take to decide it."""
        if self.more is None:
            return ""
        few = self.left is not None and self.left < self.more
        there = f", and the set has {f'{self.left:,}' if self.left else 'no'} more" if few else ""
        return f"; about {words.count(words.about(self.more), 'image')} more would decide{there}"

    @property
    def where(self) -> str:
        """The backbone, the image set, what is judged, the group, and the condition that was chosen."""
        what = "" if self.rule.what.title in self.rule.name else self.rule.what.title
        place = ": ".join(filter(None, (" on ".join(filter(None, (self.backbone, self.data))), what)))
        return ", ".join(filter(None, (place, words.condition(self.rule.group), self.condition)))

    def _size(self, x: float) -> str:
        return f"{100 * x if self.rule.share else x:.4g}"


@dataclass(frozen=True)
class Verdict:
    """All outcomes, in the order of the rules. `against` is the folder of the baseline, or empty; `look` which of several looks it was."""

    run: str
    against: str
    outcomes: tuple[Outcome, ...]
    look: stats.Look | None = None

    @property
    def alpha(self) -> float:
        """Errors that all critical judgements of a network may make together."""
        return ALPHA if self.look is None else self.look.alpha

    @property
    def decided(self) -> bool:
        """Whether more images change no outcome that counts: those of advisory rules do not; a number that lies at chance, or a group of which no
        picture came yet, may get a value."""
        return not any(
            o.status == "undecided" or o.reason == CHANCE or (o.status == "missing" and o.rule.group)
            for o in self.outcomes
            if o.rule.tier != "advisory"
        )

    @property
    def exit_code(self) -> int:
        codes = {outcome.exit_code for outcome in self.outcomes}
        return 1 if 1 in codes else 3 if 3 in codes else 0

    @property
    def status(self) -> Status:
        """`pass`, `breach` or `undecided`, as the exit code says."""
        return cast(Status, {0: "pass", 1: "breach", 3: "undecided"}[self.exit_code])

    @property
    def headline(self) -> str:
        """The verdict in words: that of the critical rules, and how many of the others that count fail it."""
        supporting = [o.status for o in self.outcomes if o.rule.tier == "supporting" and o.status != "pass"]
        critical = dataclasses.replace(self, outcomes=tuple(o for o in self.outcomes if o.rule.tier == "critical"))
        counts = ", ".join(f"{supporting.count(each)} {each}" for each in dict.fromkeys(supporting))
        return critical.status.upper() + (f"; supporting rules: {counts}" if counts else "")

    @property
    def level(self) -> float:
        """Of the intervals of the critical rules."""
        return max((o.level for o in self.outcomes), default=1 - self.alpha)


def judged(folder: AnyPath, rules: Path, *, baseline: AnyPath | None = None) -> tuple[Verdict, Run]:
    """The verdict of a file of rules on a run folder, and the run as it was read. Where the run grew until these rules were decided, they are
    judged as at its last look.

    Raises:
        VitalsError: bad rules, or what `judge` refuses.
    """
    run = load(folder) if baseline is None else load(folder, baseline)
    sections = rule_files.sections(rules)
    made = rule_files.made(sections, str(rules), rule_files.known(run))
    return judge(run, made, baseline=baseline, look=_look(folder, sections)), run


def _look(folder: AnyPath, sections: Sequence[Mapping[str, Any]]) -> stats.Look | None:
    """At which look a run stands that grows until these rules are decided."""
    asked = requests.content_of(folder)["plan"] if (folder / "plan.json").exists() else {}
    until = asked.get("until")
    if until is None or until["rules"] != sections:
        return None
    return next((look for look in stats.looks(until["most"]) if look.images == asked.get("limit")), None)


def judge(
    run: Run, rules: Sequence[Rule], *, baseline: AnyPath | None = None, look: stats.Look | None = None
) -> Verdict:
    """Judge a run by rules.

    Args:
        run: the run; with a baseline both read as one, the run first.
        rules: see `rules.read`.
        baseline: the folder of the baseline, which `run` holds as its second.
        look: which of several looks at a growing run this is.

    Raises:
        VitalsError: a rule names a backbone, an image set or a group that is not there, needs a baseline where there is none, or the baseline was
            measured on something else.
    """
    own = compare.part(run, 0)
    rule_files.with_baseline(rules, baseline, run.folder)
    rules = [places.meant(own, rule) for rule in rules]
    for rule in rules:
        _say_which(own, rule)
    consistent([_whole(own, rule) for rule in rules])
    alpha = ALPHA if look is None else look.alpha
    critical = sum(len(places.of_rule(own, rule)[1]) or 1 for rule in rules if rule.tier == "critical")
    outcomes: list[Outcome] = []
    for rule in rules:
        level = 1 - alpha / critical if rule.tier == "critical" else 1 - alpha
        part = slices.only(run, rule.group) if rule.group else run
        judged = _against if rule.ask == "not_worse_by" else _alone
        found = list(judged(run, part, rule, places.of_rule(own, rule)[0], level))
        outcomes += found or [Outcome(rule=rule, status="missing", level=level, reason="nothing was measured")]
    return Verdict(str(run.folder), str(baseline or ""), tuple(outcomes), look)


def _say_which(own: Run, rule: Rule) -> None:
    """A rule on a study must not leave open which of several conditions it means: another request could change the answer."""
    conditions: dict[tuple[str, str], dict[tuple[tuple[str, Any], ...], None]] = {}
    for p in own.of(rule.study) if rule.open and rule.study in own.studies else ():
        if rule.what.metric in p.metrics and all(p.condition.get(k) == v for k, v in rule.what.where.items()):
            conditions.setdefault((p.backbone, p.images), {})[p.rest(*rule.what.where)] = None
    for several in conditions.values():
        fields = [dict(rest) for rest in several]
        varies = [name for name in fields[0] if len({str(each.get(name)) for each in fields}) > 1]
        got = "; ".join(f"{k} {', '.join(dict.fromkeys(words.short(each.get(k)) for each in fields))}" for k in varies)
        must = f"`where` of `{rule.name}` must say which of the measured conditions it means"
        require(not varies, must, got, f"Name {' and '.join(varies)}.")


def _whole(own: Run, rule: Rule) -> Rule:
    """A rule with every field of the condition that it means, where that is one for all networks."""
    points = own.of(rule.study) if rule.open and rule.study in own.studies else []
    there = [p.condition for p in points if all(p.condition.get(k) == v for k, v in rule.what.where.items())]
    one = bool(there) and all(each == there[0] for each in there)
    return dataclasses.replace(rule, what=dataclasses.replace(rule.what, where=there[0])) if one else rule


def _alone(run: Run, part: Run, rule: Rule, at: Sequence[places.Place], level: float) -> Iterator[Outcome]:
    """At least, or at most, a value; `part` is what the rule looks at of the run."""
    column = _column(compare.part(part, 0), rule, level)
    for place in at:
        reading = column.readings.get(place) if column else None
        e = stats.NOTHING if reading is None else reading.estimate
        met = (e.low >= rule.value, e.high < rule.value)
        met = met if rule.ask == "at_least" else (e.high <= rule.value, e.low > rule.value)
        why = CHANCE if reading is not None and reading.at_chance else _why_not(run, rule, place)
        again = partial(signs.at_level, compare.part(part, 0), column, reading) if column and reading else None
        yield _outcome(rule, place, column, reading, e, level, met, rule.value, why, again)


def _why_not(run: Run, rule: Rule, place: places.Place) -> str:
    """Why a number is not there: which values of its condition are."""
    points = [p for p in run.of(rule.study) if (p.backbone, p.images) == place]
    for field, value in rule.what.where.items() if points else ():
        there = dict.fromkeys(words.short(p.condition.get(field)) for p in points)
        if words.short(value) not in there:
            return f"it was not measured at {field} {words.short(value)}, but at {', '.join(there)}"
    return f"it was not measured; `{rule.study}` among --studies measures it"


def _against(run: Run, part: Run, rule: Rule, at: Sequence[places.Place], level: float) -> Iterator[Outcome]:
    """Not worse than the baseline by more than a margin; `part` is what the rule looks at of the run."""
    for backbone in dict.fromkeys(backbone for backbone, _ in at):
        base = _baseline(run, rule, backbone)
        if base is None:
            reason = "the baseline has no backbone of this name; say which with baseline_backbone"
            yield Outcome(rule=rule, backbone=backbone, status="missing", level=level, reason=reason)
            continue
        pair = compare.Pair(run, base, backbone, (1, 0))
        matched, refused = pair.matched
        reasons = refused.get(rule.study, [])
        there = any(p.study == rule.study for p, _ in matched)
        must = f"`{rule.name}` must compare what was measured alike"
        require(there or not reasons, must, "; ".join(reasons), "Measure the run as its baseline was.")
        sets = {of_b: of_a for of_a, of_b in pair.sets}
        pair = dataclasses.replace(pair, run=part)
        column = _column(pair.comparable, rule, level)
        margin = 0.0 if rule.relative else -rule.value
        for images in (images for name, images in at if name == backbone):
            a = column.readings.get((pair.a, sets.get(images, ""))) if column else None
            b = column.readings.get((pair.b, images)) if column else None
            again = partial(_better_by, pair, rule, column, a, b) if column and a and b else None
            e = again(level) if again else stats.NOTHING
            why = CHANCE if a and b and (a.at_chance or b.at_chance) else "it was not measured alike in both runs"
            met = (e.low >= margin, e.high < margin)
            both = dataclasses.replace(b, points=(*a.points, *b.points)) if a and b else b
            yield _outcome(rule, (backbone, images), column, both, e, level, met, margin, why, again)


def _better_by(
    pair: compare.Pair, rule: Rule, column: signs.Column, a: signs.Reading, b: signs.Reading, level: float
) -> stats.Estimate:
    """By how much the network is better than its baseline, or than what must be kept of it."""
    up = column.better == "high"
    kept = 1.0 if not rule.relative else 1 - rule.value if up else 1 + rule.value
    e = signs.difference(pair.comparable, column, a, b, of=kept, level=level) or stats.NOTHING
    return e if up else e._replace(value=-e.value, low=-e.high, high=-e.low)


def _column(run: Run, rule: Rule, level: float) -> signs.Column | None:
    record = run.record(rule.study) if rule.study in run.studies else None
    return None if record is None else signs.column_of(run, record, rule.what, level=level)


def _baseline(run: Run, rule: Rule, backbone: str) -> str | None:
    """The backbone of the baseline that a rule compares with."""
    if rule.baseline_backbone is not None:
        return compare.named(run, rule.baseline_backbone, 1)
    name = compare.called(run, backbone)
    return next((b for b in compare.backbones(run, 1) if compare.called(run, b) == name), None)


def _outcome(
    rule: Rule,
    place: tuple[str, str],
    column: signs.Column | None,
    reading: signs.Reading | None,
    e: stats.Estimate,
    level: float,
    met: tuple[bool, bool],
    threshold: float,
    why: str,
    again: Callable[[float], stats.Estimate] | None,
) -> Outcome:
    """`met`: whether all of the interval meets the rule, and whether none of it does; `again`: the estimate at another level."""
    absent = e.n == 0 or math.isnan(e.value)
    status: Status = "missing" if absent else "pass" if met[0] else "breach" if met[1] else "undecided"
    of_images = reading is not None and column is not None and column.metric.over == "images"
    needed = stats.deciding(again, threshold, level=level) if again and of_images and status == "undecided" else None
    cells = [cell.facts for p in reading.points for cell in p.cells] if reading is not None else []
    return Outcome(
        rule=rule,
        backbone=place[0],
        data=place[1],
        condition="" if reading is None else words.condition(dict(reading.fixed)),
        status=status,
        estimate=e,
        higher=column is None or column.better != "low",
        level=level,
        more=None if needed is None else needed - e.n,
        left=cells[-1]["cell"]["images"]["n"] - min(c["n"] for c in cells) if of_images and not rule.group else None,
        reason=why if status == "missing" else "",
    )
