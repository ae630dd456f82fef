"""What the report must say once of the pictures of a set: how special ones are read, and copies of one picture."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from visionvitals.datasets.base.decode import Traits
from visionvitals.datasets.base.digest import MISSING, Content
from visionvitals.errors import shortened

_DARK = 0.25
"""A picture with more than 8 bits that uses less of its range than this is nearly black to a network."""


def picture_notes(
    ids: Sequence[str],
    labels: Sequence[int],
    known: Sequence[Content],
    masks: Sequence[Content] | None,
    splits: Sequence[str],
    *,
    exif: str,
) -> tuple[dict[str, str], list[str]]:
    """The copies of a set, id -> id of the first one, and its notes.

    Args:
        ids, labels, known: one per picture.
        masks: what is known of the mask of each, or None.
        splits: the part of each, or empty.
        exif: what is done with an EXIF orientation, for a sentence that begins with "n pictures have an EXIF orientation and".
    """
    notes = []
    absent = [id for id, content in zip(ids, known, strict=True) if content.hash == MISSING]
    if absent:
        notes.append(f"{len(absent)} pictures are missing or no file that can be read: {_some(absent)}")
    unsure = [
        id
        for id, content, mask in zip(ids, known, masks or (), strict=masks is not None)
        if (turn := content.traits.orientation) > 1
        and not mask.traits.orientation
        and (turn < 5 or content.traits.square)
    ]
    notes += trait_notes(Counter(content.traits for content in known), exif=exif)
    if unsure:
        notes.append(
            f"the masks of {len(unsure)} turned pictures do not say how they are turned, and their size does not tell: they are "
            f"laid on as stored ({_some(unsure)})"
        )
    copies, more = _copies(ids, labels, known, splits)
    return copies, notes + more


def trait_notes(counts: Mapping[Traits, int], *, exif: str) -> list[str]:
    """What is special about the pictures of a set, from how many there are of each kind; `exif` as in `picture_notes`."""

    def count(special: Callable[[Traits], object]) -> int:
        return sum(n for traits, n in counts.items() if special(traits))

    notes = []
    if turned := count(lambda traits: traits.orientation > 1):
        notes.append(f"{turned} pictures have an EXIF orientation and {exif}")
    if transparent := count(lambda traits: traits.transparent):
        notes.append(f"{transparent} pictures are partly transparent: alpha is dropped, the colours below it are taken")
    if frames := count(lambda traits: traits.frames):
        notes.append(f"{frames} pictures have several frames: the first one is taken")
    if used := [traits.used for traits in counts if traits.used]:
        dark = count(lambda traits: 0 < traits.used < _DARK)
        notes.append(
            f"{count(lambda traits: traits.used)} pictures have more than 8 bits: the upper 8 of 16 are taken (value // 256); the "
            f"largest values are {min(used):.1%} to {max(used):.1%} of the range"
            + (f", so {dark} are nearly black: rescale them to 16 bits, or save them with 8" if dark else "")
        )
    return notes


def _copies(
    ids: Sequence[str], labels: Sequence[int], known: Sequence[Content], splits: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    first: dict[str, int] = {}
    copies: dict[str, str] = {}
    found: dict[str, list[str]] = {"their class": [], "another class": [], "another part of the set": []}
    for index, content in enumerate(known):
        original = index if content.hash == MISSING else first.setdefault(content.hash, index)
        if original != index:
            copies[ids[index]] = ids[original]
            pair = f"{ids[index]} = {ids[original]}"
            found["their class" if labels[index] == labels[original] else "another class"].append(pair)
            if splits and splits[index] != splits[original]:
                found["another part of the set"].append(pair)
    return copies, [f"{len(p)} pictures are copies of one of {where}: {_some(p)}" for where, p in found.items() if p]


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(shortened, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
