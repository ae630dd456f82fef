"""The verdict of a gate as text, JSON, JUnit and Markdown: one verdict, so that they agree with the exit code."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from visionvitals.errors import VitalsError, escaped
from visionvitals.remote import located
from visionvitals.results import words
from visionvitals.results.gate import Outcome, Verdict
from visionvitals.run import noted

BELOW = " " * 11
"""Before what is said of a rule below its name."""


def text(verdict: Verdict) -> Iterator[str]:
    """Lines in 80 columns: each rule with where it holds and what was found, then the verdict; a word that is longer stays whole."""
    for o in verdict.outcomes:
        yield f"{o.status.upper():10} {o.rule.name}" + (f" ({o.rule.tier})" if o.rule.tier != "critical" else "")
        yield from words.wrapped(o.where, first=BELOW, rest=BELOW)
        yield from words.wrapped(f"{o.measured}; asked: {o.asked}", first=BELOW, rest=BELOW)
    yield ""
    yield from filter(None, (_levels(verdict),))
    yield f"{verdict.headline} (exit code {verdict.exit_code})"


def as_json(verdict: Verdict) -> str:
    """All of it; NaN becomes null."""
    return json.dumps(
        {
            "verdict": verdict.status,
            "exit_code": verdict.exit_code,
            "run": verdict.run,
            "baseline": verdict.against or None,
            "look": None if verdict.look is None else verdict.look._asdict(),
            "notes": _notes(verdict),
            "rules": [_plain(o) for o in verdict.outcomes],
        },
        indent=1,
        allow_nan=False,
    )


def as_junit(verdict: Verdict) -> str:
    """One testcase a rule, backbone and image set; breach and missing are failures, undecided is skipped with its message. Advisory rules
    are never failures."""
    suite = ElementTree.Element("testsuite", name="vitals gate", tests=str(len(verdict.outcomes)))
    counts = {"failure": 0, "skipped": 0}
    for o in verdict.outcomes:
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(o.where or "gate"), name=_clean(o.rule.name))
        said = _clean(f"{o.status}: {o.measured}; asked: {o.asked}")
        kind = "skipped" if o.status == "undecided" or o.rule.tier == "advisory" else "failure"
        if o.status == "pass":
            ElementTree.SubElement(case, "system-out").text = said
        else:
            counts[kind] += 1
            ElementTree.SubElement(case, kind, message=said)
    suite.set("failures", str(counts["failure"]))
    suite.set("skipped", str(counts["skipped"]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def as_markdown(verdict: Verdict) -> str:
    """A table for a pull request."""
    against = f" against `{verdict.against}`" if verdict.against else ""
    lines = [f"## vitals gate: {verdict.headline}", "", f"`{verdict.run}`{against}", ""]
    lines += ["| | rule | tier | where | found | asked |", "|---|---|---|---|---|---|"]
    for o in verdict.outcomes:
        cells = (o.status.upper(), o.rule.name, o.rule.tier, o.where, o.measured, o.asked)
        lines.append(
            f"| {' | '.join(escaped(cell).replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"
        )
    said = [part for line in noted.lines(located(verdict.run)) for part in (escaped(line), "")]
    return "\n".join([*lines, "", *said, _levels(verdict)]).rstrip() + "\n"


def _notes(verdict: Verdict) -> list[dict[str, str]] | None:
    """What people decided about the run; None where that is damaged."""
    try:
        return [dataclasses.asdict(note) for note in noted.read(located(verdict.run))]
    except VitalsError:
        return None


def _levels(verdict: Verdict) -> str:
    """What the intervals are, and of which look, in a sentence or two."""
    others = _percent(verdict.alpha)
    said = f"Intervals are of {others}."
    if verdict.level > 1 - verdict.alpha:
        k = round(verdict.alpha / (1 - verdict.level))
        own = _percent(1 - verdict.level)
        said = f"{k} critical judgements of each network: intervals of {own}, of the others {others}."
    if (look := verdict.look) is None:
        return said
    which = f"Look {look.number} of {look.of}, at {look.images:,} of {words.count(look.most, 'image')}"
    saved = f"{100 * (1 - look.images / look.most):.0f} % of them were not measured"
    return f"{which}; {saved}. All looks together are wrong in at most 5 % of the cases. {said}"


def _percent(misses: float) -> str:
    """A level as percent, with three digits of what it lacks of 100."""
    digits = max(1, 2 - math.floor(math.log10(100 * misses)))
    return f"{100 * (1 - misses):.{digits}f}".rstrip("0").rstrip(".") + " %"


def _plain(o: Outcome) -> dict[str, Any]:
    rule = {f.name: getattr(o.rule, f.name) for f in dataclasses.fields(o.rule) if f.name != "what"}
    what = {"number": o.rule.what.title, "metric": o.rule.what.metric, "where": dict(o.rule.what.where)}
    found = {k: None if math.isnan(x := getattr(o.estimate, k)) else x for k in ("value", "low", "high", "n")}
    said = {"status": o.status, "exit_code": o.exit_code, "found": o.measured, "asked": o.asked, "more_images": o.more}
    return {
        "rule": rule | what,
        "backbone": o.backbone,
        "data": o.data,
        "condition": o.condition,
        **said,
        "level": o.level,
        "estimate": found,
    }


def _clean(said: str) -> str:
    """Text without the characters that XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", escaped(said))
