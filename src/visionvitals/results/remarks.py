"""What is to be known of a vital sign before it is read alone."""

from visionvitals.results import words
from visionvitals.results.fields import is_grid
from visionvitals.results.run import Point, Run
from visionvitals.results.signs import Column


def silent(run: Run, column: Column) -> str:
    """Why a sign means little by itself; "" where it does not."""
    if column.better is None and column.unit == "none":
        return "neither a high nor a low value is good, and it has no fixed scale: read it with its chart"
    if all(r.at_chance for r in column.readings.values()):
        return "it is relative to an accuracy that is no better than guessing"
    own = {field for field, _ in column.fixed} | column.sign.where.keys()
    through = [r.points[-1] for r in column.readings.values() if "grid" in own and cut(run, r.points[-1])]
    if through:
        return f"its cells cut through the patches of {words.listed(dict.fromkeys(p.backbone for p in through))}"
    return ""


def cut(run: Run, p: Point) -> bool:
    """Whether the condition's cells cut through the patches of the network."""
    patches, grid = run.backbones[p.backbone]["patch_grid"], p.condition.get("grid")
    if patches is None or grid is None or not is_grid(grid):
        return False
    return any(side % cells for side, cells in zip(patches, grid, strict=True))
