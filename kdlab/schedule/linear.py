"""A straight line over the run."""

from __future__ import annotations

from kdlab.schedule.base import Schedule, between, number


class Linear(Schedule):
    """From ``start`` at the first step to ``end`` at the last; both are met exactly."""

    def __init__(self, start: float, end: float) -> None:
        self.start = number(start, "schedule.start")
        self.end = number(end, "schedule.end")

    def __call__(self, progress: float) -> float:
        return between(self.start, self.end, progress)
