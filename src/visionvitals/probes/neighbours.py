"""Classification by the nearest neighbours."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def neighbours(
    features: Float[Tensor, "n d"],
    labels: Int64[Tensor, " n"],
    asked: Float[Tensor, "m d"],
    ks: Sequence[int],
    *,
    classes: int,
    temperature: float = 0.07,
    rows: int = 1024,
) -> list[Float[Tensor, "m k"]]:
    """Weighted nearest neighbours, for each of `ks` the votes of the classes: each of the k images of largest cosine votes for its
    class with weight exp(cosine / temperature).

    Source: Wu et al. 2018, "Unsupervised feature learning via non-parametric instance discrimination", as DINO's `eval_knn.py`
    has it (temperature 0.07). A k above n takes all. Of images at exactly the same cosine the first count. In float64: beside a
    dimension that is large and the same for all images, cosines differ by less than float32 tells.

    Args:
        rows: of `asked` at a time; bounds the memory and decides nothing.
    """
    train, test = (
        x / torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)
        for x in (features.double(), asked.double())
    )
    found: list[list[Tensor]] = [[] for _ in ks]
    for part in test.split(rows):
        cosine, order = (part @ train.T).sort(dim=1, descending=True, stable=True)
        for place, k in enumerate(ks):
            weight = ((cosine[:, :k] - 1) / temperature).exp()
            votes = weight.new_zeros(len(part), classes)
            found[place].append(votes.scatter_add_(1, labels[order[:, :k]], weight))
    return [torch.cat(parts) for parts in found]
