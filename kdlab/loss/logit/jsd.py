"""The generalised Jensen-Shannon divergence, which goes from KL to reverse KL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.divergence import expectation, kl, mix, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, bounds, positive, value_at, within


def jensen_shannon(student: Tensor, teacher: Tensor, temperature: float, beta: float) -> Tensor:
    """T^2 * (beta KL(teacher || m) + (1 - beta) KL(student || m)), m = beta teacher + (1 - beta) student.

    Divided by beta it becomes KL(teacher || student) for small beta, and divided by 1 - beta KL(student || teacher)
    for beta near 1. At the two ends themselves, where the formula is 0, the value is the KL that it points to.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.
        beta: in [0, 1]; 0 is KL, 0.5 Jensen-Shannon, 1 reverse KL.

    Returns:
        ``[...]`` in nats, >= 0, and 0 where the softened distributions agree. Inside of (0, 1) at most T^2 log 2.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([0.0, 1.0]).log(), torch.tensor([1.0, 0.0]).log()
        >>> jensen_shannon(student, teacher, 1.0, 0.5)  # log 2, the most
        tensor(0.6931)

    Source: Agarwal et al. 2024 (GKD), arXiv:2306.13649, section 2 (generalised JSD).
    """
    log_t, log_s = soften(teacher, temperature), soften(student, temperature)
    middle = mix(log_t, log_s, beta)
    from_teacher, from_student = kl(log_t, middle), kl(log_s, middle)
    share = beta if 0 < beta < 1 else 1 - beta  # at an end the middle is one of the two, whose own KL is 0
    return temperature**2 * (share * from_teacher + (1 - share) * from_student)


def normalised_jensen_shannon(student: Tensor, teacher: Tensor, temperature: float, beta: float) -> Tensor:
    """:func:`jensen_shannon` divided by beta (1 - beta), which goes from KL to reverse KL without a jump, per position.

    Near an end it is computed without the rounding of a small number that is divided by another.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.
        beta: in [0, 1]; 0 is KL, 0.5 four times Jensen-Shannon, 1 reverse KL.

    Returns:
        ``[...]`` in nats, >= 0, and 0 where the softened distributions agree.

    Example: almost at the end it is almost KL, which is log 4 here:
        >>> student, teacher = torch.tensor([0.25, 0.75]).log(), torch.tensor([1.0, 0.0]).log()
        >>> normalised_jensen_shannon(student, teacher, 1.0, 1e-5)
        tensor(1.3863)

    Source: Agarwal et al. 2024 (GKD), arXiv:2306.13649, section 2 (the limits of the generalised JSD at its ends).
    """
    log_p, log_q = soften(teacher, temperature), soften(student, temperature)
    if beta > 0.5:
        log_p, log_q, beta = log_q, log_p, 1 - beta
    if beta <= 0:
        return temperature**2 * kl(log_p, log_q)
    from_p = kl(log_p, mix(log_p, log_q, beta)) / (1 - beta)
    # KL(q || m) / beta is the sum of q (u - log(1 + beta u) / beta), each >= 0, where u = p / q - 1
    ratio = (log_p - log_q).masked_fill(log_q == -torch.inf, 0).clamp(max=40)
    bent = expectation(log_q, (beta * ratio.expm1()).log1p() / beta)
    return temperature**2 * (from_p + (log_p.exp() - log_q.exp() - bent).sum(-1))


def beta_within(beta: float | Schedule, normalise: bool) -> float | Schedule:
    """``beta``, checked.

    Args:
        normalise: whether the divergence is divided by beta (1 - beta), so that it does not jump at the ends.

    Raises:
        UserError: it does not stay in [0, 1], or is a schedule that goes through a jump.

    Example:
        >>> beta_within(1.0, normalise=False)
        1.0
    """
    within(beta, 0, 1, "beta", "0 is KL, 0.5 Jensen-Shannon, 1 reverse KL")
    low, high = bounds(beta, "beta")
    if low < high and (low <= 0 or high >= 1) and not normalise:
        raise UserError(
            f"beta goes from {low:g} to {high:g}, but the divergence jumps at 0 and at 1: let the schedule stay "
            "between them, such as from 0.05 to 0.95, or set normalise=true."
        )
    return beta


@final
class JSD(Term):
    """The mean of :func:`jensen_shannon`, or of :func:`normalised_jensen_shannon`, for single-label tasks.

    Formula: ``T^2 (beta KL(p_t || m) + (1 - beta) KL(p_s || m))`` with ``m = beta p_t + (1 - beta) p_s``.
    When: something between covering all that the teacher finds possible (KL) and choosing one of it (reverse KL); a
        bounded loss.
    Cost: no parameters; two softmaxes of a row.

    Args:
        weight, temperature: numbers or schedules.
        beta: in [0, 1]; a schedule that reaches an end needs ``normalise``, since the value jumps there.
        normalise: divide by ``beta (1 - beta)``, so that the values of all beta compare.
    """

    outcome = Choice

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        beta: float | Schedule = 0.5,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.beta, self.normalise = beta_within(beta, normalise), normalise

    @classmethod
    def jumps(cls, settings: Mapping[str, Any]) -> Mapping[str, tuple[float, ...]]:
        return {} if settings.get("normalise") else {"beta": (0.0, 1.0)}

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        temperature, beta = value_at(self.temperature, progress), value_at(self.beta, progress)
        divergence = normalised_jensen_shannon if self.normalise else jensen_shannon
        return student.mean(divergence(student.logits, teacher.logits, temperature, beta))
