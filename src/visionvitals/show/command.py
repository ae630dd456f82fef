"""The command `vitals show`; it loads torch only when it draws."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from visionvitals.options import Seed
from visionvitals.terminal import print_line


def show(
    kind: str,
    /,
    *,
    image: Path,
    model: Annotated[tuple[str, ...], Parameter(negative=())],
    out: Path = Path("show.png"),
    mask: Path | None = None,
    seed: Seed = 0,
    device: str | None = None,
) -> int:
    """Draw one image: what the studies do to it, what a network looks at, what it says before and after.

    Args:
        kind: occlusion, salient, shuffle, attention, saliency, mask, tokens, or all.
        image: A picture file.
        model: A backbone as for `audit`. Give it again for several, below each other.
        out: The file to write, .png, .jpg or .webp.
        mask: A mask file of the image's size, white on the object.
        seed: Root of the randomness.
        device: cpu, cuda, cuda:N or mps. The best there is by default.
    """
    from visionvitals.run.devices import choose_device
    from visionvitals.show._draw import draw

    print_line(draw(kind, image=image, models=model, out=out, device=choose_device(device), mask=mask, seed=seed))
    return 0
