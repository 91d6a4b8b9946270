"""A linear rise from 0 before another schedule: for learning rates."""

from __future__ import annotations

from kdlab.error import UserError
from kdlab.schedule.base import Schedule, number
from kdlab.value import Fraction


class Warmup(Schedule):
    """Rises from 0 to ``then(0)`` over the first part of the run; ``then`` fills the rest, stretched to it.

    Args:
        warmup: the fraction of the run that rises, in [0, 1).
        then: the schedule after it.
    """

    def __init__(self, warmup: Fraction, then: Schedule) -> None:
        self.warmup = number(warmup, "scheduler.warmup")
        if not 0 <= self.warmup < 1:
            raise UserError(
                f"scheduler.warmup is {warmup!r}, but must be a fraction of the run in [0, 1): 0.1 warms up "
                "over its first tenth."
            )
        if not isinstance(then, Schedule):
            raise UserError(
                f"scheduler.then is {then!r}, but must be a schedule: give it a _target_ such as "
                "kdlab.schedule.linear.Linear."
            )
        self.then = then

    def __call__(self, progress: float) -> float:
        if progress < self.warmup:
            return self.then(0.0) * max(progress, 0.0) / self.warmup
        return self.then((progress - self.warmup) / (1 - self.warmup))
