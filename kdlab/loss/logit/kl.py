"""Knowledge distillation from softened probabilities."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import kl, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def tempered_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) at temperature T, in nats, per position.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]``, >= 0, and 0 where the softened distributions agree; a class that the teacher rules out (-inf) counts
        nothing.

    Example:
        >>> import torch
        >>> s, t = torch.tensor([1.0, 2.0, 2.0, 0.0]), torch.tensor([1.0, 2.0, 3.0, -torch.inf])
        >>> round(tempered_kl(s, t, 1.0).item(), 4)
        0.1752

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2 (T^2 keeps the gradient's scale free of T).
    """
    return temperature**2 * kl(soften(teacher, temperature), soften(student, temperature))


@final
class KL(Term):
    """The mean of :func:`tempered_kl`, for single-label tasks.

    Formula: ``T^2 KL(p_t || p_s)`` with ``p = softmax(logits / T)``.
    When: one label a row: the place to start, and what any other objective has to beat.
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
        return student.mean(tempered_kl(student.logits, teacher.logits, value_at(self.temperature, progress)))
