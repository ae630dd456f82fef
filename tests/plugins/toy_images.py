"""Coloured noise for tests, of four classes. Options: `n` images, `broken` of which the first cannot be read, `classes` (4)."""

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from visionvitals.core import Example, ImageSet, ImageSetCard
from visionvitals.errors import UnreadableImage
from visionvitals.registry import Spec


@dataclass(frozen=True)
class Noise:
    card: ImageSetCard
    broken: int

    def __len__(self) -> int:
        return self.card.n

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.card.n:
            raise IndexError(index)
        if index < self.broken:
            raise UnreadableImage(f"image {index}: it is a test")
        label = index % len(self.card.classes)
        pixels = np.random.default_rng(index).integers(0, 200, (32, 32, 3))
        pixels[..., label % 3] += 40
        return Example(id=f"noise/{index}", image=Image.fromarray(pixels.astype(np.uint8)), label=label)


def open(spec: Spec) -> ImageSet:  # the name of the contract
    options = spec.only("n", "broken", "classes")
    classes = tuple(f"class {k}" for k in range(int(options.get("classes", "4"))))
    card = ImageSetCard(
        spec=spec.text,
        digest=hashlib.sha256(repr(sorted(options.items())).encode()).hexdigest(),
        n=int(options.get("n", "24")),
        classes=classes,
        class_names=classes,
    )
    return Noise(card, int(options.get("broken", "0")))
