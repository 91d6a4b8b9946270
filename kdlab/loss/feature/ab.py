"""Activation boundaries: on which side of zero each feature is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.feature.layered import Layered
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def boundary_difference(student: Tensor, teacher: Tensor, margin: float) -> Tensor:
    """The squared hinge of the student's features on the teacher's side of zero, averaged over features, per position.

    Args:
        student, teacher: ``[..., D]``, before any activation; half precision is computed in float32.
        margin: > 0, how far beyond zero the student's feature should be.

    Returns:
        ``[...]``, >= 0, free of the size of the teacher's features; 0 where each of the student's has the teacher's
        sign and at least the margin.

    Example:
        >>> import torch
        >>> boundary_difference(torch.tensor([2.0, 0.5]), torch.tensor([3.0, -1.0]), 1.0)  # (0 + 1.5^2) / 2
        tensor(1.1250)

    Source: Heo, Lee, Yun, Choi 2019, arXiv:1811.03233, equation 6, divided by D.
    """
    s, active = at_least_float32(student), teacher > 0
    return (margin - s).where(active, margin + s).clamp(min=0).square().mean(-1)


class AB(Layered):
    """The mean of :func:`boundary_difference` over pairs of layers, and over rows or real tokens.

    Hidden states are centred by a layer norm, so that their signs carry information; the pre-activations of the paper
    are read with ``taps={student: module:<path>, teacher: module:<path>}``. A linear connector (the paper's 1x1
    convolution) always connects them.

    Formula: ``mean_d max(0, margin - sign(t_d) s_d)^2``, s after the connector.
    When: to start a student before it is trained on labels; models whose activations are cut at zero.
    Cost: a linear map of ``D_s D_t`` parameters a pair, never exported; the hidden states of both.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        margin: > 0.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
        margin: float = 1.0,
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if not 0 < margin < float("inf"):
            raise UserError(f"margin is {margin}, but must be above 0: 1 is common where features are normalised.")
        self.margin = margin

    def adapter(self, source: int, target: int) -> nn.Module:
        return nn.Linear(source, target)

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return boundary_difference(adapter(student_tap), teacher_tap, self.margin)
