"""What the user asked for, as he spelled it: backbones, image sets, studies, and how much of them. Nothing is opened or loaded here."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args
from urllib.parse import quote

from visionvitals import registry, study
from visionvitals.core import PRESETS, Preset
from visionvitals.errors import VitalsError, near, require, shortened
from visionvitals.numerics import FP32, Numerics

Decoder = Literal["pillow", "fast"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One study of a plan.

    Attributes:
        name: of the study, or the path of its file.
        preset: instead of the plan's own.
        data: spellings of image sets, instead of the plan's own.
        values: condition field -> the values it takes. Their product is measured, fields that are not named keep their default;
            empty: the conditions of the preset.
    """

    name: str
    preset: Preset | None = None
    data: tuple[str, ...] = ()
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(
            self.preset is None or not self.values,
            f"A study takes its conditions either from a preset or from values ({self.name})",
            (self.preset, tuple(self.values)),
        )


@dataclass(frozen=True, kw_only=True)
class Until:
    """What a run measures for: it ends as soon as the rules are decided.

    Attributes:
        rules: the sections of a file of rules, as plain values.
        most: images of the last look.
        baseline: the run folder that the rules compare with, or empty.
    """

    rules: Sequence[Mapping[str, Any]]
    most: int
    baseline: str = ""

    def __post_init__(self) -> None:
        require(self.most > 0, "`most` of `until` must be positive", self.most)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured. Everything in it decides the numbers; device, batch size and workers are not in it.

    Attributes:
        backbones: spellings, see `registry.parse`.
        data: spellings of image sets, of the studies that do not say otherwise.
        studies: in the order of the report.
        names: spelling -> the short name that the user gave it, see `named`.
        preset: of the studies that do not say otherwise.
        seed: root of all randomness.
        limit: only so many images of each set, by a seeded draw.
        decoder: which decoder makes the pixels.
        numerics: how the passes are computed whose answers are scored.
        until: the rules that end it; `limit` then grows from look to look.
        half_width: points, in (0, 50): a cell ends when the interval of its main share is so narrow on either side, see `run.stopping`.
        minutes: above 0: what of this time is left after the first look at every cell is spent where intervals are widest.
    """

    backbones: tuple[str, ...]
    data: tuple[str, ...]
    studies: tuple[Section, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    preset: Preset = "default"
    seed: int = 0
    limit: int | None = None
    decoder: Decoder = "pillow"
    numerics: Numerics = FP32
    until: Until | None = None
    half_width: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        require(len(self.backbones) > 0, "A plan must name a backbone", self.backbones, "Try `tiny:vit`.")
        require(len(self.studies) > 0, "A plan must name a study", self.studies, "See `vitals list studies`.")
        without = [section.name for section in self.studies if not section.data] if not self.data else []
        do = 'Try `--data folder:PATH`; in a plan file `data = ["folder:PATH"]`.'
        got = "none" if len(without) == len(self.studies) else f"none for {', '.join(without)}"
        require(not without, "A plan must name an image set for every study", got, do)
        require(self.preset in PRESETS, f"`preset` must be one of {', '.join(PRESETS)}", self.preset)
        decoders = get_args(Decoder)
        require(self.decoder in decoders, f"`decoder` must be one of {', '.join(decoders)}", self.decoder)
        require(self.limit is None or self.limit > 0, "`limit` must be positive", self.limit)
        for name, value, most in (("half_width", self.half_width, 50), ("minutes", self.minutes, math.inf)):
            must = f"`{name}` must be above 0" + (f" and below {most} points" if most < math.inf else "")
            require(value is None or 0 < value < most, must, value)
        alone = self.until is None or (self.half_width, self.minutes) == (None, None)
        do = "Leave out --half-width and --minutes."
        require(alone, "A run that goes on until its rules are decided must end by nothing else", "both", do)
        own = [(f"data` of `{section.name}", section.data) for section in self.studies]
        for name, values in (("backbones", self.backbones), ("data", self.data), *own):
            twice = sorted({v for v in values if values.count(v) > 1})
            require(not twice, f"`{name}` must name each once", ", ".join(twice))
        paths: dict[str, str] = {}
        for section in self.studies:
            other = paths.setdefault(study.name_of(section.name), section.name)
            require(other == section.name, "Two studies must have two names", (other, section.name), "Rename a file.")

    @property
    def sets(self) -> tuple[str, ...]:
        """Every image set, once."""
        own = [spelling for section in self.studies for spelling in section.data]
        return tuple(dict.fromkeys([*(self.data if any(not s.data for s in self.studies) else ()), *own]))

    def sets_of(self, section: Section) -> tuple[str, ...]:
        """The image sets of a study."""
        return section.data or self.data


def named(backbones: Sequence[str], *sets: Sequence[str]) -> tuple[list[tuple[str, ...]], dict[str, str]]:
    """Spellings with or without a short name (`deit=timm:deit_tiny_patch16_224`), as (the spellings of each list, spelling -> name).

    Raises:
        VitalsError: a name for two backbones, or for two image sets; two names for one spelling.
    """
    found: dict[str, str] = {}
    for lists in ((backbones,), sets):
        taken: dict[str, str] = {}
        for name, spelling in (registry.named(text) for texts in lists for text in texts):
            if name:
                require(taken.setdefault(name, spelling) == spelling, "A name must be used for one spelling only", name)
                must = f"`{shortened(spelling)}` must have one name"
                require(found.setdefault(spelling, name) == name, must, (found[spelling], name))
    return [tuple(registry.named(text)[1] for text in texts) for texts in (backbones, *sets)], found


def plan(
    backbones: Sequence[str],
    data: Sequence[str],
    studies: Sequence[Section],
    *,
    data_for: Iterable[tuple[str, str]] = (),
    **rest: Any,
) -> Plan:
    """A plan of spellings with or without short names, see `named`.

    Args:
        backbones, data: spellings.
        studies: sections; one with `data` of its own keeps it.
        data_for: (study, spelling of an image set that is its own); several of one study add up.
        rest: the other fields of `Plan`.

    Raises:
        VitalsError: what `Plan` and `named` refuse, a study of `data_for` that is not among the studies, or a spelling of no known family.
    """
    own: dict[str, list[str]] = {}
    known = [study.name_of(section.name) for section in studies]
    for name, spelling in data_for:
        must = "The image set of one study must read `study=family:name`, of a study that is asked for"
        require(study.name_of(name) in known, must, f"{name}={spelling}", near(name, known))
        own.setdefault(study.name_of(name), []).append(spelling)
    lists = [own.get(study.name_of(section.name), section.data) for section in studies]
    _, plain, *plain_of = named((), data, *lists)[0]
    once = plain or tuple(dict.fromkeys(text for each in plain_of for text in each))
    (spelled, sets, *lists_of), names = named([_with_classes(text, once) for text in backbones], data, *lists)
    sections = tuple(dataclasses.replace(s, data=tuple(d)) for s, d in zip(studies, lists_of, strict=True))
    for text in spelled:
        parse("backbones", text)
    for text in dict.fromkeys([*sets, *(text for each in lists_of for text in each)]):
        parse("datasets", text)
    return Plan(backbones=spelled, data=sets, studies=sections, names=names, **rest)


def _with_classes(text: str, sets: Sequence[str]) -> str:
    """A backbone with or without a short name; of a family that reads class names, with those of the one image set where it says none.

    Raises:
        VitalsError: there are several.
    """
    rest, _, options = registry.named(text)[1].partition("?")
    asked = registry.declared("backbones", rest.partition(":")[0], "NAMED_BY")
    if asked is None or {pair.partition("=")[0] for pair in options.split("&")} & set(asked):
        return text
    must = f"`{shortened(text)}` takes the names of its classes from the image set, so there must be exactly one"
    do = f"Write whose names: `{text}{'&' if options else '?'}classes=SET`, one of these, or `classes=FILE`."
    require(len(sets) == 1, must, ", ".join(sets) or "none", do)
    return f"{text}{'&' if options else '?'}classes={quote(sets[0], safe='/:?=,@*{}[]')}"


def sections(text: str) -> tuple[Section, ...]:
    """`clean,occlusion` as sections; `all` is every study but those that must be named.

    Raises:
        VitalsError: an unknown study; near names are listed.
    """
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if names == ["all"]:
        return tuple(Section(name=name) for name in study.names() if not study.load(name).on_request)
    known = registry.names("studies")
    for name in names:
        if not name.endswith(".py") and name not in known:
            raise VitalsError(f"No study is called `{shortened(name)}`. {near(name, known)}")
    return tuple(Section(name=name) for name in names)


def parse(kind: Literal["backbones", "datasets"], text: str) -> registry.Spec:
    """Read a spelling whose family is a plug-in of `kind`, or the path of a plug-in file (`./mine.py:name`)."""
    families = registry.names(kind)
    family = text.partition("?")[0].partition(":")[0]
    return registry.parse(text, families=[*families, family] if family.endswith(".py") else families)
