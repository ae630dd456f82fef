"""What each kind of `vitals show` draws, for one image and one or several backbones."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visionvitals import short_names, study
from visionvitals.core import Backbone, BackboneCard
from visionvitals.errors import UnreadableImage, VitalsError, near, require
from visionvitals.job import Job
from visionvitals.perturb.cells import default_grid, divides
from visionvitals.remote import on_disk
from visionvitals.show import _paint
from visionvitals.show._sheet import Section, Tile, sheet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

KINDS = {
    "occlusion": "random patches removed, 10 to 90 %",
    "salient": "the patches that matter most removed, or least",
    "shuffle": "patches in another order",
    "attention": "what the class token (or, without one, the mean over patches) looks at, per head",
    "saliency": "gradient, attention and mask as heat",
    "mask": "object masks made from attention",
    "tokens": "principal components of the patch tokens, or of feature maps, as colours",
    "all": "all of these that the network has",
}
"""Kind -> what it shows."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """One image before one backbone.

    Attributes:
        work: the job of this one image, without a condition; its pixels are cut as the network wants them.
        batch: the image alone.
        truth: bool (1, h, w), True on the object; None where no mask was given.
        first: index of what is predicted for the unchanged image.
    """

    work: Job
    batch: study.Batch
    truth: "Tensor | None"
    first: int

    @property
    def backbone(self) -> Backbone:
        return self.work.backbone

    @property
    def card(self) -> BackboneCard:
        return self.work.backbone.card

    @property
    def image(self) -> "Tensor":
        """Float (1, 3, h, w) in [0, 1]."""
        return self.batch.images

    def perturbed(self, name: str, **values: Any) -> "Tensor":
        """The image as the study `name` changes it under a condition of these values, float (3, h, w)."""
        changes = study.load(name)
        assert changes.perturb is not None
        return changes.perturb(changes.Condition(**values), self.batch, self.work.seed)[0]

    def tiles(self, shown: "Sequence[tuple[str, Tensor]]") -> list[Tile]:
        """Each (title, image (3, h, w)) with what the network says to it; one without a classifier says nothing."""
        import torch

        from visionvitals.run.exhibits import class_name

        if self.card.outputs == 0:
            return [Tile(_paint.picture(image), title) for title, image in shown]
        with torch.inference_mode():
            chances = self.backbone.logits(torch.stack([image for _, image in shown])).float().softmax(dim=1)
        found = []
        for (title, image), chance in zip(shown, chances, strict=True):
            best = int(chance.argmax()) if bool(chance.isfinite().all()) else None
            says, share = (
                ("no finite answer", 0.0) if best is None else (class_name(best, self.card), float(chance[best]))
            )
            found.append(Tile(_paint.picture(image), title, says, share, best == self.first))
        return found


def draw(
    kind: str,
    *,
    image: Path,
    models: Sequence[str],
    out: Path,
    device: "torch.device",
    mask: Path | None = None,
    seed: int = 0,
) -> Path:
    """Draw one image and write the picture.

    Args:
        kind: a key of `KINDS`.
        image: a picture file.
        models: spellings of backbones, drawn below each other.
        out: the file to write; its ending decides the format.
        device: where to compute.
        mask: a mask file of the image's size (0 background, 255 or 1 object), for its outline and as saliency.
        seed: root of the randomness, as in a run.

    Returns:
        `out`.

    Raises:
        VitalsError: an unknown kind, an image or mask that cannot be read, a file that cannot be written, or no backbone that has
            what the kind shows.
    """
    require(kind in KINDS, "`vitals show` must be told what to show", kind, near(kind, KINDS))
    require(len(models) > 0, "`--model` must name a backbone", "none", "Try `--model tiny:vit`.")
    require(out.suffix.lower() in (".png", ".jpg", ".webp"), "`--out` must end in .png, .jpg or .webp", str(out))
    from visionvitals.plan import planner

    names = short_names.labels(models)
    kinds = [name for name in KINDS if name != "all"] if kind == "all" else [kind]
    sections: list[Section] = []
    reasons: list[str] = []
    for model in models:
        view = _view(planner.load_backbone(model, device=device), image, mask, seed)
        for each in kinds:
            try:
                found = list(_DRAWN[each](view))
            except VitalsError as error:
                reasons.append(str(error))
                continue
            sections += [s._replace(head=f"{s.head}   ·   {names[model]}") for s in found]
    require(bool(sections), f"`vitals show {kind}` must have something to draw", " ".join(dict.fromkeys(reasons)))
    try:
        on_disk(out).parent.mkdir(parents=True, exist_ok=True)
        sheet(image.name, sections).save(out)
    except OSError as error:
        raise VitalsError(f"The picture must be written to {out}. Got: {error}. Name another file.") from error
    return out


def _view(backbone: Backbone, image: Path, mask: Path | None, seed: int) -> _View:
    import torch

    from visionvitals.datasets.base import masks as _masks
    from visionvitals.datasets.base.decode import decode, decode_mask, open_image
    from visionvitals.files import read_regular

    card = backbone.card
    try:
        whole = open_image(read_regular(image), str(image))
        pixels = decode(whole, card.preprocess)
        truth = None
        if mask is not None:
            values = _masks.read_object(mask, str(mask))
            size, must = (whole.height, whole.width), "The mask must be of the image's size"
            require(values.shape == size, must, values.shape, f"The image is {size} (height, width).")
            truth = torch.from_numpy(decode_mask(values, card.preprocess) == 1)[None]
    except OSError as error:
        do = "Give a picture file to `--image`."
        raise VitalsError(f"The image must be readable. Got {str(image)!r}: {error.strerror or error}. {do}") from error
    except UnreadableImage as error:
        raise VitalsError(f"The image and its mask must be readable. Got {error}.") from error
    alone: Any = {"ids": (image.name,), "pixels": np.array(pixels)[None], "labels": np.zeros(1, dtype=np.int64)}
    work = Job(backbone=backbone, condition=None, seed=seed, exhibits=frozenset((image.name,)), **alone)
    (batch,) = work.batches()
    with torch.inference_mode():
        out = backbone.logits(batch.images)
    require(bool(out.isfinite().all()), "The network must give finite logits for the image", "NaN or Inf")
    return _View(work=work, batch=batch, truth=truth, first=int(out.argmax()))


def _occlusion(view: _View) -> Iterator[Section]:
    grid = default_grid(view.card.preprocess.size)
    shown = [("as it is", view.image[0])]
    for fraction in (0.25, 0.5, 0.75, 0.9):
        shown.append((f"{fraction:.0%} removed", view.perturbed("occlusion", fraction=fraction, grid=grid)))
    text = f"Random cells of a {grid[0]} x {grid[1]} grid are black. Bar: probability of the class it names."
    yield Section("Occlusion", text, view.tiles(shown))


def _salient(view: _View) -> Iterator[Section]:
    attends = "attention" in view.card.provides and view.card.patch_grid is not None
    source = "self" if attends else "gradient"
    named = "the network's attention" if attends else "the gradient"
    for name, drop in (("Salient", "salient"), ("Non-salient", "non-salient")):
        shown = [("as it is", view.image[0])]
        for mass in (0.1, 0.25, 0.5, 0.75):
            image, pixels = _without(view, named, mass=mass, drop=drop, source=source)
            shown.append((f"{mass:.0%} of mass, {pixels:.0%} of pixels", image))
        which = "most" if name == "Salient" else "least"
        text = f"Removed: the cells that hold {which} of the saliency; its mass is that of {named}."
        yield Section(f"{name} occlusion", text, view.tiles(shown))


def _without(view: _View, named: str, **values: Any) -> "tuple[Tensor, float]":
    """The image that the study `salient` shows, and the share of its pixels that is gone.

    Args:
        view: the image and the network.
        named: the source of saliency in words.
        values: fields of the condition but the grid.
    """
    salient = study.load("salient")
    condition = salient.Condition(grid=default_grid(view.card.preprocess.size), **values)
    shown: dict[str, Tensor] = {}
    (block,) = salient.measure(dataclasses.replace(view.work, condition=condition, keep=shown.__setitem__))
    require(bool(shown), "Saliency must be finite and not zero everywhere", named, "Try another image.")
    return shown[view.work.ids[0]], float(block.values["information_loss"][0])


def _shuffle(view: _View) -> Iterator[Section]:
    shown = [("as it is", view.image[0])]
    for grid in ((2, 2), (4, 4), (8, 8), (14, 14), (16, 16)):
        if divides(grid, view.card.preprocess.size):
            shown.append((f"{grid[0]} x {grid[1]} cells", view.perturbed("shuffle", grid=grid)))
    yield Section("Shuffle", "The cells change places; only their content is left.", view.tiles(shown))


def _heads(view: _View) -> Iterator[Section]:
    grid = view.card.patch_grid
    rows = _attention(view)[0]
    assert grid is not None
    tiles = [*view.tiles([("as it is", view.image[0])])]
    tiles.append(Tile(_paint.heat(view.image[0], rows.mean(dim=0), grid), "mean over heads"))
    tiles += [Tile(_paint.heat(view.image[0], row, grid), f"head {k}") for k, row in enumerate(rows)]
    asks = "class token" if view.card.prefix_tokens else "mean over all patches"
    text = f"Last block, {asks} to patches; brightness: square root of the weight, full from the 98th percentile."
    yield Section("Attention", text, tiles)


def _saliency(view: _View) -> Iterator[Section]:
    from visionvitals.perturb import saliency

    grid = default_grid(view.card.preprocess.size)
    tiles = [*view.tiles([("as it is", view.image[0])])]
    tiles.append(Tile(_paint.heat(view.image[0], _gradient(view, grid)[0], grid), "gradient"))
    if "attention" in view.card.provides and view.card.patch_grid is not None:
        rows = _attention(view).mean(dim=1)
        tiles.append(Tile(_paint.heat(view.image[0], rows[0], view.card.patch_grid), "attention, mean head"))
    if view.truth is not None:
        weights = saliency.from_mask(view.truth, grid)
        tiles.append(Tile(_paint.heat(view.image[0], weights[0], grid), "true object"))
    text = "Where the weights of salient occlusion come from. Gradient: of the predicted class, summed over each cell."
    yield Section("Saliency", text, tiles)


def _mask(view: _View) -> Iterator[Section]:
    from visionvitals.probes import segmentation

    grid, size = view.card.patch_grid, view.card.preprocess.size
    rows = _attention(view)
    assert grid is not None
    tiles = [*view.tiles([("as it is", view.image[0])])]
    for keep in (0.3, 0.6, 0.9):
        masks = segmentation.mass_mask(rows.mean(dim=1, keepdim=True), keep)
        whole = segmentation.upsample(masks, grid, size)[0, 0]
        says, target = "", None
        if view.truth is not None:
            target = view.truth[0].long()
            if bool(target.any()):
                overlap = segmentation.jaccard(whole[None], target, n_classes=2).values[0, 0]
                says = f"Jaccard {float(overlap):.0%}"
        shown = segmentation.overlay(view.image[0].cpu(), whole, target)
        tiles.append(Tile(_paint.picture(shown), f"{keep:.0%} of the attention", says))
    outline = " White: the true outline." if view.truth is not None else ""
    yield Section("Mask from attention", f"Mean over heads, the patches that hold so much of it.{outline}", tiles)


def _tokens(view: _View) -> Iterator[Section]:
    import torch

    from visionvitals.probes import components, tokens

    where = tokens.layout(view.backbone)
    with torch.inference_mode():
        blocks, _ = tokens.record(view.backbone, view.image, where)
    shown = sorted({round(part * (len(blocks) - 1) / 4) for part in range(5)})
    tiles = [*view.tiles([("as it is", view.image[0])])]
    for number in shown:
        found, grid = blocks[number].cpu(), view.card.patch_grid
        if found.ndim == 4:
            grid = (found.shape[2], found.shape[3])
            flat = found.flatten(2).mT
        else:
            flat = found[:, where.prefix :]
        if grid is None or min(flat.shape[1:]) < 3 or number in where.unordered:
            continue
        colours = components.principal_colours(flat)[0].T.reshape(3, *grid)
        tiles.append(Tile(_paint.picture(colours.float()), f"after block {number + 1} of {len(blocks)}"))
    text = "The first three principal components as red, green and blue, computed for each picture: patches of one colour are alike."
    yield Section("Tokens", text, tiles)


def _attention(view: _View) -> "Tensor":
    """(1, heads, n), on the CPU."""
    import torch

    from visionvitals.perturb import saliency
    from visionvitals.probes import attention

    with torch.inference_mode():
        rows = attention.patch_rows(view.backbone, view.image).cpu()
    must = f"`{view.card.spec}`: attention must be finite"
    require(bool(saliency.usable(rows[0]).all()), must, "an overflow or zeros", "Compute in float32.")
    return rows


def _gradient(view: _View, grid: tuple[int, int]) -> "Tensor":
    """(1, cells), on the CPU."""
    from visionvitals.perturb import saliency
    from visionvitals.probes import gradient

    return saliency.from_gradient(gradient.predicted(view.backbone, view.image), grid)


_DRAWN: dict[str, Callable[[_View], Iterator[Section]]] = {
    "occlusion": _occlusion,
    "salient": _salient,
    "shuffle": _shuffle,
    "attention": _heads,
    "saliency": _saliency,
    "mask": _mask,
    "tokens": _tokens,
}
