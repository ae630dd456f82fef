"""The short names of spellings, for tables and charts."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from visionvitals.registry import in_memory


def labels(texts: Iterable[str]) -> dict[str, str]:
    """Spelling -> the shortest name that tells it apart from the others, for tables and charts. Short spellings stay whole.

    Example:
        >>> list(labels(["tiny:vit", "timm:resnet50@/data/weights/a.pth", "timm:resnet50@/data/weights/b.pth"]).values())
        ['tiny:vit', 'resnet50@a', 'resnet50@b']
    """
    forms = {text: _forms(text) for text in texts}
    taken = Counter(form for several in forms.values() for form in several)
    return {t: next((form for form in _shown(t, several) if taken[form] == 1), t) for t, several in forms.items()}


def _shown(text: str, forms: list[str]) -> list[str]:
    """The forms that are shown; a short spelling is shown whole."""
    return [] if len(text) <= 28 else forms[:-1]


def _forms(text: str) -> list[str]:
    """Ever longer names of a spelling; the last one is the spelling itself."""
    rest, _, options = text.partition("?")
    if ":" not in rest or in_memory(text):  # shortened already, or a name that the user gave
        return [text]
    name, _, checkpoint = rest.partition(":")[2].partition("@")
    path = Path(name)
    short = f"{path.parent.name}/{path.name}" if path.suffix == ".csv" else _stem(path) if path.suffix else path.name
    short = short if path.is_absolute() or "/" in name else name
    with_file = f"{short}@{_stem(Path(checkpoint))}" if checkpoint else short
    return list(dict.fromkeys([short, with_file, f"{with_file}?{options}" if options else with_file, text]))


def _stem(path: Path) -> str:
    """A file goes by its name; `weights.*`, as a training calls what it writes, and `*` by that of its folder."""
    return path.parent.name if path.stem in ("weights", "*") and path.parent.name else path.stem
