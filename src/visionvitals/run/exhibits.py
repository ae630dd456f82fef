"""The few pictures that show in the report what the networks saw."""

import hashlib
import heapq
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from PIL import Image

from visionvitals.core import BackboneCard, ImageSetCard
from visionvitals.pixels import to_uint8

if TYPE_CHECKING:
    import torch

COUNT = 4
"""Images of each set whose perturbed form is kept."""
_AMONG = 2**17
"""They are chosen among so many, so that the names of a larger set are not read for them."""


def choose(ids: Sequence[str], *, seed: int) -> frozenset[str]:
    """The few images that the report shows: those with the smallest hash of (seed, id), whatever the backbone or the study."""

    def rank(item: str) -> bytes:
        return hashlib.blake2b(f"{seed}/exhibit/{item}".encode(), digest_size=8).digest()

    return frozenset(heapq.nsmallest(COUNT, islice(ids, _AMONG), key=rank))


def picture(image: "torch.Tensor") -> Image.Image:
    """A network input, float (3, h, w) in [0, 1], as a picture of 112 to 160 px: small inputs enlarged, large ones reduced."""
    found = Image.fromarray(to_uint8(image))
    short, long = min(found.size), max(found.size)
    if long > 160:
        scale, how = 160 / long, Image.Resampling.LANCZOS
    elif short >= 112:
        return found
    elif -(-112 // short) * long <= 160:  # whole steps keep the pixels as they are
        scale, how = -(-112 // short), Image.Resampling.NEAREST
    else:
        scale, how = 112 / short, Image.Resampling.BICUBIC
    return found.resize((max(1, round(found.width * scale)), max(1, round(found.height * scale))), how)


def class_name(index: int, card: BackboneCard | ImageSetCard) -> str:
    """The readable name of an output or of a class, its first synonym, or `class 7`."""
    names: Sequence[str] | None = card.class_names or card.classes
    if names is None or not 0 <= index < len(names):
        return f"class {index}"
    return names[index].partition(",")[0][:40]
