"""What two sides of a comparison were measured on, as one short digest each, and what differs between them in words.

Equal digests and an empty list of what differs are the same thing: then every condition of one side is compared with one of the other, on
the same pictures, which both networks saw cut alike and whose labels were read alike.
"""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from visionvitals.errors import VitalsError
from visionvitals.results import words
from visionvitals.results.compare import Pair
from visionvitals.results.fields import readable
from visionvitals.results.run import CUTS, SETTINGS, Point, Run

PIXELS = ("size", "resize", "interpolation", "stretch", "crop")
"""Of a preprocessing, what decides which pixels a network sees; mean and std belong to the network."""


def digests(pair: Pair) -> tuple[str, str]:
    """12 hexadecimal digits for each side: over the content of the images, how pictures were cut and labels were read, seed, decoder, limit,
    and for each condition the version and source of its study, its companions and its metrics."""
    found = [sorted(json.dumps(_facts(pair.run, p), sort_keys=True) for p in pair.points(side)) for side in (0, 1)]
    a, b = (hashlib.sha256("\n".join(each).encode()).hexdigest()[:12] for each in found)
    return a, b


def line(pair: Pair) -> str:
    """Both digests in one sentence."""
    a, b = digests(pair)
    if a == b:
        return f"measured alike: comparability digest {a}"
    return f"not everything was measured alike: comparability digest a {a}, b {b}"


def differing(pair: Pair) -> list[str]:
    """What differs, a sentence each: what is not compared, with why, and what is compared all the same."""
    found = [f"not compared: {study}: {reason}" for study, reasons in pair.matched[1].items() for reason in reasons]
    found += _alone(pair)
    for p, q in pair.matched[0]:
        for cut in CUTS:
            a, b = (readable(each.settings[cut]) for each in (p, q))
            found += [f"{cut} {a} and {b}: compared on the pictures that both have"] if a != b else []
        how = [each.settings["numerics"] for each in (p, q)]
        found += [f"numerics {how[0]} and {how[1]}: compared as they are"] if how[0] != how[1] else []
        only = sorted({*p.metrics} ^ {*q.metrics})
        found += [f"not compared: {p.study}: {words.listed(only)}, which one side lacks"] if only else []
        sides = [_seen(pair.run, each) for each in (p, q)]
        found += [
            f"{what}: {_told(mine)} and {_told(other)}; this belongs to the networks, and they are compared all the same"
            for what, mine, other in _apart(*sides)
        ]
    return list(dict.fromkeys(found))


def refuse_nothing(pair: Pair) -> None:
    """Refuse a comparison in which no condition of one is compared with one of the other.

    Raises:
        VitalsError: with what differs.
    """
    if not pair.matched[0]:
        why = "; ".join(differing(pair)) or "no finished cells of one of them"
        do = "Measure both on the same images, with the same studies and settings."
        raise VitalsError(f"Something of {pair.a} and {pair.b} must be comparable. Got: {why}. {do}")


def _alone(pair: Pair) -> Iterator[str]:
    """Conditions that one side has and the other has not, where nothing else is said of them."""
    compared = [{id(two[side]) for two in pair.matched[0]} for side in (0, 1)]
    for side in (0, 1):
        count: dict[str, int] = {}
        for p in pair.points(side):
            if id(p) not in compared[side]:
                count[p.study] = count.get(p.study, 0) + 1
        for study, n in count.items():
            yield f"not compared: {study}: {words.count(n, 'condition')} of {'ab'[side]}"


def _facts(run: Run, p: Point) -> dict[str, Any]:
    where = {"study": p.study, "fields": [[k, readable(v)] for k, v in p.fields.items()]}
    settings = {k: v for k in SETTINGS if (v := p.settings[k]) is not None or k not in ("half_width", "minutes")}
    return where | {"images": run.images[p.images]["digest"], "metrics": sorted(p.metrics)} | settings | _seen(run, p)


def _seen(run: Run, p: Point) -> dict[str, Any]:
    """How a network cuts pictures, and how the labels were read."""
    card = run.backbones[p.backbone]
    kind = run.images[p.images].get("kind", "names")
    return {
        "input": {name: card["preprocess"].get(name) for name in PIXELS},
        "labels": "outputs" if kind == "indices" else "in the order of the set" if card.get("ordered") else "names",
    }


def _apart(mine: dict[str, Any], other: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    return [(what, mine[what], other[what]) for what in mine if mine[what] != other[what]]


def _told(v: Any) -> str:
    if not isinstance(v, dict):
        return str(v)
    size = "x".join(map(str, v["size"]))
    cut = f"{size} of the whole picture" if v["resize"] is None else f"{size} of {v['resize']}"
    more = [name for name, usual in (("stretch", False), ("crop", "round")) if v[name] not in (None, usual)]
    return " ".join([cut, v["interpolation"], *(f"{name} {v[name]}" for name in more)])
