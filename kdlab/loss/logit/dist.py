"""Correlation with the teacher instead of equality, over the classes of a row and over the rows of a class."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.feature.layered import unit
from kdlab.loss.logit.divergence import soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output
from kdlab.schedule.base import Schedule, positive, value_at, within


def pearson(one: Tensor, two: Tensor) -> Tensor:
    """The correlation of two ``[..., N]`` along the last axis, whose mean is 0 already.

    It is 0 where one is constant, and 1 where both are: then they agree. However small the numbers are, it is exact.

    Example:
        >>> import torch
        >>> round(pearson(torch.tensor([-1e-9, 0.0, 1e-9]), torch.tensor([-1.0, 0.0, 1.0])).item(), 6)
        1.0
    """
    both = (one == 0).all(-1) & (two == 0).all(-1)
    return (unit(one, -1) * unit(two, -1)).sum(-1).masked_fill(both, 1)


def inter_class(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 * (1 - the correlation of both sides' probabilities over the classes), per position.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]`` in [0, 2 T^2], and 0 where the probabilities are a rising line of each other. With two classes any
        two rows are such a line or its mirror: the value has no gradient there, and only :func:`intra_class` teaches.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([0.2, 0.8]).log(), torch.tensor([0.8, 0.2]).log()
        >>> inter_class(student, teacher, 1.0).round(decimals=4)  # a correlation of -1
        tensor(2.)

    Source: Huang et al. 2022 (DIST), arXiv:2205.10536, section 3 (inter-class relation).
    """
    s, t = (soften(logits, temperature).exp() for logits in (student, teacher))
    return temperature**2 * (1 - pearson(s - s.mean(-1, keepdim=True), t - t.mean(-1, keepdim=True)))


def intra_class(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """T^2 * (1 - the correlation of both sides' probabilities over the rows), per class.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        mask: ``[...]`` bool; positions outside it do not count.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[C]`` in [0, 2 T^2], and 0 where the probabilities of a class are a rising line of each other.

    Example:
        >>> import torch
        >>> student = torch.tensor([[0.6, 0.4], [0.4, 0.6]]).log()
        >>> intra_class(student, student.flip(0), torch.tensor([True, True]), 1.0).round(decimals=4)
        tensor([2., 2.])

    Source: Huang et al. 2022 (DIST), arXiv:2205.10536, section 3 (intra-class relation).
    """
    rows = mask.reshape(-1, 1)
    count = rows.sum().clamp(min=1)

    def centred(logits: Tensor) -> Tensor:
        share = soften(logits, temperature).exp().reshape(-1, logits.shape[-1]).where(rows, 0)
        return (share - share.sum(0) / count).where(rows, 0).T

    return temperature**2 * (1 - pearson(centred(student), centred(teacher)))


@final
class DIST(Term):
    """``inter`` times the mean of :func:`inter_class` plus ``intra`` times that of :func:`intra_class`.

    For single-label tasks. The second relates the rows of one micro-batch, so accumulating over smaller ones is not
    the loss of the whole batch; where one side finds a class equally likely in all of them, its value is 1, and where
    both do, 0.

    Formula: ``T^2 (inter mean_i (1 - corr_c(s_i, t_i)) + intra mean_c (1 - corr_i(s_c, t_c)))`` of probabilities, over
        rows i and classes c.
    When: a teacher so much stronger that its probabilities cannot be met; large batches. With two classes only the
        second part teaches.
    Cost: no parameters; relates the rows of a micro-batch, O(B C).

    Args:
        weight, temperature: numbers or schedules.
        inter, intra: >= 0, the weights of the two parts, numbers or schedules.

    Source: Huang et al. 2022 (DIST), arXiv:2205.10536, section 3.
    """

    outcome = Choice
    row_wise = False

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        temperature: float | Schedule = 1.0,
        inter: float | Schedule = 1.0,
        intra: float | Schedule = 1.0,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.inter = within(inter, 0, 1e6, "inter", "it weighs the order of the classes in a row")
        self.intra = within(intra, 0, 1e6, "intra", "it weighs the order of the rows in a class")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        temperature = value_at(self.temperature, progress)
        inter = inter_class(student.logits, teacher.logits, temperature)
        intra = intra_class(student.logits, teacher.logits, student.mask, temperature).mean()
        return student.mean(value_at(self.inter, progress) * inter + value_at(self.intra, progress) * intra)
