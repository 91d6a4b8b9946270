"""Confidence-aware multi-teacher distillation: per row, a teacher counts more, the better it predicts the label."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kdlab.loss.logit.members import Members, divergences
from kdlab.output import Output
from kdlab.schedule.base import value_at


def confidence(members: Tensor, label: Tensor) -> Tensor:
    """The weight of each teacher, by how small its cross-entropy with the label is.

    Args:
        members: logits ``[M, B, C]`` of M >= 2 teachers.
        label: ``[B]``; -1 where a row has none, and teachers then count alike.

    Returns:
        ``[M, B]``, in [0, 1 / (M - 1)]; they sum to 1 over the teachers.

    Example:
        >>> members = torch.tensor([[[0.5, 0.5]], [[0.75, 0.25]]]).log()
        >>> confidence(members, torch.tensor([0])).flatten()
        tensor([0.4000, 0.6000])

    Source: Zhang, Chen, Wang 2022 (CA-MKD), arXiv:2201.00007, equations 3 and 4.
    """
    count, rows, classes = members.shape
    labels = label.clamp(min=0).expand(count, rows)
    loss = cross_entropy(members.reshape(-1, classes), labels.reshape(-1), reduction="none").view(count, rows)
    finite = loss.clamp(max=torch.finfo(loss.dtype).max)  # a teacher that rules the label out is as wrong as can be
    weight = (1 - finite.softmax(0)) / (count - 1)
    return weight.where(label >= 0, 1 / count)


class CAMKD(Members):
    """The mean of the KL divergences from the teachers, weighted by :func:`confidence`, row by row.

    The prediction part of the method; the weights are taken at temperature 1.

    Formula: ``sum_m w_m T^2 KL(p_m || p_s)`` with ``w_m = (1 - softmax_m(CE(p_m, label))) / (M - 1)``.
    When: several teachers of unequal worth, and labels, which show the one to trust on a row; without labels it is
        their mean.
    Cost: no parameters; each teacher is run, or read from its store.

    Args:
        weight, temperature: numbers or schedules.
        taps: ``{teacher: [logits.NAME, …]}``, the members to learn from; none named: all that the ensemble has.
    """

    reads_labels = True

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        members = self.members(student, teacher)
        label = student.mask.long() - 2 if student.label is None else student.label  # -1 or -2: none is known
        weight = confidence(members, label)
        return student.mean(
            (weight * divergences(student.logits, members, value_at(self.temperature, progress))).sum(0)
        )
