"""The first screen: a card for each backbone, and which vital signs say something by themselves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from visionvitals import stats, study
from visionvitals.report import origin
from visionvitals.results import remarks, signs, words
from visionvitals.results.compare import NAMED_MARGIN
from visionvitals.results.run import Run
from visionvitals.results.signs import Column

Pair = tuple[str, str]


class Number(NamedTuple):
    """An accuracy on a card.

    Attributes:
        head: where it was measured, e.g. `at 50 % occlusion`.
        estimate: the share of images that are right.
        tone: `better` or `worse` than that of the first backbone where the paired interval decides it, else "".
    """

    head: str
    estimate: stats.Estimate
    tone: str


@dataclass(frozen=True)
class Card:
    """One backbone on one image set.

    Attributes:
        backbone, images: names.
        numbers: accuracies, that on unchanged images first.
        costs: parameters, and images a second on the unchanged images of this run; where they are known.
        verdict: a sentence.
    """

    backbone: str
    images: str
    numbers: tuple[Number, ...]
    costs: tuple[str, ...]
    verdict: str


def cards(run: Run, columns: Sequence[Column]) -> list[Card]:
    """A card for each backbone and image set: how often it is right before what it keeps, and how it compares with the first one."""
    clean = next((c for c in columns if c.study == study.BASELINE and c.sign.kind == "mean"), None)
    kept = next((c for c in columns if c.sign.kind == "kept"), None)
    found = [] if clean is None else [("on unchanged images", clean)]
    if kept is not None and (record := run.record(kept.study)) is not None:
        found.append((kept.sign.at or kept.sign.title, signs.column_of(run, record, replace(kept.sign, kind="mean"))))
    made = []
    firsts: dict[str, str] = {}
    for backbone, images in signs.pairs(run):
        first = firsts.setdefault(images, backbone)
        here = [(head, c, c.readings[backbone, images]) for head, c in found if (backbone, images) in c.readings]
        apart = {head: signs.compare(run, c, images, first, backbone) for head, c, _ in here if backbone != first}
        numbers = tuple(Number(head, r.estimate, _tone(c, apart.get(head))) for head, c, r in here)
        said = [_compared(head, c, apart[head], first) for head, c, _ in here if head in apart]
        verdict = "; ".join(filter(None, said)) or _alone(kept, (backbone, images))
        if here or not found:  # a set that was asked no answers has nothing to say where others have
            made.append(Card(backbone, images, numbers, _costs(run, backbone, images), _sentence(verdict)))
    return made


def telling(run: Run, columns: Sequence[Column]) -> tuple[list[Column], list[tuple[Column, str]]]:
    """(the headlines, the signs that mean little by themselves in this run with the reason)."""
    reasons = [(column, remarks.silent(run, column)) for column in columns]
    return [c for c, reason in reasons if not reason], [(c, reason) for c, reason in reasons if reason]


def summary(run: Run, columns: Sequence[Column]) -> str:
    """The first result in one sentence, where the cards are many or have nothing to say."""
    if not run.points:
        return "No cell finished, so nothing was measured; the reasons are listed below."
    clean = next((c for c in columns if c.study == study.BASELINE and c.sign.kind == "mean"), None)
    kept = next((c for c in columns if c.sign.kind == "kept"), None)
    if clean is None or len(signs.pairs(run)) > 3:
        column = kept or clean or next(iter(columns), None)
        return _range(run, column) if column else f"{words.count(len(run.points), 'condition')} measured."
    return ""


def _range(run: Run, column: Column) -> str:
    """From where to where the backbones lie on the first image set that has the sign, and which one is the best where that is decided."""
    images = next((images for _, images in column.readings), "")
    known = [
        (b, r.estimate) for (b, i), r in column.readings.items() if i == images and r.estimate.value == r.estimate.value
    ]
    if not known:
        return "Nothing could be compared."
    known.sort(key=lambda pair: pair[1].value)
    (_, least), (high, most) = known[0], known[-1]
    on = f" on {images}" if len(run.images) > 1 else ""
    said = f"{column.sign.title[:1].upper()}{column.sign.title[1:]}{on}: "
    if len(known) == 1:
        return f"{said}`{high}`: {words.with_unit(most, share=column.share)}. In brackets: the 95 % interval."
    best = signs.best(run, column, images)
    told = f"`{best}` is the best of {len(known)}" if best else f"which of {len(known)} is the best is not decided"
    ends = f"{words.with_unit(least, share=column.share)} to {words.with_unit(most, share=column.share)}"
    return f"{said}{ends}; {told}. In brackets: 95 % intervals."


def measured(run: Run, images: str) -> str:
    """How many images of a set were asked, e.g. `300 images`, or `40 of 300 images` where a limit was set."""
    n = run.images[images]["n"]
    limits = {p.settings["limit"] or n for p in run.points if p.images == images}
    asked = words.listed(f"{min(limit, n):,}" for limit in sorted(limits) if limit < n or len(limits) > 1)
    return f"{asked} of {words.count(n, 'image')}" if asked else words.count(n, "image")


def _tone(column: Column, apart: stats.Estimate | None) -> str:
    if apart is None or not (apart.low > 0 or apart.high < 0):
        return ""
    return "better" if (apart.value > 0) == (column.better == "high") else "worse"


def _compared(head: str, column: Column, e: stats.Estimate | None, first: str) -> str:
    """How a backbone compares with the first one at one condition."""
    if e is None or e.low != e.low:
        return ""
    between = " to ".join(words.ends(100 * e.low, 100 * e.high, 0, sign="+"))
    size = f"{abs(100 * e.value):.1f} points"
    if tone := _tone(column, e):
        return f"{head} {tone} than `{first}` by {size} ({between})"
    more = stats.needed(e, NAMED_MARGIN)
    told = (
        f"; about {words.count(words.about(more), 'image')} would tell 2 points"
        if more is not None and more > e.n
        else ""
    )
    return f"{head} not distinguishable from `{first}` ({between} points{told})"


def _alone(kept: Column | None, pair: Pair) -> str:
    """What a backbone keeps, where there is no other to compare it with."""
    if kept is None or pair not in kept.readings:
        return ""
    reading = kept.readings[pair]
    if reading.at_chance:
        return "no better than guessing on unchanged images, so what it keeps says nothing"
    return f"keeps {words.with_unit(reading.estimate)} of its accuracy {kept.sign.at or f'({kept.sign.title})'}"


def _costs(run: Run, backbone: str, images: str) -> tuple[str, ...]:
    cells = (
        [cell for p in run.of(study.BASELINE) if (p.backbone, p.images) == (backbone, images) for cell in p.cells]
        if study.BASELINE in run.studies
        else []
    )
    seconds = sum(cell.facts.get("seconds", 0.0) for cell in cells)
    rate = sum(cell.facts.get("n", 0) for cell in cells) / seconds if seconds else 0.0
    return (
        f"{origin.millions(run.backbones[backbone]['parameters'])} parameters",
        *((f"{float(f'{rate:.2g}'):,g} images/s in this run",) if rate else ()),
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""
