"""Two backbones on the same images, of one run or of two: b minus a for every sign and every condition, paired by image.

Two numbers are comparable where all that decides a number beside the backbone is equal: the condition, the content of the images, the seed,
the decoder, the version and the source of the study, and its companions. Where only `--limit` differs they are compared on the images
that both have, and where the numerics do, that is said. Everything else is refused with what differs. What a network does to a picture before
it sees it belongs to the network.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from visionvitals import short_names, stats
from visionvitals.errors import near, require
from visionvitals.figure import Metric
from visionvitals.results import signs, words
from visionvitals.results.fields import readable
from visionvitals.results.run import CALLED, Point, Run, apart, comparable, early
from visionvitals.results.signs import Column

NAMED_MARGIN = 0.02
"""Of a share, two points: the difference for which a sentence says how many images would show it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric at one condition, or one sign, of two backbones on the items that both have.

    Attributes:
        study, images: names.
        title: of the sign, or the name of the metric.
        condition: its fields; empty for a sign.
        metric: what the values mean.
        share: whether they read as percent.
        better: which end is good, or None.
        a, b: each alone, over the common items.
        whole: each alone, over all of its own items, of a sign.
        value: b minus a with its paired interval.
        gained, lost: by how much the items on which b is higher, and those on which a is higher, move the mean: for answers that are
            right or wrong the share of answers that flip each way. NaN for a sign.
    """

    study: str
    images: str
    title: str
    condition: Mapping[str, Any]
    metric: Metric
    share: bool
    better: str | None
    a: stats.Estimate
    b: stats.Estimate
    value: stats.Estimate
    whole: tuple[stats.Estimate, stats.Estimate] | None = None
    gained: float = float("nan")
    lost: float = float("nan")

    @property
    def decided(self) -> bool:
        """Whether the interval lies on one side of zero."""
        return self.value.low > 0 or self.value.high < 0

    @property
    def good(self) -> bool | None:
        """Whether b is better; None where it is not decided, or neither end is better."""
        if self.better is None or not self.decided:
            return None
        return bool(self.value.value > 0) == (self.better == "high")

    @property
    def detectable(self) -> float:
        """The half-width of the interval: about the smallest difference that these items could have shown."""
        return (self.value.high - self.value.low) / 2

    @property
    def verdict(self) -> str:
        """A sentence, e.g. `b is higher, better (75.0 points, 63.0 to 85.0, n = 300)`."""
        e, scale = self.value, 100 if self.share else 1
        if np.isnan(e.low):
            return f"no interval: n = {words.n(e)}"

        digits = 1 if self.share else 2

        def of(x: float, sign: str = "") -> str:
            return f"{x * scale:{sign}.{digits}f}"

        unit = " points" if self.share else ""
        if self.decided:
            near, far = sorted((scale * abs(e.low), scale * abs(e.high)))
            low, high = words.ends(near, far, digits)
            good = "" if self.good is None else ", better" if self.good else ", worse"
            size = f"{of(abs(e.value))}{unit}, {low} to {high}, n = {words.n(e)}"
            return f"b is {'higher' if e.value > 0 else 'lower'}{good} ({size}){self._each}"
        more = stats.needed(e, NAMED_MARGIN) if self.share and self.metric.over == "images" else None
        tells = f"{of(self.detectable)}{unit} would have shown"
        if more is not None and more > e.n:
            tells += f", about {words.count(words.about(more), 'image')} would tell 2 points"
        between = f"{of(e.value, '+')}{unit}, {of(e.low, '+')} to {of(e.high, '+')}"
        return f"not distinguishable: {between}, n = {words.n(e)}; {tells}{self._each}"

    @property
    def _each(self) -> str:
        """What each has over all of its own items, where these are not the common ones."""
        if self.whole is None or all(each.n == self.value.n for each in self.whole):
            return ""
        unit = " %" if self.share else ""
        told = (f"{words.value(each, share=self.share)}{unit} of {words.n(each)}" for each in self.whole)
        return f"; over all that each has, not the common {self.metric.over} only: {' and '.join(told)}"


@dataclass(frozen=True, eq=False)
class Pair:
    """What is compared.

    Attributes:
        run: both runs, read as one, or the one that holds both.
        a, b: names of the backbones in `run`.
        folders: where in `run.held` the cells of each are.
    """

    run: Run
    a: str
    b: str
    folders: tuple[int, int] = (0, 0)

    def points(self, side: int) -> list[Point]:
        """The points of one side, 0 for a."""
        return [p for p in part(self.run, self.folders[side]).points if p.backbone == (self.a, self.b)[side]]

    @cached_property
    def matched(self) -> tuple[list[tuple[Point, Point]], dict[str, list[str]]]:
        """(comparable points of a and b, study -> why others of it are not comparable)."""
        others: dict[tuple[Any, ...], list[Point]] = {}
        for p in self.points(1):
            others.setdefault(self._place(p), []).append(p)
        found: list[tuple[Point, Point]] = []
        refused: dict[str, dict[str, None]] = {}
        for p in self.points(0):
            same = others.get(self._place(p), ())
            if not same:
                for q in self._elsewhere.get(_work(p), ()):
                    told = [self._digest(each) for each in (p, q)]
                    refused.setdefault(p.study, {})[f"the images: {' and '.join(told)}"] = None
                continue
            nearest = min(same, key=lambda q: len(apart(p, q)))
            differing = apart(p, nearest)
            if comparable(p, nearest):
                found.append((p, nearest))
            else:
                both = ((CALLED.get(k, k), p.settings[k], nearest.settings[k]) for k in differing)
                told = [f"{name} {readable(one)} and {readable(other)}" for name, one, other in both]
                refused.setdefault(p.study, {})[", ".join(told)] = None
        return found, {study: list(reasons) for study, reasons in refused.items()}

    @cached_property
    def _elsewhere(self) -> dict[tuple[Any, ...], list[Point]]:
        """What b was measured in, whatever the images."""
        found: dict[tuple[Any, ...], list[Point]] = {}
        for p in self.points(1):
            found.setdefault(_work(p), []).append(p)
        return found

    def _place(self, p: Point) -> tuple[Any, ...]:
        return *_work(p), self.run.images[p.images]["digest"]

    def _digest(self, p: Point) -> str:
        card = self.run.images[p.images]
        return f"{card['spec']} of digest {card['digest'][:8]}"

    def differences(self, metric: str | None = None) -> list[Difference]:
        """For every condition and metric that both have and that is a sample; those without a common item are left out."""
        found = []
        for p, q in self.matched[0]:
            shared = [m for m in p.metrics if m in q.metrics and self.run.metric(p.study, m).interval]
            for name in (m for m in shared if metric in (None, m)):
                pairs = self.run.aligned([(p, name), (q, name)])
                pairs = pairs[~np.isnan(pairs).any(axis=1)]
                if len(pairs):
                    ended = early(p, q)
                    level = stats.at_look(stats.LEVEL, ended)
                    d = _difference(p, name, self.run.metric(p.study, name), pairs, ended)
                    a, b = (self.run.over_runs(e, name, each, level=level) for e, each in ((d.a, p), (d.b, q)))
                    value = self.run.over_runs(d.value, name, q, p, level=level)
                    found.append(replace(d, a=a, b=b, value=value))
        return found

    @cached_property
    def comparable(self) -> Run:
        """The run with nothing in it but the comparable points of both."""
        return replace(self.run, all_points=tuple(dict.fromkeys(p for two in self.matched[0] for p in two)))

    @cached_property
    def sets(self) -> list[tuple[str, str]]:
        """The image sets of one content, as a and as b name them."""
        return list(dict.fromkeys((p.images, q.images) for p, q in self.matched[0]))

    def signs(self) -> list[Difference]:
        """For every sign that both have under the same conditions."""
        columns = signs.columns(self.comparable) if self.a != self.b else []
        found = [self._sign(column, *two) for column in columns for two in self.sets]
        return [d for d in found if d is not None and d.value.n]

    def _sign(self, column: Column, of_a: str, of_b: str) -> Difference | None:
        a, b = column.readings.get((self.a, of_a)), column.readings.get((self.b, of_b))
        e = None if a is None or b is None else signs.difference(self.comparable, column, a, b)
        if a is None or b is None or e is None:
            return None
        alone = signs.alone(self.comparable, column, a, b)
        return Difference(
            study=column.study,
            images=of_a,
            title=column.sign.title,
            condition={},
            metric=column.metric,
            share=column.share,
            better=column.better,
            a=alone[0],
            b=alone[1],
            whole=(a.estimate, b.estimate),
            value=e,
        )


def _work(p: Point) -> tuple[Any, ...]:
    return p.study, tuple(p.fields.items())


def pair(run: Run, a: str, b: str) -> Pair:
    """Two backbones of one run, as the tables call them or as they were spelled.

    Raises:
        VitalsError: one is not in the run, or both are the same.
    """
    first, second = named(run, a, 0), named(run, b, 0)
    require(
        first != second, "Two different backbones must be compared", first, f"The run has {', '.join(run.backbones)}."
    )
    return Pair(run, first, second)


def pairs(run: Run, of: str | None = None, and_: str | None = None) -> list[Pair]:
    """The networks of one name of two runs that were read as one, the older first; or the two that are named.

    Raises:
        VitalsError: a name is not in its run, or the runs have no name in common.
    """
    if of is not None or and_ is not None:
        a, b = named(run, of or and_ or "", 0), named(run, and_ or of or "", 1)
        return [Pair(run, a, b, (0, 1))]
    sides = [backbones(run, side) for side in (0, 1)]
    found = [Pair(run, a, b, (0, 1)) for a in sides[0] for b in sides[1] if called(run, a) == called(run, b)]
    there, here = (", ".join(names) or "nothing" for names in sides)
    must = "Two runs must share the name of a backbone"
    require(bool(found), must, f"{there} in the first, {here} in the second", "Say which with --of A --and B.")
    return found


def part(run: Run, side: int) -> Run:
    """The run with nothing in it but the points of one of its folders, averaged over the repetitions that this one holds."""
    within = [(p, run.frame.within(p.group, run.held[side])) for p in run.points]
    points = (p if group is p.group else replace(p, group=group) for p, group in within if group is not None)
    lacking = tuple(each if k == side else () for k, each in enumerate(run.lacking))
    return replace(run, all_points=tuple(points), lacking=lacking, finished=run.held[side])


def backbones(run: Run, side: int) -> list[str]:
    """The backbones of which a folder holds cells."""
    there = {p.backbone for p in part(run, side).points}
    return [name for name in run.backbones if name in there]


def called(run: Run, backbone: str) -> str:
    """The name that the user gave a backbone, or its spelling: what two runs call alike is the network that changed in between."""
    spec = run.backbones[backbone]["spec"]
    return str(run.plan.get("names", {}).get(spec, spec))


def meant(known: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Whatever a user may call something -> its name: the name itself, the spelling, that without its family, or as short as in a table. What
    could be two of them is left out.

    Args:
        known: name -> spelling.
        given: spelling -> the name that the user gave it.
    """
    short = short_names.labels(dict.fromkeys(known.values()))
    found = {name: name for name in known}
    for called in (
        {name: spec.partition(":")[2] for name, spec in known.items()},
        {name: short[spec] for name, spec in known.items()},
        {name: given.get(spec, name) for name, spec in known.items()},
        known,
    ):
        found |= {word: name for name, word in called.items() if list(called.values()).count(word) == 1}
    return found


def named(run: Run, name: str, side: int) -> str:
    """The name in the run of a backbone that a folder holds, which the user calls by its name, its spelling, or as short as a table does.

    Raises:
        VitalsError: the folder holds none of it.
    """
    known = {b: run.backbones[b]["spec"] for b in backbones(run, side)}
    which = f"the {('first', 'second')[side]} run" if len(run.held) > 1 else "the run"
    asked = {text for each in run.lacking[side] for text in (each.backbone, each.backbone.partition(":")[2])}
    do = "None of its cells is measured yet: `vitals run` goes on." if name in asked else near(name, list(known))
    spelled = meant(known, run.plan.get("names", {}))
    require(name in spelled, f"A backbone must be measured in {which}", name, do)
    return spelled[name]


def _difference(p: Point, name: str, metric: Metric, pairs: np.ndarray, ended: stats.Early | None) -> Difference:
    first, second = pairs.T
    moved = second - first
    level = stats.at_look(stats.LEVEL, ended)
    value = stats.paired_difference(second, first, bounds=metric.bounds, level=level)
    return Difference(
        study=p.study,
        images=p.images,
        title=name,
        condition=p.fields,
        metric=metric,
        share=metric.share,
        better=metric.better,
        a=stats.estimate(first, bounds=metric.bounds, early=ended),
        b=stats.estimate(second, bounds=metric.bounds, early=ended),
        value=value._replace(early=ended),
        gained=float(np.maximum(moved, 0).mean()),
        lost=float(np.maximum(-moved, 0).mean()),
    )
