"""A gate: rules about a run, each judged by an interval, never by a point estimate.

`pass`: the whole interval meets the rule. `breach`: none of it does. `undecided`: it holds the threshold; more images would decide.
`missing`: there is no such number in the run. Critical rules: breach and missing give exit code 1, undecided 3. Supporting ones: each of
these gives 3. Advisory ones are shown only. Of several, 1 stands over 3 over 0.

Several critical rules are several chances to be wrong: with k of them each is judged with an interval at 1 - 0.05 / k (Bonferroni), so
that a network that keeps all of them is breached by chance in at most 5 % of the cases. All other rules are judged at 95 %.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visionvitals import stats
from visionvitals.errors import near, require
from visionvitals.results import compare, signs, words
from visionvitals.results.rules import Rule
from visionvitals.results.run import Run

Status = Literal["pass", "breach", "undecided", "missing"]
ALPHA = 0.05
NOT_MEASURED = "it was not measured"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One rule on one backbone and one image set.

    Attributes:
        rule: of the file.
        backbone, data: names in the run; empty where nothing of the rule was measured.
        status: see above.
        estimate: what was judged: the number itself; for `not_worse_by` how much better it is than the baseline's (for a relative
            margin: than what must be kept of it), n = 0 where it is missing.
        share: whether it reads as percent.
        higher: whether more of it is better.
        level: of its interval.
        more: about how many images more would decide, or None.
        reason: why it is missing.
    """

    rule: Rule
    backbone: str = ""
    data: str = ""
    status: Status
    estimate: stats.Estimate = stats.NOTHING
    share: bool = False
    higher: bool = True
    level: float
    more: int | None = None
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
            return f"{r.ask.replace('_', ' ')} {self._size(r.value)}{' %' if self.share else ''}"
        if r.relative:
            bound, kept = ("at least", 1 - r.value) if self.higher else ("at most", 1 + r.value)
            return f"{bound} {100 * kept:.4g} % of the baseline"
        return f"not worse than the baseline by more than {self._size(r.value)}{' points' if self.share else ''}"

    @property
    def measured(self) -> str:
        """What was found, e.g. `62.1 % (60.2 to 64.0), n = 3,000`."""
        if self.status == "missing":
            return self.reason
        e, against = self.estimate, self.rule.ask == "not_worse_by"
        unit = (" points" if against else " %") if self.share else ""
        sign = "+" if against else ""
        value, low, high = (f"{x * (100 if self.share else 1):{sign}.{1 if self.share else 3}f}" for x in e[:3])
        beside = " better than the baseline" if against else ""
        beside = " better than that" if against and self.rule.relative else beside
        more = f"; about {words.count(self.more, 'image')} more would decide" if self.more else ""
        return f"{value}{unit} ({low} to {high}){beside}, n = {e.n:,}{more}"

    def _size(self, x: float) -> str:
        return f"{100 * x if self.share else x:.4g}"


@dataclass(frozen=True)
class Verdict:
    """All outcomes, in the order of the rules. `against` is the folder of the baseline, or empty."""

    run: str
    against: str
    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        codes = {outcome.exit_code for outcome in self.outcomes}
        return 1 if 1 in codes else 3 if 3 in codes else 0

    @property
    def status(self) -> Status:
        """`pass`, `breach` or `undecided`, as the exit code says."""
        found: dict[int, Status] = {0: "pass", 1: "breach", 3: "undecided"}
        return found[self.exit_code]

    @property
    def level(self) -> float:
        """Of the intervals of the critical rules."""
        return max((o.level for o in self.outcomes), default=1 - ALPHA)


def judge(run: Run, rules: Sequence[Rule], *, baseline: Path | None = None) -> Verdict:
    """Judge a run by rules.

    Args:
        run: the run; with a baseline both read as one, the run first.
        rules: see `rules.read`.
        baseline: the folder of the baseline, which `run` holds as its second.

    Raises:
        VitalsError: a rule names a backbone or an image set that is not there, needs a baseline where there is none, or the baseline was
            measured on something else.
    """
    critical = sum(rule.tier == "critical" for rule in rules)
    outcomes: list[Outcome] = []
    for rule in rules:
        must = f"`{rule.name}` must have a baseline"
        require(baseline is not None or rule.ask != "not_worse_by", must, "none", "Give --baseline RUN.")
        level = 1 - ALPHA / critical if rule.tier == "critical" else 1 - ALPHA
        found = list(_against(run, rule, level) if rule.ask == "not_worse_by" else _alone(run, rule, level))
        outcomes += found or [Outcome(rule=rule, status="missing", level=level, reason="nothing was measured")]
    return Verdict(str(run.folder), str(baseline or ""), tuple(outcomes))


def _alone(run: Run, rule: Rule, level: float) -> Iterator[Outcome]:
    """At least, or at most, a value."""
    own = compare.part(run, 0)
    column, wanted = _column(own, rule, level), _wanted(own, rule)
    only = compare.named(run, rule.backbone, 0) if rule.backbone else None
    for backbone, images in signs.pairs(own):
        if images in wanted and only in (None, backbone):
            reading = column.readings.get((backbone, images)) if column else None
            e = stats.NOTHING if reading is None else reading.estimate
            met = (e.low >= rule.value, e.high < rule.value)
            met = met if rule.ask == "at_least" else (e.high <= rule.value, e.low > rule.value)
            why = "no better than chance on clean images" if reading is not None and reading.at_chance else NOT_MEASURED
            yield _outcome(rule, backbone, images, column, e, level, met, rule.value, why)


def _against(run: Run, rule: Rule, level: float) -> Iterator[Outcome]:
    """Not worse than the baseline by more than a margin."""
    for backbone in [compare.named(run, rule.backbone, 0)] if rule.backbone else compare.backbones(run, 0):
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
        column = _column(pair.comparable, rule, level)
        wanted = _wanted(compare.part(run, 0), rule)
        for of_a, of_b in pair.sets or [("", images) for images in wanted]:
            if of_b in wanted:
                e = _better_by(pair, rule, column, (of_a, of_b), level) if column else stats.NOTHING
                margin = 0.0 if rule.relative else -rule.value
                yield _outcome(
                    rule, backbone, of_b, column, e, level, (e.low >= margin, e.high < margin), margin, NOT_MEASURED
                )


def _better_by(
    pair: compare.Pair, rule: Rule, column: signs.Column, images: tuple[str, str], level: float
) -> stats.Estimate:
    """By how much the network is better than its baseline, or than what must be kept of it."""
    a, b = column.readings.get((pair.a, images[0])), column.readings.get((pair.b, images[1]))
    if a is None or b is None:
        return stats.NOTHING
    up = column.better == "high"
    kept = 1.0 if not rule.relative else 1 - rule.value if up else 1 + rule.value
    e = signs.difference(pair.comparable, column, a, b, of=kept, level=level) or stats.NOTHING
    return e if up else stats.Estimate(-e.value, -e.high, -e.low, e.n)


def _column(run: Run, rule: Rule, level: float) -> signs.Column | None:
    record = run.record(rule.study) if rule.study in run.studies else None
    return None if record is None else signs.column_of(run, record, rule.what, level=level)


def _wanted(run: Run, rule: Rule) -> list[str]:
    """The image sets of a rule."""
    known = {run.images[i]["spec"]: i for _, i in signs.pairs(run)} | {i: i for _, i in signs.pairs(run)}
    if rule.data is None:
        return list(dict.fromkeys(known.values()))
    require(rule.data in known, f"`data` of `{rule.name}` must be in the run", rule.data, near(rule.data, known))
    return [known[rule.data]]


def _baseline(run: Run, rule: Rule, backbone: str) -> str | None:
    """The backbone of the baseline that a rule compares with."""
    if rule.baseline_backbone is not None:
        return compare.named(run, rule.baseline_backbone, 1)
    spec = run.backbones[backbone]["spec"]
    return next((b for b in compare.backbones(run, 1) if run.backbones[b]["spec"] == spec), None)


def _outcome(
    rule: Rule,
    backbone: str,
    images: str,
    column: signs.Column | None,
    e: stats.Estimate,
    level: float,
    met: tuple[bool, bool],
    threshold: float,
    why: str,
) -> Outcome:
    """`met`: whether all of the interval meets the rule, and whether none of it does."""
    status: Status = (
        "missing" if e.n == 0 or math.isnan(e.value) else "pass" if met[0] else "breach" if met[1] else "undecided"
    )
    needed = stats.needed(e, abs(e.value - threshold)) if status == "undecided" else None
    return Outcome(
        rule=rule,
        backbone=backbone,
        data=images,
        status=status,
        estimate=e,
        share=column is not None and column.share,
        higher=column is None or column.better != "low",
        level=level,
        more=None if needed is None else max(1, needed - e.n),
        reason=why if status == "missing" else "",
    )
