"""The one error that users are meant to read, and how its sentences are made.

A message says what must hold, what was got, and what to do. `VitalsError` is printed by the command line without a traceback;
anything else that reaches the top is a defect of ours.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, KeysView
from contextlib import contextmanager
from dis import opname
from types import CodeType
from typing import ParamSpec, TypeVar

SHOWN = 200
"""Characters of what was got that a message repeats."""
LONGEST = 2_000
"""Characters of a message that is printed."""
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What changes the terminal, turns the direction of writing, or cannot be encoded. Tabs and newlines are left."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


class VitalsError(Exception):
    """Something the user can mend: bad input, a missing file, an unreachable hub."""


class UnreadableImage(VitalsError):
    """One image cannot be decoded; it is counted, named and skipped, and the run goes on."""


class Unreachable(VitalsError):
    """A store elsewhere cannot be read: it does not answer, or grants no right. Nothing may be concluded of what lies there."""

    def __init__(self, where: object, error: OSError) -> None:
        do = "Fix that, or wait until the store answers, and give the same command again: what it holds is kept."
        super().__init__(f"{where} must be readable. Got: {error.strerror or error}. {do}")


class Terminated(BaseException):
    """Another process asks this one to end: SIGTERM, of a scheduler or a container."""


def require(holds: bool, must: str, got: object, do: str | Callable[[], str] = "") -> None:
    """Raise `VitalsError("must. Got got. do")` unless `holds`. At most `SHOWN` characters of `got` are repeated; None, `"none"` and what is empty read as
    none, several as `'a', 'b'`. A `do` that takes time to word, as `near` does, is given as a function where this is asked often.

    Example:
        >>> require(0 <= 0.5 <= 1, "`fraction` must be in [0, 1]", 0.5)
    """
    if not holds:
        said = do() if callable(do) else do
        raise VitalsError(f"{must}. Got {shortened(_told(got))}.{' ' + said if said else ''}")


def _told(got: object) -> str:
    several = isinstance(got, list | set | frozenset | KeysView)
    if several or (isinstance(got, tuple) and all(isinstance(each, str) for each in got)):
        return ", ".join(map(repr, got)) or "none"  # type: ignore[call-overload]
    return "none" if got is None or got == "none" else repr(got)


def shortened(text: str, most: int = SHOWN) -> str:
    """A text of the user's for an error message."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def escaped(text: str) -> str:
    """A text that may hold names of anyone's, safe for a terminal: control characters are spelled out, as `\\x1b`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def near(name: str, known: Iterable[str], *, count: int = 5) -> str:
    """A clause that lists the known names nearest to `name`, or all of them where they are few.

    Names that begin as `name` does, but for a letter, come first: `deit_tinny` means the family `deit_tiny_...`.

    Example:
        >>> near("oclusion", ["clean", "occlusion", "shuffle"])
        'Did you mean occlusion? Known: clean, occlusion, shuffle.'
    """
    names = sorted(set(known))
    name = name[:SHOWN]
    heads: dict[str, list[str]] = {}
    for each in names if len(name) >= 6 else ():
        heads.setdefault(each[: len(name)], []).append(each)
    begun = [each for head in difflib.get_close_matches(name, heads, n=count, cutoff=0.8) for each in heads[head]]
    found = dict.fromkeys([*begun, *difflib.get_close_matches(name, names, n=count, cutoff=0.55)])

    def likeness(each: str) -> tuple[float, float]:
        whole, head = (difflib.SequenceMatcher(None, part, name).ratio() for part in (each, each[: len(name)]))
        return -max(whole, head if each in begun else 0.0), -whole

    close = sorted(found, key=likeness)[:count]
    meant = f"Did you mean {', '.join(close)}?" if close else ""
    listed = f"Known: {', '.join(names)}." if 0 < len(names) <= 40 else ""
    return " ".join(part for part in (meant, listed) if part)


def as_text(name: str) -> str:
    """A name for a csv file: where a spreadsheet would compute it, an apostrophe makes it text. Numbers stay as they are.

    Example:
        >>> as_text("=1+2"), as_text("-0.5"), as_text("clean")
        ("'=1+2", '-0.5', 'clean')
    """
    if not name.startswith(("=", "+", "-", "@", "\t", "\r")):
        return name
    try:
        float(name)
    except ValueError:
        return f"'{name}"
    return name


@contextmanager
def blamed(what: str, file: str = "") -> Iterator[None]:
    """Makes whatever a user's code raises inside into one `VitalsError`, which names the line.

    A user's file may raise anything: its syntax error, its own `BaseException`, `SystemExit`. Only a Ctrl-C and SIGTERM go on as they are.

    Args:
        what: begins the message, e.g. "The study `x.py` must be importable".
        file: the user's file, whose last line on the way to the error is named; by default where the error was raised.

    Raises:
        VitalsError: `WHAT. Got ERROR in FILE, line N: MESSAGE.`
    """
    try:
        yield
    except (VitalsError, Terminated):
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | GeneratorExit) and not _raised(error):
            raise
        said = shortened(" ".join(str(error).split()))
        kind = type(error).__name__
        raise VitalsError(f"{what}. Got {kind}{_line(error, file)}{f': {said}' if said else ''}.") from error


def guarded(function: Callable[_P, _R], what: str, file: str) -> Callable[_P, _R]:
    """A function of the user's of which every call is `blamed`."""

    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        with blamed(what, file):
            return function(*args, **kwargs)

    return called


def _raised(error: BaseException) -> bool:
    """Whether a `raise` in Python raised the error; a Ctrl-C comes at any other instruction."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    code: CodeType | None = None if trace is None else trace.tb_frame.f_code
    return code is not None and trace is not None and opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _line(error: BaseException, file: str) -> str:
    """` in FILE, line N`, or nothing where that is not known."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f" in {error.filename}, line {error.lineno}"
    places, trace = [], error.__traceback__
    while trace is not None:
        places.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    of_file = [place for place in places if place[0] == file]
    if not of_file and (file or len(places) < 2):  # raised by us, before the user's code was reached
        return ""
    name, number = (of_file or places)[-1]
    return f" in {name}, line {number}"
