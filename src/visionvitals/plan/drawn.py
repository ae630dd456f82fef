"""What is known of the images that a plan measures before anything is decoded: how many, and of each class."""

import dataclasses
from collections import Counter

import numpy as np

from visionvitals.core import ImageSet, ImageSetCard


def drawn(images: ImageSet, limit: int | None, seed: int) -> ImageSetCard:
    """The card of a set, of the images that `limit` leaves: with their number and, where the set knows its `labels` undecoded, what they are.

    A file that cannot be decoded, and one that holds the picture of another one, show themselves later: there are at most so many.
    """
    from visionvitals.datasets.base.cache import draw
    from visionvitals.datasets.base.files import EncodedImages

    card = images.card
    n = card.n if limit is None else min(limit, card.n)
    if (labels := getattr(images, "labels", None)) is None:
        return dataclasses.replace(card, n=n)
    rows = draw(images, None if n == card.n else limit, seed)
    if not isinstance(images, EncodedImages) or images.shards is not None:  # copies are not known
        labels = np.asarray(labels)
        found = np.bincount(labels if n == card.n else labels[rows], minlength=len(card.classes))
        return dataclasses.replace(card, n=n, per_class={"": tuple(found.tolist())})
    counts: dict[str, Counter[int]] = {}
    seen: set[tuple[str, str]] = set()
    for row in rows:
        part = images.splits[row] if images.splits else ""
        picture = part, images.copies.get(images.ids[row], images.ids[row])
        if picture not in seen:
            seen.add(picture)
            counts.setdefault(part, Counter())[images.labels[row]] += 1
    of_class = {part: tuple(found[k] for k in range(len(card.classes))) for part, found in counts.items()}
    conflicts = None
    if images.textures:
        conflicts = sum(images.textures[row] not in (None, -1, images.labels[row]) for row in rows)
    return dataclasses.replace(card, n=n, per_class=of_class, conflicts=conflicts)
