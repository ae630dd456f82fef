"""From what the user asked for to what will run: each backbone x image set x study x condition is a cell, or a skip with a reason.

All that can be wrong is found here, before anything is computed: spellings, weights, labels that do not fit, studies, conditions.
"""

import dataclasses
import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from visionvitals import registry, study
from visionvitals.core import Backbone, BackboneCard, Cell, ImageSet, ImageSetCard, Preset
from visionvitals.errors import VitalsError, blamed, require, shortened
from visionvitals.numerics import FP32
from visionvitals.plan import cards
from visionvitals.plan.companions import Companions
from visionvitals.plan.drawn import drawn
from visionvitals.plan.identity import cell_id, plain, spelled
from visionvitals.plan.request import Plan, Section, parse

if TYPE_CHECKING:
    import torch

    from visionvitals.datasets.base.labels import Alignment


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A point that will not be measured, and why."""

    study: str
    condition: Any
    backbone: str
    images: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A plan with everything resolved.

    Attributes:
        cells: in the order of the plan; each piece of work once.
        skips: what a backbone does not allow.
        sets: spelling -> the opened image set.
        backbones: spelling -> card.
        studies: name -> study.
        alignments: (backbone, image set) -> which of the backbone's outputs each of the set's classes is; missing where they do not
            fit.
        notes: how labels were mapped, and what the backbones and image sets say of themselves.
        rates: backbone -> images per second of a forward pass, where they were asked for.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    skips: tuple[Skip, ...]
    sets: Mapping[str, ImageSet]
    backbones: Mapping[str, BackboneCard]
    studies: Mapping[str, study.Study]
    alignments: "Mapping[tuple[str, str], Alignment]"
    notes: tuple[str, ...]
    rates: Mapping[str, float] = field(default_factory=dict)

    @functools.cached_property
    def by_id(self) -> Mapping[str, Cell]:
        """id -> cell, in their order: an id is a hash of all that decides a cell, so that it is made once."""
        return {cell_id(cell): cell for cell in self.cells}


def make(
    plan: Plan,
    *,
    device: "torch.device",
    rate: Callable[[Backbone], float] | None = None,
    batch_size: int = 1,
    only: Collection[str] | None = None,
) -> Planned:
    """Resolve a plan. Each backbone whose card is not remembered (see `plan.cards`) is loaded for it, and freed before the next one.

    Args:
        plan: what to measure.
        device: where the backbones are loaded.
        rate: measures how many images a second a backbone takes in batches of `batch_size`; not asked where that is remembered.
        only: the backbones whose cells are asked for, of those of the plan; None for all.

    Raises:
        VitalsError: anything that cannot be opened, loaded or aligned; nothing has been computed then.
    """
    studies = {study.name_of(section.name): study.load(section.name) for section in plan.studies}
    for text in plan.backbones:
        parse("backbones", text)
    sets = {text: open_images(text) for text in plan.sets}
    measured = {text: drawn(images, plan.limit, plan.seed) for text, images in sets.items()}
    opened = {text: images.card for text, images in sets.items()}
    making = _Making(plan, studies, opened, measured, Companions(functools.partial(load_backbone, device=device)))
    rates: dict[str, float] = {}
    for text in (text for text in plan.backbones if only is None or text in only):
        found = _known(text, device, rate, batch_size)
        rates |= {} if (speed := found.rate(batch_size)) is None else {text: speed}
        making.backbone(found.card)
    reasons = Counter(skip.reason for skip in making.skips).most_common(3)
    why = " ".join(f"{n} skipped: {reason.rstrip('.')}." for reason, n in reasons)
    require(bool(making.cells), "A plan must have something to measure", "none", why)
    notes = [f"{text}: {note}" for text, images in sets.items() for note in images.card.notes]
    return Planned(
        plan=plan,
        cells=tuple(making.cells.values()),
        skips=tuple(making.skips),
        sets=sets,
        backbones=making.cards,
        studies=studies,
        alignments=making.alignments,
        notes=tuple(dict.fromkeys([*notes, *making.notes])),
        rates=rates,
    )


def _known(
    text: str, device: "torch.device", rate: Callable[[Backbone], float] | None, batch_size: int
) -> cards.Remembered:
    """The card of a spelling, and its speed where that is asked for: remembered, or of the network, which is loaded and then remembered."""
    key = cards.depends(text, str(device))
    before = cards.recall(key)
    if before is not None and (rate is None or before.rate(batch_size) is not None):
        return before
    backbone = load_backbone(text, device=device)
    speed = {} if rate is None else {batch_size: rate(backbone)}
    found = cards.Remembered(backbone.card, {**({} if before is None else before.rates), **speed})
    cards.remember(key, found)
    return found


@dataclass
class _Making:
    """A plan while it is resolved, backbone by backbone; `drawn` are the cards of the images that will be measured."""

    plan: Plan
    studies: Mapping[str, study.Study]
    images: Mapping[str, ImageSetCard]
    drawn: Mapping[str, ImageSetCard]
    companions: Companions
    cells: dict[str, Cell] = field(default_factory=dict)
    skips: list[Skip] = field(default_factory=list)
    cards: dict[str, BackboneCard] = field(default_factory=dict)
    alignments: "dict[tuple[str, str], Alignment]" = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def backbone(self, card: BackboneCard) -> None:
        """Add the cells and the skips of one backbone."""
        self.cards[card.spec] = self.companions.cards[card.spec] = card
        self.notes += [f"{card.spec}: {note}" for note in card.notes]
        for images in self.images.values():
            asked = [section for section in self.plan.studies if images.spec in self.plan.sets_of(section)]
            unfit = self._align(card, images, asked)
            for section in asked:
                self._section(section, card, images, unfit)

    def _align(self, card: BackboneCard, images: ImageSetCard, asked: Sequence[Section]) -> str | None:
        """Match the set's classes with the backbone's outputs; why that is not possible, or None."""
        from visionvitals.datasets.base import labels

        if any(self.studies[study.name_of(section.name)].labels == "own" for section in asked):
            self.notes += [note] if (note := labels.known_classes(images, card)) else []
        try:
            found = self.alignments[card.spec, images.spec] = labels.align(images, card)
        except VitalsError as error:
            return " ".join(str(error).split())
        self.notes.append(f"{card.spec} on {images.spec}: {found.how}")
        return None

    def _section(self, section: Section, card: BackboneCard, images: ImageSetCard, unfit: str | None) -> None:
        chosen = self.studies[study.name_of(section.name)]
        wanted = conditions(section, chosen, preset=self.plan.preset, size=card.preprocess.size)
        for condition in (each for one in wanted for each in _expanded(one, self.plan)):
            reason = unfit if chosen.labels == "outputs" else None
            fixed = card.inference_only and self.plan.numerics != FP32
            reason = reason or (
                "its file fixes how it computes: measure it by fp32, in another --out" if fixed else None
            )
            reason = reason or chosen.refusal(condition, card, self.drawn[images.spec])
            others: tuple[tuple[str, str], ...] = ()
            if reason is None:
                others, reason = self.companions.of(condition)
            for spec in spelled(condition).values() if reason is None else ():
                reason = reason or chosen.unfit(condition, card, self.companions.cards[spec])
            reason = reason or self._add(chosen, condition, card, images, others)
            if reason:
                where = {"backbone": card.spec, "images": images.spec}
                self.skips.append(Skip(study=chosen.name, condition=condition, reason=reason, **where))

    def _ends(self, chosen: study.Study, condition: Any) -> dict[str, float]:
        """When a cell of a study, at a condition, may end before all images are measured."""
        asked = {k: float(v) for k in ("half_width", "minutes") if (v := getattr(self.plan, k)) is not None}
        splits = chosen.splits(condition)
        if asked and not splits:
            self.notes.append(f"{chosen.name} is measured whole: it does not measure each image by itself")
        return asked if splits else {}

    def _add(
        self,
        chosen: study.Study,
        condition: Any,
        card: BackboneCard,
        images: ImageSetCard,
        others: tuple[tuple[str, str], ...],
    ) -> str | None:
        """Add a cell; why it is not one of its own, or None."""
        limit = self.plan.limit
        cell = Cell(
            study=chosen.name,
            version=chosen.version,
            condition=condition,
            backbone=card,
            images=images,
            seed=self.plan.seed,
            limit=limit if limit is not None and limit < images.n else None,
            decoder=self.plan.decoder,
            numerics=self.plan.numerics,
            companions=others,
            source=chosen.source,
            **self._ends(chosen, condition),
        )
        first = self.cells.setdefault(cell_id(cell), cell)
        if (first.backbone.spec, first.images.spec) == (card.spec, images.spec):
            return None
        return f"the same weights and images as {first.backbone.spec} on {first.images.spec}, measured there"


def _expanded(condition: Any, plan: Plan) -> list[Any]:
    """The condition, once for each backbone of the plan where a field of type `BackboneSpec` is "*"; a short name there is spelled out."""
    short = {name: text for text, name in plan.names.items() if text in plan.backbones}
    spelt = {name: short[spec] for name, spec in spelled(condition).items() if spec in short}
    condition = dataclasses.replace(condition, **spelt) if spelt else condition
    stars = [name for name, spec in spelled(condition).items() if spec == "*"]
    product = itertools.product(plan.backbones, repeat=len(stars))
    return [dataclasses.replace(condition, **dict(zip(stars, chosen, strict=True))) for chosen in product]


def conditions(section: Section, chosen: study.Study, *, preset: Preset, size: tuple[int, int]) -> list[Any]:
    """The points of a section for a network input of `size` (height, width): at most `study.MOST_CONDITIONS`, of plain values."""
    if not section.values:
        found = chosen.conditions(section.preset or preset, size)
    else:
        count = math.prod(map(len, section.values.values()))
        must = f"The values of `{section.name}` must have a product of at most {study.MOST_CONDITIONS:,} conditions"
        require(count <= study.MOST_CONDITIONS, must, count, "Give fewer values, or several sections.")
        with blamed(f"`Condition` of `{section.name}` must take these values", chosen.file):
            product = itertools.product(*section.values.values())
            found = [chosen.Condition(**dict(zip(section.values, values, strict=True))) for values in product]
    with blamed(f"A condition of `{section.name}` must hold plain, finite values", chosen.file):
        for condition in found:
            plain(condition)
    return found


def load_backbone(text: str, *, device: "torch.device") -> Backbone:
    """The backbone that a spelling names.

    Raises:
        VitalsError: it cannot be loaded; what a user's own code raised is named.
    """
    spec = parse("backbones", text)
    with blamed(f"`{shortened(text)}` could not be loaded"):
        found = registry.load("backbones", spec.family).load(spec, device=device)
    assert isinstance(found, Backbone)
    return found


def open_images(text: str) -> ImageSet:
    """The image set that a spelling names.

    Raises:
        VitalsError: it cannot be opened.
    """
    spec = parse("datasets", text)
    with blamed(f"`{shortened(text)}` could not be opened"):
        return registry.load("datasets", spec.family).open(spec)  # type: ignore[no-any-return]
