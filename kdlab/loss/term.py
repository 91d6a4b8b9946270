"""One piece of a distillation loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from kdlab.output import Output
from kdlab.schedule.base import Schedule


class Term(nn.Module, ABC):
    """A scalar function of what the student and the teacher said, plus the adapters (projections) that it owns.

    Attributes:
        weight: factor in the objective, a number or a schedule.
        taps: the tap names that the term reads, by role: ``{"student": (...), "teacher": (...)}``.
    """

    weight: float | Schedule
    taps: Mapping[str, tuple[str, ...]] = {"student": (), "teacher": ()}

    def connect(self, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:  # noqa: B027
        """Make the adapters. Called once before the optimizer is made, with the width (last dimension) of each tap."""

    @abstractmethod
    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        """The term's value, a scalar reduced with ``student.mean``."""
