"""Hidden states of several layers that imitate the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdlab.loss.feature.hint import squared_difference
from kdlab.loss.feature.layered import Layered
from kdlab.output import Output
from kdlab.schedule.base import Schedule


class Hidden(Layered):
    """The mean over pairs of layers and real tokens of :func:`kdlab.loss.feature.hint.squared_difference`.

    Where the widths differ, a linear projection takes the student's state to the teacher's width.

    Formula: ``mean_d (P s - t)_d^2`` over pairs of layers and tokens.
    When: a student of the same family with less layers, together with logits (TinyBERT).
    Cost: a projection of ``D_s D_t`` parameters a pair where the widths differ, never exported; of the teacher L D
        numbers a row and layer.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.

    Source: Jiao et al. 2020 (TinyBERT), arXiv:1909.10351, equation 8; the mean over layers takes the place of the sum.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(weight, layer_map, taps)

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return squared_difference(adapter(student_tap), teacher_tap)
