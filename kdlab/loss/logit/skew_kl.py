"""KL against a mixture that holds a little of the teacher, so that its gradient stays bounded."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import kl, mix, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at, within


def skew_kl(student: Tensor, teacher: Tensor, temperature: float, skew: float | Tensor) -> Tensor:
    """T^2 * KL(teacher || skew teacher + (1 - skew) student) at temperature T, in nats, per position.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.
        skew: in [0, 1); 0 is KL. A number, or one for each position ``[...]`` in (0, 1).

    Returns:
        ``[...]``, >= 0, and 0 where the softened distributions agree; with skew > 0 at most -T^2 log(skew).

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([0.0, 1.0]).log(), torch.tensor([1.0, 0.0]).log()
        >>> skew_kl(student, teacher, 1.0, 0.25)  # -log 0.25, the most
        tensor(1.3863)

    Source: Ko et al. 2024 (DistiLLM), arXiv:2402.03898, section 3.1.
    """
    log_t, log_s = soften(teacher, temperature), soften(student, temperature)
    return temperature**2 * kl(log_t, mix(log_t, log_s, skew))


@final
class SkewKL(Term):
    """The mean of :func:`skew_kl`, for single-label tasks.

    Formula: ``T^2 KL(p_t || skew p_t + (1 - skew) p_s)``.
    When: KL whose gradient grows too large, because the student gives nearly nothing to what the teacher finds likely.
    Cost: no parameters; two softmaxes of a row.

    Args:
        weight, temperature: numbers or schedules.
        skew: in [0, 0.99], a number or a schedule.
    """

    outcome = Choice

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        skew: float | Schedule = 0.1,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.skew = within(skew, 0, 0.99, "skew", "0 is KL, 0.1 is common, and at 1 nothing would be left to learn")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        temperature, skew = value_at(self.temperature, progress), value_at(self.skew, progress)
        return student.mean(skew_kl(student.logits, teacher.logits, temperature, skew))
