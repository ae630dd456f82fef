"""How values are written for people: percent with an interval, a condition as a phrase, counts with their noun."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from visionvitals.figure import Metric
from visionvitals.results.fields import readable
from visionvitals.stats import Estimate

MISSING = "–"
_WITHIN = 0.05  # intervals narrower than five points are written with one decimal, wider ones without


def axis(metric: Metric) -> str:
    """The title of an axis, whose labels carry the percent signs themselves."""
    return metric.title if metric.share else metric.head


def value(e: Estimate, *, share: bool = True) -> str:
    """`77.0` for 0.77 as a share, else two decimals.

    Example:
        >>> value(Estimate(0.77, 0.72, 0.81, 300)), value(Estimate(0.834, 0.7, 1.0, 300), share=False)
        ('77.0', '0.83')
    """
    if math.isnan(e.value):
        return MISSING
    return number(e.value * 100, 1) if share else number(e.value, 2)


def interval(e: Estimate, *, share: bool = True) -> str:
    """`72–81`, with decimals where the interval is narrow or an end would read as zero or beyond the value; empty where there is none.

    Example:
        >>> interval(Estimate(0.77, 0.72, 0.81, 300)), interval(Estimate(0.77, 0.766, 0.774, 50_000))
        ('72–81', '76.6–77.4')
        >>> interval(Estimate(0.06, 0.004, 0.116, 300))
        '0.4–11.6'
    """
    if math.isnan(e.low):
        return ""
    scale = 100 if share else 1
    digits = 2 if not share else 1 if e.high - e.low < _WITHIN or not _holds(e) else 0
    low, high = ends(e.low * scale, e.high * scale, digits)
    return f"{low} to {high}" if e.low < 0 else f"{low}–{high}"


def _holds(e: Estimate) -> bool:
    """Whether an interval of whole percent holds the value, which has a decimal."""
    return round(100 * e.low) <= round(100 * e.value, 1) <= round(100 * e.high)


def ends(low: float, high: float, digits: int, *, sign: str = "") -> tuple[str, str]:
    """The ends of an interval, with so many decimals, or more, up to three, where one would read as zero and is not.

    Example:
        >>> ends(0.4, 11.6, 0, sign="+")
        ('+0.4', '+11.6')
    """
    while digits < 3 and any(x and not float(f"{x:.{digits}f}") for x in (low, high)):
        digits += 1
    return number(low, digits, sign=sign), number(high, digits, sign=sign)


def measured(e: Estimate, *, share: bool = True) -> str:
    """The value and its interval, `77.0 (72–81)`."""
    between = interval(e, share=share)
    return f"{value(e, share=share)} ({between})" if between else value(e, share=share)


def with_unit(e: Estimate, *, share: bool = True) -> str:
    """As `measured`, for use outside a table whose head names the unit: `77.0 % (72–81)`, with a space that does not break."""
    between = interval(e, share=share)
    unit = "\N{NO-BREAK SPACE}%" if share and not math.isnan(e.value) else ""
    return f"{value(e, share=share)}{unit}" + (f" ({between})" if between else "")


def exact(e: Estimate, *, share: bool = True) -> str:
    """The value and its interval for those who point at it, `77.00 % (72.10 to 81.30)`.

    Example:
        >>> exact(Estimate(-0.03125, -0.5, 0.25, 300), share=False)
        '−0.0312 (−0.5000 to 0.2500)'
    """
    if math.isnan(e.value):
        return MISSING
    scale, digits, unit = (100, 2, "\N{NO-BREAK SPACE}%") if share else (1, 4, "")
    value, low, high = (number(x * scale, digits) for x in (e.value, e.low, e.high))
    return f"{value}{unit}" + ("" if math.isnan(e.low) else f" ({low} to {high})")


def n(e: Estimate) -> str:
    """How many images or other items, and at how many images measuring stopped early where it did.

    Example:
        >>> from visionvitals.stats import Early
        >>> n(Estimate(0.5, 0.4, 0.6, 282, Early(282, 50_000, "half_width")))
        '282 of 50,000, stopped early'
    """
    if e.early is None or not e.early.by:
        return f"{e.n:,}"
    images, of, by = e.early
    how = "stopped by time" if by == "minutes" else "stopped early"
    return f"{e.n:,} of {of:,}, {how}" if e.n == images else f"{e.n:,}, {how} at {images:,} of {of:,} images"


def wrapped(said: str, *, first: str, rest: str) -> list[str]:
    """A sentence as lines of 80 columns, which begin with `first` and `rest`; a word that is longer stays whole."""
    return textwrap.wrap(
        said, 80, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )


def difference(e: Estimate, *, share: bool = True) -> str:
    """As `measured`, with the sign always written and a true minus."""
    if math.isnan(e.value):
        return MISSING
    scale, digits = (100, 1) if share else (1, 2)
    between = interval(e, share=share)
    return number(e.value * scale, digits, sign="+") + (f" ({between})" if between else "")


def flips(lost: float, gained: float) -> str:
    """What moved a share each way, in points: `-5.2 +1.0`."""
    return f"{-100 * lost:+.1f} {100 * gained:+.1f}".replace("-", "−")


def flips_of(lost: int, gained: int) -> str:
    """How many answers flip each way, `−5 +1`; a side without any is left out."""
    return " ".join(filter(None, (f"−{lost}" if lost else "", f"+{gained}" if gained else "")))


def condition(fields: Mapping[str, Any]) -> str:
    """`grid 14x14, fill black`; a field without a value is left out."""
    return ", ".join(f"{name} {text}" for name, v in fields.items() if (text := short(v)))


def short(v: Any, *, share: bool = False) -> str:
    """One value of a condition: a grid as `14x14`, a float without noise digits, a share in percent."""
    v = readable(v)
    if share and isinstance(v, int | float):
        return f"{100 * v:.3g}%"
    return f"{v:g}" if isinstance(v, float) else str(v)


def count(n: int, noun: str) -> str:
    """`1 image`, `1,200 images`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def about(n: int) -> int:
    """Two digits of a number that is an estimate itself.

    Example:
        >>> about(2_784), about(73)
        (2800, 73)
    """
    return round(n, 2 - len(str(n)))


def listed(words: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = list(words) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def number(x: float, digits: int, *, sign: str = "") -> str:
    """With so many decimals, a true minus, and no sign of zero unless `sign` is `+`."""
    text = f"{x:{sign}.{digits}f}"
    return text.replace("-", "−") if float(text) or sign else text.removeprefix("-")
