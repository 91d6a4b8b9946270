"""Time is `progress` in [0, 1]; a hyperparameter is a number or a function of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from numbers import Real

from kdlab.error import UserError


class Schedule(ABC):
    """A scalar over the course of a run."""

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at ``progress``, which runs from 0 (first step) to 1 (last step)."""

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value over the run; what arguments are checked with before it starts."""
        values = [self(i / 1000) for i in range(1001)]
        return min(values), max(values)


def at(value: float | Schedule, progress: float) -> float:
    """The value of a number or a schedule at ``progress``."""
    return value(progress) if isinstance(value, Schedule) else value


def bounds(value: float | Schedule, name: str) -> tuple[float, float]:
    """The smallest and the largest value of a number or a schedule.

    Args:
        name: how the user calls it, for the message.

    Raises:
        UserError: where it is neither.
    """
    if isinstance(value, Schedule):
        return value.bounds()
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value), float(value)
    raise UserError(
        f"{name} is {value!r}, but must be a number or a schedule: give a number, or mount one with "
        f"+schedule@{name}=linear."
    )


def said(low: float, high: float) -> str:
    """The bounds of a value, in a sentence."""
    return f"is {low:g}" if low == high else f"goes from {low:g} to {high:g}"


def number(value: float, name: str) -> float:
    """``value`` as a finite float.

    Raises:
        UserError: where it is not one.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) != float("inf") and value == value:
        return float(value)
    raise UserError(f"{name} is {value!r}, but must be a finite number: give it in the override, such as {name}=0.5.")


def between(start: float, end: float, share: float) -> float:
    """``share`` of the way from ``start`` to ``end``, never beyond either, not even by rounding."""
    low, high = min(start, end), max(start, end)
    return end if share >= 1 else min(max(start + (end - start) * max(share, 0.0), low), high)


def positive(temperature: float | Schedule, name: str) -> float | Schedule:
    """``temperature``, checked.

    Raises:
        UserError: it is not above 0 all the time.
    """
    low, high = bounds(temperature, name)
    if not 0 < low <= high < float("inf"):
        raise UserError(
            f"{name} {said(low, high)}, but a temperature must stay above 0: 1 softens nothing, 4 is common."
        )
    return temperature


def within(value: float | Schedule, low: float, high: float, name: str, advice: str) -> float | Schedule:
    """``value``, checked.

    Args:
        low, high: what it must not leave; both are allowed.
        name: how the user calls it.
        advice: what its values mean, for the message.

    Raises:
        UserError: it does not stay in [low, high] all the time.
    """
    least, most = bounds(value, name)
    if not low <= least <= most <= high:
        raise UserError(f"{name} {said(least, most)}, but must stay in [{low:g}, {high:g}]: {advice}.")
    return value
