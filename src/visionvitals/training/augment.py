"""timm's augmentation of single pictures and its mixing of batches, made repeatable: each draw belongs to (seed, epoch, picture).

timm draws from the global generators of Python, numpy and torch. They are set from our hash for one picture, or one part of a batch,
and put back afterwards, so that the result depends on nothing else, in whichever process it is computed.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from timm.data import Mixup, create_transform
from torch import Tensor

from visionvitals import randomness
from visionvitals.training.recipe import Recipe


@contextmanager
def seeded(seed: int, item: str, purpose: str) -> Iterator[None]:
    """Python's, numpy's and torch's CPU generators at a hash of the arguments; put back at the end."""
    python, numpy = random.getstate(), np.random.get_state()
    key = int(randomness.stream(seed, [item], purpose)) & (2**32 - 1)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(key)
        random.seed(key)
        np.random.seed(key)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def single(pixels: UInt8[np.ndarray, "h w 3"], recipe: Recipe, epoch: int, entry: int) -> Float32[Tensor, "3 s s"]:
    """Random crop, flip, RandAugment and random erasing by timm's training transform.

    Returns:
        The picture before normalisation: in [0, 1], but for erased pixels, which are noise with the normalisation's mean and std.
    """
    with seeded(recipe.seed, str(entry), f"train/timm/epoch={epoch}"):
        normal: Tensor = _transform(recipe)(Image.fromarray(pixels))
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (recipe.channels("mean"), recipe.channels("std")))
    return normal * std + mean


@cache
def _transform(recipe: Recipe) -> Callable[[Image.Image], Tensor]:
    made: Callable[[Image.Image], Tensor] = create_transform(
        input_size=recipe.size,
        is_training=True,
        scale=(recipe.scale, 1.0),
        hflip=0.5 if recipe.flip else 0.0,
        color_jitter=None,
        auto_augment=recipe.augment or None,
        interpolation=recipe.interpolation,
        re_prob=recipe.erase,
        re_mode="pixel",
        mean=recipe.channels("mean"),
        std=recipe.channels("std"),
    )
    return made


def mix(
    images: Float32[Tensor, "b 3 h w"], labels: Int64[Tensor, " b"], recipe: Recipe, *, part: str, outputs: int
) -> tuple[Tensor, Tensor]:
    """Mixup or CutMix with the part of the batch in reverse order, one draw for the part, as timm's `mode="batch"`.

    Args:
        images: changed in place.
        labels: their classes.
        recipe: gives `mixup`, `cutmix` and `smoothing`.
        part: name of this part of this step.
        outputs: number of classes.

    Returns:
        Mixed pictures and probabilities (b, outputs); both as they are where the recipe does not mix.
    """
    if not (recipe.mixup or recipe.cutmix):
        return images, labels
    mixer = Mixup(recipe.mixup, recipe.cutmix, label_smoothing=recipe.smoothing, num_classes=outputs)
    with seeded(recipe.seed, part, "train/mix"):
        mixed: tuple[Tensor, Tensor] = mixer(images, labels)
    return mixed
