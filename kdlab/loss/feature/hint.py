"""Hidden states that imitate the teacher's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.place import alike
from kdlab.loss.term import ModelSpec, Term, pair, read, width
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared difference, averaged over the features, per position.

    Args:
        student, teacher: ``[..., D]``; half precision is computed in float32.

    Returns:
        ``[...]``, >= 0, and 0 where both agree.

    Example:
        >>> import torch
        >>> squared_difference(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]))  # (4 + 0) / 2
        tensor(2.)

    Source: Romero et al. 2015 (FitNets), arXiv:1412.6550, equation 3, divided by D.
    """
    return (at_least_float32(student) - at_least_float32(teacher)).square().mean(-1)


class Hint(Term):
    """The mean of :func:`squared_difference` between two taps, over rows or over the real tokens of rows.

    Where the widths differ, a linear projection, which learns with the student, takes the student's to the teacher's.

    Formula: ``mean_d (P s - t)_d^2`` between two taps.
    When: one place in the middle or at the end to imitate; beside logits, or as a stage before them (FitNets).
    Cost: a projection of ``D_s D_t`` parameters where the widths differ, never exported; one tap of both.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, both ``[B, L, D]`` or both ``[B, D]``.
    """

    def __init__(self, weight: float | Schedule = 1.0, taps: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.taps = pair(taps or {"student": "hidden.-1", "teacher": "hidden.-1"})
        self.adapter: nn.Module = nn.Identity()

    def build_adapters(self, student: ModelSpec, teacher: ModelSpec, rows: int) -> None:
        source = width(student, self.taps["student"][0], "student")
        target = width(teacher, self.taps["teacher"][0], "teacher")
        self.adapter = nn.Identity() if source == target else nn.Linear(source, target)

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        (student_name,), (teacher_name,) = self.taps["student"], self.taps["teacher"]
        student_tap, teacher_tap = read(student, student_name, "student"), read(teacher, teacher_name, "teacher")
        student_tap, teacher_tap = alike(student_tap, teacher_tap, student)
        if student_tap.shape[:-1] != teacher_tap.shape[:-1]:
            raise UserError(
                f"The hint compares the student's tap '{student_name}' {tuple(student_tap.shape)} with the teacher's "
                f"'{teacher_name}' {tuple(teacher_tap.shape)}, "
                "but they must agree in all but the width: use a teacher with the same tokenizer, or pooled on "
                "both sides."
            )
        return student.mean(squared_difference(self.adapter(student_tap), teacher_tap))
