"""One value for the whole run."""

from __future__ import annotations

from kdlab.schedule.base import Schedule, number


class Constant(Schedule):
    """``value`` at every progress."""

    def __init__(self, value: float) -> None:
        self.value = number(value, "schedule.value")

    def __call__(self, progress: float) -> float:
        return self.value
