"""Whole numbers as options of the command line: read strictly, since `1.5` is no count and rounding it would hide a mistake; run folders."""

from collections.abc import Sequence
from typing import Annotated, Any

from cyclopts import Parameter, Token

from visionvitals.core import PRESETS, Preset
from visionvitals.errors import require, shortened
from visionvitals.remote import AnyPath, located


def _within(least: int, most: int) -> Any:
    """A converter that takes a whole number in [least, most] and nothing else."""

    def read(_kind: Any, tokens: Sequence[Token]) -> int:
        token = tokens[0]
        text = token.value.strip()
        digits = text.removeprefix("-")
        whole = digits.isascii() and digits.isdecimal() and len(digits) <= 20 and least <= int(text) <= most
        must = f"`{token.keyword or token.value}` must be a whole number from {least} to {most}"
        require(whole, must, shortened(token.value))
        return int(text)

    return Parameter(converter=read)


Count = Annotated[int | None, _within(1, 2**31 - 1)]
"""At least 1; None: the default."""
Processes = Annotated[int | None, _within(0, 4096)]
"""Processes or threads beside the first one; None: the default."""
Threads = Annotated[int | None, _within(1, 4096)]
"""At least 1; None: the default."""
Position = Annotated[int, _within(0, 2**31 - 1)]
"""A place in a list, from 0."""
Port = Annotated[int, _within(0, 65535)]
"""Of an address; 0: any that is free."""
Seed = Annotated[int, _within(-(2**63), 2**63 - 1)]
"""A root of randomness."""
PresetName = Annotated[Preset, Parameter(help=". ".join(f"{name}: {said}" for name, said in PRESETS.items()))]
"""Which conditions."""
SAID = Parameter(show_default=lambda value: None if value is False or value in (None, ()) else str(value))
"""Help shows a default where there is one: no empty tuple, and no flag that is off."""
_URL = Parameter(converter=lambda _kind, tokens: located(tokens[0].value), accepts_keys=False, n_tokens=1)
RunFolder = Annotated[AnyPath, _URL]
"""A path, or a URL of an object store."""
