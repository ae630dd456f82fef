"""Where the pages get their templates from."""

from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def environment() -> Any:
    """A jinja2 environment of the templates of this folder: it escapes what it is given, and an unknown name is an error."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
