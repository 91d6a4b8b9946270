"""The features that the teacher's own classifier reads, for a student that reuses this classifier."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.feature.hint import squared_difference
from kdlab.loss.term import ModelSpec, Term, read, width
from kdlab.output import Output
from kdlab.schedule.base import Schedule


class SimKD(Term):
    """The mean over rows of :func:`kdlab.loss.feature.hint.squared_difference` of what enters the final classifier.

    Meant for a student with the teacher's classifier (``model@student=simkd``): it learns nothing but to give this
    classifier the features that it was trained on, and needs no labels.

    Formula: ``mean_d (s - t)_d^2`` of what enters the final classifier.
    When: the student may keep the teacher's classifier (model@student=simkd) and no label is needed.
    Cost: no parameters here, but the student keeps its projector; D numbers a row of the teacher.

    Args:
        weight: a number or a schedule.

    Source: Chen et al. 2022 (SimKD), arXiv:2203.14001, equation 2, divided by D.
    """

    taps: Mapping[str, tuple[str, ...]] = {"student": ("pooled",), "teacher": ("pooled",)}
    same_width = True

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        student_width, teacher_width = width(student, "pooled", "student"), width(teacher, "pooled", "teacher")
        if student_width != teacher_width:
            raise UserError(
                f"SimKD needs a student that ends in the teacher's classifier, which reads {teacher_width} features, "
                f"but the student's reads {student_width}: wrap it with model@student=simkd."
            )

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        return student.mean(squared_difference(read(student, "pooled", "student"), read(teacher, "pooled", "teacher")))
