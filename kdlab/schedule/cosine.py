"""Half a cosine over the run: flat at both ends, steepest in the middle."""

from __future__ import annotations

from math import cos, pi

from kdlab.schedule.base import Schedule, between, number


class Cosine(Schedule):
    """From ``start`` to ``end`` along half a cosine.

    Source: Loshchilov, Hutter 2017, arXiv:1608.03983, equation 5, without restarts.
    """

    def __init__(self, start: float, end: float) -> None:
        self.start = number(start, "schedule.start")
        self.end = number(end, "schedule.end")

    def __call__(self, progress: float) -> float:
        return between(self.start, self.end, (1 - cos(pi * min(max(progress, 0.0), 1.0))) / 2)
