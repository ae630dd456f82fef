"""How the passes are computed whose answers are scored: the precision, compiled or not, in which layout. No torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from visionvitals.errors import require

Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class Numerics:
    """The default changes no number; everything else is part of a cell's identity.

    Attributes:
        precision: of matrix products and convolutions, by torch's autocast; the weights stay float32.
        compile: by `torch.compile`, once for each network and batch size.
        channels_last: weights and images lie in memory with the channels last.
    """

    precision: Precision = "fp32"
    compile: bool = False
    channels_last: bool = False

    def __post_init__(self) -> None:
        known = get_args(Precision)
        require(self.precision in known, f"`precision` must be one of {', '.join(known)}", self.precision)
        flags = type(self.compile) is bool and type(self.channels_last) is bool
        require(flags, "`compile` and `channels_last` must be true or false", (self.compile, self.channels_last))

    def __str__(self) -> str:
        return said(asdict(self))


FP32 = Numerics()
"""The default."""
NAMES = tuple(field.name for field in fields(Numerics))


def said(facts: Mapping[str, Any] | None) -> str:
    """`bf16, compiled, channels last`, of the fields as JSON holds them; cells of before there was a choice have none: `fp32`."""
    if facts is None:
        return str(FP32)
    words = ("compiled", facts["compile"]), ("channels last", facts["channels_last"])
    return ", ".join([facts["precision"], *(word for word, there in words if there)])
