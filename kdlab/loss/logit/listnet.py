"""The order that the teacher gives to the rows of a batch."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.loss.logit.divergence import kl
from kdlab.loss.term import Term, same_classes
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at


def top_one_kl(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of which row comes first (a softmax over the rows), in nats, per class.

    ListNet's cross-entropy less the teacher's entropy, which the student cannot change.

    Args:
        student, teacher: scores ``[..., C]``, each class a list of its own; half precision is computed in float32.
        mask: ``[...]`` bool; positions outside it are not in the lists.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[C]``, >= 0, free of a shift of all scores of a class; 0 where the differences between rows agree.

    Example:
        >>> student, teacher = torch.tensor([[0.0], [0.0]]), torch.tensor([[100.0], [0.0]])
        >>> top_one_kl(student, teacher, torch.tensor([True, True]), 1.0)  # log 2
        tensor([0.6931])

    Source: Cao et al. 2007 (ListNet), ICML; the top-one probability, with the teacher's scores as the truth.
    """
    rows = mask.reshape(-1, 1)

    def first(scores: Tensor) -> Tensor:
        listed = (at_least_float32(scores) / temperature).reshape(-1, scores.shape[-1]).masked_fill(~rows, -torch.inf).T
        # a list without any row that can come first is filled, and counts nothing
        nothing = listed.isneginf()
        nowhere = nothing.all(-1, keepdim=True)
        return listed.where(~nowhere, 0).log_softmax(-1).masked_fill(nothing, -torch.inf)

    return temperature**2 * kl(first(teacher), first(student))


@final
class ListNet(Term):
    """The mean of :func:`top_one_kl` over the classes: the rows of a micro-batch are one list, for each class anew.

    It does not compare the level of a class's scores: use it beside a term that does, or for scores that only rank.

    Formula: ``mean_c T^2 KL(softmax_i(t_ic / T) || softmax_i(s_ic / T))`` over the rows i of the micro-batch.
    When: scores that rank rows, such as relevance; beside a term that compares how high scores are.
    Cost: no parameters; relates the rows of a micro-batch, O(B C).

    Args:
        weight, temperature: numbers or schedules.
    """

    row_wise = False

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        values = top_one_kl(student.logits, teacher.logits, student.mask, value_at(self.temperature, progress))
        return student.mean(values.mean().expand(student.mask.shape))
