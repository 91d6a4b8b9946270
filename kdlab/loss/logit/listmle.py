"""The order that the teacher gives to the classes, and nothing else of it."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Classes
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def order_likelihood(student: Tensor, teacher: Tensor, top: int) -> Tensor:
    """The negative log-likelihood of the teacher's first ``top`` places under the student, in nats, per position.

    The student draws the classes one after the other, each from a softmax over those that are left (Plackett-Luce).

    Args:
        student, teacher: scores ``[..., C]``; half precision is computed in float32.
        top: number of places that count; those beyond C, and classes that the teacher rules out (-inf), count nothing.

    Returns:
        ``[...]``, > 0, free of a shift of the student and of any rising map of the teacher. It goes to 0 as the
        student's scores part in the teacher's order, so it is not least where the two agree.

    Example:
        >>> order_likelihood(torch.zeros(3), torch.tensor([3.0, 2.0, 1.0]), top=1)  # one of three: log 3
        tensor(1.0986)

    Source: Xia et al. 2008 (ListMLE), ICML; for the first places alone, Reddi et al. 2021
    (RankDistil), AISTATS.
    """
    best, order = teacher.detach().sort(dim=-1, descending=True, stable=True)
    scores, out = at_least_float32(student).gather(-1, order), best == -torch.inf
    # the places that the teacher rules out come last and do not count; where the student rules them out too, they get a
    # number too low to matter, through which gradients pass
    low = scores.detach().masked_fill(scores == -torch.inf, torch.inf).amin(-1, keepdim=True) - 200
    scores = scores.where(~(out & (scores == -torch.inf)), low)
    left = scores.flip(-1).logcumsumexp(-1).flip(-1)
    return (left - scores).where(~out, 0)[..., :top].sum(-1)


@final
class ListMLE(Term):
    """The mean of :func:`order_likelihood`: the classes of a row are one list.

    Formula: ``-sum_{k <= top} log softmax(s over the classes from place k on)(the teacher's k-th)``.
    When: only the order of the classes is to be trusted, not the size of the teacher's scores.
    Cost: no parameters; the classes of a row are sorted.

    Args:
        weight: a number or a schedule.
        top: number of the teacher's first places that count, at least 1; null counts all.
    """

    outcome = Classes

    def __init__(self, weight: float | Schedule = 1.0, top: int | None = None) -> None:
        super().__init__()
        self.weight = weight
        if top is not None and (not isinstance(top, int) or isinstance(top, bool) or top < 1):
            raise UserError(f"top is {top!r}, but counts places and must be a whole number from 1 up: null takes all.")
        self.top = top

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        return student.mean(order_likelihood(student.logits, teacher.logits, self.top or student.logits.shape[-1]))
