"""Pictures to learn from: any image set, decoded once, and its augmentation, drawn for each picture by its own hash."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from visionvitals import randomness, registry
from visionvitals.core import Preprocess
from visionvitals.errors import require
from visionvitals.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """An image set in memory or mapped from the disk.

    Attributes:
        pixels: of the network's input size.
        labels: indices into `classes`.
        classes: the keys of the labels.
        digest: of the image set.
        spec: its spelling.
    """

    pixels: UInt8[np.ndarray, "n h w 3"]
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    digest: str
    spec: str


def preprocess(recipe: Recipe) -> Preprocess:
    """How pictures become the input of a recipe's network."""
    mean, std = (recipe.mean,) * 3, (recipe.std,) * 3
    return Preprocess(size=(recipe.size, recipe.size), resize=None, interpolation="bilinear", mean=mean, std=std)


def load_pictures(text: str, recipe: Recipe, report: Callable[[str], None]) -> Pictures:
    """Open an image set by its spelling and decode it through the cache.

    Raises:
        VitalsError: the spelling is wrong, or no picture can be read.
    """
    from visionvitals.datasets import _cache

    spec = registry.parse(text, families=registry.names("datasets"))
    images = registry.load("datasets", spec.family).open(spec)
    card = images.card
    report(f"{text}: {card.n:,} pictures of {len(card.classes)} classes")
    decoded = _cache.decoded(images, preprocess(recipe))
    if decoded.skipped:
        name, reason = decoded.skipped[0]
        report(f"{text}: {len(decoded.skipped)} pictures cannot be read and are left out, e.g. {name}: {reason}")
    return Pictures(pixels=decoded.pixels, labels=decoded.labels, classes=card.classes, digest=card.digest, spec=text)


def require_fit(train: Pictures, test: Pictures, recipe: Recipe) -> None:
    """Refuse image sets that do not belong together, or fewer pictures than a batch."""
    require(
        train.classes == test.classes,
        f"`{train.spec}` and `{test.spec}` must have the same classes in the same order",
        f"{len(train.classes)} and {len(test.classes)} classes, {sorted(set(train.classes) ^ set(test.classes))[:5]} in one only",
    )
    require(
        len(train.labels) >= recipe.batch,
        f"`{train.spec}` must have at least one batch of {recipe.batch} pictures",
        len(train.labels),
        "Give more pictures, or a smaller `batch`.",
    )


def order(recipe: Recipe, epoch: int, n: int) -> Int64[np.ndarray, " n"]:
    """The order of n pictures in an epoch."""
    key = randomness.stream(recipe.seed, [str(epoch)], "train/order")
    shuffled: np.ndarray = randomness.bits(key, n)[0].argsort(stable=True).numpy()
    return shuffled


def batch(
    pictures: Pictures, indices: Int64[np.ndarray, " b"], recipe: Recipe, epoch: int
) -> tuple[Float32[Tensor, "b 3 h w"], Int64[Tensor, " b"]]:
    """Augmented pictures in [0, 1] and their labels: shifted with mirrored borders, flipped, brightness and contrast changed.

    Brightness multiplies all values; contrast then multiplies their distance from the picture's own mean; values are clipped.
    """
    keys = randomness.stream(recipe.seed, [str(index) for index in indices], f"train/augment/epoch={epoch}")
    draw = randomness.uniform(keys, 5)
    height, width = pictures.pixels.shape[1:3]
    rows = _shifted(draw[:, 0], height, recipe.crop)
    columns = _shifted(draw[:, 1], width, recipe.crop)
    if recipe.flip:
        columns = np.where(draw[:, 2, None].numpy() < 0.5, columns[:, ::-1], columns)
    pixels = pictures.pixels[indices[:, None, None], rows[:, :, None], columns[:, None, :]]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(torch.float32).div_(255).contiguous()
    if recipe.jitter:
        brightness, contrast = (1 + recipe.jitter * (2 * draw[:, 3:] - 1)).view(-1, 2, 1, 1, 1).unbind(1)
        images *= brightness
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images = ((images - middle) * contrast + middle).clamp_(0, 1)
    return images, torch.from_numpy(pictures.labels[indices])


def _shifted(draw: Float32[Tensor, " b"], side: int, most: int) -> Int64[np.ndarray, "b side"]:
    """Positions 0..side-1 moved by a whole number from -most..most, mirrored at the borders."""
    moved = np.arange(side) + np.floor(draw.numpy() * (2 * most + 1)).astype(np.int64)[:, None] - most
    inside: np.ndarray = np.abs(moved)
    return np.where(inside >= side, 2 * (side - 1) - inside, inside)
