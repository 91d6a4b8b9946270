"""Attention transfer: where in a row the features are strong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kdlab.error import UserError
from kdlab.loss.feature.layered import Layered, real_tokens, unit
from kdlab.output import Output, at_least_float32
from kdlab.schedule.base import Schedule


def attention_map(features: Tensor, tokens: Tensor, power: float) -> Tensor:
    """The strength of each token's features, ``sum_c |a_c|^power``, as a unit vector over the real tokens of a row.

    Args:
        features: ``[B, L, D]``; half precision is computed in float32.
        tokens: ``[B, L]`` bool, the real ones.
        power: > 1; 2 is the paper's choice, large values look at the strongest features only.

    Returns:
        ``[B, L]``, >= 0; 0 at padding.

    Example:
        >>> import torch
        >>> features = torch.tensor([[[1.0, 1.0, 1.0], [2.0, 0.0, 0.0]]])
        >>> attention_map(features, torch.tensor([[True, True]]), 2.0)  # (3, 4) / 5
        tensor([[0.6000, 0.8000]])

    Source: Zagoruyko, Komodakis 2017, arXiv:1612.03928, section 3.1 (F_sum^p), tokens in the place of pixels.
    """
    strength = at_least_float32(features).where(tokens[..., None], 0).abs()
    largest = strength.amax((1, 2), keepdim=True).detach()  # unit vectors are free of it, and powers stay in range
    return unit((strength / largest.where(largest > 0, 1)).pow(power).sum(-1), -1)


def attention_map_difference(student: Tensor, teacher: Tensor, tokens: Tensor, power: float) -> Tensor:
    """The squared Euclidean distance between two :func:`attention_map`, per row.

    Args:
        student: ``[B, L, D]``. teacher: ``[B, L, E]``; the widths may differ.

    Returns:
        ``[B]`` in [0, 2], free of either side's scale; 0 where the maps agree.

    Example:
        >>> import torch
        >>> student, teacher = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[[0.0], [5.0]]])
        >>> attention_map_difference(student, teacher, torch.tensor([[True, True]]), 2.0)
        tensor([2.])

    Source: equation 2 of the paper, squared as in the authors' code.
    """
    return (attention_map(student, tokens, power) - attention_map(teacher, tokens, power)).square().sum(-1)


class AT(Layered):
    """The mean of :func:`attention_map_difference` over pairs of layers and rows. It needs no projection.

    Formula: ``|q_s - q_t|^2`` with q the unit vector of ``sum_d |a_ld|^power`` over the tokens l.
    When: other widths, and no projection wanted.
    Cost: no parameters; the hidden states of both, of the teacher L D numbers a row and layer.

    Args:
        weight, layer_map, taps: see :class:`kdlab.loss.feature.layered.Layered`.
        power: > 1, of :func:`attention_map`.
    """

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        layer_map: str | Sequence[Any] | None = "uniform",
        taps: Mapping[str, str] | None = None,
        power: float = 2.0,
    ) -> None:
        super().__init__(weight, layer_map, taps)
        if not 1 < power < float("inf"):
            raise UserError(f"power is {power}, but must be above 1 for its gradient to be everywhere: 2 is common.")
        self.power = power

    def adapter(self, source: int, target: int) -> nn.Module:
        return nn.Identity()

    def compare(self, student_tap: Tensor, teacher_tap: Tensor, adapter: Any, student: Output) -> Tensor:
        return attention_map_difference(
            student_tap, teacher_tap, real_tokens(student_tap, student, "attention transfer"), self.power
        )
