"""The networks and image sets that a rule of a gate holds for: where its study was asked for, measured or not."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from visionvitals.errors import near, require
from visionvitals.results import compare, signs, slices
from visionvitals.results.rules import Rule
from visionvitals.results.run import Run

Place = tuple[str, str]
"""(backbone, images)."""


def meant(own: Run, rule: Rule) -> Rule:
    """A rule with the names that the run has for what it names.

    Args:
        own: the part of the run that is judged.
        rule: as it was written.

    Raises:
        VitalsError: it names a backbone, an image set, a column or a value that is not there.
    """
    asked, given = _asked(own, rule.study), own.plan.get("names", {})
    backbones, sets = (
        (
            {name: cards[name]["spec"] if name in cards else name for name in dict.fromkeys(names)}
            for names, cards in zip(zip(*asked, strict=True), (own.backbones, own.images), strict=True)
        )
        if asked
        else ({}, {})
    )
    found = named(rule, compare.meant(backbones, given), compare.meant(sets, given))
    wanted = of_rule(own, dataclasses.replace(found, group={}))[1]
    say_group(rule, slices.columns(own, [images for images in wanted if images in own.images]))
    return found


def of_rule(own: Run, rule: Rule) -> tuple[list[Place], list[str]]:
    """(every place of a rule, in the order of the run; their image sets, each once). A rule on groups holds for the sets that have them."""
    there = slices.columns(own) if rule.group else {}
    fits = {i for i in own.images if all(i in there.get(c, {}).get(v, ()) for c, v in rule.group.items())}
    places = [
        (backbone, images)
        for backbone, images in _asked(own, rule.study)
        if rule.backbone in (None, backbone) and rule.data in (None, images) and (not rule.group or images in fits)
    ]
    return places, list(dict.fromkeys(images for _, images in places))


def named(rule: Rule, backbones: Mapping[str, str], sets: Mapping[str, str]) -> Rule:
    """A rule with the names that a run has, of all words that may be used for them, see `compare.meant`."""
    found: dict[str, Any] = {}
    for option, name, words in (("backbone", rule.backbone, backbones), ("data", rule.data, sets)):
        must = f"`{option}` of `{rule.name}` must be in the run"
        require(name is None or name in words, must, name, near(str(name), list(words)))
        found[option] = name if name is None else words[name]
    return dataclasses.replace(rule, **found)


def say_group(rule: Rule, known: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse a column, or a value, that no image set of a rule has.

    Args:
        rule: the rule.
        known: column -> value -> anything.
    """
    for column, value in rule.group.items():
        must = f"`group` of `{rule.name}` must name columns of its image sets"
        require(column in known, must, column, near(column, known) if known else "The run keeps no groups of them.")
        must = f"`{column}` of `{rule.name}` must be a value that the pictures have"
        require(value in known[column], must, value, near(value, known[column]))


def _asked(own: Run, study: str) -> list[Place]:
    """The places at which a study was measured or asked for; all that the run has where there is none."""
    lacking = list(dict.fromkeys(each[:3] for each in own.lacking[0])) if own.lacking else []
    measured = {(p.backbone, p.images) for p in own.of(study)}
    everything = signs.pairs(own)
    found = [place for place in everything if place in measured] + [(b, i) for name, b, i in lacking if name == study]
    return list(dict.fromkeys(found or [*everything, *((b, i) for _, b, i in lacking)]))
