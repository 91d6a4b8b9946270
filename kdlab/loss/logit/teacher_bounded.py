"""The teacher as an upper bound: a student that is nearer to the truth than the teacher is left alone."""

from __future__ import annotations

from typing import final

from torch import Tensor

from kdlab.loss.term import Term, same_classes
from kdlab.outcome import Real
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule, value_at, within


def teacher_bounded(student: Tensor, teacher: Tensor, label: Tensor, margin: float) -> Tensor:
    """The student's squared error, and 0 where, with the margin added, it is no larger than the teacher's.

    A real-valued teacher can be wrong without bound, so it is a bound here and not a target.

    Args:
        student, teacher: ``[..., 1]``; half precision is computed in float32.
        label: the true values ``[...]``.
        margin: >= 0, in squared units of the value.

    Returns:
        ``[...]``, >= 0. It jumps from the teacher's error less the margin to 0.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[1.0], [1.0]]), torch.tensor([[2.0], [0.5]])
        >>> teacher_bounded(student, teacher, torch.zeros(2), 0.0)  # better than the teacher, and worse
        tensor([0., 1.])

    Source: Chen et al. 2017, Learning Efficient Object Detection Models with Knowledge Distillation, section 3.3.
    """
    student_error, teacher_error = (
        (at_least_float32(value).squeeze(-1) - label).square() for value in (student, teacher)
    )
    return student_error.where(student_error + margin > teacher_error, 0)


@final
class TeacherBounded(Term):
    """The mean of :func:`teacher_bounded`, for models that give one number a row.

    Rows without a label take the teacher's value for it, so that the student learns that.

    Formula: ``(s - y)^2`` where ``(s - y)^2 + margin > (t - y)^2``, else 0.
    When: a real number a row, labels, and a teacher that may be wrong without bound.
    Cost: no parameters; reads the label.

    Args:
        weight: a number or a schedule.
        margin: >= 0, by how much the student's squared error has to be below the teacher's; a number or a schedule.
    """

    outcome = Real
    reads_labels = True

    def __init__(self, weight: float | Schedule = 1.0, margin: float | Schedule = 0.0) -> None:
        super().__init__()
        self.weight = weight
        self.margin = within(margin, 0, 1e9, "margin", "it is in squared units of the value")

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        same_classes(student, teacher)
        known = number(student, teacher)
        return student.mean(teacher_bounded(student.logits, teacher.logits, known, value_at(self.margin, progress)))


def number(student: Output, teacher: Output) -> Tensor:
    """True values ``[...]``: the label, and where there is none the teacher's value."""
    value = at_least_float32(teacher.logits).squeeze(-1)
    return value if student.label is None else student.label.to(value.dtype).where(student.labelled, value)
