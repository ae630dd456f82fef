"""The rules of a gate, as TOML.

    [[rule]]
    name = "sees half-covered objects"
    study = "occlusion"                    # and where, metric; or in their place: sign = "kept at 50 % occlusion"
    where = { fraction = 0.5, fill = "black" }
    metric = "top1"
    at_least = 0.60                        # or at_most; or not_worse_by = 0.02, against the baseline
    tier = "critical"                      # critical (default), supporting, advisory

Every value is on the metric's own scale: 0.6 is 60 %. `relative = true` makes `not_worse_by` a share of the baseline's value. `backbone`
and `data` name one each; without them a rule holds for all. `class = "tench"` and `group = { weather = "rain" }` (columns of a csv image set)
restrict it to these pictures, and to the image sets that have the column. `baseline_backbone` names the one to compare with, where it is called otherwise.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from visionvitals import study
from visionvitals.errors import VitalsError, near, require, shortened
from visionvitals.figure import BOUNDS, Record, Sign, tupled
from visionvitals.files import read_regular
from visionvitals.results.run import Run
from visionvitals.run import groups

Tier = Literal["critical", "supporting", "advisory"]
ASKS = ("at_least", "at_most", "not_worse_by")
_TEXTS = ("name", "sign", "study", "metric", "tier", "backbone", "data", "baseline_backbone", groups.CLASS)
_TYPES: dict[str, Any] = (
    dict.fromkeys(_TEXTS, str) | dict.fromkeys(ASKS, (int, float)) | {"where": dict, "group": dict, "relative": bool}
)
_HUGE = 1e300
DO = "See `vitals gate --help` and examples/gate.toml."


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule.

    Attributes:
        name: of the rule; by default what it asks.
        study: whose number it is.
        what: how the number is read from the study's points.
        ask: `at_least`, `at_most` or `not_worse_by`.
        value: the threshold, or the margin, on the metric's scale.
        relative: the margin is a share of the baseline's value.
        share: whether the number reads as percent.
        tier: see the gate.
        open: it names a study and its condition, so that it must say which of several; a sign chooses by itself.
        backbone, data, baseline_backbone: as the user names them, or None.
        group: column -> value; only pictures with all of them count.
    """

    name: str
    study: str
    what: Sign
    ask: str
    value: float
    share: bool
    relative: bool = False
    tier: Tier = "critical"
    open: bool = False
    backbone: str | None = None
    data: str | None = None
    baseline_backbone: str | None = None
    group: Mapping[str, str] = field(default_factory=dict)


def read(path: Path, records: Mapping[str, Record]) -> list[Rule]:
    """The rules of a file.

    Args:
        path: TOML.
        records: study -> what is known of it: all that are installed, and those of the run.

    Raises:
        VitalsError: what `sections` and `made` refuse.
    """
    return made(sections(path), str(path), records)


def sections(path: Path) -> list[dict[str, Any]]:
    """The sections of a file of rules, as plain values.

    Raises:
        VitalsError: no such file, no TOML, or other sections.
    """
    try:
        content = tomllib.loads(read_regular(path).decode())
    except OSError as error:
        got = error.strerror or error
        raise VitalsError(f"`--rules` must name a file that can be read. Got {path}: {got}. {DO}") from error
    except (ValueError, RecursionError) as error:
        raise VitalsError(f"Rules must be valid TOML. Got {path}: {shortened(str(error))}. {DO}") from error
    found = content.get("rule")
    must = f"{path} must hold [[rule]] sections and nothing else"
    whole = set(content) == {"rule"} and isinstance(found, list) and bool(found)
    do = f"This is a plan: `vitals run {path} --out DIR` measures it." if "backbones" in content else DO
    require(whole, must, sorted(content), do)
    return list(found or ())


def made(sections: Sequence[Any], where: str, records: Mapping[str, Record]) -> list[Rule]:
    """The rules of the sections of a file.

    Args:
        sections: see `sections`.
        where: names the file in messages.
        records: study -> what is known of it.

    Raises:
        VitalsError: an unknown key, study, field, metric or sign, a missing threshold, or rules that contradict each other.
    """
    rules = [_rule(section, f"{where}, rule {k}", records) for k, section in enumerate(sections, 1)]
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"Each rule of {where} must have a name of its own", twice, "Give them a `name`.")
    consistent(rules)
    return rules


def known(run: Run) -> dict[str, Record]:
    """study -> its record, of all that are installed and of those of the run."""
    installed = {name: study.load(name) for name in study.names()}
    return installed | {name: record for name in run.studies if (record := run.record(name)) is not None}


def _rule(section: Any, where: str, records: Mapping[str, Record]) -> Rule:
    require(isinstance(section, dict), f"{where} must be a section", section, DO)
    for key, value in section.items():
        require(key in _TYPES, f"{where} must use known keys", key, near(key, _TYPES))
        kind: Any = _TYPES[key]
        fits = isinstance(value, kind) and (not isinstance(value, bool) or kind is bool)
        quoted = isinstance(value, str) and kind not in (str, dict)
        must = f"`{key}` of {where} must be {_called(kind)}{' without quotes' if quoted else ''}"
        require(fits, must, f"the list {value}" if isinstance(value, list) else value, DO)
    asks = [ask for ask in ASKS if ask in section]
    require(len(asks) == 1, f"{where} must have one of {', '.join(ASKS)}", ", ".join(asks) or "none", DO)
    number, tier = section[asks[0]], section.get("tier", "critical")
    value = float(number) if abs(number) < _HUGE else math.inf
    require(math.isfinite(value), f"`{asks[0]}` of {where} must be finite", number, DO)
    require(tier in get_args(Tier), f"`tier` of {where} must be one of {', '.join(get_args(Tier))}", tier, DO)
    against = asks[0] == "not_worse_by"
    require(
        not against or value >= 0,
        f"`not_worse_by` of {where} must not be negative",
        value,
        "0.02 allows two points less.",
    )
    for key in ("relative", "baseline_backbone"):
        require(against or key not in section, f"`{key}` of {where} belongs to not_worse_by", asks[0], "Leave it out.")
    both = {groups.CLASS} & section.keys() & section.get("group", {}).keys()
    require(not both, f"{where} must name its class once", (section.get(groups.CLASS), section.get("group")), DO)
    group = section.get("group", {}) | {key: section[key] for key in (groups.CLASS,) if key in section}
    told = all(isinstance(each, str) for each in group.values())
    require(told, f"`group` of {where} must hold a text for each column", group, 'As in { weather = "rain" }.')
    name, what = _what(section, where, records)
    better = what.better or records[name].metrics[what.metric].better
    neither = against and better in (None, "neither")
    must = f"{where} must name a number with a better end, higher or lower"
    require(not neither, must, what.title, "Use at_least or at_most.")
    of_extreme = section.get("relative") and what.kind in ("lowest", "highest")
    must = f"`relative` of {where} needs a number that is not the lowest or highest of several"
    require(not of_extreme, must, what.title, "Leave it out.")
    _bounded(section, asks[0], value, what, records[name], where)
    bound = {"at_least": "at least", "at_most": "at most", "not_worse_by": "not worse by"}[asks[0]]
    rest = {key: section[key] for key in ("relative", "backbone", "data", "baseline_backbone") if key in section}
    part = "".join(f", {column} {each}" for column, each in group.items())
    title = section.get("name") or f"{what.title}{part} {bound} {value:g}"
    return Rule(
        name=title,
        study=name,
        what=what,
        ask=asks[0],
        value=value,
        share="share" in ("share" if what.kind == "kept" else "", what.unit or records[name].metrics[what.metric].unit),
        tier=tier,
        open="sign" not in section,
        group=group,
        **rest,
    )


def _what(section: Mapping[str, Any], where: str, records: Mapping[str, Record]) -> tuple[str, Sign]:
    """(study, what is read)."""
    if "sign" in section:
        extra = sorted({"study", "where", "metric"} & section.keys())
        require(not extra, f"{where} must name a sign or a study, not both", extra, DO)
        signs = {sign.title: (name, sign) for name, record in records.items() for sign in record.signs}
        title = section["sign"]
        require(title in signs, f"`sign` of {where} must be a vital sign", title, lambda: near(title, signs))
        return signs[title]
    name, metric, fields = section.get("study"), section.get("metric", "top1"), tupled(section.get("where", {}))
    require(name is not None, f"{where} must name a `sign`, or a `study`", sorted(section), DO)
    require(name in records, f"`study` of {where} must be installed", name, lambda: near(str(name), records))
    record = records[str(name)]
    have = {**record.defaults, **dict.fromkeys(record.axes)}
    for key, value in fields.items():
        require(key in have, f"`where` of {where} must hold fields of {name}", key, near(key, have))
        must = f"`{key}` of {where} must be {_form(record.defaults.get(key))}"
        require(_plain(value) and _form(value) in must, must, value)
    averaged = [m for m, known in record.metrics.items() if known.averaged]
    require(metric in averaged, f"`metric` of {where} must be one of {name}", metric, near(metric, averaged))
    at = ", ".join(f"{k} {'x'.join(map(str, v)) if isinstance(v, tuple) else v}" for k, v in fields.items())
    return str(name), Sign(
        title=f"{name} {metric}" + (f" at {at}" if at else ""), kind="mean", where=fields, metric=metric
    )


def _bounded(section: Mapping[str, Any], ask: str, value: float, what: Sign, record: Record, where: str) -> None:
    """Refuse a threshold that no value can be beyond, or a margin that every value keeps: points instead of shares, most of all."""
    low, high = what.bounds or (BOUNDS[what.unit] if what.unit else record.metrics[what.metric].bounds)
    low, high = (0.0, math.inf) if what.kind == "kept" else (low, high)
    do = "A share of 60 % reads 0.6, two points 0.02." if high in (1, math.inf) else ""
    if ask != "not_worse_by":
        must = f"`{ask}` of {where} must lie on the scale of {what.title}, {low:g} to {high:g}"
        require(low <= value <= high, must, value, do)
    elif section.get("relative") and (what.better or record.metrics[what.metric].better) == "high":
        require(value < 1, f"`not_worse_by` of {where} must be a share below 1, where it is relative", value, do)
    elif not section.get("relative"):
        width = 1.0 if what.kind == "kept" else high - low
        must = f"`not_worse_by` of {where} must be smaller than the width of the scale, {width:g}"
        require(value < width, must, value, do)


def _form(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a finite number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, tuple) else "a text, a finite number, true or false, or a list of these"


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def with_baseline(rules: Iterable[Rule], baseline: object, run: object = None) -> None:
    """Refuse a rule that compares with a baseline where there is none, or where it is the `run` itself and no other network is named."""
    for rule in rules:
        must = f"`{rule.name}` must have a baseline"
        require(
            bool(baseline) or rule.ask != "not_worse_by", must, None, "Give --baseline RUN (from Python: baseline=RUN)."
        )
        itself = bool(baseline) and baseline == run and rule.ask == "not_worse_by"
        must = f"`{rule.name}` must not compare a network with itself"
        do = "Give an older run, or another network of this one by `baseline_backbone`."
        require(not itself or rule.baseline_backbone not in (None, rule.backbone), must, str(baseline), do)


def consistent(rules: Sequence[Rule]) -> None:
    """No number can be above one threshold and below a lower one.

    Raises:
        VitalsError: two rules ask for it.
    """

    def number(rule: Rule) -> tuple[Any, ...]:
        what = rule.what
        part = tuple(sorted(rule.group.items()))
        return rule.study, part, what.kind, tuple(sorted(what.where.items(), key=str)), what.metric, what.x, what.index

    for low in (r for r in rules if r.ask == "at_least"):
        for high in (r for r in rules if r.ask == "at_most" and number(r) == number(low)):
            apart = [(low.backbone, high.backbone), (low.data, high.data)]
            meet = all(a is None or b is None or a == b for a, b in apart)
            got = f"`{low.name}` at least {low.value:g}, `{high.name}` at most {high.value:g}"
            require(
                not meet or low.value <= high.value, "Rules must not contradict each other", got, "Change one of them."
            )


def _called(kind: Any) -> str:
    return {str: "a text in quotes", dict: "a table", bool: "true or false"}.get(kind, "a number")
