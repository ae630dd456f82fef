"""Has anything changed since a run was planned? Told from the names, sizes and times of the files that its spellings name, and of those that an
image set says it reads beside them (`files`), without torch.

What a stamp cannot see (weights in a hub's cache, a module that a factory imports) is caught by digests and answers when the network is
loaded next.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from visionvitals import registry, source
from visionvitals.plan.request import Plan


def stamp(plan: Plan) -> str:
    """A digest that changes when a file behind a plan changes: weights, pictures, class lists, factories, studies."""
    made = hashlib.sha256()
    texts = [*plan.backbones, *plan.sets, *(section.name for section in plan.studies)]
    for text in texts:
        for path in _paths(text):
            made.update(f"{text}\0{path}\0".encode("utf-8", "surrogateescape"))
            for line in _lines(path):
                made.update(line.encode("utf-8", "surrogateescape"))
    return made.hexdigest()


def _paths(text: str) -> Iterator[Path]:
    """The files and folders that a spelling names: any of its parts that is a path which exists, and the module of a factory."""
    rest, _, options = text.partition("?")
    family, _, name = rest.partition(":")
    if family == "memory":  # a name of this process
        return
    name, _, checkpoint = name.partition("@")
    parts = [family, name, name.partition(":")[0], name.partition(":")[2], checkpoint]
    parts += [option.partition("=")[2] for option in options.split("&")]
    for part in filter(None, dict.fromkeys(parts)):
        path = os.path.expanduser(part)
        if os.path.exists(path):  # unlike a Path's, False for what can be no path
            yield Path(path)
    if family in registry.names("datasets"):
        yield from getattr(registry.load("datasets", family), "files", lambda text: ())(text)
    if family == "python" and not name.partition(":")[0].endswith(".py"):
        file = source.file_of(name.rpartition(":")[0])
        yield from () if file is None else (file,)


def _lines(path: Path) -> Iterator[str]:
    """name, size and time of a file, or of all files below a folder, in order."""
    if path.is_dir():
        for folder, folders, names in os.walk(path, followlinks=True):
            folders.sort()
            yield from (_line(os.path.join(folder, name)) for name in sorted(names))
    else:
        yield _line(str(path))


def _line(path: str) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return f"{path}\0gone\n"
    return f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n"
