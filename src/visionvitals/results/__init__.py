"""From cells to numbers: the one reader of run folders, for tables, comparisons, vital signs and reports. No torch."""

from visionvitals.results.run import Point, Run, load

__all__ = ["Point", "Run", "load"]
