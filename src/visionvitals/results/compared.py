"""A comparison with all that is told of it, and its forms in files: rows and Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from visionvitals.results import comparability, flips, markdown, slices, words
from visionvitals.results.asked import refuse_unknown
from visionvitals.results.compare import Difference, Pair
from visionvitals.results.flips import Flips

CLASSES = 8
"""Classes that are named of those in which answers flip."""
PICTURES = 8
"""Pictures that are named of those whose answers flip, each way."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was found of a pair.

    Attributes:
        pair: see `compare.Pair`.
        group: column -> value, where it is of a part of the pictures only.
        signs, conditions: see `Pair.signs` and `Pair.differences`.
        flips: at the headline conditions; empty for a part.
        line: the comparability digest of both sides, in a sentence.
        differing: what differs between them, a sentence each.
    """

    pair: Pair
    group: Mapping[str, str] = field(default_factory=dict)
    signs: tuple[Difference, ...]
    conditions: tuple[Difference, ...]
    flips: tuple[Flips, ...]
    line: str
    differing: tuple[str, ...]


def compared(pair: Pair, *, metric: str | None = None, by: str | None = None) -> list[Compared]:
    """A comparison, or one for each group of a column of the image sets.

    Args:
        pair: what is compared.
        metric: only this one, and no signs.
        by: `class`, or a further column of a csv.

    Raises:
        VitalsError: nothing of both can be compared, or the run has no such metric or column.
    """
    comparability.refuse_nothing(pair)
    refuse_unknown(metric, {m for p, _ in pair.matched[0] for m in p.metrics})
    line, differing = comparability.line(pair), tuple(comparability.differing(pair))

    def one(part: Pair, group: Mapping[str, str]) -> Compared:
        return Compared(
            pair=part,
            group=group,
            signs=tuple(part.signs() if metric is None else ()),
            conditions=tuple(part.differences(metric)),
            flips=tuple(flips.headline(part) if by is None and metric in (None, flips.RIGHT) else ()),
            line=line,
            differing=differing,
        )

    if by is None:
        return [one(pair, {})]
    return [one(replace(pair, run=part), {by: value}) for value, part in slices.by(pair.run, by)]


def rows(of: Compared) -> list[dict[str, Any]]:
    """One row per sign and condition. Columns: first, second (the backbones), digest_first, digest_second (see `comparability.digests`),
    group, study, data, condition, metric, n, a, b, difference, low, high (95 %), gained, lost, detectable, verdict."""
    digests = comparability.digests(of.pair)
    head = {"first": of.pair.a, "second": of.pair.b, "digest_first": digests[0], "digest_second": digests[1]}
    return [
        head
        | {
            "group": words.condition(of.group),
            "study": d.study,
            "data": d.images,
            "condition": words.condition(d.condition),
            "metric": d.title,
            "n": d.value.n,
            **({"stopped": words.n(d.value)} if any(x.value.early for x in (*of.signs, *of.conditions)) else {}),
            "a": d.a.value,
            "b": d.b.value,
            "difference": d.value.value,
            "low": d.value.low,
            "high": d.value.high,
            "gained": d.gained,
            "lost": d.lost,
            "detectable": d.detectable,
            "verdict": d.verdict,
        }
        for d in (*of.signs, *of.conditions)
    ]


def flipped(found: Flips) -> Iterator[str]:
    """What flips at one condition, in sentences."""
    at = ", ".join(filter(None, (found.study, words.condition(found.condition), found.images)))
    a, b = found.sides
    yield f"{at}: {a} on {len(found.lost):,}, {b} on {len(found.gained):,} of {found.n:,}"
    if found.classes:
        named = [f"{name} ({words.flips_of(down, up)} of {n})" for name, n, down, up in found.classes[:CLASSES]]
        yield f"classes: {', '.join(named)}{_more(len(found.classes) - CLASSES)}"
    for side, items in ((a, found.lost), (b, found.gained)):
        if items:
            yield f"{side}: {', '.join(items[:PICTURES])}{_more(len(items) - PICTURES)}"
    yield f"error consistency: {found.verdict}"


def _more(n: int) -> str:
    return f", and {n:,} more" if n > 0 else ""


def as_markdown(of: Compared) -> str:
    """The comparison as a page of Markdown: the signs with their verdicts, what flips, then every condition."""
    one, part = of.pair, words.condition(of.group)
    title = f"{one.b} against {one.a}" + (f", {part}" if part else "")
    lines = [f"# {markdown.text(title)}", "", markdown.text(f"a: {one.a}; b: {one.b}.")]
    lines += [f"b minus a on the same images, 95 % intervals; {markdown.text(of.line)}.", ""]
    signs = [[d.title, *(words.value(e, share=d.share) for e in (d.a, d.b)), d.verdict] for d in of.signs]
    lines += markdown.table(["sign", "a", "b", "verdict"], signs)
    for found in of.flips:
        lines += ["", *(("- " if k == 0 else "  - ") + markdown.text(said) for k, said in enumerate(flipped(found)))]
    conditions = [
        [
            d.study,
            words.condition(d.condition),
            d.metric.head,
            *(words.value(e, share=d.share) for e in (d.a, d.b)),
            words.difference(d.value, share=d.share),
            words.n(d.value),
        ]
        for d in of.conditions
    ]
    lines += ["", *markdown.table(["study", "condition", "metric", "a", "b", "b - a", "n"], conditions), ""]
    lines += [f"- {markdown.text(said)}" for said in of.differing]
    return "\n".join(lines).rstrip() + "\n"


def summary(found: Sequence[Difference]) -> str:
    """How many of some differences are decided, and which way."""
    better, worse = (sum(d.good is side for d in found) for side in (True, False))
    unsure = sum(not d.decided for d in found)
    other = len(found) - better - worse - unsure
    parts = [(better, "better"), (worse, "worse"), (other, "different"), (unsure, "not distinguishable")]
    return ", ".join(f"{n} {word}" for n, word in parts if n)
