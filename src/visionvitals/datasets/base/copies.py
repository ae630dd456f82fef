"""Which pictures of a set are the same one.

Files of other bytes may hold the same picture (another format, other metadata). Inputs of a network are no measure: two pictures that
differ may be equal once they are small, and then networks of two input sizes would have other splits. So pictures with equal inputs are
looked at once more, as they are before the resize.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from visionvitals.core import ImageSet
from visionvitals.datasets.base.decode import to_rgb
from visionvitals.errors import UnreadableImage

_CHUNK = 256


def copies(images: ImageSet, places: Sequence[int], looks: Sequence[int], pool: Executor) -> list[tuple[int, int]]:
    """(row, row of the first one that is the same picture) of each picture that is not that first one.

    Args:
        images: the set.
        places: of each row, where it stands in the set.
        looks: of each row, a checksum of its network input.
        pool: where pictures are decoded.
    """
    _, which, counts = np.unique(np.asarray(looks, dtype=np.int64), return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[which] > 1).tolist()
    first: dict[bytes, int] = {}
    found = []
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        for row, content in zip(part, pool.map(lambda row: _content(images, places[row]), part), strict=True):
            if (original := first.setdefault(content, row)) != row:
                found.append((row, original))
    return found


def _content(images: ImageSet, place: int) -> bytes:
    """A digest of the size and of every pixel, as RGB; of a picture that can no longer be read, of its place."""
    try:
        picture = to_rgb(images[place].image)
    except UnreadableImage:
        return str(place).encode()
    whole = hashlib.blake2b(repr(picture.size).encode(), digest_size=16)
    whole.update(picture.tobytes())
    return whole.digest()
