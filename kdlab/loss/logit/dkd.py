"""KL decoupled into the probability of the right class, and the distribution over the other classes."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.binary_kl import binary_kl
from kdlab.loss.logit.divergence import kl
from kdlab.loss.logit.target import apart, target
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at, within


def decoupled_kl(student: Tensor, teacher: Tensor, target: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """T^2 * KL(teacher || student) of target against all others (TCKD), and of the others among themselves (NCKD).

    KL is TCKD + (1 - p) NCKD, where p is what the teacher gives to the target at temperature T: the surer the teacher,
    the smaller the part of KL that the other classes have. With two classes NCKD is 0.

    Args:
        student, teacher: logits ``[..., C]`` with C >= 2; half precision is computed in float32.
        target: class numbers ``[...]``.
        temperature: > 0; both sides are divided by it.

    Returns:
        Two ``[...]`` in nats, each >= 0, and 0 where the softened distributions agree.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor([0.5, 0.5, 0.0]).log()
        >>> decoupled_kl(student, teacher, torch.tensor(0), 1.0)  # the others alone: log 2
        (tensor(0.), tensor(0.6931))

    Source: Zhao et al. 2022 (DKD), arXiv:2203.08679, section 3.1.
    """
    (s_odds, s_others), (t_odds, t_others) = (apart(logits, target, temperature) for logits in (student, teacher))
    return temperature**2 * binary_kl(s_odds, t_odds), temperature**2 * kl(t_others, s_others)


@final
class DKD(Term):
    """The mean of ``tckd * TCKD + nckd * NCKD``, see :func:`decoupled_kl`, for single-label tasks.

    Rows without a label take the teacher's most likely class for it.

    Formula: ``T^2 (tckd KL(b_t || b_s) + nckd KL(q_t || q_s))``; b is (target, all others), q the others among
        themselves.
    When: many classes and a teacher that is sure of the target; with two classes the second part is 0.
    Cost: no parameters; three softmaxes of a row; reads the label.

    Args:
        weight, temperature: numbers or schedules. The paper raises the weight linearly over its first epochs.
        tckd, nckd: >= 0, the weights of the two parts, numbers or schedules.

    Source: Zhao et al. 2022 (DKD), arXiv:2203.08679, section 3.3.
    """

    outcome = Choice
    reads_labels = True

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        tckd: float | Schedule = 1.0,
        nckd: float | Schedule = 8.0,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.tckd = within(tckd, 0, 1e6, "tckd", "it weighs the target class, and the paper takes 1")
        self.nckd = within(nckd, 0, 1e6, "nckd", "it weighs the other classes, and the paper takes 1 to 10")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        right, temperature = target(student, teacher), value_at(self.temperature, progress)
        tckd, nckd = decoupled_kl(student.logits, teacher.logits, right, temperature)
        return student.mean(value_at(self.tckd, progress) * tckd + value_at(self.nckd, progress) * nckd)
