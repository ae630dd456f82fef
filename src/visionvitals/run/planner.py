"""From what the user asked for to what will run: each backbone x image set x study x condition is a cell, or a skip with a reason.

All that can be wrong is found here, before anything is computed: spellings, weights, labels that do not fit, studies, conditions.
"""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from visionvitals import registry
from visionvitals.core import PRESETS, Backbone, BackboneCard, Cell, ImageSet, ImageSetCard, Preset
from visionvitals.errors import VitalsError, near, require
from visionvitals.run.identity import cell_id, folders, plain, spelled

if TYPE_CHECKING:
    import torch

    from visionvitals.datasets.base.labels import Alignment

Decoder = Literal["pillow", "fast"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One study of a plan.

    Attributes:
        name: of the study, or the path of its file.
        preset: instead of the plan's own.
        values: condition field -> the values it takes. Their product is measured, fields that are not named keep their default;
            empty: the conditions of the preset.
    """

    name: str
    preset: Preset | None = None
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            self.preset is None or not self.values,
            f"A study takes its conditions either from a preset or from values ({self.name})",
            (self.preset, tuple(self.values)),
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured. Everything in it decides the numbers; device, batch size and workers are not in it.

    Attributes:
        backbones: spellings, see `registry.parse`.
        data: spellings of image sets.
        studies: in the order of the report.
        preset: of the studies that do not say otherwise.
        seed: root of all randomness.
        limit: only so many images of each set, by a seeded draw.
        decoder: which decoder makes the pixels.
    """

    backbones: tuple[str, ...]
    data: tuple[str, ...]
    studies: tuple[Section, ...]
    preset: Preset = "default"
    seed: int = 0
    limit: int | None = None
    decoder: Decoder = "pillow"

    def __post_init__(self) -> None:
        require(len(self.backbones) > 0, "A plan must name a backbone", self.backbones, "Try `tiny:vit`.")
        require(len(self.data) > 0, "A plan must name an image set", self.data, "Try `--data folder:PATH`.")
        require(len(self.studies) > 0, "A plan must name a study", self.studies, "See `vitals list studies`.")
        require(self.preset in PRESETS, f"`preset` must be one of {', '.join(PRESETS)}", self.preset)
        require(self.limit is None or self.limit > 0, "`limit` must be positive", self.limit)
        for name, values in (("backbones", self.backbones), ("data", self.data)):
            twice = sorted({v for v in values if values.count(v) > 1})
            require(not twice, f"`{name}` must name each once", ", ".join(twice))


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
        alignments: (backbone, image set) -> which of the backbone's outputs each of the set's classes is; missing where no study
            of the plan asks and they do not fit.
        versions: study -> its `VERSION`.
        notes: how labels were mapped, and what the backbones and image sets say of themselves.
    """

    plan: Plan
    cells: tuple[Cell, ...]
    skips: tuple[Skip, ...]
    sets: Mapping[str, ImageSet]
    backbones: Mapping[str, BackboneCard]
    alignments: "Mapping[tuple[str, str], Alignment]"
    versions: Mapping[str, int]
    notes: tuple[str, ...]


def make(plan: Plan, *, device: "torch.device", visit: Callable[[Backbone], None] | None = None) -> Planned:
    """Resolve a plan. Each backbone is loaded for its card and freed before the next one.

    Args:
        plan: what to measure.
        device: where the backbones are loaded.
        visit: called with each loaded backbone, e.g. to measure its speed.

    Raises:
        VitalsError: anything that cannot be opened, loaded or aligned; nothing has been computed then.
    """
    from visionvitals.datasets.base import labels as _labels

    studies = {section.name: study(section.name) for section in plan.studies}
    for text in plan.backbones:
        parse("backbones", text)
    sets = {text: open_images(text) for text in plan.data}
    cells: dict[str, Cell] = {}
    skips: list[Skip] = []
    cards: dict[str, BackboneCard] = {}
    alignments: dict[tuple[str, str], Alignment] = {}
    companions = _Companions(device)
    notes = [f"{text}: {note}" for text, images in sets.items() for note in images.card.notes]
    for text in plan.backbones:
        backbone = load_backbone(text, device=device)
        card = cards[text] = companions.cards[text] = backbone.card
        if visit is not None:
            visit(backbone)
        del backbone
        notes += [f"{text}: {note}" for note in card.notes]
        for data in plan.data:
            try:
                alignments[text, data] = _labels.align(sets[data].card, card)
                notes.append(f"{text} on {data}: {alignments[text, data].how}")
            except VitalsError as error:
                asking = [study_name(name) for name, module in studies.items() if module.LABELS == "outputs"]
                if asking:
                    others = [n for n in registry.names("studies") if study(n).LABELS != "outputs"]
                    way_out = (
                        f" Or leave out {', '.join(asking)}: {', '.join(others)} can do without." if others else ""
                    )
                    raise VitalsError(f"{error}{way_out}") from error
            if any(module.LABELS == "own" for module in studies.values()):
                notes += [note] if (note := _labels.known_classes(sets[data].card, card)) else []
            for section in plan.studies:
                found, refused = _points(plan, section, studies[section.name], card, sets[data].card, companions)
                skips += refused
                for cell in found:
                    first = cells.setdefault(cell_id(cell), cell)
                    if (first.backbone.spec, first.images.spec) != (text, data):
                        reason = f"the same weights and images as {first.backbone.spec} on {first.images.spec}, measured there"
                        skips.append(
                            Skip(study=cell.study, condition=cell.condition, backbone=text, images=data, reason=reason)
                        )
    return Planned(
        plan=plan,
        cells=tuple(cells.values()),
        skips=tuple(skips),
        sets=sets,
        backbones=cards,
        alignments=alignments,
        versions={study_name(name): module.VERSION for name, module in studies.items()},
        notes=tuple(dict.fromkeys(notes)),
    )


def _points(
    plan: Plan,
    section: Section,
    module: ModuleType,
    backbone: BackboneCard,
    images: ImageSetCard,
    companions: "_Companions",
) -> tuple[list[Cell], list[Skip]]:
    """The cells and the skips of one study on one backbone and one image set."""
    name = study_name(section.name)
    cells, skips = [], []
    wanted = conditions(section, module, preset=plan.preset, size=backbone.preprocess.size)
    for condition in (each for one in wanted for each in _expanded(one, plan.backbones)):
        reason = module.refusal(condition, backbone, images)
        others, missing = companions.of(condition) if reason is None else ((), None)
        reason = reason or missing
        if reason is None:
            cells.append(
                Cell(
                    study=name,
                    version=module.VERSION,
                    condition=condition,
                    backbone=backbone,
                    images=images,
                    seed=plan.seed,
                    limit=plan.limit if plan.limit is not None and plan.limit < images.n else None,
                    decoder=plan.decoder,
                    companions=others,
                )
            )
        else:
            skips.append(
                Skip(study=name, condition=condition, backbone=backbone.spec, images=images.spec, reason=reason)
            )
    return cells, skips


def _expanded(condition: Any, backbones: Sequence[str]) -> list[Any]:
    """The condition, once for each backbone of the plan where a field of type `BackboneSpec` is "*"."""
    stars = [name for name, spec in spelled(condition).items() if spec == "*"]
    product = itertools.product(backbones, repeat=len(stars))
    return [dataclasses.replace(condition, **dict(zip(stars, chosen, strict=True))) for chosen in product]


class _Companions:
    """The cards of the other backbones, and the digests of the folders, that conditions name; each is looked at once."""

    def __init__(self, device: "torch.device") -> None:
        self.device = device
        self.cards: dict[str, BackboneCard] = {}
        self.folders: dict[str, str] = {}
        self.missing: dict[str, str] = {}

    def of(self, condition: Any) -> tuple[tuple[tuple[str, str], ...], str | None]:
        """((spelling, digest) of each, see `core.Cell.companions`; why one of them cannot be had, or None)."""
        found = []
        for spec in spelled(condition).values():
            if spec not in self.cards and spec not in self.missing:
                try:
                    self.cards[spec] = load_backbone(spec, device=self.device).card
                except VitalsError as error:
                    self.missing[spec] = " ".join(str(error).split())
            if spec in self.missing:
                return (), f"it needs another backbone: {self.missing[spec]}"
            card = self.cards[spec]
            seen = json.dumps(plain(card.preprocess), sort_keys=True)
            found.append((spec, hashlib.sha256(f"{card.digest}{seen}".encode()).hexdigest()))
        for path in folders(condition).values():
            if path not in self.folders:
                from visionvitals.datasets.base import digest as _digest

                self.folders[path] = _digest.folder_digest(Path(path).expanduser())
            found.append((path, self.folders[path]))
        return tuple(found), None


def conditions(section: Section, module: ModuleType, *, preset: Preset, size: tuple[int, int]) -> list[Any]:
    """The points of a section for a network input of `size` (height, width)."""
    if not section.values:
        return list(module.conditions(section.preset or preset, size))
    product = itertools.product(*section.values.values())
    return [module.Condition(**dict(zip(section.values, values, strict=True))) for values in product]


def study(name: str) -> ModuleType:
    """The study's module.

    Raises:
        VitalsError: no such study, or a file that hides one of ours behind the same name.
    """
    module = registry.load("studies", name)
    hidden = name.endswith(".py") and study_name(name) in registry.names("studies")
    require(not hidden, "The file of a new study must have a name of its own", name, "Rename it.")
    parts = ("VERSION", "AXES", "LABELS", "Condition", "conditions", "refusal", "passes", "measure")
    missing = [p for p in parts if p not in vars(module)]
    require(not missing, f"A study must define {', '.join(missing) or 'all parts'}; see `core.Study`", name)
    return module


def study_name(name: str) -> str:
    """What a study is called in cells and tables: its name, or the name of its file."""
    return Path(name).stem if name.endswith(".py") else name


def parse(kind: Literal["backbones", "datasets"], text: str) -> registry.Spec:
    """Read a spelling whose family is a plug-in of `kind`, or the path of a plug-in file (`./mine.py:name`)."""
    families = registry.names(kind)
    family = text.partition("?")[0].partition(":")[0]
    return registry.parse(text, families=[*families, family] if family.endswith(".py") else families)


def load_backbone(text: str, *, device: "torch.device") -> Backbone:
    """The backbone that a spelling names.

    Raises:
        VitalsError: it cannot be loaded; what a user's own code raised is named.
    """
    spec = parse("backbones", text)
    try:
        found = registry.load("backbones", spec.family).load(spec, device=device)
    except VitalsError:
        raise
    except Exception as error:
        raise VitalsError(f"`{text}` could not be loaded. Got {type(error).__name__}: {error}") from error
    assert isinstance(found, Backbone)
    return found


def open_images(text: str) -> ImageSet:
    """The image set that a spelling names.

    Raises:
        VitalsError: it cannot be opened.
    """
    spec = parse("datasets", text)
    try:
        found: ImageSet = registry.load("datasets", spec.family).open(spec)
    except VitalsError:
        raise
    except Exception as error:
        raise VitalsError(f"`{text}` could not be opened. Got {type(error).__name__}: {error}") from error
    return found


def all_studies() -> tuple[Section, ...]:
    """Every study, `clean` first."""
    return tuple(Section(name=name) for name in sorted(registry.names("studies"), key=lambda n: (n != "clean", n)))


def sections(text: str) -> tuple[Section, ...]:
    """`clean,occlusion` as sections; `all` and the empty string are every study.

    Raises:
        VitalsError: an unknown study; near names are listed.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if names in ([], ["all"]):
        return all_studies()
    known = registry.names("studies")
    for name in names:
        if not name.endswith(".py") and name not in known:
            raise VitalsError(f"No study is called `{name}`. {near(name, known)}")
    return tuple(Section(name=name) for name in names)
