"""The embedded image set, drawn on the fly: `shapes:SPLIT[?n=1000&variant=natural&size=128]`, textured objects among clutter.

SPLIT is `train` or `test`. Options: `n` pictures (1,000 of test, 20,000 of train), `variant` (natural, agree, conflict, flat or random:
which texture the object wears), `size` in pixels (models resize), `offset` of the first picture, `seed` (0).
Each picture knows its outline (the label), its texture and the exact mask of the object.

Trainers call `_textured_shapes.render` for whole batches.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image

from visionvitals.core import Example, ImageSet, ImageSetCard
from visionvitals.datasets._textured_shapes import (
    RENDER_VERSION,
    SHAPES,
    SPLITS,
    VARIANTS,
    Split,
    Variant,
    labels,
    render,
)
from visionvitals.errors import near, require
from visionvitals.registry import Spec

EXAMPLES: tuple[str, ...] = ("shapes:test?n=8&size=32",)
"""What the contract tests open: a set that needs no file of its user says it itself."""
_SEEDS = 2**20
_PER_SEED = 2**40
_LENGTH = {"train": 20_000, "test": 1_000}


@dataclass(frozen=True)
class TexturedShapes:
    """The pictures start, start + 1, ... of one split and variant; `[i]` draws one, in any thread."""

    card: ImageSetCard
    split: Split
    variant: Variant
    size: int
    start: int

    def __len__(self) -> int:
        return self.card.n

    @property
    def labels(self) -> np.ndarray:
        """The shapes in their order, int64 (n,)."""
        return labels(np.arange(self.start, self.start + self.card.n), split=self.split)

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self.card.n:
            raise IndexError(index)
        at = self.start + index
        drawn = render(np.array([at], dtype=np.int64), size=self.size, split=self.split, variant=self.variant)
        texture = int(drawn.textures[0])
        return Example(
            id=f"{self.split}/{at:06d}",
            image=Image.fromarray(drawn.images[0]),
            label=int(drawn.shapes[0]),
            texture=None if texture < 0 else texture,
            mask=drawn.masks[0],
        )


def open(spec: Spec) -> ImageSet:
    """Describe the pictures; nothing is drawn yet.

    Raises:
        VitalsError: an unknown split, variant or option, or a number out of range.
    """
    options = spec.only("n", "variant", "size", "offset", "seed")
    require(
        spec.name in SPLITS and spec.checkpoint is None,
        "The name in `shapes:NAME` must be train or test",
        spec.text.partition("?")[0],
        near(spec.name, SPLITS),
    )
    variant = options.get("variant", "natural")
    require(variant in VARIANTS, f"`variant` of `{spec.text}` must be known", variant, near(variant, VARIANTS))
    size = _integer(spec, "size", 128, low=16, high=1024)
    n = _integer(spec, "n", _LENGTH[spec.name], low=1, high=10_000_000)
    offset = _integer(spec, "offset", 0, low=0, high=_PER_SEED - n)
    start = _integer(spec, "seed", 0, low=0, high=_SEEDS - 1) * _PER_SEED + offset
    facts = ["textured_shapes", RENDER_VERSION, spec.name, variant, size, start, n]
    card = ImageSetCard(
        spec=spec.text,
        digest=hashlib.sha256(json.dumps(facts).encode()).hexdigest(),
        n=n,
        classes=SHAPES,
        class_names=SHAPES,
        provides=("texture", "mask"),
    )
    return TexturedShapes(card, cast(Split, spec.name), cast(Variant, variant), size, start)


def _integer(spec: Spec, key: str, default: int, *, low: int, high: int) -> int:
    text = spec.options.get(key, str(default))
    value = int(text) if text.isdecimal() and len(text) < 20 else -1
    require(low <= value <= high, f"`{key}` of `{spec.text}` must be an integer in {low}..{high}", text)
    return value
