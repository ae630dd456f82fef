"""From the command to a copy: open the image set, the styles and the engine, write, and say what happened."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from visionvitals.core import ImageSet
from visionvitals.errors import require
from visionvitals.perturb.stylize import fourier
from visionvitals.plan import planner
from visionvitals.run.devices import choose_device
from visionvitals.run.progress import meter
from visionvitals.stylize import copy, networks
from visionvitals.stylize.styles import scan

_NAMED = 5  # pictures that are named on the terminal; all are in the folder's files


def stylize(
    data: str,
    out: Path,
    *,
    facts: Mapping[str, Any],
    styles: Path | None,
    weights: tuple[Path, Path] | None,
    part: tuple[int, int],
    batch_size: int | None,
    device: str | None,
    workers: int,
    say: Callable[[str], None],
) -> int:
    """Write one part of a stylised copy.

    Args:
        data: the spelling of the natural pictures.
        out: the folder of the copy.
        facts: the settings that decide the pictures (`engine`, and `size`, `alpha` and `first` where there are styles).
        styles: the folder of styles, or None for exact re-texturing.
        weights: encoder and decoder files of AdaIN, or None.
        part, workers: see `copy.run`.
        batch_size: pictures at a time, or None for 32, and 4 where networks compute on a CPU.
        device: where the engine computes, or None for the best.
        say: prints a line.

    Returns:
        0, or 1 where pictures could not be read.

    Raises:
        VitalsError: whatever the user can mend.
    """
    images = planner.open_images(_retextured(data) if styles is None else data)
    known = dict(facts) | {"digest": images.card.digest}
    if weights is not None:
        known |= {"encoder": networks.file_digest(weights[0]), "decoder": networks.file_digest(weights[1])}
    where = choose_device(device) if weights is not None else torch.device("cpu")
    transfer = fourier if weights is None else networks.load(*weights, device=where)
    copy.claim(out, known)
    found = None
    if styles is not None:
        with meter(cells=0, images=0) as state:
            state.say(f"Looking at the styles in {styles}")
            found = scan(
                styles, known["size"], kept=out / "styles.json", workers=workers, progress=_counter(state.say, "styles")
            )
        _name(say, [reason for _, reason in found.excluded], "styles cannot be used and are left out of the draw")
        say(f"{len(found.names):,} styles")
    stylised = copy.Stylised(
        images=images,
        styles=found,
        engine=partial(transfer, alpha=known.get("alpha", 1.0)),
        size=known["size"] if styles is not None else _side(images),
        first=known.get("first", 0),
        device=where,
    )
    with meter(cells=1, images=len(range(part[0], len(images), part[1]))) as state, state.measuring():
        size = batch_size or (4 if weights is not None and where.type == "cpu" else 32)
        outcome = copy.run(stylised, out, part=part, batch_size=size, workers=workers, progress=state.advance)
    _name(say, outcome.unreadable, "pictures cannot be read and are left out")
    say(f"{outcome.made:,} pictures made, {outcome.found:,} found from before. Read them as folder:{out}")
    return 1 if outcome.unreadable else 0


def _retextured(data: str) -> str:
    """The same embedded pictures in random textures; every texture is equally likely for every shape."""
    require("variant=" not in data, "The pictures to re-texture must be named without a variant", data)
    return f"{data}{'&' if '?' in data else '?'}variant=random"


def _side(images: ImageSet) -> int:
    return images[0].image.width


def _name(say: Callable[[str], None], reasons: "list[str] | tuple[str, ...]", what: str) -> None:
    if reasons:
        more = f"; and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
        say(f"{len(reasons)} {what}: {'; '.join(reasons[:_NAMED])}{more}")


def _counter(say: Callable[[str], None], what: str) -> Callable[[int], None]:
    """Says every thousandth."""
    seen = 0

    def count(more: int) -> None:
        nonlocal seen
        seen += more
        if seen % 1000 == 0:
            say(f"{seen:,} {what} seen")

    return count
