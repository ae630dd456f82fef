"""Pictures to learn from: any image set, decoded once, and its augmentation, drawn for each picture by its own hash."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from visionvitals import randomness, registry
from visionvitals.core import ImageSetCard, Preprocess
from visionvitals.errors import require
from visionvitals.pixels import to_float
from visionvitals.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """An image set in memory or mapped from the disk.

    Attributes:
        pixels: of the network's input size, or larger where random crops are taken.
        labels: indices into `classes`.
        classes: the keys of the labels.
        digest: of the image set.
        spec: its spelling.
        ids: of the pictures; empty where they have none.
        card: of the image set, where there is one.
    """

    pixels: UInt8[np.ndarray, "n h w 3"]
    labels: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    digest: str
    spec: str
    ids: tuple[str, ...] = ()
    card: ImageSetCard | None = None

    def described(self) -> ImageSetCard:
        """Its card; a plain one where it was made without an image set."""
        n, names = len(self.labels), self.classes
        return self.card or ImageSetCard(spec=self.spec, digest=self.digest, n=n, classes=names, class_names=names)


def preprocess(recipe: Recipe, *, learn: bool = False) -> Preprocess:
    """How pictures become the input of a recipe's network; with `learn`, what random crops are taken from."""
    side = (recipe.stored or recipe.size) if learn else recipe.size
    resize = None if not recipe.resize else side if side > recipe.size else recipe.resize
    return Preprocess(
        size=(side, side),
        resize=resize,
        interpolation=recipe.interpolation,
        mean=recipe.channels("mean"),
        std=recipe.channels("std"),
    )


def load_pictures(text: str, recipe: Recipe, report: Callable[[str], None], *, learn: bool = False) -> Pictures:
    """Open an image set by its spelling and decode it through the cache; `learn` as for `preprocess`.

    Raises:
        VitalsError: the spelling is wrong, or no picture can be read.
    """
    from visionvitals.datasets.base import cache as _cache

    spec = registry.parse(text, families=registry.names("datasets"))
    images = registry.load("datasets", spec.family).open(spec)
    card = images.card
    report(f"{text}: {card.n:,} pictures of {len(card.classes)} classes")
    decoded = _cache.decoded(images, preprocess(recipe, learn=learn))
    if decoded.skipped:
        name, reason = decoded.skipped[0]
        report(f"{text}: {len(decoded.skipped)} pictures cannot be read and are left out, e.g. {name}: {reason}")
    return Pictures(
        pixels=decoded.pixels,
        labels=decoded.labels,
        classes=card.classes,
        digest=card.digest,
        spec=text,
        ids=tuple(decoded.ids),
        card=card,
    )


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
    """The entries of an epoch: n positions among n pictures, in random order.

    Entry e is picture e modulo n in its copy e // n. With `repeats` r the copies of a picture stand side by side and an epoch is cut
    after n entries, so it sees n / r pictures (Hoffer et al. 2020, "Augment your batch", as DeiT's sampler does it).
    """
    key = randomness.stream(recipe.seed, [str(epoch)], "train/order")
    shuffled: np.ndarray = randomness.bits(key, n)[0].argsort(stable=True).numpy()
    if recipe.repeats == 1:
        return shuffled
    return (shuffled[:, None] + n * np.arange(recipe.repeats)).reshape(-1)[:n]


def stream(
    pictures: Pictures, recipe: Recipe, places: list[tuple[int, int, int]], *, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Augmented parts of batches, in order, made ahead by `workers` processes (0: here, when asked for).

    Args:
        pictures: to learn from.
        recipe: how.
        places: (epoch, first, last) of each part within its epoch's order.
        workers: processes; what they make does not depend on their number.
        pin: put the parts where a GPU can fetch them without waiting.
    """
    parts = _Parts(pictures, recipe, places)
    if workers == 0:
        return (parts[k] for k in range(len(places)))
    loader = DataLoader(
        parts,
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        pin_memory=pin,
        prefetch_factor=2,
        worker_init_fn=_calm,
    )
    return iter(loader)


def _calm(_worker: int) -> None:
    torch.set_num_threads(1)


class _Parts(Dataset[tuple[Tensor, Tensor]]):
    """Parts of batches by their number."""

    def __init__(self, pictures: Pictures, recipe: Recipe, places: list[tuple[int, int, int]]) -> None:
        self.pictures, self.recipe, self.places = pictures, recipe, places
        self.epoch, self.order = -1, np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        epoch, first, last = self.places[number]
        if epoch != self.epoch:
            self.epoch, self.order = epoch, order(self.recipe, epoch, len(self.pictures.labels))
        return batch(self.pictures, self.order[first:last], self.recipe, epoch)


def batch(
    pictures: Pictures, entries: Int64[np.ndarray, " b"], recipe: Recipe, epoch: int
) -> tuple[Float32[Tensor, "b 3 h w"], Int64[Tensor, " b"]]:
    """Augmented pictures before normalisation and their labels; `entries` as `order` gives them.

    By timm where the recipe says so (`augment.single`), else: shifted with mirrored borders, flipped, brightness and contrast
    changed. Brightness multiplies all values; contrast then multiplies their distance from the picture's own mean; values are clipped.
    """
    indices = entries % len(pictures.labels)
    labels = torch.from_numpy(pictures.labels[indices])
    if recipe.by_timm:
        from visionvitals.training import augment

        pairs = zip(indices, entries, strict=True)
        singles = [augment.single(np.array(pictures.pixels[i]), recipe, epoch, int(entry)) for i, entry in pairs]
        return torch.stack(singles), labels
    keys = randomness.stream(recipe.seed, [str(entry) for entry in entries], f"train/augment/epoch={epoch}")
    draw = randomness.uniform(keys, 5)
    height, width = pictures.pixels.shape[1:3]
    rows = _shifted(draw[:, 0], height, recipe.crop)
    columns = _shifted(draw[:, 1], width, recipe.crop)
    if recipe.flip:
        columns = np.where(draw[:, 2, None].numpy() < 0.5, columns[:, ::-1], columns)
    pixels = np.empty((len(indices), height, width, 3), np.uint8)
    for k, index in enumerate(indices):  # whole rows first: four times as fast as one indexing of all
        np.take(pictures.pixels[index][rows[k]], columns[k], axis=1, out=pixels[k], mode="clip")
    images = to_float(pixels)
    if recipe.jitter:
        brightness, contrast = (1 + recipe.jitter * (2 * draw[:, 3:] - 1)).view(-1, 2, 1, 1, 1).unbind(1)
        images *= brightness
        middle = images.mean(dim=(1, 2, 3), keepdim=True)
        images.sub_(middle).mul_(contrast).add_(middle).clamp_(0, 1)
    return images, labels


def _shifted(draw: Float32[Tensor, " b"], side: int, most: int) -> Int64[np.ndarray, "b side"]:
    """Positions 0..side-1 moved by a whole number from -most..most, mirrored at the borders."""
    moved = np.arange(side) + np.floor(draw.numpy() * (2 * most + 1)).astype(np.int64)[:, None] - most
    inside: np.ndarray = np.abs(moved)
    return np.where(inside >= side, 2 * (side - 1) - inside, inside)
