"""The two heads of a distilled transformer, asked one at a time: the class token's and the second token's (distillation, or shape).

timm answers with their mean, which hides what each token has learned. The option `token=class`, `token=distillation` or its other name
`token=shape` chooses one.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from timm.models.deit import VisionTransformerDistilled
from torch import Tensor

from visionvitals.errors import VitalsError, near, require
from visionvitals.registry import Spec

PLACES = {"class": 0, "distillation": 1, "shape": 1}
AVERAGED = "its logits are the mean of its class head and its second head; `?token=class` or `?token=distillation` asks one of them"


class Head(NamedTuple):
    """One token of a network.

    Attributes:
        forward: normalised images -> its logits (b, k); None: the network as it is.
        features: normalised images -> the token after the last norm (b, d); None as above.
        facts: what tells it apart from the others on the same weights.
        notes: for the report.
    """

    forward: Callable[[Tensor], Tensor] | None = None
    features: Callable[[Tensor], Tensor] | None = None
    facts: dict[str, Any] = {}  # noqa: RUF012  # a NamedTuple's default, never written to
    notes: tuple[str, ...] = ()


def both(
    module: VisionTransformerDistilled, images: Float[Tensor, "b 3 h w"]
) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
    """Logits of the class head and of the second head for normalised images; gradients and training mode as usual."""
    tokens = module.forward_features(images)
    first, second = module.head_drop(tokens[:, 0]), module.head_drop(tokens[:, 1])
    return module.head(first), module.head_dist(second)


def chosen(spec: Spec, module: torch.nn.Module) -> Head:
    """The head that the option `token` of a spelling asks for.

    Raises:
        VitalsError: an unknown name, or a network without a second head.
    """
    two = isinstance(module, VisionTransformerDistilled)
    token = spec.options.get("token")
    if token is None:
        return Head(notes=(AVERAGED,) if two else ())
    if token not in PLACES:
        raise VitalsError(f"`{spec.text}`: there is no token `{token}`. {near(token, PLACES)}")
    must = f"`{spec.text}`: `token` needs a network with a distillation token, such as deit_tiny_distilled_patch16_224"
    require(two, must, type(module).__name__, "Leave `token` out.")
    place = PLACES[token]

    def features(images: Tensor) -> Tensor:
        tokens: Tensor = module.forward_features(images)  # type: ignore[operator]
        return tokens[:, place]

    head = module.head if place == 0 else module.head_dist

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = head(features(images))  # type: ignore[operator]
        return logits

    return Head(forward, features, {"token": place})
