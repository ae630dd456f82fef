"""Preprocessing that lives in code: what an image processor of transformers does to pictures, found by running it on four of them."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from visionvitals.core import Preprocess

_SAME = 1.01  # of 255, with the rounding of float32
_NEAR = 4.0  # of 255: the same cut by another library's filter


def fitted(told: Preprocess, processor: Any, *, flips: bool) -> tuple[Preprocess, tuple[str, ...]]:
    """Of the ways to cut a picture the one that gives what the processor gives, and a note where none does.

    The ways: what its configuration says, or a resize to int(256/224 of the size), as LeViT's code has it; the shorter side, or both
    (stretched); the crop rounded, or down. Compared on pictures of four sizes, odd ones too, that are smooth, so that the filters of two
    libraries agree; equal is a largest difference of 1/255, and up to 4/255 a way is taken with the note.

    Args:
        told: what its configuration says.
        processor: of transformers; called with a list of one PIL picture, it gives `pixel_values`.
        flips: its channels are given in the order blue, green, red.
    """
    edge = told.resize or max(told.size)
    shown = [
        _picture(h, w)
        for h, w in ((edge, edge + 37), (edge + 38, edge), (edge + 119, edge + 2), (2 * edge - 1, edge + 301))
    ]
    try:
        wanted = [_given(processor, picture, told, flips) for picture in shown]
    except Exception as error:
        return told, (
            f"its image processor could not be run, so its pictures are not compared with ours: {type(error).__name__}",
        )
    other = next((tuple(w.shape) for w in wanted if w.shape != (3, *told.size)), None)
    if other is not None:
        size = f"{told.size[0]} x {told.size[1]}"
        return told, (
            f"its image processor gives pictures of other sizes ({other[1]} x {other[2]}); ours gives the centre of {size} pixels",
        )
    found: dict[Preprocess, float] = {}
    for way in (told, *_ways(told, edge)):
        found[way] = _difference(way, shown, wanted)
        if found[way] <= _SAME:
            return way, ()
    best = min(found, key=found.__getitem__)
    best = best if found[best] <= _NEAR else told
    return best, (f"its image processor gives other pictures than ours: up to {found[best]:.0f} of 255 apart",)


def _ways(told: Preprocess, edge: int) -> list[Preprocess]:
    sides = dict.fromkeys((edge, int(256 / 224 * max(told.size))))
    cut = itertools.product(("round", "floor"), (False, True), sides)
    made = [
        replace(told, resize=side, stretch=stretch, crop=crop) for crop, stretch, side in cut if side >= max(told.size)
    ]
    return [*made, replace(told, resize=None, stretch=False)]


def _picture(height: int, width: int) -> Image.Image:
    """Waves of 40 pixels and more in each channel."""
    row, column = np.arange(height)[:, None], np.arange(width)[None]
    waves = [np.sin(row / 9 + k) + np.cos(column / (7 + k) + row / 31) for k in range(3)]
    return Image.fromarray((127.5 + 60 * np.stack(waves, axis=-1)).round().astype(np.uint8))


def _given(processor: Any, picture: Image.Image, told: Preprocess, flips: bool) -> Tensor:
    """What the processor gives of a picture, its normalisation undone: float (3, h, w) on the scale of 0 to 255."""
    out: Tensor = torch.as_tensor(processor(images=[picture], return_tensors="pt")["pixel_values"])[0].float()
    out = out.flip(0) if flips else out
    return 255 * (out * torch.tensor(told.std).view(3, 1, 1) + torch.tensor(told.mean).view(3, 1, 1))


def _difference(way: Preprocess, shown: Sequence[Image.Image], wanted: Sequence[Tensor]) -> float:
    return max(
        float(np.abs(_cut(p, way).astype(np.float64) - w.permute(1, 2, 0).numpy()).max())
        for p, w in zip(shown, wanted, strict=True)
    )


def _cut(picture: Image.Image, way: Preprocess) -> UInt8[np.ndarray, "h w 3"]:
    """As `datasets.base.decode` cuts a picture."""
    resized = picture.resize(way.resized(*picture.size), Image.Resampling[way.interpolation.upper()])
    left, top = way.corner(*resized.size)
    return np.asarray(resized.crop((left, top, left + way.size[1], top + way.size[0])))
