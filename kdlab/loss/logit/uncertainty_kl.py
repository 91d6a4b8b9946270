"""KL, more of it on the rows of which teacher and student are not sure."""

from __future__ import annotations

from math import log
from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import entropy, soften
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def learning_value(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """H_t (1 + H_s / log C) / 2, where H are the entropies in nats at ``temperature``.

    A row is worth most where the teacher sees several classes and the student has not learned it yet.

    Args:
        student, teacher: logits ``[..., C]`` with C >= 2; half precision is computed in float32.

    Returns:
        ``[...]`` in [0, log C], without gradient.

    Example:
        >>> import torch
        >>> learning_value(torch.zeros(2), torch.zeros(2), 1.0)  # both uniform: log 2
        tensor(0.6931)

    Source: Su et al. 2025 (EA-KD), arXiv:2311.13621, the reweighting factor, as in the authors' code.
    """
    s, t = (soften(logits.detach(), temperature) for logits in (student, teacher))
    student_entropy, teacher_entropy = entropy(s), entropy(t)
    return teacher_entropy * (1 + student_entropy / log(student.shape[-1])) / 2


@final
class UncertaintyKL(Term):
    """The mean of :func:`learning_value` times the tempered KL, for single-label tasks.

    Formula: ``H_t (1 + H_s / log C) / 2 * T^2 KL(p_t || p_s)``, with entropies H.
    When: most rows are easy, and the few hard ones should count.
    Cost: no parameters; two more softmaxes of a row.

    Args:
        weight, temperature: numbers or schedules.
        entropy_temperature: > 0, at which the entropies are taken, a number or a schedule.

    Source: Su et al. 2025 (EA-KD), arXiv:2311.13621.
    """

    outcome = Choice

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        entropy_temperature: float | Schedule = 3.0,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.entropy_temperature = positive(entropy_temperature, "entropy_temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        value = learning_value(student.logits, teacher.logits, value_at(self.entropy_temperature, progress))
        return student.mean(value * tempered_kl(student.logits, teacher.logits, value_at(self.temperature, progress)))
