"""The total variation distance: the probability mass on which student and teacher differ."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def total_variation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T * half the sum of the absolute differences of the probabilities at temperature T, per position.

    T, and not T^2, keeps the gradient's scale free of the temperature, since the distance is no square near its zero.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]`` in [0, T], symmetric, and 0 where the softened distributions agree.

    Example:
        >>> import torch
        >>> total_variation(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.8, 0.2]).log(), 1.0)
        tensor(0.3000)

    Source: Wen et al. 2023 (f-DISTILL), arXiv:2307.15190, the total variation distance of one step.
    """
    difference = soften(student, temperature).exp() - soften(teacher, temperature).exp()
    return temperature / 2 * difference.abs().sum(-1)


@final
class TotalVariation(Term):
    """The mean of :func:`total_variation`, for single-label tasks.

    Formula: ``T / 2 sum_c |p_s(c) - p_t(c)|``.
    When: a bounded and symmetric loss, in which a few hard rows do not decide.
    Cost: no parameters; two softmaxes of a row.

    Args:
        weight, temperature: numbers or schedules.
    """

    outcome = Choice

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(total_variation(student.logits, teacher.logits, value_at(self.temperature, progress)))
