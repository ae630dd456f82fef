"""Whether what was found are blocks: stages on the way from the picture to the logits. What cannot be certified is not offered.

A block of tokens is certified where it answers two pictures differently and where the logits depend on what it gives: their gradient to it
is not zero, or, for a network that has no gradient, the logits change when the two pictures swap what the block gives. A stage of maps
must be a place that all passes: with its maps swapped, the two pictures swap their logits, which no side branch does. Where most weights
work on sequences outside the stages (a stem before a transformer), the stages are no layout of the network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from visionvitals.backbones._layout import Trace
from visionvitals.inside import blocks
from visionvitals.inside.blocks import Layout

_SAME = 1e-6  # of the largest value: float32's rounding
_SWAPPED = 1e-3


def certified(
    found: Layout | None, trace: Trace, logits: Callable[[Tensor], Any], images: Tensor
) -> tuple[Layout | None, tuple[str, ...]]:
    """A layout with its certified blocks only, or None where none is left, and a note on what is not offered.

    Args:
        found: the layout.
        trace: of one image.
        logits: images in [0, 1] -> (b, k).
        images: two different pictures.
    """
    if found is None:
        return None, ()
    reasons = _reasons(found, logits, images)
    good = tuple(block for block, reason in zip(found.blocks, reasons, strict=True) if reason is None)
    bad = [f"`{b.name}` {reason}" for b, reason in zip(found.blocks, reasons, strict=True) if reason is not None]
    note = (f"{len(bad)} of its {len(found.blocks)} blocks are not offered: {bad[0]}",) if bad else ()
    if not good:
        return None, note
    left = found._replace(blocks=good, readout=found.readout if reasons[-1] is None else None)
    share = _covered(left, trace) if left.kind == "maps" else 1.0
    if share < 0.5:
        where = f"lie outside the {len(good)} stages of feature maps that were found"
        return None, (*note, f"its blocks are not offered: {1 - share:.0%} of its weights {where}")
    return left, note


def _reasons(found: Layout, logits: Callable[[Tensor], Any], images: Tensor) -> list[str | None]:
    """Why each block is none, or None."""
    seen: dict[int, Tensor] = {}
    with torch.enable_grad(), blocks.watch(found, lambda block, x: seen.update({block: x})):
        plain = logits(images.clone().requires_grad_())
    if not bool(plain.isfinite().all()) or _equal(plain[0], plain[1]):
        return [None] * len(found.blocks)  # such an answer tells nothing of any block
    slopes = _slopes(plain, seen) if found.kind == "tokens" else {}
    found_out: list[str | None] = []
    for k in range(len(found.blocks)):
        reason = _blind(seen.get(k))
        if reason is None and found.kind == "maps":
            if not _equal(plain.flip(0), _swapped(found, k, logits, images), within=_SWAPPED):
                reason = "is a side branch: what reaches the logits passes beside it too"
        elif reason is None and not slopes.get(k) and _equal(plain, _swapped(found, k, logits, images)):
            reason = "gives what the logits do not depend on"
        found_out.append(reason)
    return found_out


def _blind(given: Tensor | None) -> str | None:
    if given is None:
        return "was not passed"
    return "gives the same for two different pictures" if _equal(given[0], given[1]) else None


def _slopes(plain: Tensor, seen: dict[int, Tensor]) -> dict[int, bool]:
    """For each block, whether the gradient of the logits to what it gives is not zero; empty where there is no gradient."""
    asked = {k: x for k, x in seen.items() if x.requires_grad}
    if not (plain.requires_grad and asked):
        return {}
    weights = torch.arange(1, plain.shape[1] + 1, device=plain.device) % 7 - 3.5
    try:
        slopes = torch.autograd.grad((plain * weights).sum(), list(asked.values()), allow_unused=True)
    except RuntimeError:  # such as a tensor that was changed in place
        return {}
    return {
        k: g is not None and bool(g.isfinite().all() and (g != 0).any()) for k, g in zip(asked, slopes, strict=True)
    }


def _swapped(found: Layout, block: int, logits: Callable[[Tensor], Any], images: Tensor) -> Tensor:
    """The logits of two pictures when what a block gives of each is taken for the other's."""
    upto = found._replace(blocks=found.blocks[: block + 1])
    with torch.no_grad(), blocks.entering(upto, block + 1, lambda x: x.flip(0)):
        answer: Tensor = logits(images)
        return answer


def _equal(a: Tensor, b: Tensor, *, within: float = _SAME) -> bool:
    largest = max(float(a.detach().abs().max()), float(b.detach().abs().max()))
    return bool((a - b).detach().abs().max() <= within * largest)


def _covered(found: Layout, trace: Trace) -> float:
    """The share of the weights that is not used on sequences outside of what lies between the first stage's entry and the last's exit."""
    inside = outside = 0
    first = min(trace.orders(found.blocks[0].entry), default=0)
    last = max((o for part in found.blocks[-1].exit.modules() for o in trace.orders(part)), default=0)
    counted: set[int] = set()
    for name, call in trace.calls.items():
        part: nn.Module = trace.parts[name]
        if id(part) in counted:
            continue
        counted.add(id(part))
        weights = sum(p.numel() for p in part.parameters(recurse=False))
        if first <= call.order <= last or call.given is None or call.given.ndim != 3:
            inside += weights
        else:
            outside += weights
    return inside / max(1, inside + outside)
