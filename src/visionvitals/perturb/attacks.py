"""White-box attacks: FGSM and PGD in l_inf and l2, as equations. An attack says how to step; `attack` does everything else.

With x_0 the image, B the ball of radius eps around it, L the cross-entropy of the label y (of minus the target's, for a targeted
attack):

    start   x = x_0, or a random point of B
    step    x <- P(x + alpha sign(dL/dx))            l_inf
            x <- P(x + alpha dL/dx / |dL/dx|_2)      l2
    P       onto B, then onto [0, 1]

FGSM is one step of alpha = eps from x_0. Sources: Goodfellow et al. 2015, "Explaining and harnessing adversarial examples"; Madry et
al. 2018, "Towards deep learning models resistant to adversarial attacks".

Conventions. Images are float (b, 3, h, w) in [0, 1] *before* the network's own normalisation, which is part of the attacked
function, so that eps means the same for every network; eps = 4/255 is written 0.0157. For l2, clipping to [0, 1] after the ball
shortens the way to x_0, so the result is inside both. `logits` is a network in evaluation mode; autocast is switched off.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from visionvitals import randomness
from visionvitals.errors import require
from visionvitals.perturb.differentiable import Logits, differentiable
from visionvitals.perturb.limits import Norm, require_eps

_SHORT = 1e-12  # length of a gradient under which it is scaled up before it is normalised
Step = Callable[[Tensor, Tensor], Tensor]
"""(x, gradient of the loss to ascend) -> the next x, anywhere: projecting it is not the attack's business."""


class Attacked(NamedTuple):
    """What an attack found.

    Attributes:
        images: float (b, 3, h, w), inside the ball and [0, 1]: the first point that reached the goal, else the end of the restart
            with the highest loss; the clean image where the logits are not finite.
        logits: float (b, k), the network's at `images`.
        success: bool (b,): another class than the label is predicted, or the target is.
        vanished: bool (b,): it failed, and the gradient was exactly zero wherever it looked.
        broken: bool (b,): the network or its gradient gave NaN or Inf, at the image or under attack; it cannot be scored.
    """

    images: Tensor
    logits: Tensor
    success: Tensor
    vanished: Tensor
    broken: Tensor


@dataclass(frozen=True)
class Ball:
    """All images within `eps` of `centre` and within [0, 1]; made by `around`.

    Attributes:
        norm, eps: its radius, on the scale of pixel values in [0, 1].
        centre: float (b, 3, h, w).
        low, high: the bounds of each pixel value: for l2 the numbers 0 and 1, for l_inf of the ball too, as `centre`.
    """

    norm: Norm
    eps: float
    centre: Tensor
    low: Tensor
    high: Tensor

    def project(self, x: Tensor) -> Tensor:
        """The points of the ball next to x: onto B, then onto [0, 1]."""
        if self.norm == "l2":
            delta = x - self.centre
            x = self.centre + delta * (self.eps / _length(delta).clamp_min(1e-12)).clamp_max(1)
        return torch.clamp(x, self.low, self.high)

    def rows(self, which: Tensor) -> "Ball":
        """The balls of some images only."""
        if self.norm == "l2":
            return replace(self, centre=self.centre[which])
        return replace(self, centre=self.centre[which], low=self.low[which], high=self.high[which])


def around(centre: Float[Tensor, "b 3 h w"], *, norm: Norm, eps: float) -> Ball:
    """The balls around some images.

    Raises:
        VitalsError: eps is in units of 0-255, or the images are not in [0, 1].
    """
    require_eps(norm, eps)
    ends = (float(centre.min()), float(centre.max()))
    must = "An attack needs images with values in [0, 1], before normalisation"
    require(ends[0] >= 0 and ends[1] <= 1, must, f"{ends[0]:.4g} to {ends[1]:.4g}")
    if norm == "l2":
        return Ball(norm, eps, centre, centre.new_zeros(()), centre.new_ones(()))
    return Ball(norm, eps, centre, (centre - eps).clamp_min_(0), (centre + eps).clamp_max_(1))


def distance(images: Float[Tensor, "b 3 h w"], clean: Float[Tensor, "b 3 h w"], *, norm: Norm) -> Float[Tensor, " b"]:
    """How far each image is from its clean one: the largest change of a value (linf), or its Euclidean length (l2)."""
    delta = (images - clean).flatten(1)
    return delta.abs().amax(dim=1) if norm == "linf" else torch.linalg.vector_norm(delta, dim=1)


def verify(images: Float[Tensor, "b 3 h w"], clean: Float[Tensor, "b 3 h w"], *, norm: Norm, eps: float) -> None:
    """Refuse a result that left the ball or [0, 1], or is not a number.

    Tolerance: 1e-6 + 1e-5 eps for rounding in float32.
    """
    require(bool(images.isfinite().all()), "An attack must give finite images", "NaN or Inf")
    ends = (float(images.min()), float(images.max()))
    require(ends[0] >= 0 and ends[1] <= 1, "An attack must stay in [0, 1]", ends)
    most = float(distance(images, clean, norm=norm).max())
    require(most <= eps * (1 + 1e-5) + 1e-6, f"An attack must stay within {norm} distance {eps:.6g}", most)


def sign_step(alpha: float) -> Step:
    """x + alpha sign(g): the steepest step in l_inf."""
    return lambda x, g: x.add(g.sign_(), alpha=alpha)


def l2_step(alpha: float) -> Step:
    """x + alpha g / |g|_2: the steepest step in l2, however short g is; no step where g is zero."""

    def step(x: Tensor, g: Tensor) -> Tensor:
        length = _length(g)
        if bool((length < _SHORT).any()):  # the squares of small numbers are lost in float32
            largest = g.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
            g = torch.where(length < _SHORT, g / largest, g)
            length = _length(g)
        return x.addcmul(g, (alpha / length.clamp_min(_SHORT)).expand_as(g))

    return step


def fgsm(
    logits: Logits,
    images: Float[Tensor, "b 3 h w"],
    labels: Int64[Tensor, " b"],
    *,
    norm: Norm = "linf",
    eps: float,
    target: Int64[Tensor, " b"] | None = None,
) -> Attacked:
    """One step of length eps. Arguments as `attack`."""
    step = sign_step(eps) if norm == "linf" else l2_step(eps)
    return attack(logits, images, labels, norm=norm, eps=eps, step=step, steps=1, target=target)


def pgd(
    logits: Logits,
    images: Float[Tensor, "b 3 h w"],
    labels: Int64[Tensor, " b"],
    *,
    norm: Norm = "linf",
    eps: float,
    steps: int = 20,
    step_size: float | None = None,
    keys: Sequence[Int64[Tensor, " b"]] = (),
    target: Int64[Tensor, " b"] | None = None,
    early_stop: bool = True,
) -> Attacked:
    """Projected gradient ascent. `step_size` is 2.5 eps / steps where None, as Madry's; other arguments as `attack`.

    Known weakness: with 5 steps, as Naseer et al. 2021 used it, it overstates robustness; take 20 or more and several restarts.
    """
    alpha = 2.5 * eps / max(1, steps) if step_size is None else step_size
    require_eps(norm, eps)
    must = f"`step_size` is on the scale of eps, so it must be at least 0 and at most 4 eps = {4 * eps:.5g}"
    require(0 <= alpha <= 4 * eps, must, alpha, f"In units of 0-255, {alpha:g} is written {alpha / 255:.5g}.")
    step = sign_step(alpha) if norm == "linf" else l2_step(alpha)
    return attack(
        logits,
        images,
        labels,
        norm=norm,
        eps=eps,
        step=step,
        steps=steps,
        keys=keys,
        target=target,
        early_stop=early_stop,
    )


def attack(
    logits: Logits,
    images: Float[Tensor, "b 3 h w"],
    labels: Int64[Tensor, " b"],
    *,
    norm: Norm,
    eps: float,
    step: Step,
    steps: int,
    keys: Sequence[Int64[Tensor, " b"]] = (),
    target: Int64[Tensor, " b"] | None = None,
    early_stop: bool = True,
) -> Attacked:
    """Run an iterative attack: gradients through the network, projection, early stop per image, restarts, verification.

    Args:
        logits: images in [0, 1] -> logits (b, k), differentiable; see `gradients.require_gradients`.
        images: the clean images.
        labels: their true classes.
        norm, eps: the ball; eps 0 gives the clean images.
        step: the attack itself.
        steps: how many of them; each is one forward and one backward pass, and one forward pass at the end looks at the result.
        keys: one random start per entry, from each image's own key; empty: one start at the image itself. An image on which a start
            was successful is not attacked again.
        target: classes to reach; None: to leave the label.
        early_stop: False takes every step for every image and looks at the end only, as most libraries do.

    Raises:
        VitalsError: eps in units of 0-255, images out of [0, 1], or (a defect of `step`) a result that is not finite.
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
        images, labels = images.clone(), labels.clone()  # an inference tensor takes part in no gradient
        ball = around(images, norm=norm, eps=eps)
        goal = labels if target is None else target.clone()
        task = _Task(
            differentiable(logits), step, steps if eps > 0 else 0, goal, -1.0 if target is not None else 1.0, early_stop
        )
        with torch.no_grad():
            out = logits(images).float()
        broken = ~out.isfinite().all(dim=1)
        success = task.reached(out, goal) & ~broken
        vanished = torch.zeros_like(success)
        best = torch.full_like(out[:, 0], -torch.inf)
        found = images.clone()
        for number, key in enumerate(keys or (None,)):
            everyone = number == 0 and not early_stop
            rows = (~broken if everyone else ~broken & ~success).nonzero()[:, 0]
            if task.steps == 0 or len(rows) == 0:
                break
            inside = ball.rows(rows)
            end = _ascend(task, inside, goal[rows], inside.centre if key is None else random_start(inside, key[rows]))
            better = end.success | (end.loss > best[rows]) | (number == 0)
            taken = rows[better]
            found[taken], out[taken], best[taken] = end.images[better], end.logits[better], end.loss[better]
            success[rows], broken[rows] = end.success, end.broken
            vanished[rows] = end.vanished & (vanished[rows] | (number == 0))
        found = torch.where(broken[:, None, None, None], images, found)
        verify(found, images, norm=norm, eps=eps)
        return Attacked(found, out, success, vanished & ~success & ~broken, broken)


@dataclass(frozen=True)
class _Task:
    """An attack with its goal."""

    logits: Logits
    step: Step
    steps: int
    goal: Tensor
    sign: float
    early_stop: bool

    def reached(self, out: Tensor, goal: Tensor) -> Tensor:
        return (out.argmax(dim=1) == goal) == (self.sign < 0)


class _End(NamedTuple):
    """Where one start ended, for each of its images."""

    images: Tensor
    logits: Tensor
    loss: Tensor
    success: Tensor
    vanished: Tensor
    broken: Tensor


def _ascend(task: _Task, ball: Ball, goal: Tensor, start: Tensor) -> _End:
    """The steps from one start. An image that is done leaves the batch, so that no pass is spent on it again."""
    n = len(goal)
    images, flat = ball.centre.clone(), torch.zeros(n, dtype=torch.bool, device=goal.device)
    loss, success, broken, vanished = start.new_zeros(n), flat.clone(), flat.clone(), ~flat
    logits: Tensor | None = None
    going = torch.arange(n, device=goal.device)
    x = start.detach()
    for t in range(task.steps + 1):
        last = t == task.steps
        with torch.set_grad_enabled(not last):
            out = task.logits(x.requires_grad_(not last)).float()
            losses = task.sign * functional.cross_entropy(out, goal[going], reduction="none")
        seen, x = out.detach(), x.detach() if last else x
        logits = seen.new_zeros(n, seen.shape[1]) if logits is None else logits
        sane = seen.isfinite().all(dim=1)
        hit = task.reached(seen, goal[going]) & sane
        over = torch.ones_like(hit) if last else ~sane | (hit if task.early_stop else torch.zeros_like(hit))
        if over.any():
            rows = going[over]
            images[rows] = torch.where(sane[over][:, None, None, None], x.detach()[over], images[rows])
            logits[rows], loss[rows] = seen[over], losses.detach()[over]
            success[rows], broken[rows] = hit[over], ~sane[over]
            if len(rows) == len(going):
                break
        (gradient,) = torch.autograd.grad(losses.sum(), x)
        x = x.detach()
        sound = (
            gradient.flatten(1).sum(dim=1).isfinite()
        )  # the sign of NaN is 0: the attack would stand still unnoticed
        keep = ~over & sound
        if not keep.all():
            broken[going[~over & ~sound]] = True
            going, ball, x, gradient = going[keep], ball.rows(keep), x[keep], gradient[keep]
            if len(going) == 0:
                break
        if vanished[going].any():
            vanished[going] &= ~gradient.flatten(1).any(dim=1)
        x = ball.project(task.step(x, gradient))
    assert logits is not None
    return _End(images, logits, loss, success, vanished & ~success, broken)


def random_start(ball: Ball, keys: Int64[Tensor, " b"]) -> Float[Tensor, "b 3 h w"]:
    """A uniform random point of each image's ball, clipped to [0, 1]: for l2 a normal direction at radius eps u^(1/d)."""
    shape = ball.centre.shape
    d = ball.centre[0].numel()
    if ball.norm == "linf":
        return ball.project(ball.centre + (2 * randomness.uniform(keys, d).view(shape) - 1) * ball.eps)
    drawn = randomness.normal(keys, d).view(shape)
    radius = ball.eps * randomness.uniform(keys ^ 0x5DEECE66D, 1)[:, :, None, None] ** (1 / d)
    return ball.project(ball.centre + drawn / _length(drawn) * radius)


def random_targets(labels: Int64[Tensor, " b"], keys: Int64[Tensor, " b"], outputs: int) -> Int64[Tensor, " b"]:
    """For each image a class that is not its label, uniformly."""
    require(outputs >= 2, "A target needs at least two classes", outputs)
    ahead = (randomness.uniform(keys, 1)[:, 0].double() * (outputs - 1)).long()
    return (labels + 1 + ahead) % outputs


def _length(x: Tensor) -> Tensor:
    """Euclidean length of each image, (b, 1, 1, 1)."""
    length: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return length[:, None, None, None]
