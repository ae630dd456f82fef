"""What there is to choose from: plug-ins by kind, with the first line of their docstring, models by pattern, and everything by a word in its name."""

from fnmatch import fnmatch
from typing import get_args

from visionvitals import explaining, registry
from visionvitals.errors import SHOWN, VitalsError, near

_FAMILIES = ("t2t", "timm", "tiny", "torchvision")
MOST = 12
"""Models of a family that a word lists."""


def listed(what: str) -> list[str]:
    """What `vitals list` shows: `all`, the plug-ins of a kind, the models of a pattern that has a colon, or what has the word in its name.

    Raises:
        VitalsError: nothing is called so.
    """
    if ":" in what:
        return models(what)
    return plugins(what) if what in (*get_args(registry.Kind), "all") else matches(what)


def plugins(kind: str) -> list[str]:
    """The plug-ins of a kind, or of all kinds, as lines. A kind that is named also shows the options of its plug-ins, for which they are
    imported; the list of all imports none of them."""
    lines = []
    for each in get_args(registry.Kind):
        if kind in (each, "all"):
            names = registry.names(each)
            width = max(map(len, names), default=0)
            lines += [each]
            for name in names:
                lines += [f"  {name:{width}}  {registry.summary(each, name)}".rstrip()]
                lines += _options(each, name) if kind == each and each in ("backbones", "datasets") else []
    if kind == "all":
        lines += ["", "By a word: vitals list resnet. What a name means: vitals explain occlusion"]
    return lines


def matches(word: str) -> list[str]:
    """Everything that has a word in its name or matches a pattern such as `resnet50*`, or all of a kind such as `metrics`; of models at most `MOST`
    a family.

    Raises:
        VitalsError: nothing has.
    """
    known, folded = explaining.entries(), word.casefold()
    whole = folded in explaining.PLURALS.values()
    lines = []
    for kind, heading in explaining.PLURALS.items():
        chosen = [e for e in known if e.kind == kind and (heading == folded if whole else _has(e.name, folded))]
        width = max((len(entry.name) for entry in chosen), default=0)
        lines += [heading] if chosen else []
        lines += [f"  {entry.name:{width}}  {entry.brief}".rstrip() for entry in chosen]
    lines += [] if whole else _models_with(folded)
    if not lines:
        close = near(word, [*explaining.PLURALS.values(), *(entry.name for entry in known)])
        do = f"{close} `vitals list` shows what there is.".strip()
        raise VitalsError(
            f"`vitals list` must be given a group such as studies, a part of a name, or a pattern. Got {word[:SHOWN]!r}. {do}"
        )
    return lines


def _has(name: str, word: str) -> bool:
    """Whether a name has a word in it, or matches a pattern, in small letters."""
    return fnmatch(name.casefold(), word) if "*" in word else word in name.casefold()


def _models_with(word: str) -> list[str]:
    """The models of all families that can list them, whose name holds a word."""
    lines = []
    for family in _FAMILIES:
        found = [name for name in _known(family) if _has(name, word)]
        lines += [f"  {family}:{name}" for name in found[:MOST]]
        if len(found) > MOST:
            lines.append(
                f"  and {len(found) - MOST} more: vitals list '{family}:{word if '*' in word else f'*{word}*'}'"
            )
    return ["models", *lines] if lines else []


def _options(kind: registry.Kind, name: str) -> list[str]:
    """A line for each option of a plug-in that declares its own."""
    declared = getattr(registry.load(kind, name), "Options", None)
    found = registry.described(declared) if declared else []
    width = max((len(key) for key, _, _ in found), default=0)
    return [f"    {key:{width}}  {meaning}{f' [{default}]' if default else ''}" for key, default, meaning in found]


def models(pattern: str) -> list[str]:
    """The spellings that match a pattern such as `timm:*vit*`. Imports the family's library, which takes seconds.

    Raises:
        VitalsError: a family that cannot list its models, or no match.
    """
    family, _, wanted = pattern.partition(":")
    known = _known(family)
    found = [f"{family}:{name}" for name in known if fnmatch(name, wanted or "*")]
    if not found:
        close = near(wanted.replace("*", ""), known)
        raise VitalsError(f"No model matches `{pattern}`. {close or f'Try `{family}:*{wanted.strip(chr(42))}*`.'}")
    return found


def _known(family: str) -> list[str]:
    if family == "timm":
        import timm

        return sorted({*timm.list_models(), *timm.list_pretrained()})
    if family == "torchvision":
        import torchvision

        return sorted(torchvision.models.list_models(module=torchvision.models))
    own = getattr(registry.load("backbones", family), "NAMES", ()) if family in registry.names("backbones") else ()
    if own:
        return list(own)
    raise VitalsError(
        f"`{family}:` cannot list its models; {', '.join(_FAMILIES)} can. See `vitals list backbones` for how it is spelled."
    )
