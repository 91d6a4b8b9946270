"""Patient knowledge distillation: one state of a row from each of several layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdlab.error import UserError
from kdlab.loss.feature.layered import Layered, unit, with_tokens
from kdlab.loss.layer_map.base import Pair, misfit
from kdlab.loss.layer_map.fixed import Explicit
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule

TOKENS = ("first", "mean")


def direction_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """The squared Euclidean distance of the two directions, per position.

    Args:
        student, teacher: ``[..., D]``; half precision is computed in float32.

    Returns:
        ``[...]`` in [0, 4], free of either side's length; 0 where the directions agree.

    Example:
        >>> direction_difference(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0]))  # opposite directions
        tensor(4.)

    Source: Sun et al. 2019, arXiv:1908.09355, equation 7.
    """
    return (unit(at_least_float32(student), -1) - unit(at_least_float32(teacher), -1)).square().sum(-1)


class PKD(Layered):
    """The mean of :func:`direction_difference` over pairs of layers and rows, one state a row.

    The student's top layer is left to the logits, as in the paper, unless the layer map names it. ``layer_map=skip``
    is PKD-Skip, ``layer_map=last`` is PKD-Last.

    Formula: ``|s / |s| - t / |t||^2`` of a row's state in a layer, s through a projection where the widths differ.
    When: a student of the same family with less layers: cheaper than hidden, since one state a row is compared.
    Cost: a projection of ``D_s D_t`` parameters a pair where the widths differ, never exported; the hidden states of
        both are stored whole.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        token: the state that represents a row: that of its ``first`` real token ([CLS] of encoders), or the ``mean``
            of all.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "skip",
        taps: Mapping[str, str] | None = None,
        token: str = "first",
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if token not in TOKENS:
            raise UserError(f"token is '{token}', but must be one of {', '.join(TOKENS)}: first is [CLS] of encoders.")
        if self.layer_map.dense:
            raise UserError(
                f"layer_map={layer_map} relates all layers, but PKD leaves out the top one: choose skip, last, uniform "
                "or pairs, or the hidden term."
            )
        self.token = token

    def choose_pairs(self, student: int, teacher: int) -> list[Pair]:
        pairs = super().choose_pairs(student, teacher)
        if isinstance(self.layer_map, Explicit):
            return pairs
        below = [pair for pair in pairs if pair[0] != student - 1]
        if not below:
            raise misfit(
                "PKD leaves out the student's top layer, and then none is left", student, teacher,
                "use a deeper student or name the pair: layer_map=[[-1,-1]]",
            )  # fmt: skip
        return below

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return direction_difference(adapter(self.row(student_tap, student)), self.row(teacher_tap, student))

    def row(self, tap: Tensor, student: Output) -> Tensor:
        """``[B, D]``: one state a row."""
        states, real = with_tokens(tap, student)
        if self.token == "mean":
            return states.where(real[..., None], 0).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        return states[torch.arange(len(states), device=states.device), real.int().argmax(-1)]
