"""Feature drop ("lesion"): zero a random part of what enters one block, or put something else in its place.

Conventions: tokens are (b, t, d) with the prefix tokens (class, distillation, shape, registers) first, then n patch tokens; feature
maps are (b, c, h, w). True is dropped. Randomness comes in as per-image keys (`randomness.stream`); with the same keys, a larger
ratio drops a superset.

Source: Naseer et al. 2021, "Intriguing Properties of Vision Transformers", appendix C. Deviation: the authors' code draws one mask
per batch; here each image has its own.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from visionvitals import randomness
from visionvitals.errors import require
from visionvitals.perturb.patches import drop_count, random_drop


def lesion_count(ratio: float, n_tokens: int) -> int:
    """Number of patch tokens to zero: floor(ratio * n_tokens).

    Args:
        ratio: in [0, 1].
        n_tokens: number of tokens that enter the block, prefix tokens included, as in the paper, though none of those is zeroed.

    Example:
        >>> [lesion_count(ratio, 197) for ratio in (0.25, 0.5, 0.75)]
        [49, 98, 147]
    """
    return drop_count(ratio, n_tokens)


def token_mask(keys: Int64[Tensor, " b"], n_patches: int, count: int) -> Bool[Tensor, "b n"]:
    """For each image a uniformly random set of `count` of its `n_patches` patch tokens.

    Raises:
        VitalsError: `count` is more than there are; a `lesion_count` near ratio 1 can be, since it counts prefix tokens too.
    """
    require(
        0 <= count <= n_patches, f"`count` must be in [0, {n_patches}], the patch tokens", count, "Lower the ratio."
    )
    return random_drop(keys, n_patches, count)


def zero_tokens(tokens: Float[Tensor, "b t d"], dropped: Bool[Tensor, "b n"], *, prefix: int) -> Float[Tensor, "b t d"]:
    """The tokens with the dropped patch tokens set to zero; prefix tokens are never touched.

    Args:
        tokens: t = prefix + n, prefix tokens first.
        dropped: per patch token.
        prefix: the model's own count of prefix tokens, 0 or more.

    Raises:
        VitalsError: prefix + n is not t.
    """
    t, n = tokens.shape[1], dropped.shape[1]
    require(prefix >= 0 and prefix + n == t, f"`prefix` must be the {t} tokens less the {n} patches", prefix)
    kept_prefix = dropped.new_zeros(len(dropped), prefix)
    return tokens.masked_fill(torch.cat([kept_prefix, dropped], dim=1)[:, :, None], 0)


def replace_tokens(
    tokens: Float[Tensor, "b t d"], replaced: Bool[Tensor, "b m"], given: Float[Tensor, "b m d"], *, start: int
) -> Float[Tensor, "b t d"]:
    """The tokens with some of the m tokens from `start` on replaced; all others are as they were.

    Args:
        tokens: prefix tokens first.
        replaced: which of the m tokens; True takes the token of `given`.
        given: what is put in their place.
        start: where the m tokens begin, in [0, t - m].
    """
    stop = start + replaced.shape[1]
    require(start >= 0 and stop <= tokens.shape[1], f"`start` must leave {replaced.shape[1]} tokens", start)
    changed = torch.where(replaced[:, :, None], given, tokens[:, start:stop])
    return torch.cat([tokens[:, :start], changed, tokens[:, stop:]], dim=1)


def gaussian(
    keys: Int64[Tensor, " b"], mean: Float[Tensor, "b m d"], variance: Float[Tensor, "b m d"]
) -> Float[Tensor, "b m d"]:
    """Independent normal numbers with the mean and the variance of each entry, an image's own by its key."""
    drawn = randomness.normal(keys, mean[0].numel()).view(mean.shape)
    return mean + drawn * variance.sqrt()


def spatial_mask(keys: Int64[Tensor, " b"], size: tuple[int, int], ratio: float) -> Bool[Tensor, "b h w"]:
    """Each position of a feature map dropped independently with probability `ratio` (Bernoulli, so the count varies).

    Args:
        keys: one per image.
        size: (h, w) of the feature map.
        ratio: in [0, 1]; 0 drops nothing and 1 everything, exactly.
    """
    require(0 <= ratio <= 1, "`ratio` must be in [0, 1]", ratio)
    return (randomness.uniform(keys, size[0] * size[1]) < ratio).view(-1, *size)


def zero_features(maps: Float[Tensor, "b c h w"], mask: Bool[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
    """The feature maps with the masked positions set to zero in all channels. Channels-last maps must be permuted first."""
    return maps.masked_fill(mask[:, None], 0)
