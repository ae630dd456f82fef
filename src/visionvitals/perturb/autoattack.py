"""AutoAttack through the authors' own package: APGD on cross-entropy, targeted APGD and FAB, and Square, each on what is still right.

The engine is `pyautoattack` (the extra `[attack]`), its standard version; our code gives it the network with its normalisation,
runs it image by image so that its random numbers belong to the image and not to the batch, verifies the ball, and hands its warnings
on. Source: Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks".

Deviation: with fewer than ten classes, targeted attacks aim at every other class instead of nine.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from visionvitals.errors import VitalsError, require
from visionvitals.perturb import attacks
from visionvitals.perturb.differentiable import Logits, differentiable
from visionvitals.perturb.limits import Norm, require_eps

CLASSES = 4
"""Its targeted loss (DLR) compares four logits."""


def require_installed() -> Any:
    """The class of the engine.

    Raises:
        VitalsError: the extra is not installed.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise VitalsError(
            f"AutoAttack needs the package `pyautoattack`. Got: {error}. Install it: pip install 'visionvitals[attack]'."
        ) from error
    return AutoAttack


def autoattack(
    logits: Logits,
    images: Float[Tensor, "b 3 h w"],
    labels: Int64[Tensor, " b"],
    *,
    norm: Norm = "linf",
    eps: float,
    keys: Int64[Tensor, " b"],
) -> tuple[attacks.Attacked, tuple[str, ...]]:
    """The standard version of AutoAttack.

    Args:
        logits: images in [0, 1] -> logits (b, k), k >= 4, differentiable.
        images, labels, norm, eps: as `attacks.attack`, untargeted; eps > 0.
        keys: one per image; they seed the engine.

    Returns:
        What was found, `vanished` always False; and the engine's warnings, each once.

    Raises:
        VitalsError: the package is missing, there are too few classes, or a result left the ball.
    """
    engine = require_installed()
    require_eps(norm, eps)
    require(eps > 0, "AutoAttack needs room: `eps` must be positive", eps)
    with torch.no_grad():
        out = logits(images).float()
    require(out.shape[1] >= CLASSES, f"AutoAttack needs at least {CLASSES} classes", out.shape[1], "Use `pgd`.")
    broken = ~out.isfinite().all(dim=1)
    found, said = images.clone(), dict[str, None]()
    for k in range(len(images)):
        if broken[k] or out[k].argmax() != labels[k]:
            continue
        with _alone(images.device), _warnings(said), torch.inference_mode(False):
            made = engine(
                differentiable(logits),
                norm={"linf": "Linf", "l2": "L2"}[norm],
                eps=eps,
                seed=int(keys[k]) % 2**31,
                device=images.device,
            )
            made.apgd_targeted.n_target_classes = made.fab.n_target_classes = min(9, out.shape[1] - 1)
            adversarial, _ = made.run_standard_evaluation(
                images[k : k + 1].clone(memory_format=torch.contiguous_format), labels[k : k + 1].clone(), batch_size=1
            )
        found[k] = adversarial[0]
    attacks.verify(found, images, norm=norm, eps=eps)
    with torch.no_grad():
        after = torch.cat([logits(found[k : k + 1]).float() for k in range(len(found))])  # as the engine looked at them
    success = (after.argmax(dim=1) != labels) & ~broken
    return attacks.Attacked(found, after, success, torch.zeros_like(success), broken), tuple(said)


@contextmanager
def _alone(device: torch.device) -> Iterator[None]:
    """The engine seeds torch's global generator; ours is given back as it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield


@contextmanager
def _warnings(said: dict[str, None]) -> Iterator[None]:
    """Collect what the engine's logger warns of."""

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said[f"AutoAttack: {record.getMessage()}"] = None

    logger, collector = logging.getLogger("auto-attack"), Collector(logging.WARNING)
    logger.addHandler(collector)
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(collector)
        logger.propagate = before
