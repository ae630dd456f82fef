"""From cells to numbers: the one reader of run folders, for tables, comparisons, vital signs and reports. No torch."""

from visionvitals.results.read import load
from visionvitals.results.run import Point, Run

__all__ = ["Point", "Run", "load"]
