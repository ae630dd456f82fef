"""What is said of a command whose words do not fit: an unknown option, an argument that is missing, a word too many."""

import inspect
import re

from cyclopts import App, CycloptsError, MissingArgumentError, UnusedCliTokensError


def said(error: CycloptsError, app: App, typed: tuple[str, ...]) -> str:
    """One sentence or two; with what an argument that is missing means, as the docstring of the command says it."""
    command = f"vitals {typed[0]}" if typed and typed[0] in app else "vitals"
    see = f"See `{command} --help`."
    if isinstance(error, UnusedCliTokensError):
        return f"`{command}` takes no further word. Got {', '.join(map(repr, error.unused_tokens or ()))}. {see}"
    if not isinstance(error, MissingArgumentError) or error.argument is None:
        return f"{error} {see}"
    name = error.argument.field_info.name
    doc = inspect.getdoc(app[typed[0]].default_command) if typed and typed[0] in app else None
    meaning = re.search(rf"^    {re.escape(name)}: (.*(?:\n {{8}}.*)*)", doc or "", re.MULTILINE)
    must = f"`{command}` must be given {error.argument.name}"
    return f"{must}: {' '.join(meaning[1].split())} {see}" if meaning else f"{must}. Got none. {see}"
