"""Regression of the teacher's logits."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.term import Term, same_classes
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def difference(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The student's logits less the teacher's ``[..., C]``, and which classes both rule out (-inf): there it is 0.

    Example:
        >>> import torch
        >>> difference(torch.tensor([3.0, -torch.inf]), torch.tensor([1.0, -torch.inf]))[0].tolist()
        [2.0, 0.0]
    """
    s, t = at_least_float32(student), at_least_float32(teacher)
    out = s.isneginf() & t.isneginf()
    return (s - t).where(~out, 0), out


def logit_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared difference of the logits, averaged over the classes, per position.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.

    Returns:
        ``[...]``, >= 0, and 0 only where the logits themselves agree, not just their softmax.

    Example:
        >>> import torch
        >>> logit_mse(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]))  # (4 + 0) / 2
        tensor(2.)

    Source: Ba, Caruana 2014, arXiv:1312.6184, equation 1, times 2 / C.
    """
    return difference(student, teacher)[0].square().mean(-1)


@final
class LogitMSE(Term):
    """The mean of :func:`logit_mse`.

    Formula: ``mean_c (s_c - t_c)^2``.
    When: any task; what KL becomes at a high temperature, without one to choose. It asks for the level of the logits
        too.
    Cost: no parameters and no softmax.

    Args:
        weight: a number or a schedule.
    """

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(logit_mse(student.logits, teacher.logits))
