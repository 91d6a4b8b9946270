"""The teacher's decisions as labels."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn.functional import cross_entropy

from kdlab.error import UserError
from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Choice
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, bounds, format_range, number, value_at


def pseudo_label(student: Tensor, teacher: Tensor, threshold: float) -> Tensor:
    """Cross-entropy against the teacher's preferred class where its probability reaches a threshold, else 0.

    Args:
        student, teacher: logits ``[..., C]``; half precision is computed in float32.
        threshold: in [0, 1].

    Returns:
        ``[...]`` in nats, >= 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.zeros(2), torch.tensor([0.9, 0.1]).log()
        >>> pseudo_label(student, teacher, 0.8), pseudo_label(student, teacher, 0.95)  # log 2 and 0
        (tensor(0.6931), tensor(0.))

    Source: Lee 2013 (Pseudo-Label), ICML workshop, equation 15; only where it is certain: Sohn et al. 2020 (FixMatch),
        arXiv:2001.07685, equation 4.
    """
    certain, choice = at_least_float32(teacher).softmax(-1).max(-1)
    classes = student.shape[-1]
    values = cross_entropy(at_least_float32(student).reshape(-1, classes), choice.reshape(-1), reduction="none")
    return values.reshape(choice.shape).where(certain >= threshold, 0)


@final
class PseudoLabel(Term):
    """The sum of :func:`pseudo_label` divided by the number of all rows, for single-label tasks.

    Formula: ``CE(s, argmax p_t)`` where ``max p_t >= threshold``, else 0.
    When: many texts without labels (noisy student, self-training), and a teacher that is right where it is sure.
    Cost: no parameters; one softmax a side.

    Args:
        weight: a number or a schedule.
        threshold: the least probability of a decision that teaches, in [0, 1]; a number or a schedule.
        labelled: weight of rows that have a label, from 0 (not at all) up.
    """

    outcome = Choice

    def __init__(
        self, weight: float | Schedule = 1.0, threshold: float | Schedule = 0.0, labelled: float = 1.0
    ) -> None:
        super().__init__()
        low, high = bounds(threshold, "threshold")
        if not 0 <= low <= high <= 1:
            raise UserError(f"threshold {format_range(low, high)}, but is a probability and must stay in [0, 1]")
        if number(labelled, "labelled") < 0:
            raise UserError(f"labelled is {labelled:g}, but is a weight and must be from 0 up")
        self.weight, self.threshold, self.labelled = weight, threshold, float(labelled)

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        values = pseudo_label(student.logits, teacher.logits, value_at(self.threshold, progress))
        return student.mean((self.labelled * values).where(student.labelled, values))
