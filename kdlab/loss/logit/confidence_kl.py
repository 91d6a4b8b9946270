"""KL, less of it on the rows of which the teacher is not sure."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.divergence import soften
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at


def confidence(teacher: Tensor) -> Tensor:
    """The probability that the teacher gives to its most likely class, ``[...]`` in [1/C, 1], without gradient.

    Example:
        >>> import torch
        >>> confidence(torch.tensor([0.8, 0.2]).log())
        tensor(0.8000)

    Source: Furlanello et al. 2018 (Born-Again Networks), arXiv:1805.04770, section 3.2 (confidence-weighted by teacher
    max), without dividing by the sum over the batch.
    """
    return soften(teacher.detach(), 1.0).exp().amax(-1)


@final
class ConfidenceKL(Term):
    """The mean of :func:`confidence` times the tempered KL, for single-label tasks.

    Formula: ``max_c p_t(c) * T^2 KL(p_t || p_s)``, the first factor at temperature 1.
    When: the teacher is wrong where it is unsure, as on texts from elsewhere.
    Cost: no parameters; two softmaxes of a row.

    Args:
        weight, temperature: numbers or schedules; the confidence is that at temperature 1.

    Source: Furlanello et al. 2018 (Born-Again Networks), arXiv:1805.04770, section 3.2, applied to KL.
    """

    outcome = Choice

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        values = tempered_kl(student.logits, teacher.logits, value_at(self.temperature, progress))
        return student.mean(confidence(teacher.logits) * values)
