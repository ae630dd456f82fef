"""npz: pictures in one file of numpy, `npz:FILE.npz` with `images` uint8 (n, h, w, 3), `labels` (n,) and `classes` (k,), the names."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from visionvitals.datasets import Example, ImageSet, ImageSetCard, Spec, require


@dataclass(frozen=True)
class Arrays:
    """The pictures of one file; `[i]` gives one, in any thread."""

    card: ImageSetCard
    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return self.card.n

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Example(id=f"{index:06d}", image=Image.fromarray(self.images[index]), label=int(self.labels[index]))


def open(spec: Spec) -> ImageSet:  # the name of the contract
    """Read the file."""
    spec.only()
    path = Path(spec.name)
    require(path.is_file(), f"`{spec.text}` must name a file", spec.name)
    with np.load(path) as file:  # runs no code
        lacks = sorted({"images", "labels", "classes"} - set(file))
        require(not lacks, f"{path} must hold the arrays images, labels and classes", f"none called {lacks}")
        images, labels, classes = file["images"], file["labels"], tuple(map(str, file["classes"]))
    inside = len(images) == len(labels) > 0 and labels.min() >= 0 and labels.max() < len(classes)
    require(inside, f"{path} must have a label in 0..{len(classes) - 1} for each image", len(labels))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = ImageSetCard(spec=spec.text, digest=digest, n=len(images), classes=classes, class_names=classes)
    return Arrays(card, images, labels)
