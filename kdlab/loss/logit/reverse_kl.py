"""The divergence that a student minimises by choosing one of the teacher's modes rather than covering them all."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import kl, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def tempered_reverse_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(student || teacher) at temperature T, in nats, per position.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]``, >= 0, and 0 where the softened distributions agree.

    Example:
        >>> import torch
        >>> tempered_reverse_kl(torch.tensor([100.0, 0.0]), torch.zeros(2), 1.0)  # log 2
        tensor(0.6931)

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2, for one position.
    """
    return temperature**2 * kl(soften(student, temperature), soften(teacher, temperature))


@final
class ReverseKL(Term):
    """The mean of :func:`tempered_reverse_kl`, for single-label tasks.

    Formula: ``T^2 KL(p_s || p_t)``.
    When: a student too small for all that the teacher finds possible: it keeps to what is likely.
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
        return student.mean(tempered_reverse_kl(student.logits, teacher.logits, value_at(self.temperature, progress)))
