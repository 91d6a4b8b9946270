"""Cross-entropy with the teacher's softened probabilities as labels."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import expectation, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * the cross-entropy of the student under the teacher at temperature T, in nats, per position.

    It is KL plus T^2 times the teacher's entropy, which the student cannot change: the gradient is that of KL, and the
    value is harder to read, since its minimum is the entropy and not 0.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]``, >= T^2 * the teacher's entropy, with equality where the softened distributions agree.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.zeros(2), torch.zeros(2), 1.0)  # the entropy of a coin, log 2
        tensor(0.6931)

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531, section 2.
    """
    return -(temperature**2) * expectation(soften(teacher, temperature), soften(student, temperature)).sum(-1)


@final
class SoftCE(Term):
    """The mean of :func:`soft_cross_entropy`, for single-label tasks.

    Formula: ``-T^2 sum_c p_t(c) log p_s(c)``.
    When: to compare with code that takes it for KL: the gradient is the same, the value does not go to 0.
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
        return student.mean(soft_cross_entropy(student.logits, teacher.logits, value_at(self.temperature, progress)))
