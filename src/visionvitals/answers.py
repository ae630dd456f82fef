"""What a network answered to two fixed pictures, written down and compared; needs no torch. `backbones` asks them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a network answers to two fixed pictures, in float32, both in one batch.

    Attributes:
        logits: of each picture, at most 32 outputs, evenly spaced; empty where one is not finite.
        stable: two passes, each picture alone, and both behind six others gave the same within `TOLERANCE`.
        versions: (package, version) of the libraries that computed them.
    """

    TOLERANCE: ClassVar[float] = 1e-3
    """Of the largest absolute output; devices and versions of libraries agree far better."""
    logits: tuple[tuple[float, ...], ...]
    stable: bool
    versions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "Answers":
        """From their JSON form."""
        logits = tuple(tuple(float(x) for x in row) for row in value["logits"])
        return cls(
            logits=logits, stable=bool(value["stable"]), versions=tuple((str(a), str(b)) for a, b in value["versions"])
        )

    def differs(self, now: "Answers") -> str | None:
        """By how much the answers changed, and which libraries did, as a clause; None if they agree or are not stable."""
        if not (self.stable and now.stable):
            return None
        mine, its = ([x for row in each.logits for x in row] for each in (self, now))
        if len(mine) != len(its):
            return f"it gives {len(its)} answers, and gave {len(mine)}"
        largest = max((abs(x) for x in mine + its), default=0.0)
        apart = max((abs(a - b) for a, b in zip(mine, its, strict=True)), default=0.0)
        if apart <= self.TOLERANCE * largest:
            return None
        before, after = dict(self.versions), dict(now.versions)
        names = [n for n in sorted(before.keys() | after.keys()) if before.get(n) != after.get(n)]
        libraries = ", ".join(f"{n} {before.get(n, 'absent')} -> {after.get(n, 'absent')}" for n in names)
        return (
            f"its answers differ by {apart / largest:.2g} of the largest ({libraries or 'the libraries are the same'})"
        )
