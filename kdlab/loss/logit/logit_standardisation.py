"""KL between standardised logits: the student need not match the range of the teacher's."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.loss.feature.layered import unit
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at


def standardise(logits: Tensor) -> Tensor:
    """Logits ``[..., C]`` with mean 0 and standard deviation 1 over the classes; a constant row becomes 0.

    Classes that are ruled out (-inf) stay so, and the others are standardised among themselves.

    Example:
        >>> standardise(torch.tensor([1.0, 3.0]))
        tensor([-1.0000,  1.0000])

    Source: Sun et al. 2024, arXiv:2403.01427 (the Z-score); the deviation divides by C, in the authors' code by C - 1.
    """
    some = logits > -torch.inf
    values, count = at_least_float32(logits).where(some, 0), some.sum(-1, keepdim=True)
    centred = (values - values.sum(-1, keepdim=True) / count).where(some, 0)
    return (unit(centred, -1) * count.to(values).sqrt()).masked_fill(~some, -torch.inf)


@final
class LogitStandardisation(Term):
    """The mean of the tempered KL between standardised logits, for single-label tasks.

    It is free of shift and scale of either side. With two classes only the sign of a row's difference is left.

    Formula: ``T^2 KL(softmax(z(t) / T) || softmax(z(s) / T))`` with ``z(x) = (x - mean) / deviation`` over the classes.
    When: a student that cannot reach the range of the teacher's logits; three classes or more.
    Cost: no parameters; two softmaxes of a row.

    Args:
        weight, temperature: numbers or schedules; the temperature is the paper's base temperature.

    Source: Sun et al. 2024 (logit standardisation), arXiv:2403.01427.
    """

    outcome = Choice

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        student_scores, teacher_scores = standardise(student.logits), standardise(teacher.logits)
        return student.mean(tempered_kl(student_scores, teacher_scores, value_at(self.temperature, progress)))
