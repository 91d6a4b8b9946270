"""Hidden states that point where the teacher's do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdlab.loss.feature.layered import Layered, unit
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cos of the angle between two features, per position.

    Args:
        student, teacher: ``[..., D]``; half precision is computed in float32.

    Returns:
        ``[...]`` in [0, 2], free of either side's length; 0 where the directions agree, 1 where one side is 0.

    Example:
        >>> import torch
        >>> cosine_distance(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))  # a right angle
        tensor(1.)

    Source: Sanh et al. 2019 (DistilBERT), arXiv:1910.01108, section 3 (cosine embedding loss).
    """
    return 1 - (unit(at_least_float32(student), -1) * unit(at_least_float32(teacher), -1)).sum(-1)


class Cosine(Layered):
    """The mean of :func:`cosine_distance` over pairs of layers, and over rows or real tokens.

    Where the widths differ, a linear projection takes the student's state to the teacher's width.

    Formula: ``1 - cos(P s, t)``.
    When: a student that copies layers of its teacher (DistilBERT): the direction is to stay, lengths are free.
    Cost: a projection of ``D_s D_t`` parameters a pair where the widths differ, never exported; the hidden states of
        both.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "top",
        taps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(weight, layer_map, taps)

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return cosine_distance(adapter(student_tap), teacher_tap)
