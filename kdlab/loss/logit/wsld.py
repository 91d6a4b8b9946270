"""KL, more of it on the rows where the student is behind the teacher."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import soften
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.logit.target import label
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def behind(student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
    """1 - exp(-student's cross-entropy / teacher's): near 0 where the student is right already, 1 - 1/e at a draw.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        label: class numbers ``[...]``.

    Returns:
        ``[...]`` in [0, 1], without gradient.

    Example:
        >>> import torch
        >>> behind(torch.zeros(2), torch.zeros(2), torch.tensor(0))  # 1 - 1/e
        tensor(0.6321)

    Source: Zhou et al. 2021 (WSLD), arXiv:2102.00650, section 4 (the weight of a sample).
    """
    s, t = (-soften(logits.detach(), 1.0).gather(-1, label[..., None]).squeeze(-1) for logits in (student, teacher))
    return 1 - (-s / (t + 1e-7)).exp()


@final
class WSLD(Term):
    """The mean of :func:`behind` times the tempered KL, for single-label tasks.

    The paper weighs the soft cross-entropy, whose gradient is the same; with KL a student that agrees has loss 0.
    Rows without a label count with weight 1: plain KL.

    Formula: ``(1 - exp(-CE(s, y) / CE(t, y))) * T^2 KL(p_t || p_s)`` for the label y.
    When: labels are at hand, and rows that the student has right already should count less.
    Cost: no parameters; one more softmax a side; reads the label.

    Args:
        weight, temperature: numbers or schedules.

    Source: Zhou et al. 2021 (WSLD), arXiv:2102.00650, section 4.
    """

    outcome = Choice
    reads_labels = True

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        share = behind(student.logits, teacher.logits, label(student)).where(student.labelled, 1)
        return student.mean(share * tempered_kl(student.logits, teacher.logits, value_at(self.temperature, progress)))
