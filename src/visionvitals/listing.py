"""What there is to choose from: plug-ins by kind, with the first line of their docstring, and models by pattern."""

from fnmatch import fnmatch
from typing import get_args

from visionvitals import registry
from visionvitals.errors import VitalsError, near, require

_FAMILIES = ("t2t", "timm", "tiny", "torchvision")


def plugins(kind: str) -> list[str]:
    """The plug-ins of a kind, or of all kinds, as lines. A kind that is named also shows the options of its plug-ins, for which they are
    imported; the list of all imports none of them.

    Raises:
        VitalsError: no such kind.
    """
    kinds = get_args(registry.Kind)
    require(kind in (*kinds, "all"), "`vitals list` must name a kind or a pattern", kind, near(kind, (*kinds, "all")))
    lines = []
    for each in kinds:
        if kind in (each, "all"):
            names = registry.names(each)
            width = max(map(len, names), default=0)
            lines += [each]
            for name in names:
                lines += [f"  {name:{width}}  {registry.summary(each, name)}".rstrip()]
                lines += _options(each, name) if kind == each and each in ("backbones", "datasets") else []
    return lines


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
