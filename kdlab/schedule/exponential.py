"""The same factor over every equal part of the run: for what is felt in ratios, as temperatures are."""

from __future__ import annotations

from kdlab.error import UserError
from kdlab.schedule.base import Schedule, number


class Exponential(Schedule):
    """From ``start`` to ``end`` in a geometric progression: ``start * (end / start) ** progress``.

    Args:
        start, end: both above 0, or both below.
    """

    def __init__(self, start: float, end: float) -> None:
        self.start = number(start, "schedule.start")
        self.end = number(end, "schedule.end")
        if self.start * self.end <= 0:
            raise UserError(
                f"schedule.start is {self.start:g} and schedule.end {self.end:g}, but an exponential schedule neither "
                "begins nor ends at 0, nor crosses it: take a small number such as 0.01, or schedule=linear."
            )

    def __call__(self, progress: float) -> float:
        if progress <= 0 or progress >= 1:
            return self.start if progress <= 0 else self.end
        low, high = min(self.start, self.end), max(self.start, self.end)
        return min(max(self.start * (self.end / self.start) ** progress, low), high)
