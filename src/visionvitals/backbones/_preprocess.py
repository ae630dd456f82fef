"""Reading the options of a spelling: preprocessing, flags, numbers, keyword arguments of a network."""

import ast
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from visionvitals.core import Interpolation, Preprocess
from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

OPTIONS = ("size", "resize", "crop", "interpolation", "mean", "std")
"""Options that every backbone family takes, beside `classes`."""
IMAGENET = Preprocess(
    size=(224, 224), resize=256, interpolation="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)
"""What is assumed of a network that says nothing; whoever assumes it adds the note `ASSUMED`."""
ASSUMED = (
    "the network does not say what its images are like: what the spelling leaves open is taken from ImageNet's usual"
)


def override(spec: Spec, base: Preprocess, *, crop: float | None = None) -> Preprocess:
    """`base` with what the spelling changes.

    Args:
        spec: its options `size` (pixels, `224` or `256x192`), `resize` (pixels, or `none` to stretch), `crop` (share of the
            resized side that the crop keeps, in (0, 1]), `interpolation`, `mean` and `std` (one or three numbers in [0, 1]).
        base: the network's own.
        crop: the exact share in `base`; by default that of its rounded pixels.

    Raises:
        VitalsError: a value that cannot be read or is out of range.
    """
    options = spec.options
    require(not {"crop", "resize"} <= options.keys(), "Give `crop` or `resize`, not both", spec.text)
    size = input_size(spec) or base.size
    resize = base.resize
    if "resize" in options:
        resize = None if options["resize"] == "none" else int(number(spec, "resize"))
    elif "crop" in options or (size != base.size and resize is not None):
        share = number(spec, "crop") if "crop" in options else crop or max(base.size) / (resize or max(base.size))
        require(0 < share <= 1, "`crop` must be in (0, 1]", share)
        resize = math.floor(max(size) / share)
    interpolation = options.get("interpolation", base.interpolation)
    known: tuple[Interpolation, ...] = get_args(Interpolation)
    for name in known:
        if name == interpolation:
            mean, std = _channels(spec, "mean", base.mean), _channels(spec, "std", base.std)
            return replace(base, size=size, resize=resize, interpolation=name, mean=mean, std=std)
    raise VitalsError(f"`{spec.text}`: no interpolation `{interpolation}`. {near(interpolation, known)}")


def from_json(value: Mapping[str, Any], *, where: str) -> Preprocess:
    """A `Preprocess` from what a checkpoint's metadata says of it: size, resize, interpolation, mean, std."""
    try:
        size = value["size"]
        return Preprocess(
            size=(int(size), int(size)) if isinstance(size, int) else (int(size[0]), int(size[1])),
            resize=None if value["resize"] is None else int(value["resize"]),
            interpolation=value["interpolation"],
            mean=_triple(value["mean"]),
            std=_triple(value["std"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VitalsError(f"{where}: cannot read its `preprocess` metadata {dict(value)!r}: {error!r}.") from error


def input_size(spec: Spec) -> tuple[int, int] | None:
    """The option `size` as (height, width), or None."""
    text = spec.options.get("size")
    if text is None:
        return None
    height, _, width = text.partition("x")
    must = f"`{spec.text}`: `size` must be pixels, `224` or `256x192` (height x width)"
    require(height.isdecimal() and (width or height).isdecimal(), must, text)
    return int(height), int(width or height)


def flag(spec: Spec, key: str, *, default: bool) -> bool:
    """The option `key` as a truth value; only `true` and `false` are read."""
    text = spec.options.get(key, str(default)).lower()
    require(text in ("true", "false"), f"`{spec.text}`: `{key}` must be `true` or `false`", text)
    return text == "true"


def number(spec: Spec, key: str) -> float:
    """The option `key` as a finite number."""
    try:
        value = float(spec.options[key])
    except ValueError:
        value = math.nan
    require(math.isfinite(value), f"`{spec.text}`: `{key}` must be a number", spec.options[key])
    return value


def model_options(spec: Spec) -> dict[str, str]:
    """The options `model.x=value`, with their full names."""
    return {key: value for key, value in spec.options.items() if key.startswith("model.")}


def model_kwargs(spec: Spec) -> dict[str, Any]:
    """The options `model.x=value` as keyword arguments: Python literals where they are such, else strings."""
    return {key.removeprefix("model."): _literal(value) for key, value in model_options(spec).items()}


def _literal(text: str) -> Any:
    plain = {"true": True, "false": False, "none": None}
    if text.lower() in plain:
        return plain[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _channels(spec: Spec, key: str, base: tuple[float, float, float]) -> tuple[float, float, float]:
    if key not in spec.options:
        return base
    try:
        values = [float(part) for part in spec.options[key].split(",")]
    except ValueError:
        values = []
    require(len(values) in (1, 3), f"`{spec.text}`: `{key}` must be one or three numbers", spec.options[key])
    return _triple(values * 3 if len(values) == 1 else values)


def _triple(values: Any) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)
