"""A softmax for multi-label tasks: each label of a row against all that the row does not have."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from kdlab.loss.logit.binary_kl import binary_kl
from kdlab.loss.logit.divergence import expectation, kl, log_total
from kdlab.loss.logit.target import targets
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Bernoulli
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at


def partial_softmax_kl(student: Tensor, teacher: Tensor, label: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of the softmax over one label and all classes outside, summed over the labels.

    Labels of the same row do not compete with each other.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        label: ``[..., C]`` bool. Without a True, or without a False, there is nothing to compare, and the value is 0.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]`` in nats, >= 0.

    Example:
        >>> label = torch.tensor([True, False])
        >>> partial_softmax_kl(torch.zeros(2), torch.tensor([100.0, 0.0]), label, 1.0)  # log 2
        tensor(0.6931)

    Source: Song et al. 2021, Handling Difficult Labels for Multi-label Image Classification via Uncertainty
    Distillation (partial softmax), ACM Multimedia.
    """
    both = label.any(-1, keepdim=True) & ~label.all(-1, keepdim=True)

    def split(logits: Tensor) -> tuple[Tensor, Tensor]:
        scores = at_least_float32(logits) / temperature
        outside = scores.masked_fill(label & both, -float("inf"))  # all of them where there is no pair, to stay finite
        total = log_total(outside)
        odds = (scores - total).where(scores > -torch.inf, -torch.inf)
        return odds, (outside - total).where(outside > -torch.inf, -torch.inf)

    (s_odds, s_outside), (t_odds, t_outside) = split(student), split(teacher)
    outside = kl(t_outside, s_outside)[..., None]
    # by the chain rule of KL: which of the two sides, and then which class outside
    values = binary_kl(s_odds, t_odds) + expectation(logsigmoid(-t_odds), outside)
    return temperature**2 * values.where(label & both, 0).sum(-1)


@final
class PartialSoftmax(Term):
    """The mean of :func:`partial_softmax_kl`, for multi-label tasks.

    Rows without labels take those that the teacher finds likelier than not.

    Formula: ``T^2 sum_{y in Y} KL(softmax(t of {y} and not Y) || softmax(s of {y} and not Y))`` for the labels Y of a
        row.
    When: several labels a row, which should not compete with each other.
    Cost: no parameters; reads the labels; O(B C) numbers.

    Args:
        weight, temperature: numbers or schedules.
    """

    outcome = Bernoulli
    reads_labels = True

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        has, temperature = targets(student, teacher), value_at(self.temperature, progress)
        return student.mean(partial_softmax_kl(student.logits, teacher.logits, has, temperature))
