"""Multi-label logit distillation: every class one against the rest, summed."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.logit.binary_kl import binary_kl
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Bernoulli
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def one_versus_rest_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of each class's Bernoulli, in nats, summed over the classes, per position.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.

    Returns:
        ``[...]``, >= 0, and 0 where the probabilities agree.

    Example:
        >>> import torch
        >>> one_versus_rest_kl(torch.zeros(2), torch.tensor([100.0, -100.0]))  # 2 log 2
        tensor(1.3863)

    Source: Yang et al. 2023 (L2D), arXiv:2308.06453 (MLD), and the authors' code.
    """
    return binary_kl(at_least_float32(student), at_least_float32(teacher)).sum(-1)


@final
class MLD(Term):
    """The mean of :func:`one_versus_rest_kl`, for multi-label tasks.

    It has no temperature, and grows with the number of classes; term binary_kl has one and averages.

    Formula: ``sum_c KL(Bernoulli(sigmoid(t_c)) || Bernoulli(sigmoid(s_c)))``.
    When: several labels a row, to do as the paper does; binary_kl does not grow with the number of labels.
    Cost: no parameters; two sigmoids of a row.

    Args:
        weight: a number or a schedule.
    """

    outcome = Bernoulli

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(one_versus_rest_kl(student.logits, teacher.logits))
