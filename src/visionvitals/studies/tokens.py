"""Prefix tokens by depth: how much the class token and each further prefix token (distillation, shape, registers) have in common.

The cosine of the class token with every other prefix token, as they leave each block. Two tokens trained towards different targets
part ways; two copies of one token do not.

Conventions. Blocks are counted from 1 and seen before the final norm; where the network's readout is known, one more place, number
of blocks + 1, stands for the last block after the final norm, which is what its heads read. Token 1 is the first after the class
token.

What it means for a product. Where two tokens say the same, one of them is not needed; where they differ, choose the head by what the product needs,
such as shape.

Pitfalls. Tokens can be alike and still answer differently, as their heads differ.

Source: Naseer et al. 2021, section 3.2 (the cosine of class and shape token over ImageNet's validation images, .35 and .68, and of class
and ordinary distillation token, .96 and .94). At which depth they measured is not stated; theirs stand beside the last block after the
final norm.

Metrics: `token_cosine`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from visionvitals.studies._places import last_place
from visionvitals.study import BackboneCard, Chart, ImageSetCard, Job, Metric, Preset, Published, Scores, Sign

TITLE = "Prefix tokens"
AXES = ("block", "token")
LABELS = "none"
PER_IMAGE = True
METRICS = {
    "token_cosine": Metric(
        title="cosine with the class token",
        meaning="cosine of the class token and another prefix token of the same block",
        unit="cosine",
        better=None,
    )
}
CHARTS = (
    Chart(
        x="block",
        x_title="block",
        facet=("token",),
        metric="token_cosine",
        reads="1: the two tokens point the same way. The last place is after the final norm.",
    ),
)
SIGNS = (
    Sign(
        title="cosine of class and next token",
        kind="index",
        metric="token_cosine",
        where={"token": 1},
        index=last_place,
        unit="cosine",
    ),
)
PUBLISHED = tuple(
    Published(model=model, architectures=(name,), where={"block": 13, "token": 1}, value=value, metric="token_cosine")
    for model, name, value in (
        ("DeiT-T distilled from ResNet50-SIN, shape token", "deit_tiny_distilled_patch16_224", 0.35),
        ("DeiT-T distilled, ordinary token", "deit_tiny_distilled_patch16_224", 0.96),
        ("DeiT-S distilled from ResNet50-SIN, shape token", "deit_small_distilled_patch16_224", 0.68),
        ("DeiT-S distilled, ordinary token", "deit_small_distilled_patch16_224", 0.94),
    )
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """There is nothing to vary."""


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """One, whatever the preset."""
    return [Condition()]


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """Two prefix tokens are needed."""
    if "tokens" not in backbone.provides:
        return f"{backbone.architecture} has no patch and prefix tokens"
    if backbone.prefix_tokens < 2:
        return (
            f"{backbone.architecture} has {backbone.prefix_tokens} prefix tokens; it needs one besides the class token"
        )
    return None


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals.probes import correlation, tokens

    where = tokens.layout(job.backbone)
    for batch in job.batches():
        seen: list[torch.Tensor] = []

        def take(_block: int, x: torch.Tensor, seen: list[torch.Tensor] = seen) -> None:
            seen.append(x[:, : where.prefix])

        with torch.inference_mode():
            with tokens.watch(where, take):
                job.backbone.logits(batch.images)
            if where.readout is not None:
                seen.append(where.readout.norm(seen[-1]))
        for block, prefix in enumerate(seen, 1):
            for token in range(1, where.prefix):
                values = correlation.cosine(prefix[:, 0], prefix[:, token])
                yield Scores(batch.ids, {"token_cosine": values}, (block, token))
        job.progress(len(batch.ids))
