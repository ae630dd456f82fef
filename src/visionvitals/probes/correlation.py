"""How much of an image's features survives a change of the image: three readings of one published formula, in one pass.

    corr(u, v) = (1/n) sum_i (u_i - mean u)/std(u) * (v_i - mean v)/std(v)

u and v are features of the original and of the changed image. The text leaves open what the mean and std run over:
A `pearson`, per image over its feature dimensions; B `standardised`, every dimension over the data set, then the mean product per
image; C `cosine`, no centring. They give different numbers; only A shows the published pattern of means and spreads and is the
default, and B and C stand beside it.

Conventions: features are (b, d), one vector per image, of any float type; everything is computed on the CPU in float64, and a std
is that of the population (divided by n). NaN means "undefined": A of a vector, and B of a dimension, that does not vary (its std is
under 1e-12 of its mean, which is rounding); C of a zero vector. Undefined values are left out of means and counted. An image with
a NaN or infinite feature (float16 overflow) is left out of all three and counted in `not_finite`.

Source: Naseer et al. 2021, "Intriguing Properties of Vision Transformers", Table 1 and Figure 5. Moments are merged by Chan, Golub,
LeVeque 1979, "Updating formulae and a pairwise algorithm for computing sample variances".
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Float64
from torch import Tensor
from torch.linalg import vector_norm

_CONSTANT = 1e-12


@dataclass(frozen=True)
class Moments:
    """Per-dimension moments of two variables over n images: means, sums of squared deviations, sum of their products."""

    n: int
    mean_u: Float64[Tensor, " d"]
    mean_v: Float64[Tensor, " d"]
    m2_u: Float64[Tensor, " d"]
    m2_v: Float64[Tensor, " d"]
    co: Float64[Tensor, " d"]


@dataclass(frozen=True)
class Spread:
    """Moments of one number per image, with the count of images for which it is undefined."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0
    undefined: int = 0


@dataclass(frozen=True)
class State:
    """All that is kept while images pass; its size does not depend on their number."""

    dimensions: Moments
    a: Spread
    c: Spread
    not_finite: int


class Summary(NamedTuple):
    """Attributes:
    mean: NaN where nothing is defined.
    std: over images; NaN for B, whose spread over images needs a second look at the features (`standardised`).
    n: how many values the mean has: images for A and C, dimensions for B.
    undefined: how many were left out of it.
    """

    mean: float
    std: float
    n: int
    undefined: int


class Correlations(NamedTuple):
    """The three readings side by side, and the number of images left out of all of them for NaN or infinite features."""

    a: Summary
    b: Summary
    c: Summary
    not_finite: int


def pearson(u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Float64[Tensor, " b"]:
    """Definition A: per image, Pearson's correlation over its feature dimensions. NaN where u or v is constant."""
    m = _moments(_exact(u).T, _exact(v).T)
    return (m.co / m.n / (_std_u(m) * _std_v(m))).clamp(-1, 1)


def cosine(u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Float64[Tensor, " b"]:
    """Definition C: per image, the cosine of the angle between u and v. NaN where u or v is zero."""
    x, y = _exact(u), _exact(v)
    norms: Tensor = vector_norm(x, dim=1) * vector_norm(y, dim=1)
    return ((x * y).sum(dim=1) / norms).clamp(-1, 1)


def standardised(whole: State, u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> Float64[Tensor, " b"]:
    """Definition B: per image, the mean over dimensions of the product of u and v, each standardised over the data set.

    Args:
        whole: the state after all images of the data set, these included.
        u: features of the original images, kept or computed again.
        v: features of the changed images.

    Returns:
        Not bounded by 1. Their mean over the data set is `finish(whole).b.mean`. Constant dimensions are left out; NaN if all are.
    """
    m = whole.dimensions
    product = (_exact(u) - m.mean_u) / _std_u(m) * ((_exact(v) - m.mean_v) / _std_v(m))
    return product[:, ~(_std_u(m) * _std_v(m)).isnan()].mean(dim=1)


def start(d: int) -> State:
    """The state before any image, for features of d dimensions."""
    zero = torch.zeros(d, dtype=torch.float64)
    return State(Moments(0, zero, zero, zero, zero, zero), Spread(), Spread(), 0)


def update(state: State, u: Float[Tensor, "b d"], v: Float[Tensor, "b d"]) -> State:
    """The state after b more images; a new one, the old is unchanged. How images are batched matters only in the last bits."""
    x, y = _exact(u), _exact(v)
    finite = x.isfinite().all(dim=1) & y.isfinite().all(dim=1)
    left_out = int((~finite).sum())
    x, y = x[finite], y[finite]
    if len(x) == 0:
        return merge(state, State(start(u.shape[1]).dimensions, Spread(), Spread(), left_out))
    return merge(state, State(_moments(x, y), _spread(pearson(x, y)), _spread(cosine(x, y)), left_out))


def merge(a: State, b: State) -> State:
    """The state of the images of both, as if they had passed through one."""
    return State(
        _merge_moments(a.dimensions, b.dimensions),
        _merge_spreads(a.a, b.a),
        _merge_spreads(a.c, b.c),
        a.not_finite + b.not_finite,
    )


def finish(state: State, *, whole: State | None = None) -> Correlations:
    """Mean and spread of the three readings.

    Args:
        state: of the images asked about, a data set or a group of it.
        whole: for B of a group: the state of the entire data set, over which the dimensions are standardised (the paper's "over the
            entire validation set"). By default the group itself.

    B's mean over images equals the mean over dimensions i of

        (co_i / n + (mean u_i - M u_i)(mean v_i - M v_i)) / (S u_i S v_i)

    with mean and co of the group, M and S of the whole; with M = mean it is Pearson's correlation of dimension i over the images.
    """
    m, reference = state.dimensions, (whole or state).dimensions
    between = (m.mean_u - reference.mean_u) * (m.mean_v - reference.mean_v)
    per_dimension = (m.co / m.n + between) / (_std_u(reference) * _std_v(reference)) if m.n else m.co * torch.nan
    defined = per_dimension[~per_dimension.isnan()]
    b = Summary(float(defined.mean()), float("nan"), len(defined), len(per_dimension) - len(defined))
    return Correlations(_summary(state.a), b, _summary(state.c), state.not_finite)


def _exact(features: Float[Tensor, "b d"]) -> Float64[Tensor, "b d"]:
    return features.detach().cpu().double()


def _moments(u: Float64[Tensor, "n d"], v: Float64[Tensor, "n d"]) -> Moments:
    mean_u, mean_v = u.mean(dim=0), v.mean(dim=0)
    x, y = u - mean_u, v - mean_v
    return Moments(len(u), mean_u, mean_v, (x * x).sum(dim=0), (y * y).sum(dim=0), (x * y).sum(dim=0))


def _merge_moments(a: Moments, b: Moments) -> Moments:
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
        a.co + b.co + du * dv * weight,
    )


def _std_u(m: Moments) -> Float64[Tensor, " d"]:
    return _std(m.n, m.mean_u, m.m2_u)


def _std_v(m: Moments) -> Float64[Tensor, " d"]:
    return _std(m.n, m.mean_v, m.m2_v)


def _std(n: int, mean: Float64[Tensor, " d"], m2: Float64[Tensor, " d"]) -> Float64[Tensor, " d"]:
    std = (m2 / max(n, 1)).sqrt()
    return std.masked_fill(std <= _CONSTANT * mean.abs(), torch.nan)


def _spread(values: Float64[Tensor, " b"]) -> Spread:
    defined = values[~values.isnan()]
    undefined = len(values) - len(defined)
    if len(defined) == 0:
        return Spread(undefined=undefined)
    mean = defined.mean()
    return Spread(len(defined), float(mean), float(((defined - mean) ** 2).sum()), undefined)


def _merge_spreads(a: Spread, b: Spread) -> Spread:
    n, delta, undefined = a.n + b.n, b.mean - a.mean, a.undefined + b.undefined
    if n == 0:
        return Spread(undefined=undefined)
    return Spread(n, a.mean + delta * b.n / n, a.m2 + b.m2 + delta**2 * a.n * b.n / n, undefined)


def _summary(s: Spread) -> Summary:
    if s.n == 0:
        return Summary(float("nan"), float("nan"), 0, s.undefined)
    return Summary(s.mean, (s.m2 / s.n) ** 0.5, s.n, s.undefined)
