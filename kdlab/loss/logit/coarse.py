"""Distributions over k classes and all others as one outcome: what is known of a teacher with teacher.top_k."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.divergence import log_total, soften
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, number, positive


def coarsened(student: Tensor, index: Tensor, value: Tensor, tail: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher over k + 1 outcomes: k classes and all others as one.

    A divergence of these is at most that of the whole distributions, grows with k, and is equal to it at k = C - 1.
    Without the last outcome the two do not sum to 1, and what looks like a divergence may be negative.

    Args:
        student: logits ``[..., C]``; half precision is computed in float32.
        index, value: ``[..., k]``, k different classes and the teacher's logits of them, up to a shift.
        tail: ``[...]``, the logsumexp of the teacher's other logits divided by the temperature, with the same shift.
        temperature: > 0; both sides are divided by it.

    Returns:
        Two ``[..., k + 1]``, or ``[..., k]`` where k = C and nothing is left.

    Example: the largest of four classes, and the three others:
        >>> index, value, tail = torch.tensor([0]), torch.tensor([0.0]), torch.tensor(0.0)
        >>> log_s, log_t = coarsened(torch.zeros(4), index, value, tail, 1.0)
        >>> log_s.exp(), log_t.exp()
        (tensor([0.2500, 0.7500]), tensor([0.5000, 0.5000]))

    Source: the log-sum inequality, Cover and Thomas 2006 (Elements of Information Theory), theorem 2.7.1: merging
        outcomes cannot raise a divergence.
    """
    scores, top = at_least_float32(student) / temperature, at_least_float32(value) / temperature
    all_s = scores.logsumexp(-1, keepdim=True)
    log_s = scores.gather(-1, index) - all_s
    if index.shape[-1] == student.shape[-1]:  # nothing is left for the tail
        return log_s, top.log_softmax(-1)
    others = log_total(scores.scatter(-1, index, -torch.inf))
    log_s = torch.cat([log_s, others - all_s], -1)
    return log_s, torch.cat([top, at_least_float32(tail)[..., None]], -1).log_softmax(-1)


class TopKTerm(Term):
    """The mean of ``T^2`` times a divergence over the teacher's k largest classes and all others as one outcome.

    Of a teacher that gives all logits, over all classes.

    Args:
        weight: a number or a schedule.
        temperature: a number, one of teacher.temperatures.
    """

    outcome = Choice
    reads_top_k = True
    name: ClassVar[str]

    def __init__(self, weight: float | Schedule = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        if isinstance(temperature, Schedule):
            raise UserError(
                f"{self.name} takes one temperature, since the tail of the teacher's logits is kept for a few: give "
                "loss.temperature a number of teacher.temperatures"
            )
        self.weight = weight
        positive(temperature, "temperature")
        self.temperature = number(temperature, "temperature")

    @abstractmethod
    def divergence(self, log_s: Tensor, log_t: Tensor, progress: float) -> Tensor:
        """The divergence ``[...]`` of two distributions, given as log-probabilities over the last axis."""

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        top, temperature = teacher.top, self.temperature
        if top is None:
            same_classes(student, teacher)
            both = soften(student.logits, temperature), soften(teacher.logits, temperature)
        else:
            both = coarsened(student.logits, top.index, top.value, top.at(temperature), temperature)
        return student.mean(temperature**2 * self.divergence(*both, progress))
