"""Time is `progress` in [0, 1]; a hyperparameter is a number or a function of it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Schedule(ABC):
    """A scalar over the course of a run."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at ``progress``, which runs from 0 (first step) to 1 (last step)."""


def at(value: float | Schedule, progress: float) -> float:
    """The value of a number or a schedule at ``progress``."""
    return value(progress) if isinstance(value, Schedule) else value
