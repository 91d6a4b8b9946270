"""Time is `progress` in [0, 1]; a hyperparameter is a number or a function of it.

Some schedules also listen: to the validation metrics, or to what the teacher says of each row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any

from torch import Tensor

from kdlab.error import UserError
from kdlab.output import Output


class Schedule(ABC):
    """A scalar over the course of a run.

    Attributes:
        monitor: the validation metric that it follows; None: none.
        by_row: whether each row has a value of its own, which only alpha and the weights of terms can have.
    """

    monitor: str | None = None
    by_row: bool = False

    @abstractmethod
    def __call__(self, progress: float) -> float:
        """The value at ``progress``, which runs from 0 (first step) to 1 (last step)."""

    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest value over the run; what arguments are checked with before it starts."""
        values = [self(i / 1000) for i in range(1001)]
        return min(values), max(values)

    def rows(self, progress: float, teacher: Output) -> float | Tensor:
        """The value of each row ``[...]``, without gradient; one number where all have the same."""
        return self(progress)

    def direct(self, directions: Mapping[str, bool | None]) -> None:  # noqa: B027
        """Take in whether more is better of each metric, before the first step."""

    def hear(self, metrics: Mapping[str, float]) -> None:  # noqa: B027  most follow time alone
        """Take in the metrics of a validation, by name."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to remember of what was heard: plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Go on from what :meth:`state` gave."""


def held(owner: Any) -> Iterator[Schedule]:
    """The schedules among an object's attributes, and those that these are made of."""
    for value in vars(owner).values():
        if isinstance(value, Schedule):
            yield value
            yield from held(value)


def at(value: float | Schedule, progress: float) -> float:
    """The value of a number or a schedule at ``progress``."""
    return value(progress) if isinstance(value, Schedule) else float(value)


def at_rows(value: float | Schedule, progress: float, teacher: Output | None) -> float | Tensor:
    """The value of each row ``[...]``; one number where all have the same, as without a teacher."""
    return value.rows(progress, teacher) if isinstance(value, Schedule) and teacher is not None else at(value, progress)


def bounds(value: float | Schedule, name: str, by_row: bool = False) -> tuple[float, float]:
    """The smallest and the largest value of a number or a schedule.

    Args:
        name: how the user calls it, for the message.
        by_row: whether each row may have a value of its own.

    Raises:
        UserError: where it is neither, or has a value for each row where there can be only one.
    """
    if isinstance(value, Schedule):
        if value.by_row and not by_row:
            raise UserError(
                f"{name} must be the same for all rows of a batch, but this schedule gives each row its own: mount it "
                "on loss.alpha or on the weight of a term, and choose another schedule here."
            )
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
