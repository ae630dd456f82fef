"""FGSM, PGD and AutoAttack: how small a change, made with the network's own gradients, turns its answer.

Every attack stays within `eps` of the image, on the scale of pixel values in [0, 1] before the network's normalisation (4/255 is
0.0157), and within [0, 1]; see `perturb/attacks.py` for the equations. `top1` is the accuracy that is left: an image that was wrong
before counts as lost, and nothing is changed on it. An attack stops on an image as soon as it succeeds, so `linf_distance`,
`l2_distance` and `cross_entropy` are those of the first success, not of the strongest attack in the ball.

Methods, with the values that 0 and `own` stand for:

- `fgsm`: one step of eps from the image.
- `pgd`: 20 steps of 2.5 eps / 20, two random starts. Naseer et al. 2021 used 5 steps (the `paper` preset does): that is weak and
  overstates robustness; they give neither step size nor start, and their eps grid is in a figure only.
- `autoattack`: the standard version, by the package of its authors (extra `[attack]`); thousands of passes per image.

Networks that hide their gradients look robust and are not. Each cell's warnings name what `perturb.gradients.masked_gradients` finds
on up to 16 of its images; `zero_gradient` says it per image.

Source: Naseer et al. 2021, section 3.4. Rows: those of `clean`, `attack_success`, `linf_distance`, `l2_distance`, `zero_gradient`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from visionvitals.core import BackboneCard, Batch, ImageSetCard, Job, Preset, Row
from visionvitals.errors import require
from visionvitals.figure import Chart, Published, Sign
from visionvitals.perturb.limits import Norm, require_eps
from visionvitals.studies._scoring import score

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.perturb.attacks import Attacked

VERSION = 1
TITLE = "White-box attacks"
AXES = ()
LABELS = "outputs"
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
        reads="Each image has a wrong class of its own, drawn at random, that the attack must reach. Lower is sturdier.",
    ),
)
# Steps and restarts differ between presets and stay open: the column's head names them.
_SMALL = {"norm": "linf", "targeted": False, "eps": 1 / 255}
SIGNS = (
    Sign(title="kept under PGD, eps 1/255", kind="kept", where=_SMALL | {"method": "pgd"}),
    Sign(title="kept under FGSM, eps 1/255", kind="kept", where=_SMALL | {"method": "fgsm"}),
)
PUBLISHED: tuple[Published, ...] = ()  # the paper shows these in figures only

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
    from dataclasses import replace

    return [replace(method, eps=k / 255) for method in methods for k in grid]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """There must be another class to reach; AutoAttack's losses compare four."""
    least = 4 if condition.method == "autoattack" else 2
    if backbone.outputs < least:
        return f"this attack needs at least {least} classes; {backbone.architecture} has {backbone.outputs}"
    if condition.method == "autoattack" and condition.eps == 0:
        return "AutoAttack has nothing to do at eps 0"
    return None


def passes(condition: Condition) -> float:
    """At most: nothing is spent on an image once it is lost."""
    if condition.eps == 0:
        return 1
    if condition.method == "autoattack":
        return 9_000  # 100 + 9 x 100 + 9 x 100 passes with gradients, 5,000 without
    steps, starts, _ = (1, 1, 0.0) if condition.method == "fgsm" else condition.pgd
    return 1 + starts * (3 * steps + 1)


def measure(job: Job) -> Iterator[Row]:
    from visionvitals import randomness
    from visionvitals.perturb import attacks, autoattack

    c: Condition = job.condition
    logits = job.backbone.logits
    now: dict[str, Attacked] = {}
    more: list[Row] = []
    broken: set[str] = set()

    def run(batch: Batch) -> "Attacked":
        def keys(purpose: str) -> "Tensor":
            return randomness.stream(job.seed, batch.ids, f"attack/{purpose}", device=batch.images.device)

        if c.method == "autoattack":
            found, warnings = autoattack.autoattack(
                logits, batch.images, batch.labels, norm=c.norm, eps=c.eps, keys=keys("auto")
            )
            for warning in warnings:
                job.warn(warning)
            return found
        target = attacks.random_targets(batch.labels, keys("target"), job.backbone.card.outputs) if c.targeted else None
        if c.method == "fgsm":
            return attacks.fgsm(logits, batch.images, batch.labels, norm=c.norm, eps=c.eps, target=target)
        steps, starts, size = c.pgd
        return attacks.pgd(
            logits,
            batch.images,
            batch.labels,
            norm=c.norm,
            eps=c.eps,
            steps=steps,
            step_size=size,
            keys=[keys(f"start={k}") for k in range(starts)] if c.start == "random" else (),
            target=target,
        )

    def attacked(batch: Batch) -> "Tensor":
        found = now["found"] = run(batch)
        measured = {
            "attack_success": found.success,
            "zero_gradient": found.vanished,
            "linf_distance": attacks.distance(found.images, batch.images, norm="linf"),
            "l2_distance": attacks.distance(found.images, batch.images, norm="l2"),
        }
        for metric, values in measured.items():
            more.extend(Row(*row) for row in zip(batch.ids, [metric] * len(batch.ids), values.tolist(), strict=True))
        broken.update(item for item, bad in zip(batch.ids, found.broken.tolist(), strict=True) if bad)
        return found.images

    if c.eps > 0:
        for sign in _masked(job):
            job.warn(f"masked gradients, so the accuracy under attack may be too high: {sign}")
    for row in score(job, attacked, logits=lambda seen, batch: now["found"].logits):
        if row.item not in broken:
            yield row
    yield from (row._replace(value=float(row.value)) for row in more if row.item not in broken)
    if broken:
        named = ", ".join(sorted(broken)[:3]) + (", ..." if len(broken) > 3 else "")
        job.warn(
            f"the network gives NaN or Inf for {len(broken)} of {len(job.ids)} images, which are left out: {named}"
        )


def _masked(job: Job) -> list[str]:
    """Signs of masked gradients on the first images, looked for once per backbone; refuses a network without gradients."""
    import numpy as np
    import torch

    from visionvitals import randomness
    from visionvitals.perturb import gradients

    n = min(PROBED, len(job.ids))
    device = job.backbone.device
    images = torch.from_numpy(np.array(job.pixels[:n])).to(device).permute(0, 3, 1, 2).float().div_(255).contiguous()
    labels = torch.from_numpy(np.array(job.labels[:n], dtype=np.int64)).to(device)
    gradients.require_gradients(job.backbone.logits, images[:1])
    keys = randomness.stream(job.seed, job.ids[:n], "attack/masked", device=device)

    def fill(arrays: dict[str, np.ndarray], start: int) -> Iterator[int]:
        text = "\n".join(gradients.masked_gradients(job.backbone.logits, images, labels, keys)).encode()
        arrays["text"][0, : len(text)] = np.frombuffer(text, dtype=np.uint8)
        yield 1

    facts = {"version": 1, "backbone": job.backbone.card.digest, "n": n}
    found = job.product("masked gradients", facts, 1, {"text": ((2000,), "uint8")}, fill)["text"][0]
    return bytes(found).rstrip(b"\0").decode().splitlines()
