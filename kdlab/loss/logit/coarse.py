"""Distributions over k classes and all others as one outcome: what is known of a teacher with teacher.top_k."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdlab.error import UserError
from kdlab.loss.logit.divergence import soften
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
    top = at_least_float32(value) / temperature
    if index.shape[-1] == student.shape[-1]:  # nothing is left for the tail
        own = at_least_float32(student.gather(-1, index)) / temperature
        return own.log_softmax(-1), top.log_softmax(-1)
    own = torch.cat(parted(student, index, temperature), -1)
    return own.log_softmax(-1), torch.cat([top, at_least_float32(tail)[..., None]], -1).log_softmax(-1)


def parted(scores: Tensor, index: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Some of the scores divided by the temperature, ``[..., k]``, and the logsumexp of all others, ``[..., 1]``.

    One tensor of the size of ``scores`` is made forward, and one backward.

    Args:
        scores: ``[..., C]``; half precision is computed in float32. A second derivative is not defined.
        index: ``[..., k]``, k different classes.
        temperature: > 0.

    Returns:
        Both; the second is -inf, without gradient, where the others have no mass.

    Example:
        >>> [one.exp() for one in parted(torch.tensor([3.0, 2.0, 1.0]).log(), torch.tensor([1]), 1.0)]
        [tensor([2.]), tensor([4.])]
    """
    return _Parted.apply(scores, index, temperature)


class _Parted(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, index: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        dtype = torch.promote_types(scores.dtype, torch.float32)
        some = scores.gather(-1, index).to(dtype) / temperature
        mass = scores.to(dtype, copy=True).scatter_(-1, index, -torch.inf)
        most = mass.amax(-1, keepdim=True)
        most = most.where(most > -torch.inf, 0)
        mass = mass.sub_(most) if temperature == 1 else mass.sub_(most).div_(temperature)
        total = mass.exp_().sum(-1, keepdim=True)
        ctx.save_for_backward(mass, total, index)
        ctx.temperature, ctx.dtype = temperature, scores.dtype
        return some, total.log() + most / temperature

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, some: Tensor, others: Tensor) -> tuple[Tensor, None, None]:
        mass, total, index = ctx.saved_tensors
        share = (others / total / ctx.temperature).where(total > 0, 0)
        return (mass * share).scatter_(-1, index, some / ctx.temperature).to(ctx.dtype), None, None


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
