"""A report as the browser shows it when all of its sections are built."""

import base64
import gzip
import json
import re
from typing import Any

PACKED = re.compile(r'<div class="body">.*?</div>\s*<script type="application/gzip">([^<]+)</script>', re.DOTALL)


def parts(text: str) -> list[dict[str, Any]]:
    """What lies compressed in a page: `html`, `charts` and `style` of each study."""
    return [json.loads(gzip.decompress(base64.b64decode(packed))) for packed in PACKED.findall(text)]


def opened(text: str) -> str:
    """The page with the sections and styles in their places."""
    found = iter(parts(text))

    def built(_: re.Match[str]) -> str:
        part = next(found)
        return f"<style>{part['style']}</style>{part['html']}"

    return PACKED.sub(built, text)


def specifications(text: str) -> dict[str, list[dict[str, Any]]]:
    """Study/number -> its small multiples in the language of Vega-Lite."""
    names = re.findall(r'<section id="(?:study-)?([^"]+)" class="study"', text)
    return {
        f"{name}/{number}": drawn
        for name, part in zip(names, parts(text), strict=True)
        for number, drawn in enumerate(part["charts"])
    }
