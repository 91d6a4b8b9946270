"""The base of losses that relate the rows of a batch: one vector a row, and a mean over rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.term import Term, pair, read
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


class RowRelation(Term, ABC):
    """The mean of :meth:`difference` between two taps.

    It relates the rows of one micro-batch, so accumulating over smaller ones is not the loss of the whole batch.

    Args:
        weight: a number or a schedule.
        taps: ``{student: NAME, teacher: NAME}``, each ``[B, D]``, or ``[B, L, D]``, averaged over the real tokens. The
            widths of the two may differ.
    """

    row_wise = False

    def __init__(self, weight: float | Schedule = 1.0, taps: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.weight = weight
        self.taps = pair(taps or {"student": "pooled", "teacher": "pooled"})

    @abstractmethod
    def difference(self, student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
        """The distance ``[B]`` of each row's relations, from vectors ``[B, D]`` and teacher's ``[B, E]``."""

    def forward(self, student: Output, teacher: Output, progress: float) -> Tensor:
        student_tap = pool(student, self.taps["student"][0], "student")
        teacher_tap = pool(teacher, self.taps["teacher"][0], "teacher")
        return student.mean(self.difference(student_tap, teacher_tap, student.mask))


def pool(output: Output, name: str, role: str) -> Tensor:
    """The tap ``name`` with one vector a row, ``[B, D]``, in float32 or wider.

    Raises:
        UserError: the tap has another shape than ``[B, D]`` and ``[B, L, D]``.
    """
    value = at_least_float32(read(output, name, role))
    if value.ndim == 3 and output.tokens is not None and value.shape[:2] == output.tokens.shape:
        real = output.tokens[..., None]
        return value.where(real, 0).sum(1) / real.sum(1).clamp(min=1)
    if value.ndim == 3 and output.tokens is None:  # the places of a map
        return value.mean(1)
    if value.ndim == 2:
        return value
    raise UserError(
        f"A relation term reads the {role}'s tap '{name}' {tuple(value.shape)}, but needs one vector a row or "
        "a token: "
        f"set its taps.{role} to pooled or hidden.-1."
    )


def others(mask: Tensor) -> Tensor:
    """``[B, B]`` bool: the pairs of two different rows in ``mask`` ``[B]``.

    Example:
        >>> others(torch.tensor([True, True, False])).nonzero().tolist()
        [[0, 1], [1, 0]]
    """
    return mask[:, None] & mask & ~torch.eye(len(mask), dtype=torch.bool, device=mask.device)


def unit(vectors: Tensor) -> Tensor:
    """``vectors`` ``[..., D]`` at length 1; 0, with gradient 0, where a vector is 0.

    Example:
        >>> unit(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    square = vectors.square().sum(-1, keepdim=True)
    some = square > torch.finfo(square.dtype).tiny
    return (vectors * square.where(some, 1).rsqrt()).where(some, 0)
