"""Time is `progress` in [0, 1]; a hyperparameter is a number or a function of it.

Some schedules also follow the validation metrics, or the teacher's output on each row.
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
        """Receive whether more is better, by metric, before the first step."""

    def observe(self, metrics: Mapping[str, float]) -> None:  # noqa: B027  most follow time alone
        """Receive the metrics of a validation, by name."""

    def state(self) -> dict[str, Any]:
        """The part of the observed metrics that a checkpoint keeps: plain values."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Continue from a result of :meth:`state`."""


def schedules_of(owner: Any) -> Iterator[Schedule]:
    """The schedules among an object's attributes, and those that these are made of."""
    for value in vars(owner).values():
        if isinstance(value, Schedule):
            yield value
            yield from schedules_of(value)


def value_at(value: float | Schedule, progress: float) -> float:
    """The value of a number or a schedule at ``progress``.

    Example:
        >>> from kdlab.schedule.linear import Linear
        >>> value_at(4.0, 0.25), value_at(Linear(4.0, 1.0), 0.5)
        (4.0, 2.5)
    """
    return value(progress) if isinstance(value, Schedule) else float(value)


def row_values_at(value: float | Schedule, progress: float, teacher: Output | None) -> float | Tensor:
    """The value of each row ``[...]``; one number where all have the same, as without a teacher.

    Example:
        >>> row_values_at(0.5, 0.0, None)
        0.5
    """
    if isinstance(value, Schedule) and teacher is not None:
        return value.rows(progress, teacher)
    return value_at(value, progress)


def bounds(value: float | Schedule, name: str, by_row: bool = False) -> tuple[float, float]:
    """The smallest and the largest value of a number or a schedule.

    Args:
        name: its config key, for the message.
        by_row: whether each row may have a value of its own.

    Raises:
        UserError: it is neither, or has a value for each row where there can be only one.

    Example:
        >>> from kdlab.schedule.linear import Linear
        >>> bounds(0.5, "alpha"), bounds(Linear(1.0, 0.0), "alpha")
        ((0.5, 0.5), (0.0, 1.0))
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


def format_range(low: float, high: float) -> str:
    """The bounds of a value, as part of a sentence.

    Example:
        >>> format_range(1.0, 1.0), format_range(0.5, 2.0)
        ('is 1', 'goes from 0.5 to 2')
    """
    return f"is {low:g}" if low == high else f"goes from {low:g} to {high:g}"


def number(value: float, name: str) -> float:
    """``value`` as a finite float.

    Raises:
        UserError: it is not one.

    Example:
        >>> number(3, "momentum")
        3.0
    """
    if isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) != float("inf") and value == value:
        return float(value)
    raise UserError(f"{name} is {value!r}, but must be a finite number: give it in the override, such as {name}=0.5.")


def between(start: float, end: float, share: float) -> float:
    """``share`` of the way from ``start`` to ``end``, never beyond either, not even by rounding.

    Example:
        >>> between(1.0, 3.0, 0.25), between(1.0, 3.0, 2.0)
        (1.5, 3.0)
    """
    low, high = min(start, end), max(start, end)
    return end if share >= 1 else min(max(start + (end - start) * max(share, 0.0), low), high)


def positive(temperature: float | Schedule, name: str) -> float | Schedule:
    """``temperature``, checked.

    Raises:
        UserError: it is not above 0 all the time.

    Example:
        >>> positive(4.0, "temperature")
        4.0
    """
    low, high = bounds(temperature, name)
    if not 0 < low <= high < float("inf"):
        raise UserError(
            f"{name} {format_range(low, high)}, but a temperature must stay above 0: 1 softens nothing, 4 is common."
        )
    return temperature


def within(value: float | Schedule, low: float, high: float, name: str, advice: str) -> float | Schedule:
    """``value``, checked.

    Args:
        low, high: the least and the largest value that are allowed.
        name: its config key, for the message.
        advice: the meaning of its values, for the message.

    Raises:
        UserError: it does not stay in [low, high] all the time.

    Example:
        >>> within(0.5, 0, 1, "alpha", "it is a share")
        0.5
    """
    least, most = bounds(value, name)
    if not low <= least <= most <= high:
        raise UserError(f"{name} {format_range(least, most)}, but must stay in [{low:g}, {high:g}]: {advice}.")
    return value
