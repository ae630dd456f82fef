"""A recipe is a file in `recipes/`: a frozen record of all that decides the weights. Listing and reading one needs no torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_origin

from visionvitals import registry
from visionvitals.core import Interpolation
from visionvitals.errors import VitalsError, near, require, shortened

Channels = float | tuple[float, float, float]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["float32", "bfloat16", "float16"]
Distil = Literal["none", "hard", "soft_batch", "soft_elements"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained, on what, and how.

    Attributes:
        name: of the recipe; the folder of the results is called after it.
        model: the network: `tiny:vit`, `tiny:cnn` or `timm:NAME`; `?model.KEY=VALUE` passes a keyword argument to it, and
            `?position=none` takes its position encoding away.
        start: any backbone whose weights the network starts from; what it has besides (a second token, the classifier of other classes)
            is new. Empty: random weights.
        train, test: the image sets to learn from and to measure on, in the spelling of `--data`.
        size: side of the network's input in pixels.
        resize: pictures are resized to this shorter side and the centre is cropped; 0: they are stretched to `size`.
        stored: side of the pictures that random crops are taken from; 0: `size`.
        interpolation: of resizing.
        mean, std: of the normalisation, on the [0, 1] scale; one number for the three channels or three.
        epochs: passes over `train`.
        batch: pictures a step, over all processes; an incomplete last batch is left out.
        optimizer: AdamW, or stochastic gradient descent with momentum 0.9.
        lr: highest learning rate.
        min_lr: learning rate at the last step.
        warmup: share of the steps in which the learning rate grows linearly, in [0, 1).
        weight_decay: of AdamW decoupled, else part of the gradient; weights of matrices and kernels only, as timm filters them.
        clip: the gradient is scaled to at most this Euclidean norm; 0 turns it off.
        smoothing: share of the label that is spread over all classes, in [0, 1).
        ema: decay per step of the moving average of the weights, in [0, 1); it starts lower, as timm's warm-up does.
        crop: pixels by which a picture is shifted at most, in both directions; its border is mirrored.
        flip: mirror half of the pictures left to right.
        jitter: brightness and contrast are multiplied by factors from [1 - jitter, 1 + jitter].
        augment: timm's name of a policy, e.g. `rand-m9-mstd0.5-inc1`; empty: none.
        scale: least share of the picture's area that a random crop keeps, in (0, 1]; 1: no such crop.
        erase: probability with which a rectangle is replaced by noise.
        mixup, cutmix: parameters of the Beta distribution of the mixing, one of both at random for each part of a batch; 0: not.
        repeats: copies of a picture in a batch, each augmented by itself; an epoch then sees so many times fewer pictures.
        teacher: any backbone, whose outputs the second head of a network with a distillation token learns; `recipe:NAME` is trained
            first, in the folder `teacher` of the results; empty: none.
        distil: how, see `losses.Distil`; `none` without a teacher.
        alpha: weight of the teacher in the loss, in [0, 1].
        tau: temperature of the soft kinds.
        precision: of the forward pass; weights stay in float32.
        seed: root of the weights' first values, of the order and of the augmentation.

    `augment`, `scale` and `erase` are timm's augmentation of single pictures, on which `crop` and `jitter` must be off.
    """

    name: str
    model: str
    train: str
    test: str
    size: int = 64
    resize: int = 0
    stored: int = 0
    interpolation: Interpolation = "bilinear"
    mean: Channels = 0.5
    std: Channels = 0.5
    epochs: int = 5
    batch: int = 64
    optimizer: Optimizer = "adamw"
    lr: float = 1e-3
    min_lr: float = 1e-5
    warmup: float = 0.05
    weight_decay: float = 0.05
    clip: float = 1.0
    smoothing: float = 0.1
    ema: float = 0.999
    crop: int = 4
    flip: bool = True
    jitter: float = 0.2
    augment: str = ""
    scale: float = 1.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    repeats: int = 1
    start: str = ""
    teacher: str = ""
    distil: Distil = "none"
    alpha: float = 0.5
    tau: float = 1.0
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for f in fields(self):
            _require_kind(f.name, f.type, getattr(self, f.name))
        require(self.name.isprintable() and len(self.name) <= 100, "`name` must be a short printable word", self.name)
        for key in ("mean", "std"):
            value = getattr(self, key)
            if isinstance(value, list | tuple):
                require(len(value) == 3, f"`{key}` must be one number or three", value)
                object.__setattr__(self, key, tuple(map(float, value)))  # JSON knows lists only
        for key in ("size", "epochs", "batch", "repeats"):
            require(getattr(self, key) >= 1, f"`{key}` must be at least 1", getattr(self, key))
        for key in ("lr", "tau"):
            require(0 < getattr(self, key) < math.inf, f"`{key}` must be positive", getattr(self, key))
        for key in ("mean", "std"):
            least = 0 if key == "mean" else 1e-6
            require(
                all(least <= v < math.inf for v in self.channels(key)), f"`{key}` must be positive", getattr(self, key)
            )
        for key in ("min_lr", "weight_decay", "clip", "mixup", "cutmix", "resize", "stored"):
            require(0 <= getattr(self, key) < math.inf, f"`{key}` must not be negative", getattr(self, key))
        for key in ("warmup", "smoothing", "ema", "jitter"):
            require(0 <= getattr(self, key) < 1, f"`{key}` must be in [0, 1)", getattr(self, key))
        for key in ("erase", "alpha"):
            require(0 <= getattr(self, key) <= 1, f"`{key}` must be in [0, 1]", getattr(self, key))
        require(0 < self.scale <= 1, "`scale` must be in (0, 1]", self.scale)
        require(0 <= self.crop < self.size, "`crop` must be in [0, size)", self.crop)
        require(self.min_lr <= self.lr, "`min_lr` must not be above `lr`", (self.min_lr, self.lr))
        for key, side in (("resize", self.resize), ("stored", self.stored)):
            require(side == 0 or side >= self.size, f"`{key}` must be 0 or at least `size`", (side, self.size))
        must = "`crop` and `jitter` must be 0 with timm's augmentation"
        require(not self.by_timm or not (self.crop or self.jitter), must, (self.crop, self.jitter))
        must = "`stored` larger than `size` needs random crops: `scale` below 1"
        require(self.stored in (0, self.size) or self.scale < 1, must, self.stored)
        require(
            (self.distil == "none") == (self.teacher == ""),
            "`teacher` and `distil` go together",
            (self.teacher, self.distil),
        )

    @property
    def by_timm(self) -> bool:
        """Whether single pictures are augmented by timm."""
        return bool(self.augment or self.scale < 1 or self.erase)

    def channels(self, key: str) -> tuple[float, float, float]:
        """`mean` or `std` for each of the three channels."""
        value = getattr(self, key)
        return value if isinstance(value, tuple) else (value, value, value)


def recipes() -> list[str]:
    """The names of all recipes: our files, then what other packages declare."""
    return registry.names("recipes")


def load_recipe(name: str) -> Recipe:
    """The `RECIPE` of a recipe file, by name or by the path of a single file.

    Raises:
        VitalsError: no such recipe (near names are listed), or the file has no `RECIPE`.
    """
    module = registry.load("recipes", name)
    recipe = getattr(module, "RECIPE", None)
    must = f"The recipe `{shortened(name)}` must set `RECIPE = Recipe(...)`"
    require(isinstance(recipe, Recipe), must, "none" if recipe is None else recipe)
    assert isinstance(recipe, Recipe)
    return recipe


def override(recipe: Recipe, changes: Mapping[str, str]) -> Recipe:
    """The recipe with some fields changed, each read as the type of its field.

    Args:
        recipe: what is changed.
        changes: field -> value as text, e.g. `{"epochs": "3", "flip": "false"}`.

    Raises:
        VitalsError: an unknown field (near names are listed), or a value that cannot be read or is out of range.

    Example:
        >>> override(Recipe(name="x", model="tiny:vit", train="a", test="b"), {"epochs": "3"}).epochs
        3
    """
    types = {field.name: field.type for field in fields(Recipe)}
    for key in changes:
        if key not in types:
            raise VitalsError(f"A recipe has no field `{key}`. {near(key, types)}")
    return replace(recipe, **{key: _read(key, types[key], text) for key, text in changes.items()})


def asked(name: str, settings: Sequence[str], *, data: str | None = None, test: str | None = None) -> Recipe:
    """The recipe that a command asks for.

    Args:
        name: of the recipe.
        settings: `key=value` for its fields.
        data, test: image sets that take the place of the recipe's.

    Raises:
        VitalsError: no such recipe, see `override`, an image set given twice, or none where the recipe has none of its own.
    """
    pairs = [setting.partition("=") for setting in settings]
    for key, sign, _ in pairs:
        require(bool(key and sign), "`--set` must read key=value", key)
    changes = {key: value for key, _, value in pairs}
    for key, flag, given in (("train", "--data", data), ("test", "--test", test)):
        require(
            given is None or key not in changes, f"Give the image set by `{flag}` or by `--set {key}=`, not both", given
        )
        changes |= {key: given} if given is not None else {}
    recipe = override(load_recipe(name), changes)
    for flag, spec in (("--data", recipe.train), ("--test", recipe.test)):
        must = f"`{flag}` must name an image set, because the recipe `{name}` has none of its own"
        require(bool(spec), must, None, "E.g. folder:/data/imagenet/train.")
    return recipe


def facts(recipe: Recipe) -> dict[str, Any]:
    """The fields that differ from their default: a new field does not make another training of an old one."""
    return {f.name: getattr(recipe, f.name) for f in fields(Recipe) if getattr(recipe, f.name) != f.default}


def _require_kind(key: str, kind: object, value: object) -> None:
    """Refuse a field's value that is not of its type; a whole number is a number, true and false are none."""
    if get_origin(kind) is Literal:
        known = get_args(kind)
        require(value in known, f"`{key}` must be one of {', '.join(known)}", value, near(str(value), known))
        return
    if kind == Channels and isinstance(value, list | tuple):
        for each in value:
            _require_kind(key, float, each)
        return
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind == Channels or kind is float:
        require(number, f"`{key}` must be a finite number{'' if kind is float else ' or three'}", value)
    elif kind is int:
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        require(whole, f"`{key}` must be a whole number of at most 63 bits", value)
    else:
        assert isinstance(kind, type)
        require(isinstance(value, kind), f"`{key}` must be {'a text' if kind is str else '`True` or `False`'}", value)


def _read(key: str, kind: object, text: str) -> Any:
    if get_origin(kind) is Literal:
        known = get_args(kind)
        require(text in known, f"`{key}` must be one of {', '.join(known)}", text, near(text, known))
        return text
    if kind == Channels and "," in text:
        return tuple(_read(key, float, part) for part in text.split(","))
    kind = float if kind == Channels else kind
    if kind is bool:
        require(text.lower() in ("true", "false"), f"`{key}` must be `true` or `false`", text)
        return text.lower() == "true"
    if kind is str:
        return text
    assert kind in (int, float)
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise VitalsError(f"`{key}` must be {what}. Got {text!r}.") from None


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Linear warm-up from 0, then half a cosine from `lr` to `min_lr` (Loshchilov and Hutter 2017, SGDR, equation 5, one period).

    Args:
        recipe: gives `lr`, `min_lr` and `warmup`.
        step: in [0, steps); the first step of a warm-up of w steps has lr / w, the last step has `min_lr`.
        steps: optimiser steps in all.
    """
    warm = round(recipe.warmup * steps)
    if step < warm:
        return recipe.lr * (step + 1) / warm
    share = (step - warm) / max(1, steps - 1 - warm)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * 0.5 * (1 + math.cos(math.pi * share))
