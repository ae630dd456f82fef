"""What a network must give, asked of two fixed pictures when it is loaded: before anything is decoded."""

from torch import Tensor, nn

from visionvitals import registry
from visionvitals.backbones import _answers
from visionvitals.core import Backbone
from visionvitals.errors import VitalsError, require


def cannot_run(module: nn.Module, size: tuple[int, int], error: Exception, *, spelling: str) -> VitalsError:
    """What to say of a network that fails on a picture: its channels where its first convolution takes others, else its size."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d)), None)
    said = f"{type(error).__name__}: {error}"
    if first is not None and first.in_channels != 3:
        return VitalsError(
            f"A network must take pictures of 3 channels, red, green and blue. Got one that takes {first.in_channels} ({said}). "
            "A factory of `python:` can put a layer before it that makes them."
        )
    if isinstance(error, TypeError | AttributeError | KeyError | NotImplementedError):
        return VitalsError(f"A network must take one batch of images, (b, 3, {size[0]}, {size[1]}). Got {said}.")
    do = f"Where another size is meant, give it: {registry.way(spelling, 'size', value='')}."
    return VitalsError(f"It cannot run on images of {size[0]} x {size[1]} pixels: {said}. {do}")


def require_logits(found: object, *, rows: int) -> None:
    """Refuse what is no (b, k) of real numbers for b images, and a network that gives no finite number at all.

    Raises:
        VitalsError: as said.
    """
    if not (isinstance(found, Tensor) and found.ndim == 2 and found.shape[0] == rows and found.shape[1] > 0):
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise VitalsError(
            f"A network must give logits of shape (b, k). Got {got} for {rows} image{'s' if rows > 1 else ''}. "
            "Put a module around it that returns this one tensor, or a dict with it under `logits` (docs/your_model.md)."
        )
    require(not found.is_complex(), "Logits must be real numbers", found.dtype)
    if rows > 1 and not bool(found.isfinite().any()):
        dead = "NaN" if bool(found.isnan().any()) else "infinite ones"
        raise VitalsError(
            f"Logits must be finite numbers. Got {dead} only, for {rows} different pictures. Look at the weights."
        )


def probabilities(logits: Tensor) -> tuple[str, ...]:
    """A note on outputs in [0, 1]: they are the answers of a softmax or of sigmoids, and cross-entropy of them means nothing."""
    if logits.shape[1] < 2 or not bool(((logits >= 0) & (logits <= 1)).all()):
        return ()
    if bool((logits.sum(dim=1) - 1).abs().max() < 1e-3):
        return (
            "its outputs look like probabilities, not logits: they are not negative and sum to one; leave its softmax out",
        )
    if bool(((logits > 0) & (logits < 1)).all()) or bool(((logits == 0) | (logits == 1)).all() and logits.any()):
        return ("its outputs look like probabilities, not logits: each lies between 0 and 1; leave its sigmoid out",)
    return ()


def require_whole(backbone: Backbone) -> None:
    """Refuse a `Backbone` of the user whose card does not fit what it gives.

    Raises:
        VitalsError: it cannot run on its own input size, gives no logits, or another number of them than its card says.
    """
    card, device = backbone.card, backbone.device
    images = _answers.pictures(card.preprocess.size, device)
    with _answers.exact(device):
        try:
            found = backbone.logits(images)
        except Exception as error:
            raise cannot_run(backbone.module, card.preprocess.size, error, spelling=card.spec) from error
    require_logits(found, rows=2)
    said = card.outputs or found.shape[1]  # 0: features
    require(found.shape[1] == said, f"Its card says {card.outputs} outputs, so it must give as many", found.shape[1])
