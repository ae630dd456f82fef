"""A map over the patch grid as a picture, as the studies that look inside keep them for the report."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def picture(map_: "Tensor") -> "Tensor":
    """A map (rows, columns) as a grey picture (3, h, w) in 8 px cells of 256 levels: its largest value is white, but where no value is twice the
    mean, the mean is mid grey, so that a flat map looks flat."""
    grey = (map_ / max(map_.max(), 2 * map_.mean()) * 255).round() / 255
    return grey.float().repeat_interleave(8, 0).repeat_interleave(8, 1).expand(3, -1, -1)
