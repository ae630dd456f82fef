"""Feature drop: how much of the prediction survives when part of what enters one block is set to zero, or replaced by something else.

Of a transformer, floor(ratio * T) of the patch tokens that enter block k are zeroed, T being all tokens, the prefix tokens (class,
distillation, registers) included, though none of those is touched. Of any other network, each place of the feature maps that enter
stage k is zeroed with probability `ratio`, in all channels. A block without which the network does well is one it can route around.

Controls. A zero vector is something that no network has met, so a loss may come from its strangeness and not from what is missing.
`replace` puts something else in the same places: the `mean` over other images, `noise` (normal, with their mean and variance) or `swap`, the
same tokens of another image. Where zero alone hurts, the content was not needed; where the mean hurts as much, it was. `which` takes
the class token or all registers in place of patches, and `at = every` does it to what leaves every block at once (its block is 0).

Conventions. Blocks and stages are counted from 1. A network of feature maps has one more: what leaves its last stage, before the
pool. A stage is all that works at one resolution; the stem, which reads the image itself, is none (`patches` and `occlusion` do
that). Each block needs a forward pass of its own; one cell measures all blocks. With the same image and run the mask is the same for
every block and every replacement, and nested over ratios, so that comparisons are paired.

What is put in comes from the unchanged network. The different pictures are parted into two halves by hash, and an image gets mean, noise or a
partner of the other half only: nothing of itself or of a copy of it. So these numbers depend on the image set, and their cells are
measured whole. A partner is drawn anew for each image and place.

What it means. A dip that only zero shows is no sign of a block that matters. Do not prune, mask or drop tokens on the strength of zeroing alone:
look at the mean first. Where zeroed registers or patches hurt and their mean does not, the network needs that something stands there; a
deployment that removes tokens should fill in the mean.

Sources: Naseer et al. 2021, appendix C, for zero on patches at one block. Deviations from the authors' code: one mask per image and run (theirs:
one per batch, unseeded). Which blocks their numbers mean is not stated; ours take "block k" as the k-th from 1. Controls: arXiv
2604.14433 (2026; numbers from its author's page), where registers or the class token are replaced at every block and frozen features are
read: DINOv3 ViT-S loses 36.6 points with zeroed registers and less than a point with mean, noise or swap, but all of it with the mean
of the class token. Deviations: their statistics are of 5,000 ImageNet images and their partner is of the same batch; ours come from the other half of the
set. Their numbers say nothing of patches or of a single block, and ours, of the network's own head, are not to be set beside them.

Metrics: those of `clean` without `prediction`, at each block; of the controls also `token_cosine`. Zeroed patches at one block, the default, have none:
its rows are as they always were.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args

from visionvitals.study import (
    BackboneCard,
    Chart,
    ImageSetCard,
    Job,
    Metric,
    Preset,
    Published,
    Scores,
    Sign,
    answers,
    require,
)

if TYPE_CHECKING:
    from torch import Tensor

    from visionvitals.probes.tokens import Layout

TITLE = "Feature drop"
AXES = ("block",)
PER_IMAGE = True
METRICS = {
    "token_cosine": Metric(
        title="cosine of patches with the clean run",
        meaning="mean cosine of the patch tokens (or places) that leave the last block with those of the unchanged network; 0 where one is zero",
        unit="cosine",
        better="high",
    )
}
_DEFAULT = {"replace": "zero", "which": "patches", "at": "one"}
CHARTS = (
    Chart(
        x="block",
        x_title="block whose input is cut",
        facet=("which", "replace", "mean_over", "ratio"),
        where={"at": "one"},
        reads="Higher is more robust. Left are the early blocks. Bands are 95 % intervals over images.",
    ),
    Chart(
        x="replace",
        x_title="what replaces tokens at every block",
        facet=("which", "mean_over", "ratio"),
        where={"at": "every"},
        title="At every block",
        reads="Where zero is low and the others are high, a zero is strange but the content was not needed.",
    ),
    Chart(
        x="block",
        x_title="block whose input is cut",
        facet=("which", "replace", "mean_over", "ratio"),
        metric="token_cosine",
        where={"at": "one"},
        title="What is left of the patch tokens",
        reads="1: the patch tokens leave the last block as if nothing had been done.",
    ),
)
SIGNS = (Sign(title="worst block at 50 % feature drop", kind="lowest", x="block", where={"ratio": 0.5, **_DEFAULT}),)
_DEIT_B = {1: (57.36, 38.51, 15.17), 3: (48.46, 32.61, 11.60), 5: (54.67, 40.70, 14.10), 7: (55.44, 43.90, 24.10),
           9: (50.54, 28.43, 18.21), 11: (61.97, 35.10, 10.94)}  # fmt: skip
_VIT_L = {1: (75.72, 67.62, 25.99), 3: (74.74, 66.86, 28.89), 5: (73.32, 60.56, 29.69), 7: (75.56, 69.65, 53.42),
          9: (76.16, 70.59, 42.63), 11: (76.28, 66.15, 28.95)}  # fmt: skip
_RESNET50 = {1: (0.14, 0.09, 0.05), 2: (45.09, 4.91, 0.23), 3: (69.19, 28.35, 0.52), 4: (73.95, 64.12, 18.95),
             5: (75.74, 75.21, 73.57)}  # fmt: skip
RATIOS = (0.25, 0.5, 0.75)
PUBLISHED = tuple(
    Published(
        model=model, architectures=(name,), where={"ratio": ratio, "block": block, **_DEFAULT}, value=percent / 100
    )
    for model, name, table in (
        ("DeiT-B", "deit_base_patch16_224", _DEIT_B),
        ("ViT-L", "vit_large_patch16_224", _VIT_L),
        ("ResNet50", "resnet50", _RESNET50),
    )
    for block, row in table.items()
    for ratio, percent in zip(RATIOS, row, strict=True)
)


Replace = Literal["zero", "mean", "noise", "swap"]
Which = Literal["patches", "registers", "class"]


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One strength of the lesion.

    Attributes:
        ratio: share of the tokens or places to replace, in [0, 1]; of the class token and of registers 1, or 0 for none.
        blocks: which blocks, from 1; those that the network does not have are left out. Empty for all.
        run: repetition; each has its own masks, noise and partners.
        replace: what is put in their place: `zero`; the `mean` over other images; `noise` with their mean and variance; `swap`, the
            same tokens of another image.
        which: a share of the `patches`, all `registers`, or the `class` token.
        at: what enters `one` block after the other, or what leaves `every` block at once.
        mean_over: whether mean and variance of patches are those of each `place`, or of `all` places together.
    """

    ratio: float = 0.5
    blocks: tuple[int, ...] = ()
    run: int = 0
    replace: Replace = "zero"
    which: Which = "patches"
    at: Literal["one", "every"] = "one"
    mean_over: Literal["place", "all"] = "place"

    def __post_init__(self) -> None:
        require(0 <= self.ratio <= 1, "`ratio` must be in [0, 1]", self.ratio)
        must = "`blocks` must be different positive numbers; the first block is 1"
        require(all(b > 0 for b in self.blocks) and len(set(self.blocks)) == len(self.blocks), must, self.blocks)
        require(self.run >= 0, "`run` must not be negative", self.run)
        words = {
            "replace": get_args(Replace),
            "which": get_args(Which),
            "at": ("one", "every"),
            "mean_over": ("place", "all"),
        }
        for name, known in words.items():
            value = getattr(self, name)
            require(value in known, f"`{name}` must be one of {', '.join(known)}", value)


def conditions(preset: Preset, size: tuple[int, int]) -> list[Condition]:
    """quick: one half, all blocks. default and paper: 25, 50, 75 %, all blocks. None of them has controls: ask for them by `replace`,
    `which` and `at`.
    """
    return [Condition(ratio=ratio) for ratio in ((0.5,) if preset == "quick" else RATIOS)]


def needs_all(condition: Condition) -> bool:
    """Mean, noise and partners are of other images."""
    return condition.replace != "zero"


def refusal(condition: Condition, backbone: BackboneCard, images: ImageSetCard) -> str | None:
    """It needs blocks, one of those asked for, the tokens that are to be replaced, and other images for what is not zero."""
    c, name = condition, backbone.architecture
    if not {"tokens", "maps"} & set(backbone.provides):
        return f"{name} has neither blocks of patch tokens nor stages of feature maps that could be found"
    if not _chosen(c, backbone):
        return f"{name} has blocks 1 to {_places(backbone)}; `blocks` asks for {c.blocks}"
    if c.at == "every" and c.blocks:
        return "`at = every` takes all blocks, so that `blocks` must be empty"
    if c.mean_over == "all" and (c.which != "patches" or c.replace not in ("mean", "noise")):
        return "`mean_over = all` needs the mean or noise of patches (`replace = mean` or `noise`, `which = patches`)"
    if "tokens" not in backbone.provides:
        plain = c.replace == "zero" and c.which == "patches"
        return (
            None
            if plain
            else f"{name} has feature maps, in which places can only be zeroed (`replace = zero`, `which = patches`)"
        )
    if c.which != "patches":
        if c.ratio not in (0, 1):
            return f"`which = {c.which}` takes all of these tokens: `ratio` must be 1 (or 0), not {c.ratio:g}"
        if c.which == "class" and backbone.prefix_tokens == backbone.registers:
            return f"{name} has no class token among its {backbone.prefix_tokens} prefix tokens"
        if c.which == "registers" and not backbone.registers:
            return f"{name} has no registers among its {backbone.prefix_tokens} prefix tokens"
        if backbone.late_prefix:
            return (
                f"the prefix tokens of {name} join after its blocks, which hold patches only: `which` must be `patches`"
            )
    elif (count := _count(c, backbone)) > (n := _patches(backbone)):
        verb = "zero" if c.replace == "zero" else "replace"
        return f"a ratio of {c.ratio:g} would {verb} {count} of {n} patch tokens"
    if c.replace != "zero" and images.n < 2:
        return f"`replace = {c.replace}` needs another image; the set has {images.n}"
    return None


def passes(condition: Condition) -> float:
    c = condition
    places, groups = (12, 1) if c.at == "every" else (len(c.blocks) or 12, len(c.blocks) or 12)
    return groups + (places if c.replace == "swap" else c.replace != "zero") + (c != _zeroed(c))


def measure(job: Job) -> Iterator[Scores]:
    import torch

    from visionvitals import randomness
    from visionvitals.probes import correlation, tokens
    from visionvitals.studies import _replacements

    c: Condition = job.condition
    where = tokens.layout(job.backbone)
    which, last, control = _span(c, job.backbone.card, where), len(where.blocks), c != _zeroed(c)
    given = _replacements.given(job, where, which) if c.replace != "zero" else None
    one = [(block, (block - 1,)) for block in _chosen(c, job.backbone.card)]
    for batch in job.batches():
        keys = randomness.stream(job.seed, batch.ids, f"lesion/run={c.run}", device=batch.images.device)
        with torch.inference_mode():
            clean = _replacements.passing(job, where, batch.images, (last,))[1][last] if control else None
        for block, places in one if c.at == "one" else [(0, tuple(range(1, last + 1)))]:
            with torch.inference_mode(), ExitStack() as stack:
                put = {place: given(batch, place) for place in places if given is not None}
                for place in places:
                    edit = partial(_cut, c, where, which, keys, put.get(place))
                    stack.enter_context(tokens.entering(where, place, edit))
                logits, seen = _replacements.passing(job, where, batch.images, (last,) if control else ())
                measured = answers(logits.float(), batch.right)
                if clean is not None:
                    measured["token_cosine"] = correlation.mean_cosine(
                        _patch_tokens(where, clean), _patch_tokens(where, seen[last])
                    )
            del measured["prediction"]
            yield Scores(batch.ids, measured, (block,))
        job.progress(len(batch.ids))


def _cut(c: Condition, where: "Layout", which: slice, keys: "Tensor", given: "Tensor | None", x: "Tensor") -> "Tensor":
    """What passes at one place, (b, t, d) or (b, c, h, w), with a part of it replaced by `given`, or by zero where that is None."""
    import torch

    from visionvitals.perturb import lesion

    if where.kind == "maps":
        return lesion.zero_features(x, lesion.spatial_mask(keys, (x.shape[2], x.shape[3]), c.ratio))
    if c.which == "patches":
        dropped = lesion.token_mask(keys, where.patches, lesion.lesion_count(c.ratio, x.shape[1]))
        if given is None:
            return lesion.zero_tokens(x, dropped, prefix=where.prefix)
    else:
        dropped = x.new_full((len(x), which.stop - which.start), c.ratio).bool()
    given = torch.zeros_like(x[:, which]) if given is None else given
    return lesion.replace_tokens(x, dropped, given, start=which.start)


def _patch_tokens(where: "Layout", x: "Tensor") -> "Tensor":
    """(b, n, d): the patch tokens, or the places of a map."""
    return x[:, where.prefix :] if where.kind == "tokens" else x.flatten(2).mT


def _span(c: Condition, card: BackboneCard, where: "Layout") -> slice:
    """Which tokens of a block's sequence `which` means."""
    prefix = where.prefix
    if c.which == "patches":
        return slice(prefix, prefix + where.patches)
    return slice(0, 1) if c.which == "class" else slice(prefix - card.registers, prefix)


def _zeroed(c: Condition) -> Condition:
    """The same without a control: what this study was before it had any."""
    return Condition(ratio=c.ratio, blocks=c.blocks, run=c.run)


def _patches(backbone: BackboneCard) -> int:
    assert backbone.patch_grid is not None
    return backbone.patch_grid[0] * backbone.patch_grid[1]


def _count(condition: Condition, backbone: BackboneCard) -> int:
    """How many patch tokens are replaced."""
    from visionvitals.perturb.patches import drop_count

    return drop_count(condition.ratio, _patches(backbone) + backbone.prefix_tokens)


def _places(backbone: BackboneCard) -> int:
    """How many places there are to cut at: the blocks, and for feature maps what leaves the last stage."""
    return backbone.blocks + ("maps" in backbone.provides)


def _chosen(condition: Condition, backbone: BackboneCard) -> list[int]:
    every = range(1, _places(backbone) + 1)
    return [b for b in every if b in condition.blocks or not condition.blocks]
