"""Overhaul of feature distillation: what the teacher passes on, and no more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdlab.loss.feature.layered import Layered, with_tokens
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def partial_difference(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """The partial squared distance to the teacher's margin-ReLU features, averaged over features, per position.

    The target is ``max(teacher, margin)``; where it is at most 0, a student below it owes nothing.

    Args:
        student, teacher: ``[..., D]``, before any activation; half precision is computed in float32.
        margin: ``[D]``, <= 0.

    Returns:
        ``[...]``, >= 0, and 0 where both agree.

    Example:
        >>> student, teacher = torch.tensor([-3.0, 1.0]), torch.tensor([-2.0, 2.0])
        >>> partial_difference(student, teacher, torch.tensor([-1.0, -1.0]))  # (0 + 1) / 2
        tensor(0.5000)

    Source: Heo et al. 2019, arXiv:1904.01866, equations 1 to 4, divided by D.
    """
    s, target = at_least_float32(student), torch.maximum(at_least_float32(teacher), at_least_float32(margin))
    return (target - s).where((s > target) | (target > 0), 0).square().mean(-1)


class Negative(nn.Module):
    """The connector of a pair, and the mean of each of the teacher's features where it is negative, over all seen."""

    total: Tensor
    count: Tensor

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.connector = nn.Linear(source, target)
        self.register_buffer("total", torch.zeros(target, dtype=torch.float32))
        self.register_buffer("count", torch.zeros(target, dtype=torch.float32))

    @torch.no_grad()
    def margin(self, teacher: Tensor, real: Tensor) -> Tensor:
        """``[D]``: with this batch; kept in train mode. 0 for a feature that was never negative."""
        negative = (at_least_float32(teacher) < 0) & real[..., None]
        total = self.total.to(torch.promote_types(self.total.dtype, torch.float32))
        total = total + at_least_float32(teacher).where(negative, 0).sum((0, 1))
        count = self.count.to(total) + negative.sum((0, 1))
        if self.training:
            self.total.copy_(total)
            self.count.copy_(count)
        return total / count.clamp(min=1)


class OFD(Layered):
    """The mean of :func:`partial_difference` over pairs of layers, and over rows or real tokens.

    A feature's margin is the mean of the teacher's values below zero, over all batches so far, so
    micro-batches do not add up exactly. Hidden states are read, or pre-activations with
    ``taps={student: module:<path>, teacher: module:<path>}``; a linear connector (the paper's 1x1 convolution) always
    stands between.

    Formula: ``mean_d (s - max(t, m))_d^2`` where ``s > max(t, m)`` or ``t > 0``, else 0; s after the connector, m the
        mean of t below zero.
    When: models whose activations are cut at zero, so that what is below need not be met.
    Cost: a linear map of ``D_s D_t`` parameters and two buffers a pair, never exported; the hidden states of both.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(weight, layer_map, taps)
        self.row_wise = False

    def adapter(self, source: int, target: int) -> nn.Module:
        return Negative(source, target)

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        states, real = with_tokens(teacher_tap, student)
        margin = adapter.margin(states, real & student.mask[:, None])
        return partial_difference(adapter.connector(student_tap), teacher_tap, margin)
