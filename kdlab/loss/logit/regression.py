"""Regression of the teacher's number, where a row's value is a real number."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn.functional import huber_loss

from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Real
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at


def huber_distance(student: Tensor, teacher: Tensor, delta: float) -> Tensor:
    """Half the squared difference of two numbers up to ``delta``, and linear from there, per position.

    Args:
        student, teacher: ``[..., 1]``; half precision is computed in float32.
        delta: > 0, in units of the value.

    Returns:
        ``[...]``, >= 0, and 0 where both agree; its slope is never steeper than ``delta``.

    Example:
        >>> import torch
        >>> huber_distance(torch.tensor([[0.5], [3.0]]), torch.zeros(2, 1), 1.0)  # 0.5^2 / 2 and 3 - 1/2
        tensor([0.1250, 2.5000])

    Source: Huber 1964, Robust Estimation of a Location Parameter; the teacher's number in the place of the truth.
    """
    return huber_loss(at_least_float32(student), at_least_float32(teacher), reduction="none", delta=delta).squeeze(-1)


@final
class Regression(Term):
    """The mean of :func:`huber_distance`, for models that give one number a row.

    Formula: ``d^2 / 2`` for ``d = |s - t| <= delta``, else ``delta (d - delta / 2)``.
    When: a real number a row, and a teacher that is to be trusted.
    Cost: no parameters.

    Args:
        weight: a number or a schedule.
        delta: > 0, where the square becomes a line, in units of the value; a number or a schedule.
    """

    outcome = Real

    def __init__(self, weight: float | Schedule = 1.0, delta: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.delta = positive(delta, "delta")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(huber_distance(student.logits, teacher.logits, value_at(self.delta, progress)))
