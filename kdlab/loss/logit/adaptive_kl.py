"""KL and reverse KL, weighed by where the student is wrong: among the likely classes or among the others."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.loss.logit.divergence import kl, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at, within


def head_share(student: Tensor, teacher: Tensor, head: float) -> Tensor:
    """The part of the absolute error in probability that falls on the teacher's head.

    The head is the teacher's most likely class and the next ones while they hold at most ``head`` together.

    Args:
        student, teacher: log-probabilities ``[..., C]``.

    Returns:
        ``[...]`` in [0, 1], without gradient; 1/2 where there is no error.

    Example:
        >>> student, teacher = torch.tensor([0.2, 0.6, 0.2]).log(), torch.tensor([0.6, 0.3, 0.1]).log()
        >>> head_share(student, teacher, 0.95)  # (0.4 + 0.3) / 0.8
        tensor(0.8750)

    Source: Wu et al. 2024, arXiv:2404.02657, with the head as in the authors' code.
    """
    likely, order = teacher.detach().exp().sort(-1, descending=True)
    error = (likely - student.detach().exp().gather(-1, order)).abs()
    inside = likely.cumsum(-1) <= head
    first = torch.arange(likely.shape[-1], device=likely.device) == 0
    of_head = error.where(inside | first, 0).sum(-1)
    total = error.sum(-1)
    return (of_head / total.clamp(min=torch.finfo(total.dtype).tiny)).where(total > 0, 0.5)


def adaptive_kl(student: Tensor, teacher: Tensor, temperature: float, head: float) -> Tensor:
    """T^2 * (w KL(teacher || student) + (1 - w) KL(student || teacher)) with w = :func:`head_share`.

    KL learns a distribution's head first and reverse KL its tail: each gets the share of the error that lies there.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.
        head: the teacher's probability that counts as head, in (0, 1).

    Returns:
        ``[...]`` in nats, >= 0, and 0 where the softened distributions agree. The gradient takes w as given.

    Example:
        >>> student, teacher = torch.tensor([0.2, 0.8]).log(), torch.tensor([0.8, 0.2]).log()
        >>> adaptive_kl(student, teacher, 1.0, 0.5)  # 0.6 log 4, in both directions
        tensor(0.8318)

    Source: Wu et al. 2024 (AKL), arXiv:2404.02657.
    """
    log_t, log_s = soften(teacher, temperature), soften(student, temperature)
    share = head_share(log_s, log_t, head)
    return temperature**2 * (share * kl(log_t, log_s) + (1 - share) * kl(log_s, log_t))


@final
class AdaptiveKL(Term):
    """The mean of :func:`adaptive_kl`, for single-label tasks.

    Formula: ``T^2 (w KL(p_t || p_s) + (1 - w) KL(p_s || p_t))``; w is the part of ``|p_s - p_t|`` that is on the
        teacher's likely classes.
    When: many classes, some of them rare; with two classes both directions count alike.
    Cost: no parameters; the classes of a row are sorted.

    Args:
        weight, temperature: numbers or schedules.
        head: the probability that counts as the teacher's head, in [0, 1]; a number or a schedule.
    """

    outcome = Choice

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        head: float | Schedule = 0.5,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.head = within(head, 0, 1, "head", "it is a probability, and the paper takes 0.5")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        temperature, head = value_at(self.temperature, progress), value_at(self.head, progress)
        return student.mean(adaptive_kl(student.logits, teacher.logits, temperature, head))
