"""Plans as TOML: read into `Plan` by pydantic, with every error at once, each with its line.

    backbones = ["tiny:vit", "tiny:cnn"]
    data = ["shapes:test?n=512"]
    preset = "quick"
    studies = ["clean"]                # names, or sections as below; all studies where left out

    [[studies]]
    name = "occlusion"
    data = ["masks:cows"]              # image sets of its own, instead of those above
    fraction = [0, 0.25, 0.5]          # a condition's field: a value, or a list of values; lists are multiplied
    grid = [[8, 8], [4, 4]]

Backbones and image sets can get a short name: `deit=timm:deit_tiny_patch16_224@w.safetensors`.
A file cannot hold both `studies = [...]` and `[[studies]]`; give a table in the list: `studies = ["clean", {name = "shuffle"}]`.
"""

import dataclasses
import json
import math
import tomllib
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visionvitals import registry, study
from visionvitals.core import PRESETS, Preset
from visionvitals.errors import VitalsError, blamed, near, shortened
from visionvitals.files import read_text
from visionvitals.numerics import NAMES, Numerics, Precision
from visionvitals.plan import planner, request, toml_lines
from visionvitals.plan.identity import changed, plain
from visionvitals.plan.request import Decoder, Plan, Section, Until

_DEPTH = 12
_KINDS = {
    "list_type": 'a list, as in ["a", "b"]',
    "tuple_type": "a list, as in [1, 2]",
    "string_type": "a text in quotes",
    "int_type": "a whole number without quotes",
    "int_from_float": "a whole number",
    "float_type": "a number without quotes",
    "bool_type": "true or false, without quotes",
    "dict_type": "a table",
}
"""pydantic's name of an error -> what the value must be."""
_ELSEWHERE = {
    "out": "give `--out` to `vitals run`",
    "device": "give `--device` to `vitals run`",
    "batch_size": "give `--batch-size` to `vitals run`",
    "workers": "give `--workers` to `vitals run`",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _File:
    """The keys of a plan file, as pydantic checks them."""

    __pydantic_config__: typing.ClassVar[dict[str, Any]] = {"extra": "forbid"}

    backbones: list[str]
    data: list[str] = dataclasses.field(default_factory=list)
    studies: list[str | dict[str, Any]] | None = None
    preset: Preset = "default"
    seed: int = 0
    limit: int | None = None
    decoder: Decoder = "pillow"
    precision: Precision = "fp32"
    compile: bool = False
    channels_last: bool = False
    until: Until | None = None
    half_width: float | None = None
    minutes: float | None = None


class _Problem(NamedTuple):
    """Where it is (keys and indices) and what is wrong."""

    where: tuple[str | int, ...]
    what: str


def read(path: Path) -> Plan:
    """Read a plan file.

    Raises:
        VitalsError: no such file, no TOML, or anything in it that cannot be planned; all of it is listed with its lines.
    """
    text = read_text(path)
    try:
        values = tomllib.loads(text)
    except (
        tomllib.TOMLDecodeError,
        RecursionError,
        ValueError,
    ) as error:  # ValueError: a number of thousands of digits
        raise VitalsError(f"A plan must be valid TOML. Got {path}: {shortened(str(error))}.") from error
    return from_dict(values, source=str(path), text=text)


def from_dict(values: Mapping[str, Any], *, source: str, text: str = "") -> Plan:
    """Values as read from TOML, or as `to_dict` made them, as a plan.

    Args:
        values: the file's content.
        source: names the file in messages.
        text: the file, for the line numbers.

    Raises:
        VitalsError: every error of the file.
    """
    problems = _odd(values) or _shape(values)
    found: list[Section] = []
    bad = {p.where[:2] for p in problems}
    for number, section in enumerate(_listed(values.get("studies"))):
        if ("studies", number) not in bad and isinstance(section, str | dict):
            made, wrong = _section({"name": section} if isinstance(section, str) else section)
            problems += [_Problem(("studies", number, *p.where), p.what) for p in wrong]
            found += [made] if made else []
    for key, kind in (("backbones", "backbones"), ("data", "datasets")):
        for number, spelling in enumerate(_listed(values.get(key))):
            if isinstance(spelling, str):
                try:
                    request.parse(typing.cast(Any, kind), registry.named(spelling)[1])
                except VitalsError as error:
                    problems.append(_Problem((key, number), str(error)))
    if not problems:
        rest = {k: values[k] for k in ("preset", "seed", "limit", "decoder", "half_width", "minutes") if k in values}
        rest["numerics"] = Numerics(**{k: values[k] for k in NAMES if k in values})
        rest |= {"until": Until(**values["until"])} if "until" in values else {}
        try:
            sections = tuple(found) if "studies" in values else request.sections("all")
            return request.plan(values["backbones"], values.get("data", ()), sections, **rest)
        except VitalsError as error:
            problems.append(_Problem((), str(error)))
    located = sorted((toml_lines.line(text, p.where), p.what) for p in problems)
    count = "an error" if len(located) == 1 else f"{len(located)} errors"
    lines = [f"  line {line}: {what}" if line else f"  {what}" for line, what in dict.fromkeys(located)]
    raise VitalsError(f"{source} has {count}:\n" + "\n".join(lines))


def to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as plain values; `from_dict` reads them back into an equal plan."""

    def listed(texts: Sequence[str]) -> list[str]:
        return [f"{plan.names[text]}={text}" if text in plan.names else text for text in texts]

    sections = [
        {"name": s.name}
        | ({"preset": s.preset} if s.preset else {})
        | ({"data": listed(s.data)} if s.data else {})
        | {k: plain(v) for k, v in s.values.items()}
        for s in plan.studies
    ]
    until = {} if plan.until is None else {"until": plain(plan.until)}
    return (
        {
            "backbones": listed(plan.backbones),
            "data": listed(plan.data),
            "studies": sections,
            "preset": plan.preset,
            "seed": plan.seed,
            "decoder": plan.decoder,
        }
        | {k: v for k in ("limit", "half_width", "minutes") if (v := getattr(plan, k)) is not None}
        | changed(plan.numerics)
        | until
    )


def _odd(value: Any, where: tuple[str | int, ...] = ()) -> list[_Problem]:
    """Values that TOML knows and a plan does not: dates, numbers that are not finite or very large, and lists in lists in lists."""
    key = next((part for part in reversed(where) if isinstance(part, str)), "")
    if len(where) > _DEPTH:
        return [_Problem(where[:2], f"`{where[0]}` must not be nested more than {_DEPTH} times.")]
    if isinstance(value, list | dict):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [problem for part, inner in pairs for problem in _odd(inner, (*where, part))]
    if isinstance(value, float):
        return [] if math.isfinite(value) else [_Problem(where[:3], f"`{key}` must be finite. Got {value}.")]
    if isinstance(value, int) and abs(value) >= 2**63:
        return [_Problem(where[:3], f"`{key}` must be a number of at most 63 bits. Got {shortened(str(value), 40)}.")]
    if isinstance(value, str | bool | int) or value is None:
        return []
    return [
        _Problem(
            where[:3], f"`{key}` must be a word, a number, a list or a table. Got the {type(value).__name__} {value}."
        )
    ]


def _shape(values: Mapping[str, Any]) -> list[_Problem]:
    """Unknown keys, missing keys and wrong types of the file itself."""
    import pydantic

    try:
        pydantic.TypeAdapter(_File).validate_json(json.dumps(values, default=str), strict=True)
    except pydantic.ValidationError as error:
        known = [f.name for f in dataclasses.fields(_File)]
        return list(dict.fromkeys(_Problem(e["loc"][:2], _said(e, known)) for e in error.errors()))
    return []


def _said(error: Mapping[str, Any], known: list[str]) -> str:
    """One of pydantic's errors as a sentence of ours."""
    key = str(error["loc"][0])
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        if key in _ELSEWHERE:
            return f"`{key}` is not part of a plan, since it does not change the numbers: {_ELSEWHERE[key]}."
        if key == "rule":
            return "These are rules of a gate, and no plan: `vitals gate RUN --rules FILE`."
        return f"A plan has no key `{shortened(key)}`. {near(key, known)}"
    if error["type"] in ("missing", "missing_argument"):
        return f"A plan must say `{key}`."
    if key == "studies":
        if isinstance(error["input"], dict):
            return "`studies` must be a list: write `[[studies]]` in two brackets, once for each."
        return f"A study must be a name or a table. Got {shortened(json.dumps(error['input'], default=str))}."
    return _wrong_kind(key, error)


def _wrong_kind(key: str, error: Mapping[str, Any]) -> str:
    """That a value is of another kind than it must be."""
    if error["type"] == "literal_error":
        must = f"must be one of {error['ctx']['expected']}"
    elif (kind := _KINDS.get(error["type"])) is not None:
        must = f"must be {kind}"
    else:
        must = f"has a wrong value: {error['msg']}"
    return f"`{key}` {must}. Got {shortened(json.dumps(error['input'], default=str))}."


def _section(values: Mapping[str, Any]) -> tuple[Section | None, list[_Problem]]:
    """One study of a file, and what is wrong with it."""
    name = values.get("name")
    if not isinstance(name, str):
        return None, [_Problem((), 'A study must have a name, e.g. name = "occlusion".')]
    try:
        module = study.load(name)
    except VitalsError as error:
        return None, [_Problem(("name",), str(error))]
    preset = values.get("preset")
    fields = {f.name for f in dataclasses.fields(module.Condition)}
    taken: dict[str, tuple[Any, ...]] = {}
    problems, alone = [], []
    data = values.get("data", [])
    if not (isinstance(data, list) and all(isinstance(spelling, str) for spelling in data)):
        problems.append(_Problem(("data",), f"`data` of `{name}` must be a list of image sets. Got {data!r}."))
        data = []
    for spelling in data:
        try:
            request.parse("datasets", registry.named(spelling)[1])
        except VitalsError as error:
            problems.append(_Problem(("data",), str(error)))
    if preset is not None and preset not in PRESETS:
        problems.append(_Problem(("preset",), f"`preset` must be one of {', '.join(PRESETS)}. Got {preset!r}."))
    for key, given in values.items():
        if key in ("name", "preset", "data"):
            continue
        if key not in fields:
            problems.append(_Problem((key,), f"`{name}` has no condition field `{key}`. {near(key, fields)}"))
            continue
        try:
            taken[key] = _values(module.Condition, key, given)
        except VitalsError as error:
            problems.append(_Problem((key,), f"`{name}`: {error}"))
            continue
        try:
            with blamed("it must take this value", module.file):
                for value in taken[key]:
                    module.Condition(**{key: value})
        except VitalsError as error:  # not yet an error: the section's other fields may make it right
            alone.append(_Problem((key,), f"`{name}`: {error}"))
    if problems:
        return None, problems + alone
    try:
        section = Section(name=name, preset=preset, data=tuple(data), values=taken)
    except VitalsError as error:
        return None, alone or [_Problem((), f"`{name}`: {error}")]
    if (said := _wrong(section, module)) is None:
        return section, []
    single = [str(problem.where[0]) for problem in alone]
    right = {field: given for field, given in taken.items() if field not in single}
    found = []
    for field in single:  # beside those that are right it may be wrong for another reason
        beside = _wrong(dataclasses.replace(section, values={**right, field: taken[field]}), module)
        found += [] if beside is None else [_Problem((field,), beside)]
    return None, list(dict.fromkeys(found)) or [_Problem((), said)]


def _wrong(section: Section, module: study.Study) -> str | None:
    """What is wrong with the fields of a section, which can be right each and wrong together."""
    try:
        if section.values:
            planner.conditions(section, module, preset="default", size=(1, 1))
    except VitalsError as error:
        return f"`{section.name}`: {error}"
    return None


def _values(condition: type, key: str, given: Any) -> tuple[Any, ...]:
    """A field's value, or its list of values, as the field's own type."""
    import pydantic

    adapter = pydantic.TypeAdapter(typing.get_type_hints(condition)[key])

    def one(value: Any) -> Any:
        # In JSON a list stands for a tuple, and strict keeps true from being 1.
        return adapter.validate_json(json.dumps(value, default=str), strict=True)

    try:
        return (one(given),)
    except pydantic.ValidationError as alone:
        error = alone
    try:
        if isinstance(given, list) and given:
            return tuple(one(value) for value in given)
    except pydantic.ValidationError as inside:
        error = inside
    raise VitalsError(_wrong_kind(key, {**error.errors()[0], "input": given})) from error


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
