"""How much of an image's features survives a change of the image: three readings of one published formula, in one pass.

    corr(u, v) = (1/n) sum_i (u_i - mean u)/std(u) * (v_i - mean v)/std(v)

u and v are features of the original and of the changed image. The text leaves open what the mean and std run over:
A `pearson`, per image over its feature dimensions; B `standardised`, every dimension over the data set, then the mean product per
image; C `cosine`, no centring. They give different numbers; only A shows the published pattern of means and spreads and is the
default, and B and C stand beside it.

Conventions: features are (b, d), one vector per image, of any float type; everything is computed on the CPU in float64, and a std
is that of the population (divided by n). NaN means "undefined": A of a vector, and B of a dimension, that does not vary (its std is
under 1e-12 of its mean, which is rounding); C of a zero vector; all three of an image with a NaN or infinite feature (float16
overflow), which the moments leave out too.

Source: Naseer et al. 2021, "Intriguing Properties of Vision Transformers", Table 1 and Figure 5. Moments are merged by Chan, Golub,
LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.linalg import vector_norm

_CONSTANT = 1e-12


@dataclass(frozen=True)
class Moments:
    """Per-dimension moments of two variables over n images: means, and sums of squared deviations. All that is kept while images pass."""

    n: int
    mean_u: Float64[Tensor, " d"]
    mean_v: Float64[Tensor, " d"]
    m2_u: Float64[Tensor, " d"]
    m2_v: Float64[Tensor, " d"]


def pearson(u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Float64[Tensor, " b"]:
    """Definition A: per image, Pearson's correlation over its feature dimensions. NaN where u or v is constant."""
    x, y = _exact(u).T, _exact(v).T
    m = _moments(x, y)
    co = ((x - m.mean_u) * (y - m.mean_v)).sum(dim=0)
    return (co / m.n / (_std(m.n, m.mean_u, m.m2_u) * _std(m.n, m.mean_v, m.m2_v))).clamp(-1, 1)


def cosine(u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Float64[Tensor, " b"]:
    """Definition C: per image, the cosine of the angle between u and v. NaN where u or v is zero."""
    x, y = _exact(u), _exact(v)
    norms: Tensor = vector_norm(x, dim=1) * vector_norm(y, dim=1)
    return ((x * y).sum(dim=1) / norms).clamp(-1, 1)


def mean_cosine(u: Float[Tensor, "b n d"], v: Float[Tensor, "b n d"]) -> Float64[Tensor, " b"]:
    """Per image, the mean over n tokens of the cosine of u and v; a token of zeros has none in common with another: 0."""
    values = cosine(u.flatten(0, 1), v.flatten(0, 1)).view(u.shape[:2])
    empty = (u == 0).all(dim=2) | (v == 0).all(dim=2)
    return values.masked_fill(empty, 0).mean(dim=1)


def standardised(whole: Moments, u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Float64[Tensor, " b"]:
    """Definition B: per image, the mean over dimensions of the product of u and v, each standardised over the data set.

    Args:
        whole: the moments of all images of the data set, these included.
        u: features of the original images, kept or computed again.
        v: features of the changed images.

    Returns:
        Not bounded by 1; their mean over the data set is that of the dimensions' Pearson correlations over the images. Constant
        dimensions are left out; NaN if all are.
    """
    spread = _std(whole.n, whole.mean_u, whole.m2_u) * _std(whole.n, whole.mean_v, whole.m2_v)
    product = (_exact(u) - whole.mean_u) * (_exact(v) - whole.mean_v) / spread
    return product[:, ~spread.isnan()].mean(dim=1)


def start(d: int) -> Moments:
    """The moments before any image, for features of d dimensions."""
    zero = torch.zeros(d, dtype=torch.float64)
    return Moments(0, zero, zero, zero, zero)


def update(moments: Moments, u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Moments:
    """The moments after b more images; new ones, the old are unchanged. How images are batched matters only in the last bits."""
    x, y = _exact(u), _exact(v)
    finite = x.isfinite().all(dim=1) & y.isfinite().all(dim=1)
    return merge(moments, _moments(x[finite], y[finite])) if bool(finite.any()) else moments


def merge(a: Moments, b: Moments) -> Moments:
    """The moments of the images of both, as if they had passed through one."""
    n = a.n + b.n
    if n == 0:
        return a
    du, dv, weight = b.mean_u - a.mean_u, b.mean_v - a.mean_v, a.n * b.n / n
    return Moments(
        n,
        a.mean_u + du * (b.n / n),
        a.mean_v + dv * (b.n / n),
        a.m2_u + b.m2_u + du * du * weight,
        a.m2_v + b.m2_v + dv * dv * weight,
    )


def _exact(features: Float[Tensor, "b d"]) -> Float64[Tensor, "b d"]:
    return features.detach().cpu().double()


def _moments(u: Float64[Tensor, "n d"], v: Float64[Tensor, "n d"]) -> Moments:
    mean_u, mean_v = u.mean(dim=0), v.mean(dim=0)
    return Moments(len(u), mean_u, mean_v, (u - mean_u).square().sum(dim=0), (v - mean_v).square().sum(dim=0))


def _std(n: int, mean: Float64[Tensor, " d"], m2: Float64[Tensor, " d"]) -> Float64[Tensor, " d"]:
    std = (m2 / max(n, 1)).sqrt()
    return std.masked_fill(std <= _CONSTANT * mean.abs(), torch.nan)
