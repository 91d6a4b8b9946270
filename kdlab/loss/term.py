"""One piece of a distillation loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.output import Output
from kdlab.schedule.base import Schedule


class Term(nn.Module, ABC):
    """A scalar function of what the student and the teacher said, plus the adapters (projections) that it owns.

    Attributes:
        weight: factor in the objective, a number or a schedule.
        taps: the tap names that the term reads, by role: ``{"student": (...), "teacher": (...)}``.
        multi_label: True where the term only fits multi-label tasks, False where it only fits single-label ones.
    """

    weight: float | Schedule
    taps: Mapping[str, tuple[str, ...]] = {"student": (), "teacher": ()}
    multi_label: bool | None = None

    def connect(self, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
        """Make the adapters. Called once before the optimizer is made, with the width (last dimension) of each tap."""

    @abstractmethod
    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        """The term's value, a scalar reduced with ``student.mean``."""


def pair(taps: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """``taps`` of a term that reads one place in each model, from ``{"student": name, "teacher": name}``.

    Raises:
        UserError: another shape than that.
    """
    if set(taps) != {"student", "teacher"} or not all(isinstance(name, str) for name in taps.values()):
        raise UserError(
            f"A term's taps are {dict(taps)}, but it reads one place in each model: "
            "give {student: NAME, teacher: NAME}, such as {student: hidden.-1, teacher: hidden.-1}."
        )
    return {role: (taps[role],) for role in ("student", "teacher")}


def read(output: Output, name: str, role: str) -> Tensor:
    """The tap ``name`` of ``output``.

    Raises:
        UserError: it was not computed.
    """
    if name not in output.taps:
        offered = ", ".join(output.taps) or "none"
        raise UserError(
            f"A loss term reads the {role}'s tap '{name}', but these were computed: {offered}; change its taps.{role}."
        )
    return output.taps[name]


def width(widths: Mapping[str, int], name: str, role: str) -> int:
    """The width of the tap ``name``.

    Raises:
        UserError: the model does not offer it.
    """
    if name not in widths:
        offered = ", ".join(widths) or "none"
        raise UserError(
            f"A loss term reads the {role}'s tap '{name}', but the {role} offers {offered}; change its taps.{role}."
        )
    return widths[name]


def same_classes(student: Output, teacher: Output) -> None:
    """Check that both speak of the same labels.

    Raises:
        UserError: their logits differ in shape.
    """
    if student.logits.shape != teacher.logits.shape:
        raise UserError(
            f"The student's logits are {tuple(student.logits.shape)} and the teacher's "
            f"{tuple(teacher.logits.shape)}, but a logit "
            "loss needs the same rows and labels: use a teacher that was trained on the labels of this task."
        )
