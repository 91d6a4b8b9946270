"""Plateaus: one value until a boundary, then the next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

from kdlab.error import UserError
from kdlab.schedule.base import Schedule, number


class Step(Schedule):
    """``values[i]`` from ``boundaries[i - 1]`` (included) to ``boundaries[i]`` (excluded).

    Args:
        values: one more than there are boundaries.
        boundaries: rising progress values, each inside (0, 1).
    """

    def __init__(self, values: Sequence[float], boundaries: Sequence[float]) -> None:
        self.values = [number(v, "schedule.values") for v in values]
        self.boundaries = [number(b, "schedule.boundaries") for b in boundaries]
        if len(self.values) != len(self.boundaries) + 1:
            raise UserError(
                f"schedule.values has {len(self.values)} entries and schedule.boundaries {len(self.boundaries)}, "
                "but a step schedule needs one more value than boundaries: add or drop one."
            )
        rising = all(a < b for a, b in pairwise(self.boundaries))
        if not rising or any(not 0 < b < 1 for b in self.boundaries):
            raise UserError(
                f"schedule.boundaries is {self.boundaries}, but must rise and lie inside (0, 1): "
                "they are fractions of the run, such as [0.5, 0.75]."
            )

    def __call__(self, progress: float) -> float:
        return self.values[bisect_right(self.boundaries, progress)]

    def bounds(self) -> tuple[float, float]:
        return min(self.values), max(self.values)
