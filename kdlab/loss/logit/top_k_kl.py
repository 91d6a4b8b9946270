"""Knowledge distillation from the teacher's largest logits, for vocabularies too large to keep."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.divergence import kl, log_total
from kdlab.loss.logit.kl import tempered_kl
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, number, positive


def coarsened_kl(student: Tensor, index: Tensor, value: Tensor, tail: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) over k + 1 outcomes, k classes and all others as one, in nats, per position.

    Args:
        student: logits ``[..., C]``; half precision is computed in float32.
        index, value: ``[..., k]``, k different classes and the teacher's logits of them, up to a shift.
        tail: ``[...]``, the logsumexp of the teacher's other logits divided by the temperature, with the same shift.
        temperature: > 0; both sides are divided by it.

    Returns:
        ``[...]``, >= 0; at most :func:`kdlab.loss.logit.kl.tempered_kl`, growing with k, and equal to it at k = C - 1.

    Example:
        >>> index, value, tail = torch.tensor([0]), torch.tensor([0.0]), torch.tensor(-torch.inf)
        >>> coarsened_kl(torch.zeros(4), index, value, tail, 1.0)  # a certain teacher, one of four: log 4
        tensor(1.3863)

    Source: the log-sum inequality, Cover and Thomas 2006 (Elements of Information Theory), theorem 2.7.1: merging
        outcomes cannot raise a divergence. T^2 as in Hinton et al. 2015, arXiv:1503.02531, section 2.
    """
    scores, top = at_least_float32(student) / temperature, at_least_float32(value) / temperature
    all_s = scores.logsumexp(-1, keepdim=True)
    log_s = scores.gather(-1, index) - all_s
    if index.shape[-1] == student.shape[-1]:  # nothing is left for the tail
        return temperature**2 * kl(top.log_softmax(-1), log_s)
    others = log_total(scores.scatter(-1, index, -torch.inf))
    log_s = torch.cat([log_s, others - all_s], -1)
    log_t = torch.cat([top, at_least_float32(tail)[..., None]], -1).log_softmax(-1)
    return temperature**2 * kl(log_t, log_s)


@final
class TopKKL(Term):
    """The mean of :func:`coarsened_kl`, for single-label tasks; of a teacher that gives all logits, of the whole KL.

    Formula: ``T^2 KL(p_t || p_s)`` over the teacher's k likeliest classes and one outcome for all others.
    When: the vocabulary is so large that the teacher's logits cannot be kept: with teacher.top_k, stored or live.
    Cost: no parameters; one pass over the student's logits, and k + n numbers a position of the teacher's, for n
        temperatures.

    Args:
        weight: a number or a schedule.
        temperature: a number, one of teacher.temperatures.

    Source: the coarsened divergence is Cover and Thomas 2006, theorem 2.7.1; keeping the k largest: Tan et al. 2019,
        arXiv:1902.10461 (top-K distillation), there without a tail.
    """

    outcome = Choice
    reads_top_k = True

    def __init__(self, weight: float | Schedule = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        if isinstance(temperature, Schedule):
            raise UserError(
                "top_k_kl takes one temperature, since the tail of the teacher's logits is kept for a few: give "
                "loss.temperature a number of teacher.temperatures"
            )
        self.weight = weight
        positive(temperature, "temperature")
        self.temperature = number(temperature, "temperature")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        if teacher.top is None:
            same_classes(student, teacher)
            return student.mean(tempered_kl(student.logits, teacher.logits, self.temperature))
        top = teacher.top
        return student.mean(
            coarsened_kl(student.logits, top.index, top.value, top.at(self.temperature), self.temperature)
        )
