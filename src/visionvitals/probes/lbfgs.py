"""L-BFGS: the memory of the last steps and the direction that it gives, for a batch of independent problems; and a descent for it.

Conventions: parameters, steps and gradients are (e, k, s): e problems of k x s numbers; nothing of one problem enters another.

Source: Nocedal 1980, "Updating quasi-Newton matrices with limited storage".
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters (e, k, s) -> (values (e,), gradients (e, k, s))."""
_STEPS = 500


class Memory:
    """The last `length` steps and changes of gradient, of which L-BFGS makes its picture of the curvature."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, step: Float[Tensor, "e k s"], change: Float[Tensor, "e k s"]) -> None:
        """Remember a step; where the curvature along it is not positive, it weighs nothing."""
        curvature = dot(step, change)
        usable = curvature > 1e-14 * dot(change, change)
        self.pairs = [*self.pairs, (step, change, torch.where(usable, 1 / curvature.clamp(min=1e-300), 0.0))]
        self.pairs = self.pairs[-self.length :]

    def direction(
        self, gradient: Float[Tensor, "e k s"], unit: Float[Tensor, "e k s"] | None = None
    ) -> Float[Tensor, "e k s"]:
        """Minus the inverse Hessian's estimate times the gradient (the two loops).

        Args:
            gradient: at the present parameters.
            unit: about the inverse square root of the curvature of each parameter; 1 where None.
        """
        q, alphas = gradient, []
        for step, change, rho in reversed(self.pairs):
            alpha = rho * dot(step, q)
            q = q - _wide(alpha, q) * change
            alphas.append(alpha)
        scale = torch.ones(len(q), dtype=torch.float64, device=q.device)
        for _, change, rho in self.pairs:
            scaled = change if unit is None else unit * change
            scale = torch.where(rho > 0, 1 / (rho * dot(scaled, scaled)).clamp(min=1e-300), scale)
        q = _wide(scale, q) * (q if unit is None else unit.square() * q)
        for (step, change, rho), alpha in zip(self.pairs, reversed(alphas), strict=True):
            q = q + _wide(alpha - rho * dot(change, q), q) * step
        return -q


def minimise(
    value: Objective, theta: Float[Tensor, "e k s"], unit: Float[Tensor, "e k s"], tolerance: float, *, length: int = 8
) -> tuple[Float[Tensor, "e k s"], Float[Tensor, " e"]]:
    """Descend on a batch of objectives; a step is halved for those alone that it does not help.

    Args:
        value: the objectives.
        theta: where to start.
        unit: see `Memory.direction`.
        tolerance: stop where every gradient norm is at most this, and at most this share of the first one: features of small spread
            have a small gradient from the start, and have learned nothing there.
        length: of the memory.

    Returns:
        The parameters and the gradient norms there.
    """
    f, g = value(theta)
    enough = tolerance * g.flatten(1).norm(dim=1).clamp(max=1)
    memory = Memory(length)
    for _ in range(_STEPS):
        if bool((g.flatten(1).norm(dim=1) <= enough).all()):
            break
        d = memory.direction(g, unit)
        slope = dot(g, d)
        step = torch.ones_like(f)
        for _ in range(30):
            f_new, g_new = value(theta + step[:, None, None] * d)
            worse = f_new > f + 1e-4 * step * slope + 1e-13 * f.abs()
            if not bool(worse.any()):
                break
            step = torch.where(worse, step / 2, step)
        s = torch.where(worse, 0.0, step)[:, None, None] * d
        y = torch.where(worse[:, None, None], 0.0, g_new - g)
        theta, f, g = theta + s, torch.where(worse, f, f_new), g + y
        memory.add(s, y)
    return theta, g.flatten(1).norm(dim=1)


def dot(a: Float[Tensor, "e k s"], b: Float[Tensor, "e k s"]) -> Float[Tensor, " e"]:
    """The inner product of each problem, float64."""
    return (a * b).sum((1, 2)).double()


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype)[:, None, None]
