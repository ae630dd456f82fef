"""The options that families share: what the images look like, and which part of a transformer is asked. Needs no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from visionvitals.core import Interpolation
from visionvitals.registry import free, number, option

Size = tuple[int, int]
Channels = tuple[float, float, float]


def _size(text: str) -> Size:
    height, _, width = text.partition("x")
    width = width or height
    if not all(side.isascii() and side.isdecimal() and int(side) for side in (height, width)):
        raise ValueError("pixels, `224` or `256x192` (height x width)")
    return int(height), int(width)


def _resize(text: str) -> int | Literal["none"]:
    if text == "none":
        return "none"
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError("pixels, or `none` to stretch the picture")
    return int(text)


def _share(text: str) -> float:
    return number(text, "a number in (0, 1]", above=0, high=1)


def _channels(text: str, must: str, *, above: float = -1) -> Channels:
    values = [number(part, must, above=above) for part in text.split(",")]
    if len(values) not in (1, 3):
        raise ValueError(must)
    red, green, blue = values * 3 if len(values) == 1 else values
    return red, green, blue


def _mean(text: str) -> Channels:
    return _channels(text, "one or three numbers of at least 0")


def _std(text: str) -> Channels:
    return _channels(text, "one or three positive numbers", above=0)


def without_names(model: Mapping[str, Any]) -> bool:
    """Whether no keyword argument of a network could name a file: all are numbers, or rows of them."""
    rows = (value if isinstance(value, tuple | list) else (value,) for value in model.values())
    return all(isinstance(each, int | float | NoneType) for row in rows for each in row)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the images of a network look like, where the spelling says it; None leaves it to the network."""

    resize: int | Literal["none"] | None = option(None, "pixels of the shorter side, `none` stretches", read=_resize)
    crop: float | None = option(None, "share of the resized side that the crop keeps, in (0, 1]", read=_share)
    interpolation: Interpolation | None = option(None, "of the resize: nearest, bilinear, bicubic, lanczos")
    mean: Channels | None = option(None, "one or three numbers, on the [0, 1] scale", read=_mean)
    std: Channels | None = option(None, "one or three numbers, on the [0, 1] scale", read=_std)
    classes: Path | None = option(None, "file with one class key a line, in output order")
    order: Literal["as-is"] | None = option(
        None, "`as-is`: outputs without names stand in the order of the set's classes"
    )


@dataclass(frozen=True, kw_only=True)
class Parted(Look):
    """Of families that have transformers, whose parts can be left out or asked alone."""

    position: Literal["none"] | None = option(None, "`none` takes the position encoding out")
    token: Literal["class", "distillation", "shape"] | None = option(
        None, "the head of a distilled network: class, or distillation (also called shape)"
    )


def size() -> Any:
    """The field `size`, for families whose networks take several."""
    return option(None, "input in pixels, `224` or `256x192` (height x width)", read=_size)


def weights() -> Any:
    """The field `weights`, of families that read a file of the user."""
    return option(
        None,
        "of a checkpoint that holds both: `ema`, their average over the training, or `raw`; the average by default",
    )


def model() -> Any:
    """The field `model`."""
    return free("any keyword argument of the network")


Model = Mapping[str, Any]
