"""Docstrings of this project as Markdown, for make_studies.py and make_api.py."""

import re
import textwrap

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Example): ?(.*)$")
_LEAD = re.compile(r"^(What it means(?: for a product)?|Pitfalls|Protocol|Conventions?|Controls|Methods|Sources?|Metrics)([.:,])")
_PAGE = re.compile(r"(?<!`)\bdocs/([\w/]+\.md)")


def markdown(text: str, *, docs: str = "") -> str:
    """Prose stays, arguments and fields become a list, an example becomes code, `docs/x.md` a link; `docs` is the way to that folder."""
    parts: list[list[str]] = [[""]]
    for line in text.splitlines():
        begins = _SECTION.match(line) or (not parts[-1][-1] and not line.startswith(" "))
        parts = [*parts, [line]] if begins else [*parts[:-1], [*parts[-1], line]]
    return _PAGE.sub(rf"[\1]({docs}\1)", "\n\n".join(found for part in parts if (found := _part(part))))


def _part(lines: list[str]) -> str:
    head = _SECTION.match(lines[0])
    if head is None:
        return _LEAD.sub(r"**\1**\2", "\n".join(lines).strip())
    title, body = head[1], textwrap.dedent("\n".join(lines[1:])).strip()
    if title == "Example":
        return f"```python\n{body}\n```"
    if title in ("Args", "Attributes"):
        return _entries(body)
    return f"**{title}:** {' '.join(f'{head[2]} {body}'.split())}"


def _entries(body: str) -> str:
    """One point for each; a line that is indented goes on."""
    found = []
    for each in re.split(r"\n(?! )", body):
        names, _, meaning = " ".join(each.split()).partition(": ")
        found.append(f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {meaning}")
    return "\n".join(found)
