"""FGSM, PGD and AutoAttack: how small a change, made with the network's own gradients, turns its answer.

Every attack stays within `eps` of the image, on the scale of pixel values in [0, 1] before the network's normalisation (4/255 is
0.0157), and within [0, 1]; see `perturb/attacks.py` for the equations. `top1` is the accuracy that is left: an image that was wrong
before counts as lost, and nothing is changed on it; an image at which the network gives NaN or Inf has no value. An attack stops on
an image as soon as it succeeds, so `linf_distance`, `l2_distance` and `cross_entropy` are those of the first success, not of the
strongest attack in the ball.

Methods, with the values that 0 and `own` stand for:

- `fgsm`: one step of eps from the image.
- `pgd`: 20 steps of 2.5 eps / 20, two random starts. Naseer et al. 2021 used 5 steps (the `paper` preset does): that is weak and
  overstates robustness; they give neither step size nor start, and their eps grid is in a figure only.
- `autoattack`: the standard version, by the package of its authors (extra `[attack]`); thousands of passes per image.

Networks that hide their gradients look robust and are not. Each cell's warnings name what `perturb.gradients.masked_gradients` finds
on up to 16 of its images; `zero_gradient` says it per image.

What it means for a product. Matters where somebody can change single pixels of what the network gets, such as uploads. Elsewhere it says little of
everyday errors: look at corruptions first. A better rank under attack is no defence; only training for it has been one.

Pitfalls. A small `steps` overstates robustness, and so does a network that hides its gradients. Compare networks at one `eps` and one input size
only.

Source: Naseer et al. 2021, section 3.4, which shows its numbers in figures only.

Metrics: those of `clean`, `attack_success`, `linf_distance`, `l2_distance`, `zero_gradient`.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from visionvitals.perturb.limits import Norm, require_eps
from visionvitals.study import (
    BackboneCard,
    Batch,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Scores,
    Sign,
    require,
    score,
)

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.perturb.attacks import Attacked

TITLE = "White-box attacks"
PER_IMAGE = True
SUCCESS = Metric(
    title="attack succeeded",
    meaning="the attack reached its goal: another class than the label, or its target (0 or 1)",
    unit="share",
    better="low",
)
METRICS = {
    "attack_success": SUCCESS,
    "linf_distance": Metric(
        title="l_inf distance",
        meaning="largest change of a channel value by the attack, where pixel values go from 0 to 1",
        unit="distance",
        better=None,
    ),
    "l2_distance": Metric(
        title="l2 distance",
        meaning="Euclidean length of the attack's change, where pixel values go from 0 to 1",
        unit="distance",
        better=None,
    ),
    "zero_gradient": Metric(
        title="gradient of zero",
        meaning="the attack failed and the loss had a gradient of exactly zero wherever it looked (0 or 1)",
        unit="share",
        better=None,
    ),
}
_LEFT = "What is left of the accuracy after the attack. Bands are 95 % intervals over images. "
CHARTS = (
    Chart(
        x="eps",
        x_title="l_inf eps (pixel values from 0 to 1)",
        facet=("method", "steps", "restarts"),
        where={"norm": "linf", "targeted": False},
        title="within a box",
        reads=_LEFT
        + "A curve that stays up under FGSM and falls under PGD is the usual case; the other way round, gradients are masked.",
    ),
    Chart(
        x="eps",
        x_title="l2 eps (pixel values from 0 to 1)",
        facet=("method", "steps", "restarts"),
        where={"norm": "l2", "targeted": False},
        title="within a sphere",
        reads=_LEFT,
    ),
    Chart(
        x="eps",
        x_title="eps (pixel values from 0 to 1)",
        facet=("norm", "method", "steps", "restarts"),
        metric="attack_success",
        y_title="target reached",
        where={"targeted": True},
        title="towards a given class",
        reads="Each image has a wrong class of its own, drawn at random, that the attack must reach. Lower is more robust.",
    ),
)
# Steps and restarts differ between presets and stay open: the column's head names them.
_SMALL = {"norm": "linf", "targeted": False, "eps": 1 / 255}
SIGNS = (
    Sign(title="kept under PGD, eps 1/255", kind="kept", where=_SMALL | {"method": "pgd"}, at="under PGD, eps 1/255"),
    Sign(
        title="kept under FGSM, eps 1/255", kind="kept", where=_SMALL | {"method": "fgsm"}, at="under FGSM, eps 1/255"
    ),
)

Method = Literal["fgsm", "pgd", "autoattack"]
METHODS = ("fgsm", "pgd", "autoattack")
PROBED = 16
"""Images of a set on which masked gradients are looked for, once per backbone."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One attack.

    Attributes:
        method: see above.
        norm: of the ball, `linf` or `l2`.
        eps: its radius, on the scale of pixel values in [0, 1]; 0 is the clean image.
        steps: of `pgd`; 0 is its own, 20.
        restarts: of `pgd`; 0 is its own, 2.
        step: of `pgd`: the step size as a multiple of eps / steps; 0 is its own, 2.5.
        start: of `pgd`: `random` in the ball or at the `image`, where one start is enough.
        targeted: each image has a wrong class drawn for it that the attack must reach.
    """

    method: Method = "pgd"
    norm: Norm = "linf"
    eps: float = 4 / 255
    steps: int = 0
    restarts: int = 0
    step: float = 0.0
    start: Literal["random", "image"] = "random"
    targeted: bool = False

    def __post_init__(self) -> None:
        require(self.method in METHODS, f"`method` must be one of {', '.join(METHODS)}", self.method)
        require_eps(self.norm, self.eps)
        require(self.steps >= 0, "`steps` must not be negative", self.steps)
        require(self.restarts >= 0, "`restarts` must not be negative", self.restarts)
        require(self.step >= 0, "`step` must not be negative", self.step)
        require(self.start in ("random", "image"), "`start` must be `random` or `image`", self.start)
        own = (self.steps, self.restarts, self.step, self.start) == (0, 0, 0.0, "random")
        must = "`steps`, `restarts`, `step` and `start` belong to `method = pgd`; for others they must be left out"
        require(own or self.method == "pgd", must, (self.steps, self.restarts, self.step, self.start))
        must = "`start = image` has one start, so `restarts` must be left out or 1"
        require(self.start == "random" or self.restarts <= 1, must, self.restarts)
        require(not (self.targeted and self.method == "autoattack"), "AutoAttack is untargeted", self.targeted)

    @property
    def pgd(self) -> tuple[int, int, float]:
        """(steps, starts, step size on the pixel scale) with the method's own values put in."""
        steps = self.steps or 20
        return steps, self.restarts or (2 if self.start == "random" else 1), (self.step or 2.5) * self.eps / steps


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: FGSM and PGD with 10 steps and one start, in l_inf at 0, 1/255 and 4/255. default: both at 0, 1/4, 1/2, 1, 2 and 4/255,
    PGD in l2 at 0, 0.1, 0.25, 0.5, 1 and 3, and towards random classes at 4/255. paper: FGSM and PGD with 5 steps and one start, and
    ours, at 0, 1, 2, 4 and 8/255.
    """
    if preset == "quick":
        return _curves((0, 1, 4), (Condition(method="fgsm"), Condition(steps=10, restarts=1)))
    if preset == "default":
        l2 = [Condition(norm="l2", eps=eps) for eps in (0.0, 0.1, 0.25, 0.5, 1.0, 3.0)]
        linf = _curves((0, 0.25, 0.5, 1, 2, 4), (Condition(method="fgsm"), Condition()))
        return [*linf, *l2, Condition(targeted=True)]
    return _curves((0, 1, 2, 4, 8), (Condition(method="fgsm"), Condition(steps=5, restarts=1), Condition()))


def _curves(grid: tuple[float, ...], methods: tuple[Condition, ...]) -> list[Condition]:
    return [replace(method, eps=k / 255) for method in methods for k in grid]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """There must be another class to reach; AutoAttack's losses compare four."""
    least = 4 if condition.method == "autoattack" else 2
    if backbone.outputs < least:
        return f"this attack needs at least {least} classes; {backbone.architecture} has {backbone.outputs}"
    if backbone.inference_only and condition.eps > 0:
        return f"an attack needs gradients; {backbone.architecture} has none (attack the network that it was made from)"
    if images.stands_for:
        return f"its loss is that of one right output; classes of {images.spec} mean several outputs"
    if condition.method == "autoattack" and condition.eps == 0:
        return "AutoAttack has nothing to do at eps 0"
    if condition.method == "autoattack" and find_spec("pyautoattack") is None:
        return "AutoAttack needs the package `pyautoattack`: pip install 'visionvitals[attack]'"
    return None


def passes(condition: Condition) -> float:
    """At most: nothing is spent on an image once it is lost."""
    if condition.eps == 0:
        return 1
    if condition.method == "autoattack":
        return 9_000  # 100 + 9 x 100 + 9 x 100 passes with gradients, 5,000 without
    steps, starts, _ = (1, 1, 0.0) if condition.method == "fgsm" else condition.pgd
    return 1 + starts * (3 * steps + 1)


def measure(job: Job) -> Iterator[Scores]:
    from visionvitals.perturb import attacks

    now: dict[str, Attacked] = {}

    def attacked(condition: Condition, batch: Batch, seed: int) -> "Tensor":
        now["found"] = _attack(job, batch)
        return now["found"].images

    def logits(seen: "Tensor", batch: Batch) -> "Tensor":
        return now["found"].logits.masked_fill(now["found"].broken[:, None], float("nan"))

    def more(batch: Batch) -> "dict[str, Tensor]":
        found = now["found"]
        measured = {
            "attack_success": found.success.double(),
            "zero_gradient": found.vanished.double(),
            "linf_distance": attacks.distance(found.images, batch.images, norm="linf"),
            "l2_distance": attacks.distance(found.images, batch.images, norm="l2"),
        }
        return {metric: column.masked_fill(found.broken, float("nan")) for metric, column in measured.items()}

    if job.condition.eps > 0:
        for sign in _masked(job):
            job.warn(f"masked gradients, so the accuracy under attack may be too high: {sign}")
    yield from score(job, attacked, logits=logits, more=more)


def _attack(job: Job, batch: Batch) -> "Attacked":
    """What the condition's attack makes of some images."""
    from visionvitals import randomness
    from visionvitals.perturb import attacks, autoattack

    c: Condition = job.condition
    logits, images, labels = job.backbone.logits, batch.images, batch.labels

    def keys(purpose: str) -> "Tensor":
        return randomness.stream(job.seed, batch.ids, f"attack/{purpose}", device=images.device)

    if c.method == "autoattack":
        found, warnings = autoattack.autoattack(logits, images, labels, norm=c.norm, eps=c.eps, keys=keys("auto"))
        for warning in warnings:
            job.warn(warning)
        return found
    target = attacks.random_targets(labels, keys("target"), job.backbone.card.outputs) if c.targeted else None
    if c.method == "fgsm":
        return attacks.fgsm(logits, images, labels, norm=c.norm, eps=c.eps, target=target)
    steps, starts, size = c.pgd
    start = [keys(f"start={k}") for k in range(starts)] if c.start == "random" else ()
    return attacks.pgd(
        logits, images, labels, norm=c.norm, eps=c.eps, steps=steps, step_size=size, keys=start, target=target
    )


def _masked(job: Job) -> list[str]:
    """Signs of masked gradients on the first images, looked for once per backbone; refuses a network without gradients."""
    import numpy as np

    from visionvitals import randomness
    from visionvitals.perturb import gradients

    logits, n = job.backbone.logits, min(PROBED, len(job.ids))
    batch = next(iter(replace(job, batch_size=n).batches()))
    gradients.require_gradients(logits, batch.images[:1])

    def make() -> dict[str, np.ndarray]:
        keys = randomness.stream(job.seed, batch.ids, "attack/masked", device=job.backbone.device)
        signs = gradients.masked_gradients(logits, batch.images, batch.labels, keys)
        return {"signs": np.frombuffer(json.dumps(signs).encode(), dtype=np.uint8)}

    found: list[str] = json.loads(bytes(job.memo("masked gradients", {"images": n}, make)["signs"]))
    return found
