"""Reverse KL over the classes that the student finds likeliest, with all others as one outcome."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.logit.coarse import coarsened
from kdlab.loss.logit.divergence import kl, log_total
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, positive, value_at
from kdlab.value import Count


def student_top_k_reverse_kl(student: Tensor, teacher: Tensor, temperature: float, k: int) -> Tensor:
    """T^2 * KL(student || teacher) over the student's k likeliest classes and all others as one, in nats, per position.

    Without the last outcome, the student would lower the sum by flattening its distribution.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        temperature: > 0; both sides are divided by it.
        k: >= 1; all classes where there are no more.

    Returns:
        ``[...]``, >= 0; at most :func:`kdlab.loss.logit.reverse_kl.tempered_reverse_kl`, and equal to it at k >= C - 1.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([100.0, 0.0, 0.0]), torch.tensor([0.5, 0.25, 0.25]).log()
        >>> student_top_k_reverse_kl(student, teacher, 1.0, 1)  # log 2
        tensor(0.6931)

    Source: Gu et al. 2024 (MiniLLM), arXiv:2306.08543, section 2, for one position; merging: Cover and Thomas 2006
        (Elements of Information Theory), theorem 2.7.1.
    """
    index = student.detach().topk(min(k, student.shape[-1]), -1).indices
    scores = at_least_float32(teacher) / temperature
    tail = log_total(scores.scatter(-1, index, -float("inf")))[..., 0]
    log_s, log_t = coarsened(student, index, teacher.gather(-1, index), tail, temperature)
    return temperature**2 * kl(log_s, log_t)


@final
class StudentTopK(Term):
    """The mean of :func:`student_top_k_reverse_kl`, for single-label tasks.

    Formula: ``T^2 KL(p_s || p_t)`` over the student's k likeliest classes and one outcome for all others.
    When: reverse KL that looks at what the student would write, as on texts of its own; the teacher gives all logits.
    Cost: no parameters; two passes over the logits, and gradients of k + 1 outcomes.

    Args:
        weight, temperature: numbers or schedules.
        k: number of the student's likeliest classes.
    """

    outcome = Choice

    def __init__(self, weight: float | Schedule = 1.0, temperature: float | Schedule = 1.0, k: Count = 64) -> None:
        super().__init__()
        if k < 1:
            raise UserError(f"k is {k}, but must be 1 or more of the student's likeliest classes, such as 64.")
        self.weight = weight
        self.temperature = positive(temperature, "temperature")
        self.k = k

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        temperature = value_at(self.temperature, progress)
        return student.mean(student_top_k_reverse_kl(student.logits, teacher.logits, temperature, self.k))
