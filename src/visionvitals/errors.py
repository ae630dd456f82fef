"""The one error that users are meant to read, and how its sentences are made.

A message says what must hold, what was got, and what to do. `VitalsError` is printed by the command line without a traceback;
anything else that reaches the top is a defect of ours.
"""

import difflib
from collections.abc import Iterable


class VitalsError(Exception):
    """Something the user can mend: bad input, a missing file, an unreachable hub."""


class UnreadableImage(VitalsError):
    """One image cannot be decoded; it is counted, named and skipped, and the run goes on."""


def require(holds: bool, must: str, got: object, do: str = "") -> None:
    """Raise `VitalsError("must. Got got. do")` unless `holds`.

    Example:
        >>> require(0 <= 0.5 <= 1, "`fraction` must be in [0, 1]", 0.5)
    """
    if not holds:
        raise VitalsError(f"{must}. Got {got!r}.{' ' + do if do else ''}")


def near(name: str, known: Iterable[str], *, count: int = 5) -> str:
    """A clause that lists the known names nearest to `name`, or all of them where they are few.

    Example:
        >>> near("oclusion", ["clean", "occlusion", "shuffle"])
        'Did you mean occlusion? Known: clean, occlusion, shuffle.'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    meant = f"Did you mean {', '.join(close)}?" if close else ""
    listed = f"Known: {', '.join(names)}." if len(names) <= 40 else ""
    return " ".join(part for part in (meant, listed) if part)
