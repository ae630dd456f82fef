"""A universal adversarial patch: one small picture that, pasted into any image, turns the network's answer. Pose, paste, one step.

With p the patch, A(p, x, t) the image x with the patch pasted at pose t (place, rotation, scale), and L the cross-entropy of the true
label (of minus the target's, for a targeted patch), the patch climbs the mean over images and poses:

    p <- clamp(p + lr Adam(d/dp mean_i L(f(A(p, x_i, t_i)))), 0, 1)

Source: Brown et al. 2017, "Adversarial patch"; untargeted as in Naseer et al. 2021, section 3.4, who published no details. Deviations
from the public port that they adapted: the patch itself is never resampled, so it does not blur; every value of it is opaque, zero
too; it is kept in [0, 1] throughout.

Conventions: images and patches are float in [0, 1] before normalisation. A patch is a square (3, s, s), of which a circle shows
the inscribed disc. Positions come from per-image keys.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from visionvitals import randomness
from visionvitals.errors import require
from visionvitals.perturb.differentiable import Logits, differentiable
from visionvitals.perturb.limits import Shape

Where = Literal["free", "fixed", "aligned", "unaligned"]
BETAS = (0.9, 0.999)


class Pose(NamedTuple):
    """Where each image's patch is.

    Attributes:
        y, x: double (b,), its centre in pixels from the top left corner.
        angle: double (b,), in radians.
        scale: double (b,), times the patch's own side.
    """

    y: Tensor
    x: Tensor
    angle: Tensor
    scale: Tensor


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How poses are drawn.

    Attributes:
        shape: `circle` or `square`.
        side: of the patch, or its diameter, in pixels.
        where: `free`: anywhere inside the image; `fixed`: the lower right corner; `aligned`: on whole cells of the network's patch
            grid; `unaligned`: half a cell off it.
        rotation: at most so many degrees to either side.
        scale: (smallest, largest), uniform.
        cell: side of the network's own patches in pixels, for the last two.
    """

    shape: Shape
    side: int
    where: Where = "free"
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    cell: int = 1


def poses(keys: Int64[Tensor, " b"], placement: Placement, size: tuple[int, int]) -> Pose:
    """A pose for each image of `size` (height, width), from its own key; the whole patch is inside the image.

    Raises:
        VitalsError: the patch does not fit into the image.
    """
    u = randomness.uniform(keys, 4).double().unbind(dim=1)
    angle = (2 * u[0] - 1) * math.radians(placement.rotation)
    scale = placement.scale[0] + u[1] * (placement.scale[1] - placement.scale[0])
    box = placement.side * scale
    if placement.shape == "square":
        box = box * (angle.cos().abs() + angle.sin().abs())
    box = (box - 1e-6).ceil()
    must = f"The patch must fit into the {size[0]}x{size[1]} image"
    require(float(box.max()) <= min(size), must, f"{int(box.max())} px")
    corner = [_corner(u[2 + axis], box, placement, size[axis]) for axis in (0, 1)]
    return Pose(corner[0] + box / 2, corner[1] + box / 2, angle, scale)


def _corner(u: Tensor, box: Tensor, placement: Placement, length: int) -> Tensor:
    """The first row or column of each patch's bounding box, a whole number of pixels."""
    if placement.where == "fixed":
        return length - box
    if placement.where == "free":
        return (u * (length - box + 1)).floor()
    cell = placement.cell
    first = cell // 2 if placement.where == "unaligned" else 0
    places = (length - first - placement.side) // cell + 1
    require(places > 0, f"An unaligned patch needs a margin of half a cell of {cell} px", placement.side)
    return first + cell * (u * places).floor()


def paste(
    images: Float[Tensor, "b 3 h w"], patch: Float[Tensor, "3 s s"], pose: Pose, shape: Shape
) -> tuple[Float[Tensor, "b 3 h w"], Bool[Tensor, "b h w"]]:
    """The images with the patch, and where it covers them; differentiable in the patch.

    A pixel is covered where its centre is inside the shape; it shows the patch there, bilinearly. Without rotation and scale, the
    patch's pixels are copied.
    """
    h, w = images.shape[-2:]
    ys = torch.arange(h, device=images.device, dtype=torch.float64) + 0.5 - pose.y[:, None]
    xs = torch.arange(w, device=images.device, dtype=torch.float64) + 0.5 - pose.x[:, None]
    half = (patch.shape[-1] / 2 * pose.scale)[:, None, None]
    cos, sin = pose.angle.cos()[:, None, None], pose.angle.sin()[:, None, None]
    u = (cos * xs[:, None, :] + sin * ys[:, :, None]) / half
    v = (cos * ys[:, :, None] - sin * xs[:, None, :]) / half
    inside = (u.square() + v.square() <= 1) if shape == "circle" else (torch.maximum(u.abs(), v.abs()) <= 1)
    grid = torch.stack([u, v], dim=-1).float()
    shown = functional.grid_sample(
        patch.expand(len(images), -1, -1, -1), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return torch.where(inside[:, None], shown, images), inside


class State(NamedTuple):
    """A patch on its way, with the moments of Adam.

    Attributes:
        patch, mean, variance: float (3, s, s).
        steps: taken so far.
    """

    patch: Tensor
    mean: Tensor
    variance: Tensor
    steps: int


def begin(patch: Float[Tensor, "3 s s"]) -> State:
    return State(patch, torch.zeros_like(patch), torch.zeros_like(patch), 0)


def climb(
    state: State,
    logits: Logits,
    images: Float[Tensor, "b 3 h w"],
    goal: Int64[Tensor, " b"],
    pose: Pose,
    shape: Shape,
    *,
    targeted: bool,
    lr: float,
) -> tuple[State, float]:
    """One step of Adam on the patch, and the mean loss before it.

    Args:
        state: the patch so far.
        logits: the network, differentiable.
        images: a batch of training images.
        goal: their true labels, or the target where `targeted`.
        pose: where the patch is in each of them.
        shape: of the patch.
        targeted: go towards `goal` instead of away.
        lr: length of a step, on the scale of pixel values in [0, 1].

    Raises:
        VitalsError: the logits or the gradient are not finite.
    """
    device = images.device.type
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        patch = state.patch.clone().requires_grad_()
        seen, _ = paste(images.clone(), patch, pose, shape)
        loss = functional.cross_entropy(differentiable(logits)(seen).float(), goal.clone()) * (
            -1.0 if targeted else 1.0
        )
        (gradient,) = torch.autograd.grad(loss, patch)
    require(bool(gradient.isfinite().all()), "A patch needs finite logits and gradients", "NaN or Inf")
    steps = state.steps + 1
    mean = BETAS[0] * state.mean + (1 - BETAS[0]) * gradient
    variance = BETAS[1] * state.variance + (1 - BETAS[1]) * gradient.square()
    step = mean / (1 - BETAS[0] ** steps) / ((variance / (1 - BETAS[1] ** steps)).sqrt() + 1e-8)
    return State((state.patch + lr * step).clamp(0, 1), mean, variance, steps), float(loss.detach())
