"""Tables of Markdown in which every name stays text."""

import re
from collections.abc import Sequence

from visionvitals.errors import escaped

_MARKS = re.compile(r"[\\`*\[\]<|~]|(?<![^\W_])_|_(?![^\W_])")


def text(said: str) -> str:
    """A text in one line whose letters mean nothing to Markdown or HTML.

    Example:
        >>> text("a|b <i>"), text("resnet50.tv_in1k"), text("_x_")
        ('a\\\\|b \\\\<i>', 'resnet50.tv_in1k', '\\\\_x\\\\_')
    """
    return _MARKS.sub(lambda found: "\\" + found[0], " ".join(escaped(said).split()))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table; heads and cells are text."""
    return [
        f"| {' | '.join(map(text, heads))} |",
        "|" + "---|" * len(heads),
        *(f"| {' | '.join(map(text, row))} |" for row in rows),
    ]


def fenced(code: str) -> list[str]:
    """Lines of a block of code, whatever is in it."""
    longest = max((len(run) for run in re.findall("`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence, escaped(code), fence]
