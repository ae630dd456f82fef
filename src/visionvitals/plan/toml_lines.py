"""In which line of a TOML file something stands, which its parser does not tell."""

import re
import tomllib


def line(text: str, where: tuple[str | int, ...]) -> int:
    """The line (from 1) where a key or an element stands; 0 where that is nowhere, e.g. for a missing key.

    They are looked up: the n-th `[[studies]]`, then `key =` below it, then the element's text.
    """
    lines = text.splitlines()
    if not where:
        return 0
    headers = [i for i, line in enumerate(lines) if re.match(r"\s*\[\[?\s*[A-Za-z][\w.-]*\s*\]", line)]
    key, rest = str(where[0]), where[1:]
    tables = [i for i in headers if re.match(rf"\s*\[\[?\s*{re.escape(key)}\s*\]", lines[i])]
    if rest and isinstance(rest[0], int) and rest[0] < len(tables):
        start = tables[rest[0]]
        end = next((i for i in headers if i > start), len(lines))
        return 1 + _key(lines, str(rest[1]) if len(rest) > 1 else "", start, end, otherwise=start)
    start = _key(lines, key, 0, headers[0] if headers else len(lines), otherwise=tables[0] if tables else -1)
    if start >= 0 and rest and isinstance(rest[0], int):
        for element in _elements(text, key, rest[0]):
            return 1 + next((i for i in range(start, len(lines)) if element in lines[i]), start)
    return 1 + start


def _key(lines: list[str], key: str, start: int, end: int, *, otherwise: int) -> int:
    pattern = rf"\s*[\"']?{re.escape(key)}[\"']?\s*="
    return next((i for i in range(start, end) if key and re.match(pattern, lines[i])), otherwise)


def _elements(text: str, key: str, index: int) -> list[str]:
    """What to look for to find the line of an element of a list: its text, or its name."""
    element = tomllib.loads(text)[key][index]
    if isinstance(element, dict):
        element = element.get("name")
    return [element] if isinstance(element, str) else []
